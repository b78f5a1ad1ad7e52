//! What the registry counts.

use std::sync::atomic::{AtomicU64, Ordering};

/// Declares [`Counters`], and [`Tally`], which has an atomic for each of them but `evictions`: the cache counts these.
macro_rules! counters {
    ($($(#[$about:meta])* $name:ident,)*) => {
        /// What the registry has done since it was started.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Counters {
            $($(#[$about])* pub $name: u64,)*
            /// Layers removed to keep within the cache's size.
            pub evictions: u64,
        }

        /// [`Counters`], being counted.
        #[derive(Default)]
        pub struct Tally {
            $(pub $name: AtomicU64,)*
        }

        impl Tally {
            /// The state of the counters.
            pub fn read(&self, evictions: u64) -> Counters {
                Counters { $($name: self.$name.load(Ordering::Relaxed),)* evictions }
            }
        }
    };
}

counters! {
    /// Reads of layers from the image service that were begun, and bytes that they gave.
    layer_reads,
    layer_bytes,
    /// Images whose index (tar headers, manifest, configuration) was read, and the requests that it took.
    indexes,
    index_reads,
    /// Requests for a layer that was cached, that joined a read under way, and that began a read.
    hits,
    joins,
    misses,
    /// Bytes of layers sent to clients.
    served_bytes,
}

/// Counts `amount` more.
pub fn count(counter: &AtomicU64, amount: u64) {
    counter.fetch_add(amount, Ordering::Relaxed);
}
