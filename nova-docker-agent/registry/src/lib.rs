//! The Glance-backed OCI registry, in two forms: `host` serves a host's dockerd, on loopback; [`public`] serves a cloud's
//! users, over the network. They are siblings, and neither knows the other or Nova.
//!
//! An image of container format `docker` in Glance is a `docker save` archive or an OCI layout in a tar file. A registry
//! serves its layers by digest without first having the whole archive: it reads the archive's index (tar headers,
//! manifests, configuration) by range. It reads a layer from Glance when a client first asks for it, once, whatever the
//! number of clients that wait, and keeps it on disk by digest.
//!
//! ```text
//! host       opens one image for dockerd: a lease, with the credentials to read it
//! public     docker login, push and pull for users, with Glance's decisions
//!   archive    the file of an image: tar walk, both layouts -> manifests, and where the blobs are
//!   store      blobs: one read of each from Glance, the cache on disk, who may have what
//!   http       paths, refusals, content by digest, connections
//! digest, manifest, platform, error, files, json, turns   what all of them share
//! command, config   `public` as a program: its command line and its configuration
//! ```
//!
//! axum gives `public` its bodies, answers and errors. Its router has one route: names of repositories hold slashes, and the part after
//! them is what says which end-point is meant (`http::endpoint`). oci-spec's types are not used, since they read less strictly than is
//! needed of what tenants send, nor are tower-http's layers: they know no least rate, and no answer that broke off.
//!
//! What holds against a hostile tenant, and where:
//! - Everything a tenant sends has a bound: tar headers and names (`archive::walker`), reads and time for an index
//!   (`archive`), manifests (`archive::layout`, `public::images::open`, `public::push::manifest`), uploads
//!   (`public::push::staging`), connections, heads and slow clients (`http::listener`, `http::seats`, `http::pace`).
//! - Memory has a bound: moka's in `store::indexes`, `store::proofs`, `public::images` and `public::token::logins`, each
//!   with a number or a weight; streams hold a queue of fixed size (`store::spool`, `store::passthrough`).
//! - A digest is no proof: content is verified before its last bytes are sent (`store::fetch`), and a cached blob is given
//!   to a project only after an image of that project was read and had it (`store::proofs`).
//! - One project cannot take all turns to read, or to list images (`turns`).
//! - Secrets are compared in constant time (`http::auth`) or authenticated by encryption (`public::token::seal`).

mod archive;
pub mod command;
pub mod config;
mod digest;
mod error;
mod files;
mod host;
mod http;
mod json;
mod manifest;
mod platform;
pub mod public;
mod store;
#[cfg(test)]
mod testing;
mod turns;

pub use archive::volumes;
pub use digest::Digest;
use digest::{Algorithm, Hasher, InvalidDigest};
pub use error::{Error, Problem};
pub use files::FileError;
pub use host::{Lease, PullReference, Registry, RegistryConfig};
use http::error::{ApiError, Code};
pub use http::listener::Limits;
pub use http::pace::Pace;
use platform::Platform;
pub use store::{Counters, GlanceSource, ImageDescriptor, Source, SourceBody, SourceError};
