//! The directory of the cache.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::SystemTime;

use nix::fcntl::{Flock, FlockArg};

use super::Kept;
use crate::files::if_there;
use crate::{Algorithm, Digest, Error};

/// Notes on the disk that a blob is used now: all processes go by that. The kernel's own notes are not exact enough.
pub fn touch(file: &File, path: &Path) -> SystemTime {
    let now = SystemTime::now();
    if let Err(error) = file.set_modified(now) {
        tracing::debug!("layer cache: cannot touch {}: {error}", path.display());
    }
    now
}

pub fn lock(path: &Path, kind: FlockArg) -> Result<Flock<File>, Error> {
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path);
    let file = file.map_err(|cause| Error::cache("open", path, cause))?;
    Flock::lock(file, kind).map_err(|(_, errno)| Error::cache("lock", path, errno.into()))
}

/// Removes the partial files of processes that are gone.
pub fn remove_leftovers(partials: &Path) -> Result<(), Error> {
    let entries = fs::read_dir(partials).map_err(|cause| Error::cache("list", partials, cause))?;
    for entry in entries {
        let path = entry.map_err(|cause| Error::cache("list", partials, cause))?.path();
        if lock(&path.join("lock"), FlockArg::LockExclusiveNonblock).is_err() && path.join("lock").exists() {
            continue;
        }
        let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        removed.map_err(|cause| Error::cache("remove", &path, cause))?;
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
pub fn scan(blobs: &Path) -> Result<HashMap<Digest, Kept>, Error> {
    let mut found = HashMap::new();
    for algorithm in Algorithm::ALL {
        let directory = blobs.join(algorithm.name());
        let failed = |cause| Error::cache("list", &directory, cause);
        for entry in fs::read_dir(&directory).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            // Another process may have just removed it.
            let Some(metadata) = if_there(entry.metadata()).map_err(failed)? else { continue };
            let name = entry.file_name();
            let digest = name.to_str().and_then(|name| format!("{}:{name}", algorithm.name()).parse::<Digest>().ok());
            match digest {
                Some(digest) if metadata.is_file() => {
                    let used = metadata.modified().map_err(failed)?;
                    found.insert(digest, Kept { size: metadata.len(), used, checked: None });
                }
                _ => tracing::debug!("layer cache: {} does not belong there and is left alone", entry.path().display()),
            }
        }
    }
    Ok(found)
}
