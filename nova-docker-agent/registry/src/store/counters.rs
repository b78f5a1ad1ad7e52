//! What the registry counts.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// What the registry has done since it was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Reads of layers from the image service that were begun, and bytes that they gave.
    pub layer_reads: u64,
    pub layer_bytes: u64,
    /// Images whose index (tar headers, manifest, configuration) was read, and the requests that it took.
    pub indexes: u64,
    pub index_reads: u64,
    /// Requests for a layer that was cached, that joined a read under way, and that began a read.
    pub hits: u64,
    pub joins: u64,
    pub misses: u64,
    /// Bytes of layers sent to clients.
    pub served_bytes: u64,
    /// Layers removed to keep within the cache's size.
    pub evictions: u64,
}

/// [`Counters`], being counted.
#[derive(Default)]
pub struct Tally(Mutex<Counters>);

impl Tally {
    /// The counters, to be read or changed.
    pub fn lock(&self) -> MutexGuard<'_, Counters> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
