//! What the registries of a host and of a cloud have in common of HTTP.

pub mod accept;
pub mod access_log;
pub mod auth;
pub mod endpoint;
pub mod error;
pub mod listener;
pub mod range;
pub mod stall;
pub mod unread_body;
