//! Resize: the same files and the same network in a container of another flavor, kept beside the old one until the user confirms.
//!
//! ```text
//!   prep_resize            destination   claims; asks the source
//!   resize_instance        source        resize_migrating: stops the container; resize_migrated: asks the destination
//!   finish_resize          destination   resize_finish: the new container; RESIZED
//!   confirm_resize         source        the old container goes; ACTIVE or STOPPED
//!   revert_resize          destination   resize_reverting: the new container ends; asks the source
//!   finish_revert_resize   source        the old container is back, with the old flavor; ACTIVE or STOPPED
//! ```
//!
//! Source and destination are this host, and ask each other by RPC as two hosts do. Until the confirmation the host counts both
//! flavors, and placement holds the old one's resources for the migration.
//!
//! | file | what |
//! |---|---|
//! | `request` | what the requests carry |
//! | `resize`, `finish` | the way to RESIZED, and back where it fails |
//! | `confirm`, `revert` | the two ways on from there |
//! | `usage` | what moves use of the host |
//! | `recovery` | what a restart of the agent cut short |

mod confirm;
mod finish;
mod recovery;
mod request;
mod resize;
mod revert;
mod usage;

pub(in crate::compute) use confirm::ConfirmResize;
pub(in crate::compute) use finish::FinishResize;
pub(in crate::compute) use resize::{PrepResize, ResizeInstance};
pub(in crate::compute) use revert::{FinishRevertResize, RevertResize};
pub(in crate::compute) use usage::of_migrations;
