//! Reads of layers from the image service: one for each digest at a time, whatever the number of clients that wait for it.
//!
//! A read goes to the disk at its own pace and is finished though its client has gone; it is given up only when no open
//! image has the layer any more. Clients follow it: those that keep up take what has just come from memory, others from
//! the file. They are sent the end of a layer only when all of it has
//! proved to have its digest, so that a bad layer never looks complete; and bytes that are not yet proven go to clients of
//! the same image only, so that one tenant's bad image costs no other tenant's launch.

use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use super::holes;
use super::spool::{self, Writer, Written};
use super::transfer::Transfer;
use super::{Blob, Cache, Counters, Partial, Pins, Proofs, Sharing, Stored, Tally, Turns, unpack};
use crate::{Digest, Error, Problem};

/// Reads at one time. Each has a thread while it writes.
const MAX_READS: usize = 16;
/// Reads of one circle: its users can begin as many as they like, and go away.
const MAX_READS_OF_CIRCLE: usize = 6;
/// How much of the end of a layer is held back until its digest is known.
pub(super) const HELD_BACK: u64 = 4096;

/// What is read once for all who wait for it.
type Key = (Digest, Sharing);

/// Begins, shares and remembers reads.
pub struct Fetcher {
    pub cache: Arc<Cache>,
    pub tally: Tally,
    running: Mutex<HashMap<Key, Arc<Fetch>>>,
    proofs: Arc<Proofs>,
    turns: Arc<Turns>,
    pub(super) tasks: TaskTracker,
    pub(super) stop: CancellationToken,
}

/// One read, under way or just over.
pub struct Fetch {
    /// The image, and the lease, that it reads for.
    pub image: Uuid,
    pub lease: u64,
    progress: watch::Receiver<Progress>,
}

#[derive(Default)]
struct Progress {
    blob: Option<Blob>,
    written: u64,
    /// The last of what was written.
    recent: Bytes,
    state: State,
}

#[derive(Default)]
enum State {
    #[default]
    Reading,
    /// All of it is there and has the right digest.
    Verified,
    Failed(Error),
}

/// What a client that follows a read gets next.
pub enum Piece {
    /// These bytes.
    Memory(Bytes),
    /// What is in the file up to there.
    File(Blob, u64),
}

/// Where a layer is to be had.
pub enum Place {
    Cached(Blob),
    Coming(Arc<Fetch>),
}

impl Fetcher {
    /// Blocks.
    pub fn new(cache: Arc<Cache>) -> Arc<Self> {
        Arc::new(Self {
            proofs: Arc::new(Proofs::open(&cache)),
            cache,
            tally: Tally::default(),
            running: Mutex::default(),
            turns: Turns::new(MAX_READS, MAX_READS_OF_CIRCLE),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
        })
    }

    /// Finds the blob in the cache, or the read of it that is under way, or begins one from `stored`.
    pub fn locate(self: &Arc<Self>, digest: Digest, stored: &Stored) -> Place {
        let key = (digest, stored.sharing.clone());
        let mut running = self.running();
        // Under the lock: a read leaves the list after its blob has entered the cache.
        if let Some(fetch) = running.get(&key) {
            self.tally.lock().joins += 1;
            return Place::Coming(fetch.clone());
        }
        let cached = if self.proofs.has(&digest, &key.1) { self.cache.get(&digest) } else { None };
        if let Some(blob) = cached.filter(|blob| stored.may_be(blob)) {
            self.tally.lock().hits += 1;
            return Place::Cached(blob);
        }
        self.tally.lock().misses += 1;
        let (sender, progress) = watch::channel(Progress::default());
        let fetch = Arc::new(Fetch { image: stored.image, lease: stored.lease, progress });
        running.insert(key, fetch.clone());
        drop(running);
        let pins = match stored.sharing {
            Sharing::Host => Pins::none(&self.cache),
            Sharing::Circle(_) => self.cache.pin([digest]),
        };
        let job = Job { fetcher: self.clone(), digest, stored: stored.clone(), progress: sender, _pins: pins };
        self.tasks.spawn(job.run());
        Place::Coming(fetch)
    }

