//! What was uploaded and is not yet part of an image in Glance, on disk.
//!
//! ```text
//! STAGING/PROJECT/sessions/UPLOAD/about.json    whose upload it is, and of what; the digest so far, for the next request
//! STAGING/PROJECT/sessions/UPLOAD/content       what has come so far; locked (flock) while a request works on it
//! STAGING/PROJECT/blobs/ALGORITHM/HEX           complete: a file gets here by renaming, verified and synced
//! STAGING/PROJECT/mounts/ALGORITHM/HEX          to be read from an image of another repository: JSON, of which
//! STAGING/PROJECT/manifests/REPOSITORY-DIGEST   pushed by its digest: a line of JSON, then the manifest; REPOSITORY is a hash
//! ```
//!
//! What has become part of an image leaves this place at once. A client that was told before that it is here still
//! finds it, mounted from that image.
//!
//! Several processes may share the directory. Everything here blocks.

mod blobs;
mod error;
mod manifests;
mod session;

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use serde::{Deserialize, Serialize};

pub use error::StagingError;
pub use session::Session;

use super::{Push, PushConfig};
use crate::files::{self, At, FileError, entries, if_there, make, make_parent, measure};
use crate::public::Repository;
use crate::store::Cache;
use crate::{Algorithm, Digest};

/// What is left free on the file system for everything else, in bytes.
const FREE: u64 = 256 * 1024 * 1024;
/// The bounds of project and disk are looked at again after so many bytes of an upload.
const RECHECK: u64 = 64 * 1024 * 1024;
/// Uploads of one project that are open at one time.
const MAX_SESSIONS: usize = 1000;
/// Blobs and manifests of one project, whatever their size: each takes room of its own, and all are looked at for every upload.
const MAX_BLOBS: usize = 32_768;

/// A blob that is read from an image of another repository.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Mount {
    /// `PROJECT/REPOSITORY`
    pub from: String,
    /// Keystone's id of that project.
    pub owner: String,
}

/// Where a staged blob is.
pub enum Staged {
    /// A file of so many bytes, whose digest was verified before it got its name.
    Blob {
        file: PathBuf,
        size: u64,
    },
    Mount(Mount),
}

/// The directory of staged uploads.
pub struct Staging {
    root: PathBuf,
    limits: PushConfig,
    /// What makes room on the same file system when it is full.
    cache: Option<Arc<Cache>>,
    /// Bytes that all projects have, and until when that is good enough.
    pub(super) used: Mutex<Option<(Instant, u64)>>,
}

/// The part of it that a request has to do with: what a project has uploaded, and which manifests of its repository wait.
#[derive(Clone)]
pub struct Area {
    staging: Arc<Staging>,
    /// The project's.
    directory: PathBuf,
    /// The repository within the project.
    repository: String,
    /// Keystone's id of the user.
    user: String,
}

impl Staging {
    /// Opens the directory, which is made if it does not exist.
    pub fn open(root: PathBuf, limits: PushConfig, cache: &Arc<Cache>) -> Result<Arc<Self>, StagingError> {
        make(&root)?;
        let device = |path: &Path| fs::metadata(path).map(|metadata| metadata.dev()).at("look at", path);
        let cache = if device(&root)? == device(cache.directory())? { Some(cache.clone()) } else { None };
        Ok(Arc::new(Self { root, limits, cache, used: Mutex::default() }))
    }

    /// Removes what nobody went on with.
    pub fn expire(&self) -> Result<(), StagingError> {
        for project in entries(&self.root)? {
            for session in entries(&project.join("sessions"))? {
                // It has no content yet when it is just being begun.
                let touched = [session.join("content"), session.clone()].into_iter().find(|path| path.exists());
                if touched.map_or(Ok(false), |path| is_older(&path, self.limits.upload_expiry))? {
                    session::discard_idle(&session)?;
                }
            }
            for path in files(&project, &["blobs", "mounts"])? {
                if is_older(&path, self.limits.upload_expiry)? {
                    files::remove(&path)?;
                }
            }
        }
        Ok(())
    }

