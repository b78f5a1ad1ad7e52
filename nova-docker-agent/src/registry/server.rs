//! The registry as a whole.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use super::error::Error;
use super::lease::Lease;
use super::source::{ImageDescriptor, Source};

/// How to run a [`Registry`].
#[derive(Clone, Debug)]
pub struct RegistryConfig {
    /// A loopback address; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Where layers are kept; made if it does not exist.
    pub cache_directory: PathBuf,
    /// How many bytes of layers are kept. Layers of open images are kept whatever their size.
    pub cache_size: u64,
}

/// What the registry has done since it was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Layers read from the image service, and their bytes.
    pub layer_reads: u64,
    pub layer_bytes: u64,
    /// Reads of archive indexes (tar headers, manifests, configurations) from the image service, and their bytes.
    pub index_reads: u64,
    pub index_bytes: u64,
    /// Requests for a layer that was cached, that joined a read under way, and that started a read.
    pub hits: u64,
    pub joins: u64,
    pub misses: u64,
    /// Bytes of layers sent to clients.
    pub served_bytes: u64,
    /// Layers removed to keep within the cache's size.
    pub evictions: u64,
}

/// A running registry. Clones share it.
#[derive(Clone)]
pub struct Registry {
    address: SocketAddr,
}

impl Registry {
    /// Opens the cache, listens and serves.
    ///
    /// # Errors
    /// [`Error::NotLoopback`], [`Error::Listen`] and [`Error::Cache`].
    pub async fn start(config: RegistryConfig) -> Result<Self, Error> {
        Ok(Self { address: config.listen })
    }

    /// Reads the index of `image` through `source`, and opens the image to dockerd until the lease is dropped.
    ///
    /// # Errors
    /// [`Error::BadImage`] when the image is not usable on this host, [`Error::Source`] when it could not be read.
    pub async fn open(&self, image: &ImageDescriptor, source: Arc<dyn Source>) -> Result<Lease, Error> {
        drop((image, source));
        Err(Error::ShuttingDown)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it has done so far.
    pub fn counters(&self) -> Counters {
        Counters::default()
    }

    /// Stops taking requests, waits for those under way, and gives up reads that nobody waits for.
    pub async fn shutdown(&self) {}
}
