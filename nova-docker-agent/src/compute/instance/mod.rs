//! The operations on one instance, one file each, and the states between which they move it.
//!
//! ```text
//!                      |  conductor: scheduling
//!                      v
//!                  BUILDING  build: networking, block_device_mapping, spawning
//!                   |    |
//!          activate |    | build_failed; back to the conductor (scheduling) where another host may do better
//!                   |    +----------------------------------------------------------> ERROR
//!                   v
//!          +---> ACTIVE ----------------------------------------------+
//!          |      |   ^                                               |
//!          |      |   | start: powering-on                            | pause: pausing
//!          |      |   |                                               |
//!          |      |  STOPPED <--- power_sync, when it ended ---+      v
//!          |      |   ^                                        +-- PAUSED
//!          |      +---+  stop: powering-off;                          |
//!          |             power_sync, when the container ended         |
//!          |                                                          |
//!          +------------------------------------ unpause: unpausing --+
//!
//!   ACTIVE -> ACTIVE    reboot: reboot_pending, reboot_started, or the same with _hard;
//!          -> ERROR     when it failed and the container does not run
//!          -> ERROR     first_run: the container of a launch ended within its grace
//!   ACTIVE, STOPPED, ERROR -> ACTIVE or STOPPED   rebuild: rebuilding, rebuild_block_device_mapping, rebuild_spawning
//!   ACTIVE, STOPPED, ERROR -> RESCUED   rescue: rescuing; unrescue: unrescuing leads back to ACTIVE
//!   any    -> the same  snapshot: image_snapshot, image_pending_upload, image_uploading
//!   any    -> the same  backup: image_backup, image_pending_upload, image_uploading
//!   ACTIVE -> SUSPENDED suspend: suspending; resume: resuming leads back
//!          -> ERROR     when the container could not be frozen or thawed
//!   any    -> SHELVED   shelve: shelving, shelving_image_pending_upload, shelving_image_uploading; start leads back to ACTIVE
//!   SHELVED -> SHELVED_OFFLOADED   shelve_offload, at once by default: shelving_offloading; on no host
//!   SHELVED_OFFLOADED -> ACTIVE    unshelve, on any host: spawning; stays what it is when that fails
//!   any    -> SOFT_DELETED   soft_delete: soft-deleting; restore: restoring leads back to ACTIVE, reclaim to DELETED
//!   any    -> DELETED   terminate: deleting; -> ERROR when something of it could not be removed
//! ```
//!
//! Capitals are vm states, the words after an operation its task states. The API sets the first task state of an operation
//! (`powering-off`, `pausing`, `rebooting`, `image_snapshot_pending`, `deleting`) before it sends the request; the
//! operation sets the others, and clears the task with the new vm state in one save. Each save names the task that it
//! [follows](crate::objects::TaskState::follows), so that a second operation never runs beside it.
//!
//! Not every move begins with a request: [`power_sync`](crate::compute::reconcile::power_sync) stops an instance whose
//! container ended, and [`recovery`](crate::compute::reconcile::recovery) finishes or undoes what a restart interrupted.
//! A duty that fails clears the task (`duties`); the vm state stays, unless the duty says `errors_out`.
//!
//! | file | what |
//! |---|---|
//! | `request` | the arguments of `build_and_run_instance` |
//! | `build_wait`, `build`, `spawn`, `wiring`, `build_failure` | a build: made this host's, made, wired, undone |
//! | `group_policy` | whether an instance goes with its server group |
//! | `guest`, `image`, `inside` | from Nova's instance and image to the driver's words |
//! | `links` | other servers of the project |
//! | `config_drive`, `devices` | what an instance's metadata says |
//! | `task` | how an operation begins, also one that came late |
//! | `power` | start, stop, reboot, pause, unpause |
//! | `first_run` | a launch whose container ends at once is a failed one |
//! | `backup`, `suspend`, `shelve`, `shelve_offload`, `unshelve` | the operation of that name |
//! | `marks` | what they leave in the system metadata for a later operation |
//! | `console`, `serial_console` | what the container writes; a terminal in the browser |
//! | `rebuild`, `rescue`, `snapshot`, `diagnostics`, `password`, `terminate`, `soft_delete` | the operation of that name |

pub(in crate::compute) mod backup;
pub(in crate::compute) mod build;
pub(in crate::compute) mod build_failure;
pub(in crate::compute) mod build_wait;
pub(in crate::compute) mod config_drive;
pub(in crate::compute) mod console;
pub(in crate::compute) mod devices;
pub(in crate::compute) mod diagnostics;
pub(in crate::compute) mod first_run;
pub(in crate::compute) mod group_policy;
pub(in crate::compute) mod guest;
pub(in crate::compute) mod image;
pub(in crate::compute) mod inside;
pub(in crate::compute) mod links;
pub(in crate::compute) mod marks;
pub(in crate::compute) mod password;
pub(in crate::compute) mod power;
pub(in crate::compute) mod rebuild;
pub(in crate::compute) mod request;
pub(in crate::compute) mod rescue;
pub(in crate::compute) mod serial_console;
pub(in crate::compute) mod shelve;
pub(in crate::compute) mod shelve_offload;
pub(in crate::compute) mod snapshot;
pub(in crate::compute) mod soft_delete;
pub(in crate::compute) mod spawn;
pub(in crate::compute) mod suspend;
pub(in crate::compute) mod task;
pub(in crate::compute) mod terminate;
pub(in crate::compute) mod unshelve;
pub(in crate::compute) mod wiring;
