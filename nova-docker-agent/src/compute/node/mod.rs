//! This host in Nova and in placement: its record, its usage, its resource provider.

pub(in crate::compute) mod allocations;
pub(in crate::compute) mod audit;
mod flavor_resources;
mod holdings;
pub(in crate::compute) mod host;
pub mod identity;
pub(in crate::compute) mod ownership;
pub(in crate::compute) mod provider;
pub(in crate::compute) mod schedulers;
pub(in crate::compute) mod tracker;
pub(in crate::compute) mod usage;
