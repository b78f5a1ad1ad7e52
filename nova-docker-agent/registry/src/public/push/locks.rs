//! What must not be done twice at one time: by this process, or by another one with the same directory.
//!
//! `LOCKS/HEX`, HEX being a hash of what is locked, is locked (flock) by the process that does it, and removed when it is
//! done. What a killed process leaves is locked by nobody, and used by the next one.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nix::fcntl::Flock;
use tokio::sync::Semaphore;

use super::staging::{StagingError, blocking};
use crate::Digest;
use crate::files::{self, At, FileError, entries, is_at, make, private};
use crate::turns::{Turn, Turns};

/// How often another process's lock is tried: a thread that waits for it could not be stopped.
const POLL: Duration = Duration::from_millis(100);

/// A lock for each key that is in use.
pub struct Locks {
    directory: PathBuf,
    /// One for each key, of this process.
    here: Arc<Turns>,
}

/// Nobody else has the lock while this lives.
pub struct Held {
    // Others of this process come after those of other processes.
    _file: LockFile,
    _here: Turn,
}

impl Locks {
    /// Opens the directory, which is made if it does not exist, and removes what killed processes have left. Blocks.
    pub fn open(directory: PathBuf) -> Result<Self, StagingError> {
        make(&directory)?;
        for path in entries(&directory)? {
            drop(LockFile::acquire(&path)?);
        }
        Ok(Self { directory, here: Turns::new(Semaphore::MAX_PERMITS, 1) })
    }

    /// Waits until nobody else has the lock of this key. Whoever takes several must take them in the same order.
    pub async fn lock(&self, key: &str) -> Result<Held, StagingError> {
        let here = self.here.take(Some(key)).await.map_err(|_| StagingError::ShuttingDown)?;
        let path = self.directory.join(Digest::of(key.as_bytes()).hex());
        loop {
            let tried = path.clone();
            if let Some(file) = blocking(move || Ok(LockFile::acquire(&tried)?)).await? {
                return Ok(Held { _file: file, _here: here });
            }
            tokio::time::sleep(POLL).await;
        }
    }
}

struct LockFile {
    path: PathBuf,
    _lock: Flock<File>,
}

impl LockFile {
    /// None while another process has it.
    fn acquire(path: &Path) -> Result<Option<Self>, FileError> {
        let file = private().create(true).open(path).at("open", path)?;
        let lock = files::lock(file, path)?.filter(|lock| is_at(lock, path));
        Ok(lock.map(|lock| Self { path: path.to_owned(), _lock: lock }))
    }
}

impl Drop for LockFile {
    fn drop(&mut self) {
        // Before it is unlocked: nobody else removes it.
        if let Err(error) = files::remove(&self.path) {
            tracing::warn!("pushes: {error}");
        }
    }
}

#[cfg(test)]
mod tests;
