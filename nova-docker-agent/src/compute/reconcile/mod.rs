//! What nobody asked for: audits, crashes, leftovers, restarts.

pub(in crate::compute) mod not_begun;
mod overuse;
pub(in crate::compute) mod periodic;
pub(in crate::compute) mod power_sync;
pub(in crate::compute) mod reaper;
pub(in crate::compute) mod recovery;
pub(in crate::compute) mod start;
pub(in crate::compute) mod state_tags;
mod unclaimed;
