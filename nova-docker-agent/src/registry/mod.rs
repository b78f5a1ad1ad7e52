//! The Glance-backed OCI registry: here that of a host, which its dockerd pulls from; in [`public`] that of a cloud.
//!
//! An image of container format `docker` in Glance is a `docker save` archive. The registry serves it to dockerd as what
//! it is, layers by digest, without having the whole archive first: [`Registry::open`] reads the archive's index (tar
//! headers, manifest and configuration) by range and builds the manifest; a layer is read from Glance when dockerd first
//! asks for it, once, whatever the number of servers that are launched from it, and is kept on the host by digest.
//!
//! It listens on loopback (which dockerd takes without TLS), asks for a secret that only this process knows, and shows
//! only images that are open: those with a [`Lease`]. It knows image stores as a [`Source`] of bytes, such as
//! [`GlanceSource`], and nothing of Nova.
//!
//! ```text
//! server     Registry: opens images, keeps their indexes
//!   archive    a docker save archive: tar walk, both layouts -> image (manifest, configuration, where the layers are)
//!   lease      open images, with the credentials to read them
//! http       the distribution specification's end-points, for whoever has the secret
//!   stream     a layer for one client
//!     fetch      one read of a layer, however many wait for it
//!       spool      from the network to the disk, digested on the way
//!       proofs     for which project what is cached is good
//!         cache      what is kept on this host: eviction, pins, other processes
//!     pass       a layer that the disk has no room for
//! ```
//!
//! A layer is known by its digest: on a host, whoever can name a digest in an image of theirs is taken to have the layer, by
//! this cache as by dockerd's own layer store. The registry of a cloud does not believe that: see `proofs`.

mod archive;
mod digest;
mod error;
mod host;
mod http;
mod manifest;
pub mod public;
mod store;
#[cfg(test)]
mod testing;

pub use digest::Digest;
use digest::{Algorithm, Hasher, InvalidDigest};
pub use error::{Error, Problem};
pub use host::{Lease, Reference, Registry, RegistryConfig};
use http::error::{ApiError, Code};
pub use http::listener::Limits;
pub use store::{Counters, GlanceSource, ImageDescriptor, Source, SourceBody, SourceError};
