//! Writes a stream to the cache and digests it on the way, on a thread of its own.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinHandle;

use super::holes::Holes;
use super::{Cache, Partial};
use crate::{Algorithm, Digest, Error};

/// Bytes on their way to the disk, and chunks: the network gives some 16 KiB at once where it is encrypted, and up to
/// 400 KiB where it is not.
const QUEUED: usize = 1024 * 1024;
const QUEUE: usize = 64;

/// A blob that is being written from async code. Dropped before [`Writer::finish`], it leaves nothing.
pub struct Writer {
    queue: mpsc::Sender<(Bytes, OwnedSemaphorePermit)>,
    room: Arc<Semaphore>,
    thread: JoinHandle<Result<Written, Error>>,
}

/// A blob that was written.
pub struct Written {
    pub partial: Partial,
    pub digest: Digest,
    /// Of a layer: Docker would make more of it than it has.
    pub has_holes: bool,
}

impl Writer {
    /// Digests by `algorithm`, and gives `progress` each chunk when it was written.
    pub fn start(mut partial: Partial, algorithm: Algorithm, progress: impl Fn(Bytes) + Send + 'static) -> Self {
        let (queue, mut chunks) = mpsc::channel::<(Bytes, OwnedSemaphorePermit)>(QUEUE);
        let thread = tokio::task::spawn_blocking(move || {
            let (mut hasher, mut holes) = (algorithm.hasher(), Holes::default());
            while let Some((chunk, _room)) = chunks.blocking_recv() {
                partial.write(&chunk)?;
                hasher.update(&chunk);
                holes.feed(&chunk);
                progress(chunk);
            }
            Ok(Written { partial, digest: hasher.finish(), has_holes: holes.found() })
        });
        Self { queue, room: Arc::new(Semaphore::new(QUEUED)), thread }
    }

    /// Appends. An error of the disk shows in [`Writer::finish`]; `false` says that there is one.
    pub async fn write(&self, chunk: Bytes) -> bool {
        let length = u32::try_from(chunk.len().min(QUEUED)).unwrap_or(u32::MAX);
        let Ok(room) = self.room.clone().acquire_many_owned(length).await else { return false };
        self.queue.send((chunk, room)).await.is_ok()
    }

    /// Waits until everything is written.
    pub async fn finish(self) -> Result<Written, Error> {
        drop(self.queue);
        self.thread.await.unwrap_or(Err(Error::ShuttingDown))
    }
}

/// Stores a blob under its digest, off the runtime's threads.
pub async fn store(partial: Partial, digest: Digest) -> Result<(), Error> {
    tokio::task::spawn_blocking(move || partial.store(digest)).await.unwrap_or(Err(Error::ShuttingDown))
}

/// Begins a blob, off the runtime's threads.
pub async fn begin(cache: &Arc<Cache>, size: u64) -> Result<Partial, Error> {
    let cache = cache.clone();
    tokio::task::spawn_blocking(move || cache.begin(size)).await.unwrap_or(Err(Error::ShuttingDown))
}

#[cfg(test)]
mod tests;
