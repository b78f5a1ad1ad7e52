//! Operations that containers do not have, and how they are refused.

pub(in crate::compute) mod aftermath;
pub(in crate::compute) mod table;
