//! The states of an instance and of its moves, by Nova's names, and which task may follow which.
//!
//! Sources: `nova/compute/vm_states.py`, `task_states.py`, `power_state.py`; what sets `migration.status` in `nova/compute` and
//! `nova/conductor`, for Nova lists these nowhere.

use serde::{Serialize, Serializer};

/// An enum of names. `Unknown` stands for those of a Nova that is newer than this agent: they are read, never written.
macro_rules! names {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)*
            /// A name that this agent does not know.
            Unknown,
        }

        impl $name {
            /// Every state that has a name.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The state of this name.
            pub fn of(name: &str) -> Self {
                match name {
                    $($text => Self::$variant,)*
                    _ => Self::Unknown,
                }
            }

            /// Nova's name.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)*
                    Self::Unknown => "unknown",
                }
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }
    };
}

names! {
    /// What an instance is between operations (`vm_state`).
    VmState {
        Active = "active",
        Building = "building",
        Paused = "paused",
        Suspended = "suspended",
        Stopped = "stopped",
        Rescued = "rescued",
        Resized = "resized",
        SoftDelete = "soft-delete",
        Deleted = "deleted",
        Error = "error",
        Shelved = "shelved",
        ShelvedOffloaded = "shelved_offloaded",
    }
}

names! {
    /// What is being done to an instance (`task_state`); no task is `None` of an `Option`.
    TaskState {
        Scheduling = "scheduling",
        Networking = "networking",
        BlockDeviceMapping = "block_device_mapping",
        Spawning = "spawning",
        ImageSnapshotPending = "image_snapshot_pending",
        ImageSnapshot = "image_snapshot",
        ImagePendingUpload = "image_pending_upload",
        ImageUploading = "image_uploading",
        ImageBackup = "image_backup",
        UpdatingPassword = "updating_password",
        ResizePrep = "resize_prep",
        ResizeMigrating = "resize_migrating",
        ResizeMigrated = "resize_migrated",
        ResizeFinish = "resize_finish",
        ResizeReverting = "resize_reverting",
        ResizeConfirming = "resize_confirming",
        Rebooting = "rebooting",
        RebootPending = "reboot_pending",
        RebootStarted = "reboot_started",
        RebootingHard = "rebooting_hard",
        RebootPendingHard = "reboot_pending_hard",
        RebootStartedHard = "reboot_started_hard",
        Pausing = "pausing",
        Unpausing = "unpausing",
        Suspending = "suspending",
        Resuming = "resuming",
        PoweringOff = "powering-off",
        PoweringOn = "powering-on",
        Rescuing = "rescuing",
        Unrescuing = "unrescuing",
        Rebuilding = "rebuilding",
        RebuildBlockDeviceMapping = "rebuild_block_device_mapping",
        RebuildSpawning = "rebuild_spawning",
        Migrating = "migrating",
        Deleting = "deleting",
        SoftDeleting = "soft-deleting",
        Restoring = "restoring",
        Shelving = "shelving",
        ShelvingImagePendingUpload = "shelving_image_pending_upload",
        ShelvingImageUploading = "shelving_image_uploading",
        ShelvingOffloading = "shelving_offloading",
        Unshelving = "unshelving",
    }
}

names! {
    /// How far a move of an instance has come (`status` of a migration). libvirt's `running (post-copy)` is not among them.
    MigrationStatus {
        /// It is asked for, and nothing has begun.
        Accepted = "accepted",
        Queued = "queued",
        Preparing = "preparing",
        PreMigrating = "pre-migrating",
        Migrating = "migrating",
        Running = "running",
        PostMigrating = "post-migrating",
        /// A resize waits for its user.
        Finished = "finished",
        Confirming = "confirming",
        Confirmed = "confirmed",
        Reverting = "reverting",
        Reverted = "reverted",
        Completed = "completed",
        /// An evacuation has ended, and its source may have the old instance yet.
        Done = "done",
        Cancelled = "cancelled",
        Failed = "failed",
        Error = "error",
    }
}

