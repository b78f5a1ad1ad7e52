//! Layers that are kept on this host, by digest.
//!
//! ```text
//! CACHE/blobs-2/ALGORITHM/HEX  complete and verified: a file gets here by renaming, after it was synced
//! CACHE/partial/PROCESS/FILE   being written, or on its way out; of processes that are gone, removed when the next one starts
//! CACHE/proven/...             which project's images had which blobs: see `proofs`
//! CACHE/lock                   held while a process starts
//! ```
//!
//! Several processes may share a directory. Each keeps the size of the whole within its own bound: before it makes room, it
//! looks at what others have stored and removed since it last did. A blob's modification time is when it was last used.

mod directory;
mod file;

use std::collections::{BTreeSet, HashMap};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use nix::fcntl::{Flock, FlockArg};
use tokio::sync::watch;
use uuid::Uuid;

use crate::files::{self, At, if_there, make, private};
use crate::{Algorithm, Digest, Error};
use directory::{lock, remove_leftovers, remove_old, scan, touch};
pub use file::{Blob, Partial};

/// Where blobs are. The number goes up when those of earlier agents cannot be trusted any more.
const BLOBS: &str = "blobs-2";
/// Where they were: there may be layers among them of which Docker would make more than they have.
const OLD_BLOBS: &str = "blobs";
/// What is left free on the file system for everything else.
const MARGIN: u64 = 64 * 1024 * 1024;
/// Blobs that are kept, whatever their size: each is in memory, and in a directory.
const MAX_BLOBS: usize = 1 << 17;
/// How long it is believed that what is on the disk is what was written there.
const BELIEVED_FOR: Duration = Duration::from_secs(24 * 3600);

/// The layers on this host.
pub struct Cache {
    blobs: PathBuf,
    partial: PathBuf,
    state: Mutex<State>,
    /// Changes when a blob may have lost its last pin.
    unpinned: watch::Sender<()>,
    /// Is told when a blob on its way out has gone.
    gone: Condvar,
    /// Tells other processes that `partial` is in use.
    _alive: Flock<File>,
}

#[derive(Default)]
struct State {
    /// Bytes that `blobs` may have. A blob that is larger than this goes first.
    limit: u64,
    /// How many blobs there may be.
    most: usize,
    blobs: HashMap<Digest, Kept>,
    /// Those of them that nothing pins, in the order in which they go.
    order: BTreeSet<Rank>,
    pins: HashMap<Digest, usize>,
    /// How many clients read a blob.
    readers: HashMap<Digest, usize>,
    /// Bytes of `blobs`, and of those in `order` that nobody reads: while a file is open its room is not free.
    total: u64,
    evictable: u64,
    /// Bytes of those that have lost their names and still take room: the file system may need long to remove a large file.
    leaving: u64,
    /// Bytes that partial files were begun for.
    reserved: u64,
    /// How many blobs were removed to make room.
    evictions: u64,
    /// When the directory is read again.
    look_after: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Kept {
    size: u64,
    used: SystemTime,
    /// When this process saw that its content is right.
    checked: Option<Instant>,
}

/// Whether it fits into the cache, and when it was used last.
type Rank = (bool, SystemTime, Digest);

impl Cache {
    /// Opens the cache in `directory`, which is made if it does not exist, and removes what was left half-written.
    pub fn open(directory: &Path, limit: u64) -> Result<Arc<Self>, Error> {
        let blobs = directory.join(BLOBS);
        let partials = directory.join("partial");
        let algorithms = Algorithm::ALL.map(|algorithm| blobs.join(algorithm.name()));
        for path in algorithms.iter().chain([&partials]) {
            make(path)?;
        }
        let starting = lock(&directory.join("lock"), FlockArg::LockExclusive)?;
        remove_leftovers(&partials)?;
        remove_old(&directory.join(OLD_BLOBS));
        let partial = partials.join(Uuid::new_v4().to_string());
        make(&partial)?;
        let alive = lock(&partial.join("lock"), FlockArg::LockExclusive)?;
        drop(starting);
        let state = Mutex::new(State { limit, most: MAX_BLOBS, ..State::default() });
        let (unpinned, _) = watch::channel(());
        let cache = Self { blobs, partial, state, unpinned, gone: Condvar::new(), _alive: alive };
        cache.look()?;
        Ok(Arc::new(cache))
    }

