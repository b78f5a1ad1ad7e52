//! The directory of the cache.

use std::collections::HashMap;
use std::fs::{self, File};
use std::path::Path;
use std::time::SystemTime;

use nix::fcntl::{Flock, FlockArg};

use super::Kept;
use crate::files::{At, FileError, entries, if_there, private};
use crate::{Algorithm, Digest};

/// Notes on the disk that a blob is used now: all processes go by that. The kernel's own notes are not exact enough.
pub fn touch(file: &File, path: &Path) -> SystemTime {
    let now = SystemTime::now();
    if let Err(error) = file.set_modified(now) {
        tracing::debug!("layer cache: cannot touch {}: {error}", path.display());
    }
    now
}

pub fn lock(path: &Path, kind: FlockArg) -> Result<Flock<File>, FileError> {
    let file = private().create(true).open(path).at("open", path)?;
    Flock::lock(file, kind).map_err(|(_, errno)| std::io::Error::from(errno)).at("lock", path)
}

/// Removes the partial files of processes that are gone.
pub fn remove_leftovers(partials: &Path) -> Result<(), FileError> {
    for path in entries(partials)? {
        if lock(&path.join("lock"), FlockArg::LockExclusiveNonblock).is_err() && path.join("lock").exists() {
            continue;
        }
        let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        removed.at("remove", &path)?;
    }
    Ok(())
}

/// Removes blobs that no process of this version uses. One of an earlier version may be making more of them: the next start
/// removes those.
pub fn remove_old(blobs: &Path) {
    if let Err(error) = if_there(fs::remove_dir_all(blobs)) {
        tracing::warn!("layer cache: cannot remove {}, which nothing uses any more: {error}", blobs.display());
    }
}

/// The blobs that are there.
pub fn scan(blobs: &Path) -> Result<HashMap<Digest, Kept>, FileError> {
    let mut found = HashMap::new();
    for algorithm in Algorithm::ALL {
        let directory = blobs.join(algorithm.name());
        // One by one: there may be very many.
        for entry in fs::read_dir(&directory).at("list", &directory)? {
            let entry = entry.at("list", &directory)?;
            // Another process may have just removed it.
            let Some(metadata) = if_there(entry.metadata()).at("look at", entry.path())? else { continue };
            let name = entry.file_name();
            let digest = name.to_str().and_then(|name| format!("{}:{name}", algorithm.name()).parse::<Digest>().ok());
            match digest {
                Some(digest) if metadata.is_file() => {
                    let used = metadata.modified().at("look at", entry.path())?;
                    found.insert(digest, Kept { size: metadata.len(), used, checked: None });
                }
                _ => tracing::debug!("layer cache: {} does not belong there and is left alone", entry.path().display()),
            }
        }
    }
    Ok(found)
}
