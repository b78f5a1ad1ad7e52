//! The task that the API has set for an operation, and what to do when it is gone: the request may have waited in a queue while
//! recovery did what it asks for.

use serde_json::json;
use tracing::{info, warn};
use uuid::Uuid;

use crate::compute::{Compute, arguments::instance_uuid, error::Error};
use crate::{
    messaging::Context,
    objects::{Expected, Instance, PowerState, TaskState, VmState},
};

impl Compute {
    /// Takes up the operation of `task`, with the instance's lock held. Whether it is still to be done: where its task is gone and
    /// the instance is what the task was to make of it, it is done. Nothing that can fail may come before this: a failure
    /// would clear the task of another operation.
    ///
    /// # Errors
    /// The instance has another task, or none and the work is not done.
    pub(in crate::compute) async fn take_up(
        &self,
        context: &Context,
        instance: &mut Instance,
        task: TaskState,
    ) -> Result<bool, Error> {
        let expected = if task.follows().is_empty() { Expected::task(task) } else { Expected::before(task) };
        let Err(error) = self.save(context, instance, json!({"task_state": task}), expected).await else {
            self.rebooted.take(instance_uuid(instance)?);
            return Ok(true);
        };
        if error.is_gone() || !error.is_unexpected_task_state() {
            return Err(error);
        }
        match self.is_done(context, instance_uuid(instance)?, task).await {
            Ok(true) => {
                info!(?task, "done already, while the request waited");
                Ok(false)
            }
            Ok(false) => Err(error),
            Err(unknown) => {
                warn!(error = %unknown, ?task, "cannot see whether this was done while the request waited");
                Err(error)
            }
        }
    }

    /// Whether the instance has no task, and is what `task` was to make of it.
    async fn is_done(&self, context: &Context, uuid: Uuid, task: TaskState) -> Result<bool, Error> {
        let instance = self.conductor.instance(context, &uuid.to_string(), &[]).await?;
        if instance.task_state().is_some() {
            return Ok(false);
        }
        // Before and after a reboot an instance is the same.
        let is_reboot = matches!(task, TaskState::RebootPending | TaskState::RebootPendingHard);
        let was_done = !is_reboot || self.rebooted.take(uuid);
        Ok(was_done && is_as_after(task, instance.vm_state(), self.power_state(uuid).await?))
    }
}

/// Whether an instance that was found so is what `task` makes of one.
fn is_as_after(task: TaskState, vm_state: Option<VmState>, actual: PowerState) -> bool {
    use TaskState as T;
    let runs = actual == PowerState::Running;
    match task {
        T::PoweringOn
        | T::Unpausing
        | T::Resuming
        | T::Restoring
        | T::Unrescuing
        | T::RebootPending
        | T::RebootPendingHard => vm_state == Some(VmState::Active) && runs,
        T::PoweringOff => vm_state == Some(VmState::Stopped) && actual.is_down(),
        T::Pausing => vm_state == Some(VmState::Paused) && actual == PowerState::Paused,
        T::Suspending => vm_state == Some(VmState::Suspended) && !runs,
        // Its container may be gone.
        T::SoftDeleting => vm_state == Some(VmState::SoftDelete) && !runs,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATES: [VmState; 5] =
        [VmState::Active, VmState::Stopped, VmState::Paused, VmState::Suspended, VmState::SoftDelete];
    const POWER: [PowerState; 4] = [PowerState::Running, PowerState::Paused, PowerState::Shutdown, PowerState::NoState];

    /// What an instance may be found as after `task`.
    fn found_after(task: TaskState) -> Vec<(VmState, PowerState)> {
        let all = STATES.into_iter().flat_map(|state| POWER.map(|power| (state, power)));
        all.filter(|(state, power)| is_as_after(task, Some(*state), *power)).collect()
    }

    #[test]
    fn an_operation_is_done_where_nova_and_docker_agree_on_what_it_makes() {
        use PowerState::{NoState, Paused, Running, Shutdown};
        use TaskState as T;
        for task in [
            T::PoweringOn,
            T::Unpausing,
            T::Resuming,
            T::Restoring,
            T::Unrescuing,
            T::RebootPending,
            T::RebootPendingHard,
        ] {
            assert_eq!(found_after(task), [(VmState::Active, Running)], "{task:?}");
        }
        assert_eq!(found_after(T::PoweringOff), [(VmState::Stopped, Shutdown)]);
        assert_eq!(found_after(T::Pausing), [(VmState::Paused, Paused)]);
        assert_eq!(found_after(T::Suspending), [Paused, Shutdown, NoState].map(|power| (VmState::Suspended, power)));
        assert_eq!(found_after(T::SoftDeleting), [Paused, Shutdown, NoState].map(|power| (VmState::SoftDelete, power)));
    }

    #[test]
    fn what_recovery_gives_up_is_never_done() {
        for task in [TaskState::Rescuing, TaskState::Rebuilding, TaskState::Shelving, TaskState::ImageSnapshot] {
            assert_eq!(found_after(task), [], "{task:?}");
        }
    }
}
