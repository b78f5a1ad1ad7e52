//! Nova's network API: an instance's ports, from the request to the interface that is plugged.

pub(in crate::compute) mod attach;
pub(in crate::compute) mod cache;
pub(in crate::compute) mod external_events;
pub(in crate::compute) mod interfaces;
pub(in crate::compute) mod user_ports;
pub(in crate::compute) mod waiters;
