//! Instances that were on their way to this host from the shelf when the agent ended: the scheduler has claimed their place here, and
//! their request may be lost before it made them this host's. Then nobody else knows of them.

use serde_json::{Map, json};
use tracing::info;
use uuid::Uuid;

use super::not_begun::Fate;
use crate::compute::{
    Compute,
    arguments::instance_uuid,
    error::Error,
    instance::unshelve::{EVENT, cut_short},
};
use crate::{
    cloud::Caller,
    messaging::Context,
    objects::{Expected, Instance, TaskState, VmState},
};

impl Compute {
    /// Instances that are on their way from the shelf to any host.
    pub(super) async fn find_unshelving(&self) -> Result<Vec<Uuid>, Error> {
        let filters = Map::from_iter([
            ("vm_state".to_owned(), json!(VmState::ShelvedOffloaded)),
            ("task_state".to_owned(), json!(TaskState::Unshelving)),
            ("deleted".to_owned(), json!(false)),
        ]);
        let found = self.conductor.instances_by_filters(&Context::admin(), filters, &[]).await?;
        found.iter().filter(|instance| is_unclaimed(instance)).map(instance_uuid).collect()
    }

    /// Puts an instance back on the shelf whose request is lost. Whether nothing is to be done for it any more.
    pub(super) async fn settle_unclaimed(&self, instance: &Instance) -> Result<bool, Error> {
        let uuid = instance_uuid(instance)?;
        if !is_unclaimed(instance) || self.arrivals.has_begun(uuid) {
            return Ok(true);
        }
        let held = self.cloud.placement.provider_allocations(&Caller::own(), self.compute_id).await?;
        if !held.allocations.contains_key(&uuid) {
            // Another host's, or the scheduler chooses yet; then its request comes to us as to any host.
            return Ok(true);
        }
        let context = Context::admin();
        match self.fate_of_task(&context, uuid, &["unshelve"]).await? {
            Fate::GivenUp => self.shelve_unclaimed(&context, uuid).await.map(|()| true),
            Fate::Left => Ok(true),
            Fate::Awaited => Ok(false),
        }
    }

    async fn shelve_unclaimed(&self, context: &Context, uuid: Uuid) -> Result<(), Error> {
        let _lock = self.locks.lock(uuid).await;
        let mut instance = self.conductor.instance(context, &uuid.to_string(), &[]).await?;
        if !is_unclaimed(&instance) || self.arrivals.has_begun(uuid) {
            return Ok(());
        }
        info!(instance = %uuid, "its way back from the shelf was cut short before it was this host's");
        let error = cut_short(uuid);
        // While it has its task nobody else comes: what the scheduler has claimed is that of the lost request.
        self.cloud.placement.delete_allocations(&Caller::service(context.request_id()), uuid).await?;
        self.record_fault(context, uuid, &error).await;
        self.finish_event(context, uuid, EVENT, Some(&error)).await;
        self.save(context, &mut instance, json!({"task_state": null}), Expected::task(TaskState::Unshelving)).await
    }
}

/// Whether it is on its way to a host, and no host has taken it yet.
fn is_unclaimed(instance: &Instance) -> bool {
    instance.host().is_none()
        && instance.vm_state() == Some(VmState::ShelvedOffloaded)
        && instance.task_state() == Some(TaskState::Unshelving)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn only_what_no_host_has_taken_is_put_back_on_the_shelf() {
        let instance = |host: Value, vm_state: VmState, task: TaskState| {
            let mut instance = Instance::slim("6ff36a1a-8c2e-4b1c-859a-84bdd78d56c8");
            instance.set("host", host);
            instance.set("vm_state", json!(vm_state));
            instance.set("task_state", json!(task));
            instance
        };
        assert!(is_unclaimed(&instance(Value::Null, VmState::ShelvedOffloaded, TaskState::Unshelving)));
        assert!(!is_unclaimed(&instance(json!("another"), VmState::ShelvedOffloaded, TaskState::Unshelving)));
        assert!(!is_unclaimed(&instance(Value::Null, VmState::ShelvedOffloaded, TaskState::Deleting)));
        assert!(!is_unclaimed(&instance(Value::Null, VmState::Building, TaskState::Unshelving)));
    }
}
