//! At start: finishes or undoes the operations that a restart interrupted, instance by instance.

use std::sync::Arc;

use serde_json::json;
use tracing::{info, warn};
use uuid::Uuid;

use super::not_begun::{Fate, actions_of};
use crate::compute::{
    Compute, arguments::instance_uuid, duties::Duties, error::Error, instance::build::cut_short,
    instance::marks::has_useless_image,
};
use crate::{
    driver::End,
    messaging::Context,
    objects::{Expected, Instance, PowerState, TaskState, VmState},
};

/// What recovery reads of each instance.
pub(in crate::compute) const INSTANCE_ATTRS: &[&str] = &["info_cache", "metadata", "system_metadata", "flavor"];

/// What to do about one instance, by its states and its container's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Recovery {
    Nothing,
    /// The deletion had begun.
    Delete,
    /// The build had begun; nobody knows how far it got.
    FailBuild,
    /// A rebuild had begun.
    FailRebuild,
    /// A rescue had begun.
    FailRescue,
    Unrescue,
    /// A resize had begun.
    UndoResize,
    FinishRevert,
    /// A resize is done; its confirmation may have begun.
    ConfirmAgain,
    /// The task left no trace that matters.
    ClearTask,
    /// The task is done, but nobody recorded it.
    Settle,
    Reboot {
        hard: bool,
    },
    Stop,
    Start,
    Pause,
    Unpause,
    Suspend,
    /// The container is frozen or on disk, and nobody recorded that its instance is suspended.
    SettleSuspended,
    Resume,
    /// The snapshot is not whole; the container is still there.
    FailShelve,
    /// The image is whole, or the instance only has to be taken off the host.
    FinishOffload,
    FailUnshelve,
    SoftDelete,
    Restore,
    /// No task. The network is plugged again, because the host may have been restarted.
    Replug,
}

/// What came of a look at an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Recovered {
    Done,
    /// Its request may still come. To be looked at again.
    NotYet,
}

impl Recovery {
    /// Whether it ends an operation that its user has to ask for again.
    fn gives_up(self) -> bool {
        matches!(self, Self::FailRebuild | Self::FailRescue | Self::UndoResize | Self::FailShelve | Self::ClearTask)
    }
}

impl Compute {
    /// Looks at one instance. No request is served for it meanwhile.
    pub(super) async fn recover_instance(self: Arc<Self>, instance: Instance) -> Result<Recovered, Error> {
        let uuid = instance_uuid(&instance)?;
        let actual = self.power_state(uuid).await?;
        let (vm_state, task) = (instance.vm_state(), instance.task_state());
        let recovery = decide(vm_state, task, actual);
        if is_over(task, recovery) && !keeps_aside(vm_state, task) && self.driver.has_aside(uuid).await? {
            info!("ending what an operation that is done has left: one of two containers");
            self.driver.tidy(uuid).await?;
        }
        // Without a project, so that events go to the instance's newest action: the one that was interrupted.
        let context = Context::admin();
        if has_useless_image(&instance, actual) {
            info!("deleting the image that the instance was to be shelved into, or came back from");
            self.forget_shelved_image(&context, uuid).await;
        }
        if let (true, Some(actions)) = (recovery.gives_up(), actions_of(task)) {
            match self.fate_of_task(&context, uuid, actions).await? {
                Fate::GivenUp => {}
                Fate::Left => return Ok(Recovered::Done),
                Fate::Awaited => return Ok(Recovered::NotYet),
            }
        }
        if recovery != Recovery::Nothing && recovery != Recovery::Replug {
            info!(?vm_state, ?task, power_state = ?actual, ?recovery, "recovering");
        }
        Box::pin(self.carry_out(&context, recovery, instance, actual)).await.map(|()| Recovered::Done)
    }

