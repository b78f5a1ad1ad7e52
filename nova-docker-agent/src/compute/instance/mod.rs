//! The operations on one instance, one file each.

pub(in crate::compute) mod build;
pub(in crate::compute) mod build_failure;
pub(in crate::compute) mod console;
pub(in crate::compute) mod guest;
pub(in crate::compute) mod image;
pub(in crate::compute) mod power;
pub(in crate::compute) mod request;
pub(in crate::compute) mod snapshot;
pub(in crate::compute) mod spawn;
pub(in crate::compute) mod terminate;