/// What an instance's container is doing, as Nova numbers it (`power_state`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PowerState {
    /// Nothing is known, or nothing is there.
    NoState = 0,
    Running = 1,
    Paused = 3,
    Shutdown = 4,
    Crashed = 6,
    Suspended = 7,
}

impl PowerState {
    /// Nova's number; `NoState` for one that Nova does not have.
    pub fn of(number: i64) -> Self {
        match number {
            1 => Self::Running,
            3 => Self::Paused,
            4 => Self::Shutdown,
            6 => Self::Crashed,
            7 => Self::Suspended,
            _ => Self::NoState,
        }
    }

    /// The container ended.
    pub fn is_down(self) -> bool {
        matches!(self, Self::Shutdown | Self::Crashed)
    }
}

impl Serialize for PowerState {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_i64(*self as i64)
    }
}

/// The task states that the database must have for a save to happen, so that two operations never run at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expected {
    /// Whatever the task is: for what says nothing of states, and for a deletion.
    Any,
    /// One of these; `None` is "no task".
    OneOf(Vec<Option<TaskState>>),
    /// One of these, of an instance that is still being built.
    Building(Vec<Option<TaskState>>),
}

impl Expected {
    /// No task.
    pub fn no_task() -> Self {
        Self::OneOf(vec![None])
    }

    /// This task and no other.
    pub fn task(task: TaskState) -> Self {
        Self::OneOf(vec![Some(task)])
    }

    /// Whatever task a build has.
    pub fn of_build() -> Self {
        use TaskState::{BlockDeviceMapping, Networking, Scheduling, Spawning};
        Self::OneOf([Scheduling, Networking, BlockDeviceMapping, Spawning].map(Some).to_vec()).or_no_task()
    }

    /// What must come before `task`: see [`TaskState::follows`].
    pub fn before(task: TaskState) -> Self {
        match task.follows() {
            [] => Self::Any,
            tasks => Self::OneOf(tasks.to_vec()),
        }
    }

    /// No task will do too.
    #[must_use]
    pub fn or_no_task(self) -> Self {
        match self {
            Self::OneOf(mut tasks) => {
                tasks.push(None);
                Self::OneOf(tasks)
            }
            other => other,
        }
    }
}

impl TaskState {
    /// The tasks that this one may follow where the compute service sets it; none listed means any. The API sets all others.
    pub const fn follows(self) -> &'static [Option<Self>] {
        match self {
            Self::Networking => &[None],
            Self::BlockDeviceMapping => &[Some(Self::Networking), None],
            Self::Spawning => &[Some(Self::BlockDeviceMapping)],
            Self::ImageSnapshot => &[Some(Self::ImageSnapshotPending)],
            Self::ImagePendingUpload => &[Some(Self::ImageSnapshot)],
            Self::ImageUploading => &[Some(Self::ImagePendingUpload)],
            // The API sets these; the request may have waited in a queue while recovery gave the task up.
            Self::ImageBackup => &[Some(Self::ImageBackup)],
            Self::Shelving => &[Some(Self::Shelving)],
            Self::ShelvingOffloading => &[Some(Self::ShelvingOffloading)],
            // A reboot that a restart of the agent has interrupted begins again.
            Self::RebootPending => &[Some(Self::Rebooting), Some(Self::RebootPending), Some(Self::RebootStarted)],
            Self::RebootStarted => &[Some(Self::RebootPending)],
            Self::RebootPendingHard => {
                &[Some(Self::RebootingHard), Some(Self::RebootPendingHard), Some(Self::RebootStartedHard)]
            }
            Self::RebootStartedHard => &[Some(Self::RebootPendingHard)],
            Self::RebuildBlockDeviceMapping => &[Some(Self::Rebuilding)],
            Self::RebuildSpawning => &[Some(Self::RebuildBlockDeviceMapping)],
            _ => &[],
        }
    }

    /// A build is under way; a restart leaves nothing that says how far it came.
    pub fn is_build(self) -> bool {
        matches!(self, Self::Scheduling | Self::BlockDeviceMapping | Self::Networking | Self::Spawning)
    }

    /// A rebuild is under way.
    pub fn is_rebuild(self) -> bool {
        matches!(self, Self::Rebuilding | Self::RebuildBlockDeviceMapping | Self::RebuildSpawning)
    }

    /// The task reads or writes a lot on its host (`io_workload`, by which the scheduler spreads load).
    pub fn is_io_heavy(self) -> bool {
        matches!(
            self,
            Self::BlockDeviceMapping
                | Self::Spawning
                | Self::ImageSnapshot
                | Self::ImagePendingUpload
                | Self::ImageUploading
                | Self::ImageBackup
                | Self::Rebuilding
                | Self::RebuildBlockDeviceMapping
                | Self::RebuildSpawning
        )
    }
}

