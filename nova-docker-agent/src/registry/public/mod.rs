//! The registry of a cloud, for its users: `docker login`, push and pull, with Glance as the only store.
//!
//! ```text
//! api          the distribution specification's end-points -> pull, push, discovery, management
//!   token        who asks: Keystone logins, and the short-lived tokens that stand for them
//!   images       what Glance has: repositories, tags, manifests and blobs, as the caller sees them
//!   push         what is being uploaded, and how it becomes one Glance image
//! ```
//!
//! Nobody but Glance decides who may see, pull, push or delete: every request of a client becomes requests with that
//! user's own token.

pub mod error;
pub mod grant;
pub mod images;
pub mod name;
pub mod property;
pub mod push;
