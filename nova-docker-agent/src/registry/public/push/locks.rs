//! What must not be done twice at one time: by this process, or by another one with the same directory.
//!
//! `LOCKS/HEX`, HEX being a hash of what is locked, is locked (flock) by the process that does it, and removed when it is
//! done. What a killed process leaves is locked by nobody, and used by the next one.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use tokio::sync::OwnedMutexGuard;

use super::staging::{StagingError, blocking, is_at, make};
use crate::registry::Digest;

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
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!("pushes: cannot remove {}: {error}", self.path.display());
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_of_all_processes_has_a_lock_and_nothing_stays_of_it() {
        let directory = tempfile::tempdir().unwrap();
        let open = || Arc::new(Locks::open(directory.path().into()).unwrap());
        let processes = [open(), open(), open()];
        let inside = Arc::new(tokio::sync::Mutex::new(()));
        let work = (0..24).map(|number| {
            let (locks, inside) = (processes[number % 3].clone(), inside.clone());
            tokio::spawn(async move {
                let _held = locks.lock("one").await.unwrap();
                let _alone = inside.try_lock().expect("two have it");
                tokio::time::sleep(Duration::from_millis(2)).await;
            })
        });
        for task in work.collect::<Vec<_>>() {
            task.await.unwrap();
        }
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn other_keys_are_free_meanwhile() {
        let directory = tempfile::tempdir().unwrap();
        let [one, other] = [(); 2].map(|()| Locks::open(directory.path().into()).unwrap());
        let _first = one.lock("one").await.unwrap();
        let _second = other.lock("two").await.unwrap();
        assert!(tokio::time::timeout(Duration::from_millis(300), other.lock("one")).await.is_err());
    }

    #[test]
    fn what_a_killed_process_has_left_is_removed_and_what_a_living_one_has_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let (left, held) = (directory.path().join("left"), directory.path().join("held"));
        fs::write(&left, b"").unwrap();
        let living = LockFile::acquire(&held).unwrap().unwrap();
        Locks::open(directory.path().into()).unwrap();
        assert!(!left.exists() && held.exists());
        drop(living);
        assert!(!held.exists());
    }
}
