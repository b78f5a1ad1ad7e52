//! Takes a stream to the cache and digests it on the way, on a thread of its own.

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

/// A thread that takes a stream somewhere. When this is dropped before [`Writer::finish`], nothing comes of it.
pub struct Writer<T> {
    queue: mpsc::Sender<Queued>,
    room: Arc<Semaphore>,
    thread: JoinHandle<Result<T, Error>>,
}

/// None at the end.
type Queued = Option<(Bytes, OwnedSemaphorePermit)>;

/// The chunks of a stream, as its thread gets them.
pub struct Chunks {
    queue: mpsc::Receiver<Queued>,
    /// None comes out of it when the writer was dropped.
    pub writer: mpsc::WeakSender<Queued>,
}

impl Iterator for Chunks {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        let chunk = self.queue.blocking_recv().flatten().map(|(chunk, _)| chunk);
        if chunk.is_none() {
            // Whoever asks again does not wait.
            self.queue.close();
        }
        chunk
    }
}

/// A blob that was written.
pub struct Written {
    pub partial: Partial,
    pub digest: Digest,
    /// Of a layer: Docker would make more of it than it has.
    pub has_holes: bool,
}

impl Writer<Written> {
    /// Writes a blob, digests by `algorithm`, and gives `progress` each chunk when it was written.
    pub fn start(mut partial: Partial, algorithm: Algorithm, progress: impl Fn(Bytes) + Send + 'static) -> Self {
        Self::run(move |chunks| {
            let (mut hasher, mut holes) = (algorithm.hasher(), Holes::default());
            for chunk in chunks {
                partial.write(&chunk)?;
                hasher.update(&chunk);
                holes.feed(&chunk);
                progress(chunk);
            }
            Ok(Written { partial, digest: hasher.finish(), has_holes: holes.found() })
        })
    }
}

impl<T: Send + 'static> Writer<T> {
    /// Lets `take` have the chunks, on a thread.
    pub fn run(take: impl FnOnce(Chunks) -> Result<T, Error> + Send + 'static) -> Self {
        let (queue, chunks) = mpsc::channel(QUEUE);
        let chunks = Chunks { queue: chunks, writer: queue.downgrade() };
        let thread = tokio::task::spawn_blocking(move || take(chunks));
        Self { queue, room: Arc::new(Semaphore::new(QUEUED)), thread }
    }

    /// Appends. What is wrong shows in [`Writer::finish`]; `false` says that there is something.
    pub async fn write(&self, chunk: Bytes) -> bool {
        let length = u32::try_from(chunk.len().min(QUEUED)).unwrap_or(u32::MAX);
        let Ok(room) = self.room.clone().acquire_many_owned(length).await else { return false };
        self.queue.send(Some((chunk, room))).await.is_ok()
    }

    /// Waits until everything is written.
    pub async fn finish(self) -> Result<T, Error> {
        // A thread that has ended says why.
        self.queue.send(None).await.ok();
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