impl MigrationStatus {
    /// Source and destination both may have something of the instance. Of a move that failed (`Error`), nobody knows.
    pub const fn is_undecided(self) -> bool {
        match self {
            Self::Accepted
            | Self::Queued
            | Self::Preparing
            | Self::PreMigrating
            | Self::Migrating
            | Self::Running
            | Self::PostMigrating
            | Self::Finished
            | Self::Confirming
            | Self::Reverting
            | Self::Error => true,
            Self::Confirmed
            | Self::Reverted
            | Self::Completed
            | Self::Done
            | Self::Cancelled
            | Self::Failed
            | Self::Unknown => false,
        }
    }

    /// The user of a finished resize, or the clock, may still confirm it.
    pub const fn can_be_confirmed(self) -> bool {
        matches!(self, Self::Finished | Self::Confirming)
    }

    /// It failed: no host counts a flavor for it.
    pub const fn has_failed(self) -> bool {
        matches!(self, Self::Error | Self::Failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_read_as_the_state_that_it_is_written_for() {
        for state in VmState::ALL {
            assert_eq!(VmState::of(state.as_str()), *state);
        }
        for task in TaskState::ALL {
            assert_eq!(TaskState::of(task.as_str()), *task);
        }
        for status in MigrationStatus::ALL {
            assert_eq!(MigrationStatus::of(status.as_str()), *status);
        }
    }

    #[test]
    fn a_state_of_a_newer_nova_is_not_taken_for_another() {
        assert_eq!(TaskState::of("teleporting"), TaskState::Unknown);
        assert_eq!(VmState::of(""), VmState::Unknown);
        assert_eq!(MigrationStatus::of("running (post-copy)"), MigrationStatus::Unknown);
    }

    #[test]
    fn a_move_of_a_status_that_is_not_known_is_neither_undecided_nor_failed_nor_to_be_confirmed() {
        let unknown = MigrationStatus::Unknown;
        assert!(!(unknown.is_undecided() || unknown.has_failed() || unknown.can_be_confirmed()));
    }

    #[test]
    fn a_resize_can_be_confirmed_only_between_its_end_and_a_decision() {
        let can_be: Vec<_> = MigrationStatus::ALL.iter().filter(|status| status.can_be_confirmed()).collect();
        assert_eq!(can_be, [&MigrationStatus::Finished, &MigrationStatus::Confirming]);
        for status in can_be {
            assert!(status.is_undecided() && !status.has_failed(), "{status:?}");
        }
    }

    #[test]
    fn the_statuses_of_migrations_travel_by_novas_names() {
        let statuses = [MigrationStatus::PreMigrating, MigrationStatus::Error];
        assert_eq!(serde_json::to_value(statuses).unwrap(), serde_json::json!(["pre-migrating", "error"]));
    }

    #[test]
    fn power_states_travel_as_novas_numbers() {
        for number in [0, 1, 3, 4, 6, 7] {
            assert_eq!(serde_json::to_value(PowerState::of(number)).unwrap(), number);
        }
    }

    #[test]
    fn a_soft_reboot_never_goes_on_as_a_hard_one_by_itself() {
        use TaskState::{RebootStarted, RebootStartedHard, Rebooting, RebootingHard};
        for (soft, hard) in [(Rebooting, RebootingHard), (RebootStarted, RebootStartedHard)] {
            assert!(TaskState::RebootPending.follows().contains(&Some(soft)));
            assert!(!TaskState::RebootPending.follows().contains(&Some(hard)));
            assert!(!TaskState::RebootPendingHard.follows().contains(&Some(soft)));
        }
    }
}