    /// Bytes that all projects have here. Where they have very many files it takes a while to tell: no more than a tenth of the
    /// time is spent on it.
    fn used_in_all(&self) -> Result<u64, FileError> {
        let mut known = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        let begun = Instant::now();
        if let Some((until, used)) = *known
            && begun < until
        {
            return Ok(used);
        }
        let each = entries(&self.root)?.into_iter().map(|project| used(&project));
        let all = each.sum::<Result<u64, FileError>>()?;
        *known = Some((Instant::now() + 10 * begun.elapsed(), all));
        Ok(all)
    }

    fn project(&self, project: &str) -> Result<PathBuf, StagingError> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        let valid = !project.is_empty() && project.len() <= 64 && project.bytes().all(plain);
        if valid { Ok(self.root.join(project)) } else { Err(StagingError::BadProject) }
    }
}

impl Area {
    /// The blob with this digest, for whoever may use what the project has uploaded.
    pub fn find(&self, digest: &Digest) -> Result<Option<Staged>, StagingError> {
        let file = self.blob_path("blobs", digest);
        if let Some((size, _)) = measure(&file)? {
            return Ok(Some(Staged::Blob { file, size }));
        }
        Ok(read_json(&self.blob_path("mounts", digest))?.map(Staged::Mount))
    }

    /// Keeps blobs, and manifests of the repository, for a while from now on: a push counts on them.
    pub fn renew(&self, digests: &[Digest]) -> Result<(), StagingError> {
        for digest in digests {
            let blobs = ["blobs", "mounts"].map(|place| self.blob_path(place, digest));
            for path in blobs.into_iter().chain([self.manifest_path(digest)]) {
                let touched = File::open(&path).and_then(|file| file.set_modified(SystemTime::now()));
                if_there(touched).at("touch", path)?;
            }
        }
        Ok(())
    }

    /// Remembers that a blob can be read from an image elsewhere.
    pub fn mount(&self, digest: &Digest, mount: &Mount) -> Result<(), StagingError> {
        let path = self.blob_path("mounts", digest);
        make_parent(&path)?;
        Ok(write_json(&path, mount)?)
    }

    /// Forgets that the image has the blob, where nothing else was remembered meanwhile.
    pub fn unmount(&self, digest: &Digest, mount: &Mount) -> Result<(), StagingError> {
        let path = self.blob_path("mounts", digest);
        if read_json(&path)?.as_ref() == Some(mount) {
            files::remove(&path)?;
        }
        Ok(())
    }

    /// Has a blob of another project too, without a copy. It counts for both. Whether there is one.
    pub fn share(&self, theirs: &Self, digest: &Digest) -> Result<bool, StagingError> {
        let (source, target) = (theirs.blob_path("blobs", digest), self.blob_path("blobs", digest));
        let Some((size, _)) = measure(&source)? else { return Ok(false) };
        self.admit_one()?;
        self.admit(size)?;
        make_parent(&target)?;
        match fs::hard_link(&source, &target) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            linked => Ok(linked.at("link", &target).map(|()| true)?),
        }
    }

    /// Removes a blob; whether there was one.
    pub fn remove(&self, digest: &Digest) -> Result<bool, StagingError> {
        let mut removed = false;
        for place in ["blobs", "mounts"] {
            removed |= files::remove(&self.blob_path(place, digest))?;
        }
        Ok(removed)
    }

    /// The blobs are in an image now, from which whoever was told before that they are here can mount them. `take` may
    /// have the files of those that were uploaded. Manifests of the repository need no name any more.
    pub fn release(
        &self,
        digests: &[Digest],
        image: &Mount,
        take: impl Fn(&Digest, &Path),
    ) -> Result<(), StagingError> {
        for digest in digests {
            self.remove_manifest(digest)?;
            let file = self.blob_path("blobs", digest);
            if measure(&file)?.is_none() {
                continue;
            }
            self.mount(digest, image)?;
            take(digest, &file);
            files::remove(&file)?;
        }
        Ok(())
    }

    /// Makes room for `coming` more bytes of a project: what can be read from Glance again has to go for them.
    ///
    /// # Errors
    /// The project's bound, that of all projects, or the disk's, does not allow them.
    pub fn admit(&self, coming: u64) -> Result<(), StagingError> {
        let Staging { root, limits, cache, .. } = &*self.staging;
        let (used, limit) = (used(&self.directory)?, limits.max_staged);
        if used.saturating_add(coming) > limit {
            return Err(StagingError::Quota { used, limit });
        }
        let limit = limits.max_staged_in_all;
        if self.staging.used_in_all()?.saturating_add(coming) > limit {
            return Err(StagingError::AllFull { limit });
        }
        let may_go = cache.as_ref().map_or(0, |cache| cache.may_go());
        let mut available = files::available(root)?;
        if available.saturating_add(may_go) < coming.saturating_add(FREE) {
            return Err(StagingError::DiskFull);
        }
        // Not for what is only announced: nobody's words empty the cache.
        let needed = coming.min(RECHECK).saturating_add(FREE);
        if let Some(cache) = cache {
            available = cache.free(|| needed, || files::available(root))?;
        }
        if available < needed { Err(StagingError::DiskFull) } else { Ok(()) }
    }

    /// Whether a project may have one more blob, of whatever size.
    fn admit_one(&self) -> Result<(), StagingError> {
        if files(&self.directory, &["blobs"])?.len() < MAX_BLOBS {
            return Ok(());
        }
        let (what, advice) = ("blobs and manifests that are in no image", "push or tag manifests, or delete some");
        Err(StagingError::TooMany { limit: MAX_BLOBS, what, advice })
    }

    fn blob_path(&self, place: &str, digest: &Digest) -> PathBuf {
        self.directory.join(place).join(digest.path())
    }
}

