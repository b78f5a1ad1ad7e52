//! `terminate_instance`: nothing of the instance stays, here or in the other services.

use std::sync::Arc;

use serde_json::{Value, json};
use tracing::{info, warn};
use uuid::Uuid;

use crate::compute::{
    Compute,
    arguments::{Arguments, instance_uuid},
    duties::Duties,
    error::Error,
    instance::marks::shelved_image,
    now,
    operation::Method,
};
use crate::{
    driver::End,
    guest::configuration::volumes_are_removed,
    messaging::Context,
    objects::{Expected, Instance, PowerState, TaskState, VmState},
};

/// `terminate_instance`.
pub(in crate::compute) struct Terminate {
    instance: Instance,
}

impl Method for Terminate {
    fn parse(mut arguments: Arguments) -> Result<Self, Error> {
        Ok(Self { instance: arguments.instance()? })
    }

    /// Recovery may wait for a dump, which an agent before this one may have asked for.
    async fn clear_the_way(&self, compute: &Compute) {
        if let Ok(uuid) = instance_uuid(&self.instance) {
            compute.end_all_else(uuid).await;
        }
    }

    async fn run(self, compute: Arc<Compute>, context: &Context) -> Result<Value, Error> {
        compute.terminate(context, self.instance).await.map(|()| Value::Null)
    }
}

impl Compute {
    /// Deletes the instance. One that is gone already is deleted.
    pub(in crate::compute) async fn terminate(&self, context: &Context, instance: Instance) -> Result<(), Error> {
        let uuid = instance_uuid(&instance)?;
        self.end_all_else(uuid).await;
        let _lock = self.locks.lock(uuid).await;
        let duties = Duties::of("compute_terminate_instance", &[TaskState::Deleting]).erroring_out();
        let deleted = self.operate(context, uuid, duties, self.delete(context, instance)).await;
        match deleted {
            Err(error) if error.is_instance_not_found() => Ok(()),
            deleted => deleted,
        }
    }

    /// What is under way gives up, and releases the lock: a build at its next wait.
    async fn end_all_else(&self, uuid: Uuid) {
        self.cancel_build(uuid);
        self.waiters.cancel(uuid, "cancelled, the instance is being deleted");
        self.driver.end_suspension(uuid).await;
    }

    /// The deletion itself, also for instances whose deletion was interrupted by a restart.
    pub(in crate::compute) async fn delete(&self, context: &Context, mut instance: Instance) -> Result<(), Error> {
        let uuid = instance_uuid(&instance)?;
        let with_volumes = volumes_are_removed(&instance.metadata());
        self.driver.remove(uuid, End::Deleted { with_volumes }).await?;
        // Only now, because Neutron may give a released port to somebody else.
        self.release_network(context, uuid, &instance).await?;
        // That of one on the shelf is nova-api's to delete.
        let is_shelved = matches!(instance.vm_state(), Some(VmState::Shelved | VmState::ShelvedOffloaded));
        if let Some(former) = shelved_image(&instance.system_metadata()).filter(|_| !is_shelved) {
            self.discard_former_image(context, former).await;
        }
        let deleted = json!({"vm_state": VmState::Deleted, "task_state": null, "power_state": PowerState::NoState, "terminated_at": now()});
        self.save(context, &mut instance, deleted, Expected::Any).await?;
        self.tracker.release(uuid).await;
        let id = uuid.to_string();
        let (_, _, tokens, _) = tokio::join!(
            self.end_migrations(context, uuid),
            self.drop_allocation(context, uuid),
            self.conductor.clean_console_auths(context, &id),
            self.forget_in_schedulers(&id),
        );
        if let Err(error) = tokens {
            warn!(%error, "cannot revoke the instance's consoles; they expire by themselves");
        }
        let row = instance.id().ok_or_else(|| Error::BadRequest {
            method: format!("instance {uuid}"),
            problem: "its row has no id".to_owned(),
        })?;
        self.conductor.destroy_instance(context, &id, row, instance.host()).await?;
        info!("deleted");
        Ok(())
    }
}
