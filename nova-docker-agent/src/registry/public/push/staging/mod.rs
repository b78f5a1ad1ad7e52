//! What was uploaded and is not yet part of an image in Glance, on disk.
//!
//! ```text
//! STAGING/PROJECT/sessions/UPLOAD/about.json    whose upload it is, and of what
//! STAGING/PROJECT/sessions/UPLOAD/content       what has come so far; locked (flock) while a request works on it
//! STAGING/PROJECT/blobs/ALGORITHM/HEX           complete: a file gets here by renaming, verified and synced
//! STAGING/PROJECT/published/ALGORITHM/HEX       in an image by now; kept a while for whoever was told that it is here
//! STAGING/PROJECT/mounts/ALGORITHM/HEX          to be read from an image of another repository: JSON, of which
//! ```
//!
//! Several processes may share the directory. Everything here blocks.

mod blob;
mod error;
mod session;

use std::collections::HashMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub use blob::StagedBlob;
pub use error::StagingError;
pub use session::{Session, Uploader};

use crate::registry::Digest;
use crate::registry::digest::{Algorithm, Hasher};

/// What is left free on the file system for everything else, in bytes.
const FREE: u64 = 256 * 1024 * 1024;
/// Uploads of one project that are open at one time.
const MAX_SESSIONS: usize = 1000;
/// A client may count on a blob this long after it was told that the registry has it.
const PUBLISHED_FOR: Duration = Duration::from_secs(15 * 60);

/// Bounds of what is staged.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Of one blob, in bytes.
    pub max_blob: u64,
    /// Of everything that one project has here, in bytes.
    pub max_project: u64,
    /// An upload, and a blob that no manifest was pushed for, is removed after so long.
    pub expiry: Duration,
}

/// A blob that is read from an image of another repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// `PROJECT/REPOSITORY`
    pub from: String,
    /// Keystone's id of that project.
    pub owner: String,
}

/// Where a staged blob is.
pub enum Staged {
    Blob(StagedBlob),
    Mount(Mount),
}

/// The directory of staged uploads.
pub struct Staging {
    root: PathBuf,
    limits: Limits,
    /// How many bytes of an upload were digested, and the digest so far. What is not here is read from the disk again.
    rolling: Mutex<HashMap<Uuid, (u64, Hasher)>>,
}

impl Staging {
    /// Opens the directory, which is made if it does not exist.
    pub fn open(root: PathBuf, limits: Limits) -> Result<Arc<Self>, StagingError> {
        make(&root)?;
        Ok(Arc::new(Self { root, limits, rolling: Mutex::default() }))
    }

    /// The blob with this digest, for whoever may use what the project has uploaded. It is kept for a while from now
    /// on.
    pub fn find(&self, project: &str, digest: &Digest) -> Result<Option<Staged>, StagingError> {
        let places = ["blobs", "published"].map(|place| self.blob_path(project, place, digest));
        for path in &places {
            let path = path.as_ref().map_err(|_| StagingError::BadProject)?;
            if let Some(size) = touch(path)? {
                return Ok(Some(Staged::Blob(StagedBlob::new(places.into_iter().flatten().collect(), size))));
            }
        }
        let path = self.blob_path(project, "mounts", digest)?;
        Ok(read_json(&path)?.map(Staged::Mount))
    }

    /// Remembers that a blob can be read from an image elsewhere.
    pub fn mount(&self, project: &str, digest: &Digest, mount: &Mount) -> Result<(), StagingError> {
        let path = self.blob_path(project, "mounts", digest)?;
        make_parent(&path)?;
        write_json(&path, mount)
    }

    /// Lets another project have a blob of this one, without a copy.
    pub fn share(&self, from: &str, to: &str, digest: &Digest) -> Result<bool, StagingError> {
        let target = self.blob_path(to, "blobs", digest)?;
        make_parent(&target)?;
        for place in ["blobs", "published"] {
            match fs::hard_link(self.blob_path(from, place, digest)?, &target) {
                Ok(()) => return Ok(true),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(true),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(cause) => return Err(StagingError::io("link", &target, cause)),
            }
        }
        Ok(false)
    }