    async fn carry_out(
        &self,
        context: &Context,
        recovery: Recovery,
        mut instance: Instance,
        actual: PowerState,
    ) -> Result<(), Error> {
        let (uuid, task) = (instance_uuid(&instance)?, instance.task_state());
        match recovery {
            Recovery::Nothing => Ok(()),
            Recovery::Replug => self.replug(context, instance, actual).await,
            Recovery::ClearTask => {
                // Not one that was set meanwhile.
                self.save(context, &mut instance, json!({"task_state": null}), still(task)).await?;
                if task.is_some_and(is_snapshot) {
                    self.discard_cut_off_snapshots(context, uuid).await;
                }
                Ok(())
            }
            Recovery::Settle => {
                let vm_state = if actual == PowerState::Paused { VmState::Paused } else { VmState::Active };
                let state = json!({"vm_state": vm_state, "power_state": actual, "task_state": null});
                self.save(context, &mut instance, state, still(task)).await
            }
            Recovery::FailBuild => self.fail_interrupted_build(context, instance).await,
            Recovery::FailRebuild => self.fail_interrupted_rebuild(context, &instance).await,
            Recovery::FailRescue => self.fail_interrupted_rescue(context, &instance).await,
            Recovery::Unrescue => self.unrescue(context, instance).await,
            Recovery::UndoResize => self.undo_interrupted_resize(context, &instance).await,
            Recovery::FinishRevert => self.finish_interrupted_revert(context, &instance).await,
            Recovery::ConfirmAgain => {
                self.replug(context, instance.clone(), actual).await?;
                self.confirm_again(context, &instance).await
            }
            Recovery::Delete => self.resume_delete(context, instance).await,
            Recovery::Stop => self.stop(context, instance, true).await,
            Recovery::Start => self.start(context, instance).await,
            Recovery::SoftDelete => self.soft_delete(context, instance).await,
            Recovery::Restore => self.restore(context, instance).await,
            Recovery::Pause => self.pause(context, instance).await,
            Recovery::Unpause => self.unpause(context, instance).await,
            Recovery::Suspend => self.suspend(context, instance).await,
            Recovery::SettleSuspended => self.record_suspension(context, &mut instance).await,
            Recovery::Resume => self.resume(context, instance).await,
            Recovery::FailShelve => self.fail_interrupted_shelve(context, &instance).await,
            Recovery::FinishOffload => self.finish_offload(context, instance).await,
            Recovery::FailUnshelve => self.fail_interrupted_unshelve(context, &instance).await,
            Recovery::Reboot { hard } => self.resume_reboot(context, instance, hard).await,
        }
    }

    async fn resume_delete(&self, context: &Context, instance: Instance) -> Result<(), Error> {
        let uuid = instance_uuid(&instance)?;
        let _lock = self.locks.lock(uuid).await;
        self.discard_cut_off_snapshots(context, uuid).await;
        let duties = Duties::of("compute_terminate_instance", &[TaskState::Deleting]).erroring_out();
        self.operate(context, uuid, duties, self.delete(context, instance)).await
    }

    /// The images of snapshots that nobody will ever fill. They are no reason to leave the instance as it is.
    async fn discard_cut_off_snapshots(&self, context: &Context, uuid: Uuid) {
        if let Err(error) = self.discard_unfinished_snapshots(context, uuid).await {
            warn!(%error, "cannot look for images of snapshots that were cut off");
        }
    }

    /// A soft reboot whose container is down goes on as a hard one.
    async fn resume_reboot(&self, context: &Context, mut instance: Instance, hard: bool) -> Result<(), Error> {
        let pending = if hard { TaskState::RebootPendingHard } else { TaskState::RebootPending };
        let found = still(instance.task_state());
        self.save(context, &mut instance, json!({"task_state": pending}), found).await?;
        let uuid = instance_uuid(&instance)?;
        self.reboot(context, instance, hard).await?;
        self.rebooted.insert(uuid);
        Ok(())
    }

    /// The container, the network and the claim of a build that a restart cut short.
    async fn fail_interrupted_build(&self, context: &Context, instance: Instance) -> Result<(), Error> {
        let uuid = instance_uuid(&instance)?;
        let _lock = self.locks.lock(uuid).await;
        let error = cut_short();
        if let Err(cleanup) = self.driver.remove(uuid, End::Replaced).await {
            warn!(error = %cleanup, "cannot remove everything of the interrupted build");
        }
        self.release_network(context, uuid, &instance).await?;
        self.finish_event(context, uuid, crate::compute::instance::build::EVENT, Some(&error)).await;
        self.record_fault(context, uuid, &error).await;
        let state = json!({
            "host": null, "node": null, "compute_id": null, "vm_state": VmState::Error, "task_state": null,
        });
        if self.set_state(context, uuid, state, &still(instance.task_state())).await {
            self.drop_allocation(context, uuid).await;
        }
        self.tracker.release(uuid).await;
        Ok(())
    }
}

/// Whether the task fills an image that the API has made.
fn is_snapshot(task: TaskState) -> bool {
    use TaskState::{ImageBackup, ImagePendingUpload, ImageSnapshot, ImageSnapshotPending, ImageUploading};
    matches!(task, ImageBackup | ImagePendingUpload | ImageSnapshot | ImageSnapshotPending | ImageUploading)
}

