//! Limits concurrent work, in total and per project or client: users can ask for as much as they like, and go away.
//!
//! Nobody keeps a turn for long while others wait: a layer may be as large as a tenant likes.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::Error;

/// Projects whose turns are remembered. Beyond that, those without waiters are forgotten.
const MAX_REMEMBERED: usize = 1024;
/// Bytes after which a waiting project gets the turn: a second's work, or less.
const SLICE: u64 = 64 * 1024 * 1024;
/// How long a turn waits for a client.
const PATIENCE: Duration = Duration::from_secs(1);

/// Hands out the turns.
pub struct Turns {
    all: Arc<Semaphore>,
    each: usize,
    of: Mutex<HashMap<String, Arc<Semaphore>>>,
    /// How many compete for a turn.
    waiting: AtomicUsize,
}

/// A turn. Dropping it lets the next one begin.
pub struct Turn {
    turns: Arc<Turns>,
    whom: Option<String>,
    permits: Option<Permits>,
    /// Bytes processed since the turn began.
    done: u64,
}

struct Permits {
    _own: Option<OwnedSemaphorePermit>,
    _all: OwnedSemaphorePermit,
}

impl Turns {
    /// `all` turns at a time, at most `each` of them for one name.
    pub fn new(all: usize, each: usize) -> Arc<Self> {
        let all = Arc::new(Semaphore::new(all));
        Arc::new(Self { all, each, of: Mutex::default(), waiting: AtomicUsize::new(0) })
    }

    /// Waits for a turn of `whom`: first for one of its own, then for one of all.
    pub async fn take(self: &Arc<Self>, whom: Option<&str>) -> Result<Turn, Error> {
        let permits = Some(self.permits(whom).await?);
        Ok(Turn { turns: self.clone(), whom: whom.map(str::to_owned), permits, done: 0 })
    }

    /// One that begins at once, if it may.
    pub fn try_take(self: &Arc<Self>, whom: Option<&str>) -> Option<Turn> {
        let own = whom.map(|whom| self.of(whom).try_acquire_owned()).transpose().ok()?;
        let permits = Permits { _own: own, _all: self.all.clone().try_acquire_owned().ok()? };
        Some(Turn { turns: self.clone(), whom: whom.map(str::to_owned), permits: Some(permits), done: 0 })
    }

    async fn permits(&self, whom: Option<&str>) -> Result<Permits, Error> {
        let ended = |_: AcquireError| Error::ShuttingDown;
        let own = match whom {
            Some(whom) => Some(self.of(whom).acquire_owned().await.map_err(ended)?),
            None => None,
        };
        let _waiting = Waiting::begin(&self.waiting);
        Ok(Permits { _own: own, _all: self.all.clone().acquire_owned().await.map_err(ended)? })
    }

    fn of(&self, whom: &str) -> Arc<Semaphore> {
        let mut of = self.of.lock().unwrap_or_else(PoisonError::into_inner);
        if of.len() >= MAX_REMEMBERED {
            of.retain(|_, turns| Arc::strong_count(turns) > 1);
        }
        of.entry(whom.to_owned()).or_insert_with(|| Arc::new(Semaphore::new(self.each))).clone()
    }
}

impl Turn {
    /// Waits for a client. One that takes long is waited for without the turn: others have it meanwhile.
    pub async fn wait<T>(&mut self, client: impl Future<Output = T>) -> Result<T, Error> {
        let mut client = pin!(client);
        if let Ok(done) = timeout(PATIENCE, &mut client).await {
            return Ok(done);
        }
        self.permits = None;
        let done = client.await;
        self.permits = Some(self.turns.permits(self.whom.as_deref()).await?);
        Ok(done)
    }

    /// Counts processed bytes. After a slice, if others wait, gives up the turn and waits for a new one.
    pub async fn step(&mut self, bytes: u64) -> Result<(), Error> {
        self.done += bytes;
        if self.done < SLICE || self.turns.waiting.load(Ordering::Relaxed) == 0 {
            return Ok(());
        }
        self.permits = None;
        self.permits = Some(self.turns.permits(self.whom.as_deref()).await?);
        self.done = 0;
        Ok(())
    }
}

/// Counts one who waits.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn begin(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
