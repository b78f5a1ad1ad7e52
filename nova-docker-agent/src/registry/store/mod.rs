//! Blobs on this host, and the ways by which they come here and go to clients.

pub mod cache;
pub mod counters;
pub mod fetch;
pub mod glance;
pub mod indexes;
pub mod passthrough;
pub mod proofs;
pub mod reader;
pub mod source;
pub mod spool;
pub mod stream;
pub mod turns;

pub use cache::{Blob, Cache, Partial, Pins};
pub use counters::{Counters, Tally, count};
pub use fetch::{Fetcher, Stored};
pub use glance::GlanceSource;
pub use indexes::{Indexes, Stamp};
pub use proofs::{Proofs, Sharing};
pub use source::{ImageDescriptor, Source, SourceBody, SourceError};
pub use spool::Writer;
pub use stream::{BlobRequest, Readers};
pub use turns::{Turn, Turns};
