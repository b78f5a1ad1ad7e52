//! Suspend and resume: the processes rest on disk, or in memory, frozen.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::compute::{
    Compute,
    arguments::{Arguments, instance_uuid},
    duties::Duties,
    error::Error,
    operation::Method,
    ports::interfaces::usable_interfaces,
    reconcile::recovery::still,
};
use crate::{
    driver,
    messaging::Context,
    objects::{Expected, Instance, PowerState, TaskState, VmState},
};

/// `suspend_instance`.
pub(in crate::compute) struct Suspend(Instance);

impl Method for Suspend {
    fn parse(mut arguments: Arguments) -> Result<Self, Error> {
        arguments.instance().map(Self)
    }

    async fn run(self, compute: Arc<Compute>, context: &Context) -> Result<Value, Error> {
        compute.suspend(context, self.0).await.map(|()| Value::Null)
    }
}

/// `resume_instance`.
pub(in crate::compute) struct Resume(Instance);

impl Method for Resume {
    fn parse(mut arguments: Arguments) -> Result<Self, Error> {
        arguments.instance().map(Self)
    }

    async fn run(self, compute: Arc<Compute>, context: &Context) -> Result<Value, Error> {
        compute.resume(context, self.0).await.map(|()| Value::Null)
    }
}

/// What a container does, in the words of its instance: one of a suspended instance is frozen because it is suspended.
pub(in crate::compute) fn in_words_of(vm_state: Option<VmState>, actual: PowerState) -> PowerState {
    match (vm_state, actual) {
        (Some(VmState::Suspended), PowerState::Paused) => PowerState::Suspended,
        (_, actual) => actual,
    }
}

impl Compute {
    pub(in crate::compute) async fn suspend(&self, context: &Context, mut instance: Instance) -> Result<(), Error> {
        let uuid = instance_uuid(&instance)?;
        let _lock = self.locks.lock(uuid).await;
        self.operate(context, uuid, Duties::of("compute_suspend_instance", &[TaskState::Suspending]), async {
            if !self.take_up(context, &mut instance, TaskState::Suspending).await? {
                return Ok(());
            }
            self.or_error_state(context, &instance, self.driver.suspend(uuid).await).await?;
            let recorded = self.record_suspension(context, &mut instance).await;
            if recorded.as_ref().is_err_and(|error| !error.is_gone()) {
                // Nobody could wake a server that Nova holds for running.
                self.driver.undo_suspend(uuid).await?;
            }
            recorded
        })
        .await
    }

    /// The container is frozen, or on disk; Nova is told.
    pub(in crate::compute) async fn record_suspension(
        &self,
        context: &Context,
        instance: &mut Instance,
    ) -> Result<(), Error> {
        let mut state =
            json!({"power_state": PowerState::Suspended, "vm_state": VmState::Suspended, "task_state": null});
        let before = instance.vm_state().unwrap_or(VmState::Active);
        self.remember_vm_state(context, instance_uuid(instance)?, before, &mut state).await?;
        self.save(context, instance, state, Expected::task(TaskState::Suspending)).await
    }

    /// Lets the container's processes go on; where they ended meanwhile, the container is started.
    pub(in crate::compute) async fn resume(&self, context: &Context, mut instance: Instance) -> Result<(), Error> {
        let uuid = instance_uuid(&instance)?;
        let _lock = self.locks.lock(uuid).await;
        self.operate(context, uuid, Duties::of("compute_resume_instance", &[TaskState::Resuming]), async {
            if !self.take_up(context, &mut instance, TaskState::Resuming).await? {
                return Ok(());
            }
            self.give_again(context, uuid).await?;
            let network = self.network_to_start(context, uuid).await?;
            let interfaces = usable_interfaces(&network, &self.host)?;
            self.or_error_state(context, &instance, self.driver.resume(uuid, &interfaces).await).await?;
            let mut state = json!({"power_state": self.power_state(uuid).await?, "task_state": null});
            state["vm_state"] = json!(self.recall_vm_state(context, uuid, &mut state).await?);
            self.save(context, &mut instance, state, Expected::task(TaskState::Resuming)).await
        })
        .await
    }

    /// Nova's rule for these two: whatever the driver fails at leaves an instance of which nobody knows what it does. What the
    /// host refuses has changed nothing, and what it could not bring back from disk stays there. One that is being deleted is its
    /// deletion's.
    async fn or_error_state(
        &self,
        context: &Context,
        instance: &Instance,
        done: Result<(), driver::Error>,
    ) -> Result<(), Error> {
        use driver::Error::{Cancelled, Unsupported};
        if done.as_ref().is_err_and(|error| !matches!(error, Unsupported(_) | Cancelled(_))) {
            let (uuid, found) = (instance_uuid(instance)?, still(instance.task_state()).or_no_task());
            self.set_state(context, uuid, json!({"vm_state": VmState::Error}), &found).await;
        }
        Ok(done?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frozen_container_is_suspended_where_its_instance_is_and_paused_elsewhere() {
        assert_eq!(in_words_of(Some(VmState::Suspended), PowerState::Paused), PowerState::Suspended);
        assert_eq!(in_words_of(Some(VmState::Paused), PowerState::Paused), PowerState::Paused);
        assert_eq!(in_words_of(Some(VmState::Suspended), PowerState::Shutdown), PowerState::Shutdown);
    }
}
