//! What must not be done twice at one time: by this process, or by another one with the same directory.
//!
//! `LOCKS/HEX`, HEX being a hash of what is locked, is locked (flock) by the process that does it, and removed when it is
//! done. What a killed process leaves is locked by nobody, and used by the next one.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use tokio::sync::OwnedMutexGuard;

use super::staging::{StagingError, blocking, is_at, make};
use crate::Digest;
use crate::files::if_there;

/// How often another process's lock is tried: a thread that waits for it could not be stopped.
const POLL: Duration = Duration::from_millis(100);

/// A lock for each key that is in use.
pub struct Locks {
    directory: PathBuf,
    here: Mutex<HashMap<String, Weak<tokio::sync::Mutex<()>>>>,
}

/// Nobody else has the lock while this lives.
pub struct Held {
    // Others of this process come after those of other processes.
    _file: LockFile,
    _here: OwnedMutexGuard<()>,
}

impl Locks {
    /// Opens the directory, which is made if it does not exist, and removes what killed processes have left. Blocks.
    pub fn open(directory: PathBuf) -> Result<Self, StagingError> {
        make(&directory)?;
        let failed = |cause| StagingError::io("list", &directory, cause);
        for entry in fs::read_dir(&directory).map_err(failed)? {
            drop(LockFile::acquire(&entry.map_err(failed)?.path())?);
        }
        Ok(Self { directory, here: Mutex::default() })
    }

    /// Waits until nobody else has the lock of this key. Whoever takes several must take them in the same order.
    pub async fn lock(&self, key: &str) -> Result<Held, StagingError> {
        let here = self.here(key).lock_owned().await;
        let path = self.directory.join(Digest::of(key.as_bytes()).hex());
        loop {
            let tried = path.clone();
            if let Some(file) = blocking(move || LockFile::acquire(&tried)).await? {
                return Ok(Held { _file: file, _here: here });
            }
            tokio::time::sleep(POLL).await;
        }
    }

    fn here(&self, key: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut locks = self.here.lock().unwrap_or_else(PoisonError::into_inner);
        locks.retain(|_, lock| lock.strong_count() > 0);
        let known = locks.get(key).and_then(Weak::upgrade);
        known.unwrap_or_else(|| {
            let lock = Arc::default();
            locks.insert(key.to_owned(), Arc::downgrade(&lock));
            lock
        })
    }
}

struct LockFile {
    path: PathBuf,
    _lock: Flock<File>,
}

impl LockFile {
    /// None while another process has it.
    fn acquire(path: &Path) -> Result<Option<Self>, StagingError> {
        let failed = |cause| StagingError::io("lock", path, cause);
        let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path);
        let lock = match Flock::lock(file.map_err(failed)?, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => lock,
            Err((_, Errno::EWOULDBLOCK)) => return Ok(None),
            Err((_, errno)) => return Err(failed(errno.into())),
        };
        // Whoever had it before may have removed the file, and a third one may have a new one.
        Ok(is_at(&lock, path).then(|| Self { path: path.to_owned(), _lock: lock }))
    }
}

impl Drop for LockFile {
    fn drop(&mut self) {
        // Before it is unlocked: nobody else removes it.
        if let Err(error) = if_there(fs::remove_file(&self.path)) {
            tracing::warn!("pushes: cannot remove {}: {error}", self.path.display());
        }
    }
}

#[cfg(test)]
mod tests;