impl Push {
    /// What is staged in the repository's project, for this user.
    pub(super) fn area(&self, at: &Repository) -> Result<Area, StagingError> {
        let directory = self.staging.project(&at.grant.owner)?;
        let (repository, user) = (at.name.repository().to_owned(), at.grant.user.clone());
        Ok(Area { staging: self.staging.clone(), directory, repository, user })
    }

    /// Works on that, off the runtime's threads.
    pub(super) async fn on_disk<T: Send + 'static>(
        &self,
        at: &Repository,
        work: impl FnOnce(&Area) -> Result<T, StagingError> + Send + 'static,
    ) -> Result<T, StagingError> {
        let area = self.area(at)?;
        blocking(move || work(&area)).await
    }
}

/// Runs blocking work off the runtime's threads, from now on.
pub fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StagingError> + Send + 'static,
) -> impl Future<Output = Result<T, StagingError>> {
    let thread = tokio::task::spawn_blocking(work);
    async move { thread.await.unwrap_or(Err(StagingError::ShuttingDown)) }
}

/// A project's manifests, and the files in these places by digest.
fn files(project: &Path, places: &[&str]) -> Result<Vec<PathBuf>, FileError> {
    let mut found = entries(&project.join("manifests"))?;
    for place in places {
        for algorithm in Algorithm::ALL {
            found.extend(entries(&project.join(place).join(algorithm.name()))?);
        }
    }
    Ok(found)
}

/// Whether a file was not touched for longer than `age`.
fn is_older(path: &Path, age: Duration) -> Result<bool, FileError> {
    let passed = measure(path)?.and_then(|(_, touched)| SystemTime::now().duration_since(touched).ok());
    Ok(passed.is_some_and(|passed| passed > age))
}

/// Bytes that a project has here.
fn used(project: &Path) -> Result<u64, FileError> {
    let sessions = entries(&project.join("sessions"))?.into_iter().map(|session| session.join("content"));
    let mut total = 0;
    for path in sessions.chain(files(project, &["blobs"])?) {
        total += measure(&path)?.map_or(0, |(size, _)| size);
    }
    Ok(total)
}

/// What a loss of power has left in pieces is not there: its client begins anew.
fn read_json<T: for<'a> Deserialize<'a>>(path: &Path) -> Result<Option<T>, FileError> {
    let bytes = if_there(fs::read(path)).at("read", path)?;
    Ok(bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
}

fn write_json(path: &Path, value: &impl Serialize) -> Result<(), FileError> {
    files::write(path, &serde_json::to_vec(value).map_err(io::Error::from).at("write", path)?)
}
