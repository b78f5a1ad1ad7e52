//! The registry of a host: on loopback, for its dockerd, which pulls Glance's images from it.

mod api;
mod lease;
mod path;
mod server;
#[cfg(test)]
mod tests;

pub use lease::{Lease, Reference};
pub use server::{Registry, RegistryConfig};
