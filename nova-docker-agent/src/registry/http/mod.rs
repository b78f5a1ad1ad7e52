//! What the registries of a host and of a cloud have in common of HTTP.

pub mod auth;
pub mod listener;
pub mod range;
pub mod stall;
