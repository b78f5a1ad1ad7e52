//! The registry of a host: its dockerd pulls Glance's images from it.
//!
//! It listens on loopback (which dockerd takes without TLS), asks for a secret that only this process knows, and shows
//! only images that are open: those with a [`Lease`].
//!
//! ```text
//! server   Registry: opens images, keeps their indexes
//! lease    open images, with the credentials to read them
//! api      the distribution specification's end-points, for whoever has the secret
//! ```
//!
//! A host trusts digests: whoever can name a digest in an image of theirs is taken to have the layer, by this cache as by
//! dockerd's own layer store.

mod api;
mod lease;
mod server;
#[cfg(test)]
mod tests;

/// Images are named `glance/IMAGE_ID`.
const NAMESPACE: &str = "glance";

pub use lease::{Lease, PullReference};
pub use server::{Registry, RegistryConfig};
