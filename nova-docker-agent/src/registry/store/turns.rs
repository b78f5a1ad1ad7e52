//! So much at one time, and of it so much for each project: its users can ask for as much as they like, and go away.
//!
//! Nor does whoever has a turn keep it for long where others wait: a layer may be as large as a tenant likes.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};

use crate::registry::Error;

/// Whose turns are remembered; of more, those that nobody waits for are forgotten.
const MAX_REMEMBERED: usize = 1024;
/// Bytes after which it is somebody else's turn, if somebody waits: a second's work, or less.
const SLICE: u64 = 64 * 1024 * 1024;

/// Lets work begin when it is its turn.
pub struct Turns {
    all: Arc<Semaphore>,
    each: usize,
    of: Mutex<HashMap<String, Arc<Semaphore>>>,
    /// How many compete for a turn.
    waiting: AtomicUsize,
}

/// Others wait while this lives, but not for ever.
pub struct Turn {
    turns: Arc<Turns>,
    whom: Option<String>,
    permits: Option<Permits>,
    /// Bytes that were worked on since it began.
    done: u64,
}

struct Permits {
    _own: Option<OwnedSemaphorePermit>,
    _all: OwnedSemaphorePermit,
}

impl Turns {
    /// `all` at one time, `each` of them for whom there is a name.
    pub fn new(all: usize, each: usize) -> Arc<Self> {
        let all = Arc::new(Semaphore::new(all));
        Arc::new(Self { all, each, of: Mutex::default(), waiting: AtomicUsize::new(0) })
    }

    /// Waits for the turn of `whom`, who competes with all others only then.
    pub async fn take(self: &Arc<Self>, whom: Option<&str>) -> Result<Turn, Error> {
        let permits = Some(self.permits(whom).await?);
        Ok(Turn { turns: self.clone(), whom: whom.map(str::to_owned), permits, done: 0 })
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
    /// Is told of so many bytes that were worked on. Now and then, where others wait, it is their turn, and this waits for
    /// another one.
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
