//! What the registry counts.

use std::sync::atomic::{AtomicU64, Ordering};

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
pub struct Tally {
    pub layer_reads: AtomicU64,
    pub layer_bytes: AtomicU64,
    pub indexes: AtomicU64,
    pub index_reads: AtomicU64,
    pub hits: AtomicU64,
    pub joins: AtomicU64,
    pub misses: AtomicU64,
    pub served_bytes: AtomicU64,
}

/// Counts `amount` more.
pub fn count(counter: &AtomicU64, amount: u64) {
    counter.fetch_add(amount, Ordering::Relaxed);
}

impl Tally {
    /// The state of the counters; `evictions` is counted by the cache.
    pub fn read(&self, evictions: u64) -> Counters {
        let value = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counters {
            layer_reads: value(&self.layer_reads),
            layer_bytes: value(&self.layer_bytes),
            indexes: value(&self.indexes),
            index_reads: value(&self.index_reads),
            hits: value(&self.hits),
            joins: value(&self.joins),
            misses: value(&self.misses),
            served_bytes: value(&self.served_bytes),
            evictions,
        }
    }
}
