//! Writes a stream to the cache and digests it on the way, on a thread of its own.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::archive::Failure;
use super::archive::reader::Forward;
use super::cache::{BeginError, Cache, Partial, Pins};
use super::digest::{Algorithm, Digest};
use super::error::Error;

/// Chunks on their way to the disk. The network gives them in some 16 KiB each.
const QUEUE: usize = 32;

/// A blob that is being written from async code. Dropped before [`Writer::finish`], it leaves nothing.
pub struct Writer {
    queue: mpsc::Sender<Bytes>,
    thread: JoinHandle<Result<(Partial, Digest), Error>>,
}

impl Writer {
    /// Digests by `algorithm`, and tells `progress` how many bytes were written, after each chunk.
    pub fn start(mut partial: Partial, algorithm: Algorithm, progress: impl Fn(u64) + Send + 'static) -> Self {
        let (queue, mut chunks) = mpsc::channel::<Bytes>(QUEUE);
        let thread = tokio::task::spawn_blocking(move || {
            let mut hasher = algorithm.hasher();
            let mut written = 0;
            while let Some(chunk) = chunks.blocking_recv() {
                partial.write(&chunk)?;
                hasher.update(&chunk);
                written += chunk.len() as u64;
                progress(written);
            }
            Ok((partial, hasher.finish()))
        });
        Self { queue, thread }
    }

    /// Appends. An error of the disk shows in [`Writer::finish`]; `false` says that there is one.
    pub async fn write(&self, chunk: Bytes) -> bool {
        self.queue.send(chunk).await.is_ok()
    }

    /// Waits until everything is written; returns the digest of it.
    pub async fn finish(self) -> Result<(Partial, Digest), Error> {
        drop(self.queue);
        self.thread.await.unwrap_or(Err(Error::ShuttingDown))
    }
}

/// Stores a blob under its digest, off the runtime's threads.
pub async fn store(partial: Partial, digest: Digest) -> Result<(), Error> {
    tokio::task::spawn_blocking(move || partial.store(digest)).await.unwrap_or(Err(Error::ShuttingDown))
}

/// Begins a blob, off the runtime's threads.
pub async fn begin(cache: &Arc<Cache>, size: u64) -> Result<Partial, BeginError> {
    let cache = cache.clone();
    let begun = tokio::task::spawn_blocking(move || cache.begin(size)).await;
    begun.unwrap_or(Err(BeginError::Failed(Error::ShuttingDown)))
}

/// Keeps the bytes `range` of a file that streams by, whatever their digest is; pins and returns it.
pub async fn keep(
    cache: &Arc<Cache>,
    pins: &mut Pins,
    forward: &mut Forward,
    range: Range<u64>,
) -> Result<Digest, Failure> {
    let partial = begin(cache, range.end - range.start).await.map_err(Failure::Begin)?;
    let writer = Writer::start(partial, Algorithm::Sha256, |_| {});
    while forward.position() < range.end && writer.write(forward.chunk(range.end).await?).await {}
    let (partial, digest) = writer.finish().await?;
    pins.add(digest);
    store(partial, digest).await?;
    Ok(digest)
}