    /// How many bytes the blob has, which is got for that if it is not here. Of one that turns out to have more than `limit`,
    /// some number above it.
    pub async fn size(self: &Arc<Self>, digest: Digest, stored: &Stored, limit: u64) -> Result<u64, Error> {
        loop {
            let fetch = match self.locate(digest, stored) {
                Place::Cached(blob) => return Ok(blob.size),
                Place::Coming(fetch) => fetch,
            };
            match fetch.size(limit).await {
                // What is wrong with another image says nothing of this one.
                Err(_) if fetch.image != stored.image => {}
                size => return size,
            }
        }
    }

    /// Takes a file as the blob of this digest, which was verified, and whose content the circle is known to have; see
    /// [`Cache::adopt`]. Blocks.
    pub fn adopt(&self, digest: Digest, sharing: &Sharing, file: &Path) -> Result<(), Error> {
        if self.cache.adopt(digest, file)? {
            self.proofs.add(digest, sharing);
        }
        Ok(())
    }

    /// Waits until a read may begin.
    pub(super) async fn transfer<'a>(&'a self, stored: &'a Stored) -> Result<Transfer<'a>, Error> {
        let circle = match &stored.sharing {
            Sharing::Host => None,
            Sharing::Circle(circle) => Some(circle.as_str()),
        };
        Ok(Transfer::new(&self.tally, stored, self.turns.take(circle).await?))
    }

    /// What was done so far.
    pub fn counters(&self) -> Counters {
        Counters { evictions: self.cache.evictions(), ..*self.tally.lock() }
    }

    /// Gives up all reads, and waits until they have cleaned up.
    pub async fn shutdown(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    fn running(&self) -> MutexGuard<'_, HashMap<Key, Arc<Fetch>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Fetch {
    /// Waits until there are bytes from `position` on for a client of `image`.
    pub async fn available(&self, position: u64, image: Uuid) -> Result<Piece, Error> {
        let mut progress = self.progress.clone();
        let shared = image == self.image;
        let readable = |progress: &Progress| match (&progress.state, &progress.blob) {
            (State::Verified, Some(blob)) => blob.size,
            (State::Reading, Some(blob)) if shared => progress.written.min(blob.size.saturating_sub(HELD_BACK)),
            _ => 0,
        };
        let ready = |progress: &Progress| !matches!(progress.state, State::Reading) || readable(progress) > position;
        let progress = progress.wait_for(|progress| ready(progress)).await.map_err(|_| Error::ShuttingDown)?;
        match (&progress.state, &progress.blob) {
            (State::Failed(error), _) => Err(error.clone()),
            (_, Some(blob)) => Ok(progress.piece(blob, position..readable(&progress))),
            (_, None) => Err(Error::ShuttingDown),
        }
    }

    /// Waits until all is there, or more than `limit` bytes.
    async fn size(&self, limit: u64) -> Result<u64, Error> {
        let mut progress = self.progress.clone();
        let enough = |progress: &Progress| !matches!(progress.state, State::Reading) || progress.written > limit;
        let progress = progress.wait_for(enough).await.map_err(|_| Error::ShuttingDown)?;
        match &progress.state {
            State::Failed(error) => Err(error.clone()),
            _ => Ok(progress.written),
        }
    }
}

impl Progress {
    fn add(&mut self, chunk: Bytes) {
        self.written += chunk.len() as u64;
        self.recent = chunk;
    }