    /// The blob of this digest, if it is there.
    pub fn get(&self, digest: &Digest) -> Option<Blob> {
        let path = self.path(digest);
        let opened = if_there(File::open(&path).and_then(|file| Ok((file.metadata()?.len(), file))));
        let opened = opened.unwrap_or_else(|error| {
            tracing::warn!("layer cache: cannot open {}: {error}", path.display());
            None
        });
        let mut state = self.state();
        let Some((size, file)) = opened else {
            state.forget(digest);
            return None;
        };
        let known = state.blobs.get(digest).copied();
        if known.is_some_and(|kept| kept.size != size) {
            tracing::warn!("layer cache: {} was altered: it is read again from its image", path.display());
            state.forget(digest);
            return None;
        }
        let checked = known.and_then(|kept| kept.checked);
        state.remember(*digest, Kept { size, used: touch(&file, &path), checked });
        Some(Blob { file: Arc::new(file), size, path: Arc::new(path) })
    }

    /// Whether the blob of this digest was there a moment ago.
    pub fn has(&self, digest: &Digest) -> bool {
        self.state().blobs.contains_key(digest)
    }

    /// Whether the content of a blob has not been looked at for long.
    pub fn is_due(&self, digest: &Digest) -> bool {
        let checked = self.state().blobs.get(digest).and_then(|kept| kept.checked);
        checked.is_none_or(|checked| checked.elapsed() > BELIEVED_FOR)
    }

    /// Is told whether the content of a blob is right. It goes if not, and is read again from its image.
    pub fn check(&self, digest: &Digest, is_right: bool) {
        if is_right {
            if let Some(kept) = self.state().blobs.get_mut(digest) {
                kept.checked = Some(Instant::now());
            }
            return;
        }
        tracing::error!("layer cache: {} is damaged: it is read again from its image", self.path(digest).display());
        self.remove(self.state(), digest);
    }

    /// Where it is.
    pub fn directory(&self) -> &Path {
        self.blobs.parent().unwrap_or(&self.blobs)
    }

    /// Begins a file for a blob of `size` bytes, for which room is made.
    ///
    /// # Errors
    /// [`Error::NoSpace`], of no image yet, or the file cannot be made.
    pub fn begin(self: &Arc<Self>, size: u64) -> Result<Partial, Error> {
        self.make_room(size)?;
        let path = self.partial.join(Uuid::new_v4().to_string());
        let file = Arc::new(private().create_new(true).open(&path).at("create", &path)?);
        self.state().reserved += size;
        Ok(Partial { cache: self.clone(), blob: Blob { file, path: Arc::new(path), size }, written: 0 })
    }

    /// Keeps these blobs, present or still to come, from eviction.
    pub fn pin(self: &Arc<Self>, digests: impl IntoIterator<Item = Digest>) -> Pins {
        let mut pins = Pins::none(self);
        digests.into_iter().for_each(|digest| pins.add(digest));
        pins
    }

    /// A client reads this blob, present or still to come, until the result is dropped: it may be evicted, but not to make room.
    pub fn read(self: &Arc<Self>, digest: Digest) -> Reading {
        self.state().read(&digest, |readers| readers + 1);
        Reading { cache: self.clone(), digest }
    }

