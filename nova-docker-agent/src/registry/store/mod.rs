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

pub use counters::Counters;
pub use glance::GlanceSource;
pub use source::{ImageDescriptor, Source, SourceBody, SourceError};