    fn piece(&self, blob: &Blob, range: Range<u64>) -> Piece {
        let begin = self.written - self.recent.len() as u64;
        if range.start < begin || range.end > self.written {
            return Piece::File(blob.clone(), range.end);
        }
        Piece::Memory(self.recent.slice((range.start - begin) as usize..(range.end - begin) as usize))
    }
}

/// The task behind a [`Fetch`]. It does not hold the image open: see [`Cache::unpinned`].
struct Job {
    fetcher: Arc<Fetcher>,
    digest: Digest,
    stored: Stored,
    progress: watch::Sender<Progress>,
    _pins: Pins,
}

impl Job {
    async fn run(self) {
        let result = tokio::select! {
            result = self.fetch() => result,
            () = self.fetcher.stop.cancelled() => Err(Error::ShuttingDown),
            () = self.fetcher.cache.unpinned(&self.digest) => Err(Error::Closed { image: self.stored.label.clone() }),
        };
        let result = result.map_err(|error| error.of(&self.stored.label));
        if let Err(error) = &result {
            tracing::warn!(image = %self.stored.label, layer = %self.digest, "layer was not read: {error}");
        }
        self.fetcher.running().remove(&(self.digest, self.stored.sharing.clone()));
        if let Err(error) = result {
            self.progress.send_modify(|progress| progress.state = State::Failed(error));
        }
    }

    async fn fetch(&self) -> Result<(), Error> {
        let mut layer = self.fetcher.transfer(&self.stored).await?;
        if self.is_abandoned() {
            return Err(Error::Closed { image: self.stored.label.clone() });
        }
        let partial = spool::begin(&self.fetcher.cache, self.stored.size()).await?;
        let writer = self.writer(partial);
        while let Some(chunk) = layer.next().await? {
            // A thread that takes no more of it says why in the end.
            if !layer.turn.wait(writer.write(chunk)).await? {
                break;
            }
        }
        let Written { partial, digest, has_holes } = writer.finish().await?;
        self.digest.check(digest)?;
        // What users pull is unpacked by a Docker of their own.
        if has_holes && self.stored.sharing == Sharing::Host {
            return Err(Problem::Undecodable { reason: holes::REASON.to_owned() }.into());
        }
        self.progress.send_modify(|progress| progress.blob = Some(partial.whole()));
        self.keep(partial).await
    }

    /// What takes the layer to the disk. Clients follow one that is stored as it is served; how large a packed one becomes is not
    /// known before its end.
    fn writer(&self, partial: Partial) -> Writer<Written> {
        let (sender, algorithm) = (self.progress.clone(), self.digest.algorithm());
        if let Some(packing) = self.stored.packing {
            let progress = move |length| sender.send_modify(|progress| progress.written += length);
            return unpack::start(partial, packing, algorithm, progress);
        }
        self.progress.send_modify(|progress| progress.blob = Some(partial.blob()));
        Writer::start(partial, algorithm, move |chunk| sender.send_modify(|progress| progress.add(chunk)))
    }

    /// Lets clients have what is verified, and keeps it.
    async fn keep(&self, partial: Partial) -> Result<(), Error> {
        self.prove().await?;
        self.progress.send_modify(|progress| progress.state = State::Verified);
        // Clients have what they asked for; the next one reads the layer again.
        if let Err(error) = spool::store(partial, self.digest).await {
            tracing::warn!(layer = %self.digest, "layer was not kept: {error}");
        }
        Ok(())
    }

    /// Whether all clients have gone before the read could begin. One that has begun is finished.
    fn is_abandoned(&self) -> bool {
        let key = (self.digest, self.stored.sharing.clone());
        let running = self.fetcher.running();
        // Under the lock nobody joins.
        let abandoned = running.get(&key).is_some_and(|fetch| Arc::strong_count(fetch) == 1);
        key.1 != Sharing::Host && abandoned
    }

    /// Remembers where the blob was seen.
    async fn prove(&self) -> Result<(), Error> {
        let (proofs, digest, sharing) = (self.fetcher.proofs.clone(), self.digest, self.stored.sharing.clone());
        let proven = tokio::task::spawn_blocking(move || proofs.add(digest, &sharing)).await;
        proven.map_err(|_| Error::ShuttingDown)
    }
}

#[cfg(test)]
mod tests;
