//! The registry of a cloud, for its users: `docker login`, push and pull, with Glance as the only store.
//!
//! ```text
//! server       the process: what it opens, where it listens (tls: under which certificate)
//!   api          one request: what it is about (http::endpoint) -> who asks (token) -> whoever answers it
//!     token        keystone logins, and the short-lived tokens that stand for them
//!     pull         manifests and blobs
//!     discovery    tags, catalog, referrers
//!     push         what is being uploaded, and how it becomes one Glance image
//!       images       what Glance has: repositories, tags, manifests and blobs, as the caller sees them
//! ```
//!
//! Nobody but Glance decides who may see, pull, push or delete: every request of a client becomes requests with that
//! user's own token.

mod api;
mod discovery;
pub mod grant;
pub mod images;
pub mod name;
pub mod property;
mod pull;
pub mod push;
mod server;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod tls;
pub mod token;

pub use grant::{Action, Bearer, Grant, Repository};
pub use name::{Name, Reference, Tag};
pub use push::PushConfig;
pub use server::{Config, Server, StartError, run};
pub use tls::TlsFiles;
pub use token::{Anonymous, TokenConfig};
