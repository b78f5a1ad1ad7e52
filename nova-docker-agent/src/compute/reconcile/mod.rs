//! What nobody asked for: audits, crashes, leftovers, restarts.
//!
//! | file | what |
//! |---|---|
//! | `start`, `recovery` | at the start: each instance is looked at; what a restart interrupted is finished or undone |
//! | `not_begun`, `unclaimed` | requests that wait in the queue, or were lost on the way here |
//! | `power_sync`, `state_tags` | containers that change by themselves |
//! | `periodic` | what is done again and again |
//! | `reaper`, `overuse` | what deleted instances have left; what has outgrown its disk |

pub(in crate::compute) mod not_begun;
mod overuse;
pub(in crate::compute) mod periodic;
pub(in crate::compute) mod power_sync;
pub(in crate::compute) mod reaper;
pub(in crate::compute) mod recovery;
pub(in crate::compute) mod start;
pub(in crate::compute) mod state_tags;
mod unclaimed;