/// Whether nobody is to go on with an operation: a second container that is left of it has no use.
fn is_over(task: Option<TaskState>, recovery: Recovery) -> bool {
    task.is_none() || recovery == Recovery::Settle
}

/// Whether a container that was set aside belongs to an instance in this state. In ERROR it is what a hard reboot goes on with; once that
/// has begun, it is the one from before the reboot.
fn keeps_aside(vm_state: Option<VmState>, task: Option<TaskState>) -> bool {
    match vm_state {
        Some(VmState::Rescued | VmState::Resized | VmState::SoftDelete) => true,
        Some(VmState::Error) => !matches!(task, Some(TaskState::RebootStarted | TaskState::RebootStartedHard)),
        _ => false,
    }
}

/// The task that was found. One that we have no word for cannot be asked for.
pub(in crate::compute) fn still(task: Option<TaskState>) -> Expected {
    match task {
        Some(TaskState::Unknown) => Expected::Any,
        task => Expected::OneOf(vec![task]),
    }
}

/// Nova's table (`_init_instance`), for what this service does.
fn decide(vm_state: Option<VmState>, task: Option<TaskState>, actual: PowerState) -> Recovery {
    use TaskState as T;
    let running = actual == PowerState::Running;
    let paused = actual == PowerState::Paused;
    let Some(task) = task else {
        return match vm_state {
            Some(VmState::Deleted) => Recovery::Delete,
            Some(VmState::SoftDelete | VmState::Error) => Recovery::Nothing,
            Some(VmState::Building) => Recovery::FailBuild,
            Some(VmState::Resized) => Recovery::ConfirmAgain,
            Some(VmState::ShelvedOffloaded) => Recovery::FinishOffload,
            // Its user could not bring it back.
            Some(VmState::Shelved) if actual == PowerState::NoState => Recovery::FinishOffload,
            _ => Recovery::Replug,
        };
    };
    match (vm_state, task) {
        (_, T::Deleting) | (Some(VmState::Deleted), _) => Recovery::Delete,
        (_, T::SoftDeleting) => Recovery::SoftDelete,
        (_, task) if task.is_rebuild() => Recovery::FailRebuild,
        (_, T::ResizePrep | T::ResizeMigrating | T::ResizeMigrated | T::ResizeFinish) => Recovery::UndoResize,
        (_, T::ResizeReverting) => Recovery::FinishRevert,
        (_, T::Rescuing) => Recovery::FailRescue,
        (_, T::Unrescuing) => Recovery::Unrescue,
        (Some(VmState::SoftDelete), T::Restoring) => Recovery::Restore,
        (Some(VmState::SoftDelete), _) => Recovery::ClearTask,
        // Somebody has put an end to the build already; a deletion removes what is there. An ERROR may be stopped, and rebooted hard.
        (Some(VmState::Error), task) if task.is_build() => Recovery::ClearTask,
        (Some(VmState::Building), _) => Recovery::FailBuild,
        // Before other builds: its ports and its files are not to be given up.
        (Some(VmState::ShelvedOffloaded), _) => Recovery::FailUnshelve,
        (Some(VmState::Shelved), T::ShelvingOffloading) => Recovery::FinishOffload,
        (_, T::Shelving | T::ShelvingImagePendingUpload | T::ShelvingImageUploading) => Recovery::FailShelve,
        (_, task) if task.is_build() => Recovery::FailBuild,
        (_, T::RebootStarted | T::RebootStartedHard) if running => Recovery::Settle,
        // It had not begun. Its request may still wait in the queue, and finds then that it is done.
        (_, T::Rebooting | T::RebootPending) if running => Recovery::Reboot { hard: false },
        (_, T::Rebooting | T::RebootPending | T::RebootStarted) => Recovery::Reboot { hard: true },
        (_, T::RebootingHard | T::RebootPendingHard | T::RebootStartedHard) => Recovery::Reboot { hard: true },
        (_, T::Pausing) if running => Recovery::Pause,
        (_, T::Unpausing) if paused => Recovery::Unpause,
        (_, T::Pausing | T::Unpausing) if running || paused => Recovery::Settle,
        (_, T::Suspending) if paused || actual == PowerState::Suspended => Recovery::SettleSuspended,
        (_, T::Suspending) if running => Recovery::Suspend,
        (_, T::Resuming) => Recovery::Resume,
        (_, T::PoweringOff) => Recovery::Stop,
        (_, T::PoweringOn) => Recovery::Start,
        // A snapshot, and whatever else leaves no trace that matters.
        _ => Recovery::ClearTask,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deletion_that_was_interrupted_goes_on_whatever_the_state() {
        for vm_state in [VmState::Active, VmState::Error, VmState::Building, VmState::Stopped] {
            assert_eq!(decide(Some(vm_state), Some(TaskState::Deleting), PowerState::Running), Recovery::Delete);
        }
    }

    #[test]
    fn an_interrupted_build_is_failed_in_every_one_of_its_steps() {
        for task in [None, Some(TaskState::Networking), Some(TaskState::BlockDeviceMapping), Some(TaskState::Spawning)]
        {
            assert_eq!(decide(Some(VmState::Building), task, PowerState::NoState), Recovery::FailBuild);
        }
    }

    #[test]
    fn an_interrupted_rebuild_is_failed_whatever_the_state_was() {
        for vm_state in [VmState::Active, VmState::Stopped, VmState::Error] {
            for task in [TaskState::Rebuilding, TaskState::RebuildBlockDeviceMapping, TaskState::RebuildSpawning] {
                assert_eq!(decide(Some(vm_state), Some(task), PowerState::Running), Recovery::FailRebuild);
            }
        }
    }

    #[test]
    fn an_interrupted_rescue_is_failed_and_an_interrupted_end_of_one_is_finished() {
        for vm_state in [VmState::Active, VmState::Stopped, VmState::Error] {
            assert_eq!(decide(Some(vm_state), Some(TaskState::Rescuing), PowerState::Running), Recovery::FailRescue);
        }
        let rescued = Some(VmState::Rescued);
        assert_eq!(decide(rescued, Some(TaskState::Unrescuing), PowerState::Running), Recovery::Unrescue);
        assert_eq!(decide(rescued, None, PowerState::Running), Recovery::Replug);
    }

    #[test]
    fn an_interrupted_reboot_is_settled_when_the_container_runs_and_redone_when_not() {
        assert_eq!(
            decide(Some(VmState::Active), Some(TaskState::RebootStarted), PowerState::Running),
            Recovery::Settle
        );
        for (task, hard) in
            [(TaskState::Rebooting, false), (TaskState::RebootPending, false), (TaskState::RebootingHard, true)]
        {
            let decided = decide(Some(VmState::Active), Some(task), PowerState::Running);
            assert_eq!(decided, Recovery::Reboot { hard }, "{task:?}: nothing of it was done");
        }
        assert_eq!(
            decide(Some(VmState::Active), Some(TaskState::RebootStarted), PowerState::Shutdown),
            Recovery::Reboot { hard: true }
        );
    }

    #[test]
    fn what_a_settled_reboot_has_set_aside_is_not_kept_and_what_is_redone_keeps_it() {
        let of = |task, actual| is_over(Some(task), decide(Some(VmState::Active), Some(task), actual));
        assert!(of(TaskState::RebootStartedHard, PowerState::Running));
        assert!(of(TaskState::RebootStarted, PowerState::Running));
        assert!(!of(TaskState::RebootStartedHard, PowerState::Shutdown));
        assert!(!of(TaskState::RebuildSpawning, PowerState::Running));
    }

    #[test]
    fn a_soft_deletion_and_a_restoration_are_redone() {
        let (running, down) = (PowerState::Running, PowerState::Shutdown);
        let deleted = Some(VmState::SoftDelete);
        assert_eq!(decide(Some(VmState::Active), Some(TaskState::SoftDeleting), running), Recovery::SoftDelete);
        assert_eq!(decide(deleted, Some(TaskState::Restoring), down), Recovery::Restore);
        assert_eq!(decide(deleted, None, down), Recovery::Nothing);
    }

    #[test]
    fn a_stop_or_start_under_way_is_redone() {
        assert_eq!(decide(Some(VmState::Active), Some(TaskState::PoweringOff), PowerState::Running), Recovery::Stop);
        assert_eq!(decide(Some(VmState::Stopped), Some(TaskState::PoweringOn), PowerState::Shutdown), Recovery::Start);
    }

    #[test]
    fn a_pause_that_was_asked_for_is_done_and_one_that_was_done_is_recorded() {
        let decided = |task, actual| decide(Some(VmState::Active), Some(task), actual);
        assert_eq!(decided(TaskState::Pausing, PowerState::Running), Recovery::Pause);
        assert_eq!(decided(TaskState::Pausing, PowerState::Paused), Recovery::Settle);
        assert_eq!(decided(TaskState::Pausing, PowerState::Shutdown), Recovery::ClearTask, "the host was restarted");
        assert_eq!(decided(TaskState::Unpausing, PowerState::Paused), Recovery::Unpause);
        assert_eq!(decided(TaskState::Unpausing, PowerState::Running), Recovery::Settle);
    }

    #[test]
    fn a_suspension_is_recorded_where_the_container_is_frozen_and_done_where_it_runs() {
        let (active, suspended) = (Some(VmState::Active), Some(VmState::Suspended));
        let suspending = Some(TaskState::Suspending);
        assert_eq!(decide(active, suspending, PowerState::Paused), Recovery::SettleSuspended);
        assert_eq!(decide(active, suspending, PowerState::Suspended), Recovery::SettleSuspended, "to disk");
        assert_eq!(decide(active, suspending, PowerState::Running), Recovery::Suspend);
        assert_eq!(decide(active, suspending, PowerState::Shutdown), Recovery::ClearTask);
        for actual in [PowerState::Paused, PowerState::Suspended, PowerState::Running, PowerState::Shutdown] {
            assert_eq!(decide(suspended, Some(TaskState::Resuming), actual), Recovery::Resume);
        }
    }

    #[test]
    fn a_shelving_is_given_up_until_the_image_is_whole_and_finished_afterwards() {
        use TaskState::{Shelving, ShelvingImagePendingUpload, ShelvingImageUploading, ShelvingOffloading};
        for task in [Shelving, ShelvingImagePendingUpload, ShelvingImageUploading] {
            assert_eq!(decide(Some(VmState::Active), Some(task), PowerState::Shutdown), Recovery::FailShelve);
        }
        for actual in [PowerState::Shutdown, PowerState::NoState] {
            assert_eq!(decide(Some(VmState::Shelved), Some(ShelvingOffloading), actual), Recovery::FinishOffload);
            assert_eq!(decide(Some(VmState::ShelvedOffloaded), None, actual), Recovery::FinishOffload);
        }
        assert_eq!(decide(Some(VmState::Shelved), None, PowerState::Shutdown), Recovery::Replug);
    }

    #[test]
    fn an_unshelving_that_was_interrupted_is_never_taken_for_a_build() {
        for task in [TaskState::Spawning, TaskState::Unshelving] {
            let shelved = Some(VmState::ShelvedOffloaded);
            assert_eq!(decide(shelved, Some(task), PowerState::Running), Recovery::FailUnshelve);
            assert_eq!(decide(shelved, Some(TaskState::Deleting), PowerState::Running), Recovery::Delete);
        }
    }

    #[test]
    fn what_fills_an_image_is_a_snapshot_or_a_backup() {
        let found: Vec<_> = TaskState::ALL.iter().copied().filter(|task| is_snapshot(*task)).collect();
        assert_eq!(found.len(), 5, "{found:?}");
        assert!(
            found
                .iter()
                .all(|task| decide(Some(VmState::Active), Some(*task), PowerState::Running) == Recovery::ClearTask)
        );
    }

    #[test]
    fn no_task_survives_a_restart() {
        let power = [PowerState::Running, PowerState::Paused, PowerState::Shutdown, PowerState::NoState];
        for task in TaskState::ALL.iter().copied().chain([TaskState::Unknown]) {
            for vm_state in VmState::ALL.iter().copied().map(Some).chain([None]) {
                for actual in power {
                    let decided = decide(vm_state, Some(task), actual);
                    let is_left = matches!(decided, Recovery::Nothing | Recovery::Replug);
                    assert!(!is_left, "{vm_state:?} {task:?} {actual:?}");
                }
            }
        }
    }

    #[test]
    fn a_server_in_error_is_rebooted_and_stopped_as_its_user_has_asked() {
        let of = |task, actual| decide(Some(VmState::Error), Some(task), actual);
        for actual in [PowerState::Running, PowerState::Shutdown, PowerState::NoState] {
            assert_eq!(of(TaskState::RebootingHard, actual), Recovery::Reboot { hard: true });
            assert_eq!(of(TaskState::PoweringOff, actual), Recovery::Stop);
            assert_eq!(of(TaskState::Spawning, actual), Recovery::ClearTask, "its build took too long");
        }
        assert!(keeps_aside(Some(VmState::Error), None));
        assert!(!keeps_aside(Some(VmState::Error), Some(TaskState::RebootStartedHard)), "it runs: the reboot is done");
    }

    #[test]
    fn an_instance_without_a_task_is_left_running() {
        assert_eq!(decide(Some(VmState::Active), None, PowerState::Running), Recovery::Replug);
        assert_eq!(decide(Some(VmState::Error), None, PowerState::Running), Recovery::Nothing);
    }
}