    /// Waits until nothing pins this blob.
    pub async fn unpinned(&self, digest: &Digest) {
        let mut changes = self.unpinned.subscribe();
        while self.state().pins.contains_key(digest) {
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    /// How many blobs were removed to make room.
    pub fn evictions(&self) -> u64 {
        self.state().evictions
    }

    /// Bytes of complete blobs.
    #[cfg(test)]
    pub fn total(&self) -> u64 {
        self.state().total
    }

    /// Bytes of blobs that may go, and of those on their way out.
    pub fn may_go(&self) -> u64 {
        let state = self.state();
        state.evictable.saturating_add(state.leaving)
    }

    fn make_room(&self, size: u64) -> Result<(), Error> {
        self.look()?;
        // A blob larger than the bound does not stay, and must evict nothing.
        if size <= self.state().limit {
            self.trim(size);
        }
        let needed = || size.saturating_add(self.state().reserved).saturating_add(MARGIN);
        let available = self.free(needed, || files::available(&self.blobs))?;
        if available < needed() {
            let directory = self.blobs.clone();
            return Err(Error::NoSpace { image: String::new(), needed: size, available, directory });
        }
        Ok(())
    }

    /// Evicts until so many bytes are `available`, waiting for what is on its way out; none where that would not be enough.
    /// Returns how many there are. Blocks.
    pub fn free<E>(&self, needed: impl Fn() -> u64, available: impl Fn() -> Result<u64, E>) -> Result<u64, E> {
        loop {
            // Before it is measured: what goes in between is counted twice, and not left out.
            let may_go = self.may_go();
            let (available, needed) = (available()?, needed());
            if available >= needed || available.saturating_add(may_go) < needed {
                return Ok(available);
            }
            let state = self.state();
            if state.leaving > 0 {
                drop(self.gone.wait(state).unwrap_or_else(PoisonError::into_inner));
            } else {
                drop(state);
                self.evict_one();
            }
        }
    }

    /// Finds what other processes have stored and removed. Where there are very many blobs, that takes a while: no more than
    /// a tenth of the time is spent on it.
    fn look(&self) -> Result<(), Error> {
        let begun = Instant::now();
        if self.state().look_after.is_some_and(|after| begun < after) {
            return Ok(());
        }
        self.take(&scan(&self.blobs)?);
        self.state().look_after = Some(Instant::now() + 10 * begun.elapsed());
        Ok(())
    }

    /// Learns what a scan has found. One blob at a time: nobody waits for all of them.
    fn take(&self, found: &HashMap<Digest, Kept>) {
        for (digest, kept) in found {
            let mut state = self.state();
            let checked = state.blobs.get(digest).and_then(|known| known.checked);
            let kept = Kept { checked, ..*kept };
            if state.blobs.get(digest) != Some(&kept) {
                state.remember(*digest, kept);
            }
        }
        let missing: Vec<Digest> =
            self.state().blobs.keys().filter(|digest| !found.contains_key(digest)).copied().collect();
        for digest in missing {
            let mut state = self.state();
            // It may have been stored when the scan had passed by.
            if !self.path(&digest).exists() {
                state.forget(&digest);
            }
        }
    }

    /// Evicts until `coming` more bytes fit into the bound, or nothing more can be evicted.
    fn trim(&self, coming: u64) {
        while self.is_over(coming) && self.evict(|_, _| true) {}
    }

    fn is_over(&self, coming: u64) -> bool {
        let state = self.state();
        state.total.saturating_add(coming) > state.limit || state.blobs.len() > state.most
    }

    /// Removes a blob that nothing pins and nobody reads; whether there was one. One that is larger than the bound goes first, then
    /// the one that was not used for longest.
    pub fn evict_one(&self) -> bool {
        self.evict(|state, digest| !state.readers.contains_key(digest))
    }

    fn evict(&self, may_go: impl Fn(&State, &Digest) -> bool) -> bool {
        let state = self.state();
        let Some((.., digest)) = state.order.iter().find(|(.., digest)| may_go(&state, digest)).copied() else {
            return false;
        };
        if self.remove(state, &digest) {
            self.state().evictions += 1;
        }
        true
    }

    /// Whether there was such a file. It loses its name under the lock, so that nobody opens it, and pins it, in between. Its
    /// content, which may take the file system long, goes when others have the lock.
    fn remove(&self, mut state: MutexGuard<'_, State>, digest: &Digest) -> bool {
        let size = state.forget(digest);
        state.leaving += size;
        let (path, aside) = (self.path(digest), self.partial.join(Uuid::new_v4().to_string()));
        let aside = match fs::rename(&path, &aside) {
            // A full file system may have no room for another name.
            Err(error) if error.kind() != io::ErrorKind::NotFound => fs::remove_file(&path).map(|()| None),
            moved => moved.map(|()| Some(aside)),
        };
        drop(state);
        let removed = aside.and_then(|aside| aside.map_or(Ok(()), fs::remove_file));
        self.state().leaving -= size;
        self.gone.notify_all();
        let removed = if_there(removed).unwrap_or_else(|error| {
            tracing::warn!("layer cache: cannot remove {}: {error}", path.display());
            None
        });
        removed.is_some()
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        self.blobs.join(digest.path())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn remember(&mut self, digest: Digest, kept: Kept) {
        self.forget(&digest);
        self.total += kept.size;
        self.blobs.insert(digest, kept);
        self.set_evictable(&digest, !self.pins.contains_key(&digest));
    }

    /// Returns how many bytes it had.
    fn forget(&mut self, digest: &Digest) -> u64 {
        self.set_evictable(digest, false);
        let size = self.blobs.remove(digest).map_or(0, |kept| kept.size);
        self.total -= size;
        size
    }

    /// Lets a blob go when its turn has come, or not, if it is there.
    fn set_evictable(&mut self, digest: &Digest, evictable: bool) {
        let Some(kept) = self.blobs.get(digest) else { return };
        let rank = kept.rank(digest, self.limit);
        let room = if self.readers.contains_key(digest) { 0 } else { kept.size };
        match evictable {
            true if self.order.insert(rank) => self.evictable += room,
            false if self.order.remove(&rank) => self.evictable -= room,
            _ => {}
        }
    }

    /// One client more reads a blob, or one less.
    fn read(&mut self, digest: &Digest, change: fn(usize) -> usize) {
        let is_in_order =
            self.blobs.get(digest).is_some_and(|kept| self.order.contains(&kept.rank(digest, self.limit)));
        // As if it had gone, and come again.
        self.set_evictable(digest, false);
        match change(self.readers.get(digest).copied().unwrap_or_default()) {
            0 => self.readers.remove(digest),
            readers => self.readers.insert(*digest, readers),
        };
        self.set_evictable(digest, is_in_order);
    }
}

impl Kept {
    /// One that was just written.
    fn new(size: u64, used: SystemTime) -> Self {
        Self { size, used, checked: Some(Instant::now()) }
    }

    fn rank(&self, digest: &Digest, limit: u64) -> Rank {
        (self.size <= limit, self.used, *digest)
    }
}

/// A blob that is being read.
pub struct Reading {
    cache: Arc<Cache>,
    digest: Digest,
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.cache.state().read(&self.digest, |readers| readers - 1);
    }
}

/// Blobs that are not evicted while this lives.
pub struct Pins {
    cache: Arc<Cache>,
    digests: Vec<Digest>,
}

impl Pins {
    /// Pins nothing yet.
    pub fn none(cache: &Arc<Cache>) -> Self {
        Self { cache: cache.clone(), digests: vec![] }
    }

    /// Pins one more.
    pub fn add(&mut self, digest: Digest) {
        let mut state = self.cache.state();
        *state.pins.entry(digest).or_default() += 1;
        state.set_evictable(&digest, false);
        self.digests.push(digest);
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        let mut state = self.cache.state();
        for digest in &self.digests {
            if let Some(count) = state.pins.get_mut(digest) {
                *count -= 1;
                if *count == 0 {
                    state.pins.remove(digest);
                    state.set_evictable(digest, true);
                }
            }
        }
        drop(state);
        self.cache.unpinned.send_replace(());
        self.cache.trim(0);
    }
}

#[cfg(test)]
mod tests;
