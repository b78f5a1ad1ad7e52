//! This host in Nova and in placement: its record, its usage, its resource provider.
//!
//! | file | what |
//! |---|---|
//! | `identity`, `host` | who this host is; calls about it |
//! | `tracker`, `usage` | the compute node's record, and what instances use |
//! | `provider`, `allocations` | the resource provider, and who holds something of it |
//! | `flavor_resources`, `holdings` | what servers are to hold of it, and what they hold |
//! | `audit`, `schedulers` | what others know of this host, brought up to date |
//! | `ownership` | what this host has to do with an instance |

pub(in crate::compute) mod allocations;
pub(in crate::compute) mod audit;
mod flavor_resources;
pub(in crate::compute) mod holdings;
pub(in crate::compute) mod host;
pub mod identity;
pub(in crate::compute) mod ownership;
pub(in crate::compute) mod provider;
pub(in crate::compute) mod schedulers;
pub(in crate::compute) mod tracker;
pub(in crate::compute) mod usage;