    /// Removes a blob; whether there was one.
    pub fn remove(&self, project: &str, digest: &Digest) -> Result<bool, StagingError> {
        let mut removed = false;
        for place in ["blobs", "published", "mounts"] {
            removed |= remove_file(&self.blob_path(project, place, digest)?)?;
        }
        Ok(removed)
    }

    /// Keeps blobs as long as uploads are kept, because an image is about to be made of them.
    pub fn claim(&self, project: &str, digests: &[Digest]) -> Result<(), StagingError> {
        digests.iter().try_for_each(|digest| self.relocate(project, digest, "published", "blobs"))
    }

    /// The blobs are in an image now. Whoever was told before that they are here still finds them for a while.
    pub fn release(&self, project: &str, digests: &[Digest]) -> Result<(), StagingError> {
        digests.iter().try_for_each(|digest| self.relocate(project, digest, "blobs", "published"))
    }

    fn relocate(&self, project: &str, digest: &Digest, from: &str, to: &str) -> Result<(), StagingError> {
        let (source, target) = (self.blob_path(project, from, digest)?, self.blob_path(project, to, digest)?);
        if touch(&source)?.is_none() {
            return Ok(());
        }
        make_parent(&target)?;
        match fs::rename(&source, &target) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(StagingError::io("rename to", &target, error)),
            _ => Ok(()),
        }
    }

    /// Makes room for `coming` more bytes of a project: what is in images already goes first.
    ///
    /// # Errors
    /// The project's bound, or the disk's, does not allow them.
    pub fn admit(&self, project: &str, coming: u64) -> Result<(), StagingError> {
        let directory = self.project(project)?;
        let limit = self.limits.max_project;
        loop {
            let used = used(&directory)?;
            if used.saturating_add(coming) <= limit {
                break;
            }
            if !evict_one(std::slice::from_ref(&directory))? {
                return Err(StagingError::Quota { used, limit });
            }
        }
        while self.available()? < coming.saturating_add(FREE) {
            if !evict_one(&entries(&self.root)?)? {
                return Err(StagingError::DiskFull);
            }
        }
        Ok(())
    }

    /// Removes what nobody went on with.
    pub fn expire(&self) -> Result<(), StagingError> {
        for project in entries(&self.root)? {
            for session in entries(&project.join("sessions"))? {
                // It has no content yet when it is just being begun.
                let touched = [session.join("content"), session.clone()].into_iter().find(|path| path.exists());
                if touched.map_or(Ok(false), |path| is_older(&path, self.limits.expiry))? {
                    session::discard_idle(&session)?;
                    self.forget(&session);
                }
            }
            let expiries =
                [("blobs", self.limits.expiry), ("mounts", self.limits.expiry), ("published", PUBLISHED_FOR)];
            for (place, expiry) in expiries {
                for path in blob_files(&project.join(place))? {
                    if is_older(&path, expiry)? {
                        remove_file(&path)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn forget(&self, session: &Path) {
        if let Some(id) = session.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse().ok()) {
            self.rolling().remove(&id);
        }
    }

    fn available(&self) -> Result<u64, StagingError> {
        let stat = nix::sys::statvfs::statvfs(&self.root);
        let stat = stat.map_err(|errno| StagingError::io("measure", &self.root, errno.into()))?;
        Ok(stat.blocks_available() * stat.fragment_size())
    }

    fn project(&self, project: &str) -> Result<PathBuf, StagingError> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        let valid = !project.is_empty() && project.len() <= 64 && project.bytes().all(plain);
        if valid { Ok(self.root.join(project)) } else { Err(StagingError::BadProject) }
    }

    fn blob_path(&self, project: &str, place: &str, digest: &Digest) -> Result<PathBuf, StagingError> {
        Ok(self.project(project)?.join(place).join(digest.algorithm().name()).join(digest.hex()))
    }

    fn rolling(&self) -> MutexGuard<'_, HashMap<Uuid, (u64, Hasher)>> {
        self.rolling.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs blocking work off the runtime's threads.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StagingError> + Send + 'static,
) -> Result<T, StagingError> {
    tokio::task::spawn_blocking(work).await.unwrap_or(Err(StagingError::ShuttingDown))
}

fn make(path: &Path) -> Result<(), StagingError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|cause| StagingError::io("create", path, cause))
}

