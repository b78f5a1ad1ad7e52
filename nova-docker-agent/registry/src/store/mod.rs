//! Blobs on this host: how they come here, who may have them, and how they go to clients.
//!
//! ```text
//! source       where an image's bytes come from, and where in them a blob is
//!   reader       reads by range, or in one pass where the store has no ranges
//! stream       a blob for one client
//!   fetch        one read of a blob, however many wait for it
//!     transfer     a blob on its way from the image service
//!     spool        from the network to the disk, digested on the way
//!     unpack       the same, of a layer that is stored packed (packing: compressions)
//!     holes        whether Docker would make more of a layer than it has
//!     proofs       for which project a cached blob is good
//!       cache        what is kept on this host: eviction, pins, other processes
//!   passthrough  a blob that the disk has no room for
//! indexes      what was read of images' files
//! counters     what was done
//! ```

pub mod cache;
pub mod counters;
pub mod fetch;
pub mod holes;
pub mod indexes;
pub mod packing;
pub mod passthrough;
pub mod proofs;
pub mod reader;
pub mod source;
pub mod spool;
pub mod stream;
pub mod transfer;
pub mod unpack;

pub use crate::turns::{Turn, Turns};
pub use cache::{Blob, Cache, Partial, Pins};
pub use counters::{Counters, Tally};
pub use fetch::Fetcher;
pub use indexes::{Indexes, Stamp};
pub use packing::Compression;
pub use proofs::{Proofs, Sharing};
pub use source::{GlanceSource, ImageDescriptor, Packing, Source, SourceBody, SourceError, Stored};
pub use spool::{Writer, Written};
pub use stream::{Readers, read_blob};
