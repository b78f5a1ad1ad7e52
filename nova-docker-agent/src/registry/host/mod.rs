//! The registry of a host: on loopback, for its dockerd, which pulls Glance's images from it.

mod api;
mod lease;
mod server;
#[cfg(test)]
mod tests;

/// Images are named `glance/IMAGE_ID`.
const NAMESPACE: &str = "glance";

pub use lease::{Lease, Reference};
pub use server::{Registry, RegistryConfig};