fn make_parent(path: &Path) -> Result<(), StagingError> {
    path.parent().map_or(Ok(()), make)
}

/// The paths in a directory; none where there is no directory.
fn entries(directory: &Path) -> Result<Vec<PathBuf>, StagingError> {
    let failed = |cause| StagingError::io("list", directory, cause);
    match fs::read_dir(directory) {
        Ok(entries) => entries.map(|entry| entry.map(|entry| entry.path()).map_err(failed)).collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(vec![]),
        Err(cause) => Err(failed(cause)),
    }
}

/// The files in `PLACE/ALGORITHM/`.
fn blob_files(place: &Path) -> Result<Vec<PathBuf>, StagingError> {
    let lists = Algorithm::ALL.map(|algorithm| entries(&place.join(algorithm.name())));
    Ok(lists.into_iter().collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
}

/// Size in bytes, and when it was touched last. None for what was just removed.
fn measure(path: &Path) -> Result<Option<(u64, SystemTime)>, StagingError> {
    match fs::metadata(path).and_then(|metadata| Ok((metadata.len(), metadata.modified()?))) {
        Ok(measured) => Ok(Some(measured)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(cause) => Err(StagingError::io("look at", path, cause)),
    }
}

/// Whether a file was not touched for longer than `age`.
fn is_older(path: &Path, age: Duration) -> Result<bool, StagingError> {
    let passed = measure(path)?.and_then(|(_, touched)| SystemTime::now().duration_since(touched).ok());
    Ok(passed.is_some_and(|passed| passed > age))
}

/// Bytes that a project has here.
fn used(project: &Path) -> Result<u64, StagingError> {
    let sessions = entries(&project.join("sessions"))?.into_iter().map(|session| session.join("content"));
    let blobs = blob_files(&project.join("blobs"))?.into_iter().chain(blob_files(&project.join("published"))?);
    let mut total = 0;
    for path in sessions.chain(blobs) {
        total += measure(&path)?.map_or(0, |(size, _)| size);
    }
    Ok(total)
}

/// Removes the blob that is in an image and was touched longest ago; whether there was one.
fn evict_one(projects: &[PathBuf]) -> Result<bool, StagingError> {
    let mut oldest: Option<(SystemTime, PathBuf)> = None;
    for project in projects {
        for path in blob_files(&project.join("published"))? {
            let Some((_, touched)) = measure(&path)? else { continue };
            if oldest.as_ref().is_none_or(|(time, _)| touched < *time) {
                oldest = Some((touched, path));
            }
        }
    }
    let Some((_, path)) = oldest else { return Ok(false) };
    remove_file(&path)?;
    Ok(true)
}

/// Marks a file as used now; its size, if there is one.
fn touch(path: &Path) -> Result<Option<u64>, StagingError> {
    let touched = File::open(path).and_then(|file| {
        file.set_modified(SystemTime::now())?;
        Ok(file.metadata()?.len())
    });
    match touched {
        Ok(size) => Ok(Some(size)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(cause) => Err(StagingError::io("touch", path, cause)),
    }
}

/// Whether there was a file.
fn remove_file(path: &Path) -> Result<bool, StagingError> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(cause) => Err(StagingError::io("remove", path, cause)),
    }
}

fn read_json<T: for<'a> Deserialize<'a>>(path: &Path) -> Result<Option<T>, StagingError> {
    match fs::read(path).and_then(|bytes| Ok(serde_json::from_slice(&bytes)?)) {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(cause) => Err(StagingError::io("read", path, cause)),
    }
}

/// Writes a file at once: nobody sees a part of it.
fn write_json(path: &Path, value: &impl Serialize) -> Result<(), StagingError> {
    let failed = |cause| StagingError::io("write", path, cause);
    let partial = path.with_extension(Uuid::new_v4().to_string());
    let written = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&partial).and_then(|mut file| {
        file.write_all(&serde_json::to_vec(value)?)?;
        fs::rename(&partial, path)
    });
    written.map_err(failed)
}
