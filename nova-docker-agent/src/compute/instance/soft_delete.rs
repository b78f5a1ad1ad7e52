//! Soft deletion: with `reclaim_instance_interval` Nova's API asks for it in place of a deletion. The instance is stopped, may be
//! restored, and is deleted when its time is over.

use std::sync::Arc;

use serde_json::{Map, Value, json};
use tracing::{info, warn};
use uuid::Uuid;

use crate::compute::{
    Compute,
    arguments::{Arguments, instance_uuid},
    defect::caught,
    duties::Duties,
    error::Error,
    operation::Method,
    reconcile::reaper::is_due,
    reconcile::recovery::INSTANCE_ATTRS,
};
use crate::{
    limits::StopTimeout,
    messaging::Context,
    objects::{Expected, Instance, PowerState, TaskState, VmState},
};

/// `soft_delete_instance`.
pub(in crate::compute) struct SoftDelete(Instance);

impl Method for SoftDelete {
    fn parse(mut arguments: Arguments) -> Result<Self, Error> {
        arguments.instance().map(Self)
    }

    async fn run(self, compute: Arc<Compute>, context: &Context) -> Result<Value, Error> {
        compute.soft_delete(context, self.0).await.map(|()| Value::Null)
    }
}

/// `restore_instance`.
pub(in crate::compute) struct Restore(Instance);

impl Method for Restore {
    fn parse(mut arguments: Arguments) -> Result<Self, Error> {
        arguments.instance().map(Self)
    }

    async fn run(self, compute: Arc<Compute>, context: &Context) -> Result<Value, Error> {
        compute.restore(context, self.0).await.map(|()| Value::Null)
    }
}

impl Compute {
    /// Stops the container at once, and keeps it.
    pub(in crate::compute) async fn soft_delete(&self, context: &Context, mut instance: Instance) -> Result<(), Error> {
        let uuid = instance_uuid(&instance)?;
        let _lock = self.locks.lock(uuid).await;
        self.operate(context, uuid, Duties::of("compute_soft_delete_instance", &[TaskState::SoftDeleting]), async {
            if !self.take_up(context, &mut instance, TaskState::SoftDeleting).await? {
                return Ok(());
            }
            // One whose container is gone must be deletable all the same.
            if self.power_state(uuid).await? != PowerState::NoState {
                self.driver.stop(uuid, StopTimeout::KILL).await?;
            }
            let power = self.power_state(uuid).await?;
            let state = json!({"power_state": power, "vm_state": VmState::SoftDelete, "task_state": null});
            self.save(context, &mut instance, state, Expected::task(TaskState::SoftDeleting)).await
        })
        .await
    }

    /// Starts the container of a soft-deleted instance.
    pub(in crate::compute) async fn restore(&self, context: &Context, mut instance: Instance) -> Result<(), Error> {
        let uuid = instance_uuid(&instance)?;
        let _lock = self.locks.lock(uuid).await;
        self.operate(context, uuid, Duties::of("compute_restore_instance", &[TaskState::Restoring]), async {
            if !self.take_up(context, &mut instance, TaskState::Restoring).await? {
                return Ok(());
            }
            self.driver.tidy(uuid).await?;
            self.power_on(context, uuid).await?;
            let power = self.power_state(uuid).await?;
            let state = json!({"power_state": power, "vm_state": VmState::Active, "task_state": null});
            self.save(context, &mut instance, state, Expected::task(TaskState::Restoring)).await
        })
        .await
    }

    /// Deletes the instances whose time to be restored is over.
    pub(in crate::compute) async fn reclaim_queued_deletes(&self) -> Result<(), Error> {
        let Some(wait) = self.config.reclaim_instance_interval else { return Ok(()) };
        let context = Context::admin();
        let filters = Map::from_iter([
            ("vm_state".to_owned(), json!(VmState::SoftDelete)),
            ("task_state".to_owned(), json!(null)),
            ("host".to_owned(), json!(self.host)),
        ]);
        for instance in self.conductor.instances_by_filters(&context, filters, &[]).await? {
            if !is_due(instance.str("deleted_at"), wait) {
                continue;
            }
            let reclaimed = caught(async { self.reclaim(&context, instance_uuid(&instance)?).await }).await;
            if let Err(error) = reclaimed {
                warn!(%error, instance = instance.uuid(), "cannot reclaim the instance; the next turn tries again");
            }
        }
        Ok(())
    }

    async fn reclaim(&self, context: &Context, uuid: Uuid) -> Result<(), Error> {
        self.recovered(uuid).await;
        let _lock = self.locks.lock(uuid).await;
        // It may have been restored, or deleted, while this waited.
        let instance = match self.conductor.instance(context, &uuid.to_string(), INSTANCE_ATTRS).await {
            Ok(instance) => instance,
            Err(error) if error.class() == Some("InstanceNotFound") => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        if !self.is_here(&instance) || !is_reclaimable(&instance) {
            return Ok(());
        }
        info!(instance = %uuid, "reclaiming a soft-deleted instance");
        self.delete(context, instance).await
    }
}

fn is_reclaimable(instance: &Instance) -> bool {
    instance.vm_state() == Some(VmState::SoftDelete) && instance.task_state().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_that_was_restored_or_is_being_restored_is_not_reclaimed() {
        let mut instance = Instance::slim("6ff36a1a-8c2e-4b1c-859a-84bdd78d56c8");
        instance.set("vm_state", "soft-delete");
        assert!(is_reclaimable(&instance));
        instance.set("task_state", "restoring");
        assert!(!is_reclaimable(&instance));
        instance.set("task_state", json!(null));
        instance.set("vm_state", "active");
        assert!(!is_reclaimable(&instance));
    }
}
