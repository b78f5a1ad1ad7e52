//! One upload: a file that grows, and its digest so far.

use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use nix::fcntl::Flock;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Area, MAX_SESSIONS, RECHECK, StagingError, read_json, write_json};
use crate::files::{self, At, FileError, entries, if_there, is_at, make, make_parent, measure, private, sync_parent};
use crate::{Algorithm, Digest, Hasher};

/// How much is read at once to digest what is on the disk.
const PIECE: usize = 1024 * 1024;
const ABOUT: &str = "about.json";

/// To everybody else of the project, and for other repositories, it does not exist.
#[derive(Serialize, Deserialize)]
struct About {
    repository: String,
    user: String,
    /// What the client is expected to name the digest by.
    algorithm: String,
    /// How many bytes were digested, and where the digest is then.
    #[serde(default)]
    length: u64,
    #[serde(default)]
    digested: String,
}

/// An upload that this request works on, and nobody else.
pub struct Session {
    pub id: Uuid,
    area: Area,
    about: About,
    directory: PathBuf,
    file: Flock<File>,
    offset: u64,
    hasher: Hasher,
    /// The same two, when the request began.
    begun: (u64, Hasher),
    /// Bytes since the bounds were looked at.
    unchecked: u64,
    /// Whether it stays when this is dropped before it is complete.
    keep: bool,
}

impl Area {
    /// Begins an upload. One whose client is not told of it is not to be kept when its request ends.
    pub fn begin(&self, algorithm: Algorithm, keep: bool) -> Result<Session, StagingError> {
        self.admit_one()?;
        self.admit(0)?;
        let sessions = self.directory.join("sessions");
        if entries(&sessions)?.len() >= MAX_SESSIONS {
            let (what, advice) = ("uploads open", "complete or cancel some");
            return Err(StagingError::TooMany { limit: MAX_SESSIONS, what, advice });
        }
        let id = Uuid::new_v4();
        let directory = sessions.join(id.to_string());
        make(&directory)?;
        let (repository, user) = (self.repository.clone(), self.user.clone());
        let algorithm = algorithm.name().to_owned();
        let about = About { repository, user, algorithm, length: 0, digested: String::new() };
        write_json(&directory.join(ABOUT), &about)?;
        let file = lock(&directory.join("content"), true)?;
        let mut session = self.resume(id, about, directory, file)?;
        session.keep = keep;
        Ok(session)
    }

    /// Takes up an upload where it was left.
    ///
    /// # Errors
    /// [`StagingError::Busy`] while another request has it.
    pub fn session(&self, id: Uuid) -> Result<Session, StagingError> {
        let (directory, about) = self.about(id)?;
        let path = directory.join("content");
        let file = lock(&path, false)?;
        // It may have been completed or cancelled before the lock was had.
        if !is_at(&file, &path) {
            return Err(StagingError::UnknownUpload);
        }
        self.resume(id, about, directory, file)
    }

    /// How many bytes of an upload have come.
    pub fn received(&self, id: Uuid) -> Result<u64, StagingError> {
        let path = self.about(id)?.0.join("content");
        measure(&path)?.map(|(size, _)| size).ok_or(StagingError::UnknownUpload)
    }

    fn about(&self, id: Uuid) -> Result<(PathBuf, About), StagingError> {
        let directory = self.directory.join("sessions").join(id.to_string());
        let about: Option<About> = read_json(&directory.join(ABOUT))?;
        let about = about.filter(|about| about.repository == self.repository && about.user == self.user);
        Ok((directory, about.ok_or(StagingError::UnknownUpload)?))
    }

    fn resume(&self, id: Uuid, about: About, directory: PathBuf, file: Flock<File>) -> Result<Session, StagingError> {
        let offset = file.metadata().at("look at", &directory)?.len();
        let algorithm = Algorithm::named(&about.algorithm).unwrap_or(Algorithm::Sha256);
        // Beyond that came what a process was given that was killed.
        let known = Hasher::resume(algorithm, &about.digested).filter(|_| about.length <= offset);
        let (start, hasher) = known.map_or_else(|| (0, algorithm.hasher()), |hasher| (about.length, hasher));
        let hasher = digest(&file, start..offset, hasher).at("read", &directory)?;
        let (area, begun) = (self.clone(), (offset, hasher.clone()));
        Ok(Session { id, area, about, directory, file, offset, hasher, begun, unchecked: 0, keep: true })
    }
}

impl Session {
    /// How many bytes have come.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Whether `coming` more bytes are allowed.
    pub fn admit(&self, coming: u64) -> Result<(), StagingError> {
        self.check_size(coming)?;
        self.area.admit(coming)
    }

    /// Appends. Where it fails, everything that came with this request is taken back.
    pub fn append(mut self, pieces: &[Bytes]) -> Result<Self, StagingError> {
        for piece in pieces {
            if let Err(error) = self.append_one(piece) {
                self.roll_back()?;
                return Err(error);
            }
        }
        Ok(self)
    }

    fn append_one(&mut self, piece: &[u8]) -> Result<(), StagingError> {
        let length = piece.len() as u64;
        self.check_size(length)?;
        self.unchecked += length;
        if self.unchecked >= RECHECK {
            self.area.admit(length)?;
            self.unchecked = 0;
        }
        if let Err(cause) = self.file.write_all_at(piece, self.offset) {
            let full = matches!(cause.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
            return if full { Err(StagingError::DiskFull) } else { Ok(Err(cause).at("write", self.content())?) };
        }
        self.hasher.update(piece);
        self.offset += length;
        Ok(())
    }

    /// Takes back what came with this request.
    pub fn roll_back(mut self) -> Result<(), StagingError> {
        self.file.set_len(self.begun.0).at("shorten", self.content())?;
        (self.offset, self.hasher) = self.begun.clone();
        Ok(())
    }

    /// Returns when everything is on the disk.
    pub fn sync(&self) -> Result<(), StagingError> {
        Ok(self.file.sync_data().at("sync", self.content())?)
    }

    /// Makes a blob of the upload under the first of its digests, on the disk when this returns. An upload whose
    /// content does not have all of them is removed.
    pub fn complete(mut self, digests: &[Digest]) -> Result<(), StagingError> {
        self.keep = false;
        for expected in digests {
            let found = self.digest(expected.algorithm())?;
            if found != *expected {
                return Err(StagingError::Mismatch { expected: *expected, found });
            }
        }
        let Some(digest) = digests.first() else { return Ok(()) };
        self.sync()?;
        let target = self.area.blob_path("blobs", digest);
        make_parent(&target)?;
        fs::rename(self.content(), &target).at("rename to", &target)?;
        // The name, too, has to be on the disk before the client may forget the blob.
        Ok(sync_parent(&target)?)
    }

    /// The digest of what has come.
    fn digest(&self, algorithm: Algorithm) -> Result<Digest, StagingError> {
        if algorithm == self.hasher.algorithm() {
            return Ok(self.hasher.clone().finish());
        }
        Ok(digest(&self.file, 0..self.offset, algorithm.hasher()).at("read", self.content())?.finish())
    }

    /// Cancels the upload.
    pub fn cancel(mut self) {
        self.keep = false;
    }

    /// Lets the next request go on without reading what is here. What is digested has to be on the disk first: it is never
    /// looked at again.
    fn leave(&mut self) -> Result<(), StagingError> {
        if self.offset == 0 {
            return Ok(());
        }
        self.sync()?;
        (self.about.length, self.about.digested) = (self.offset, self.hasher.state());
        Ok(write_json(&self.directory.join(ABOUT), &self.about)?)
    }

    fn check_size(&self, coming: u64) -> Result<(), StagingError> {
        let limit = self.area.staging.limits.max_blob;
        if self.offset.saturating_add(coming) > limit { Err(StagingError::TooLarge { limit }) } else { Ok(()) }
    }

    fn content(&self) -> PathBuf {
        self.directory.join("content")
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if self.keep {
            if let Err(error) = self.leave() {
                tracing::warn!("staged uploads: {error}; the upload is read again when it goes on");
            }
        } else if let Err(error) = discard(&self.directory) {
            tracing::warn!("staged uploads: {error}; it is tried again when the upload expires");
        }
    }
}

/// Removes an upload that no request is working on.
pub fn discard_idle(directory: &Path) -> Result<(), StagingError> {
    match lock(&directory.join("content"), false) {
        // One that was never complete: it had no content yet when the process was killed.
        Ok(_) | Err(StagingError::UnknownUpload) => Ok(discard(directory)?),
        Err(StagingError::Busy) => Ok(()),
        Err(error) => Err(error),
    }
}

fn discard(directory: &Path) -> Result<(), FileError> {
    if_there(fs::remove_dir_all(directory)).map(drop).at("remove", directory)
}

/// Opens a file that nobody else has; makes it when it is `new`.
fn lock(path: &Path, new: bool) -> Result<Flock<File>, StagingError> {
    let file = if_there(private().create_new(new).open(path)).at("open", path)?.ok_or(StagingError::UnknownUpload)?;
    files::lock(file, path)?.ok_or(StagingError::Busy)
}

/// Feeds a part of a file to a digest.
fn digest(file: &File, mut range: Range<u64>, mut hasher: Hasher) -> io::Result<Hasher> {
    let mut piece = vec![0; PIECE];
    while !range.is_empty() {
        let wanted = usize::try_from(range.end - range.start).unwrap_or(PIECE).min(PIECE);
        file.read_exact_at(&mut piece[..wanted], range.start)?;
        hasher.update(&piece[..wanted]);
        range.start += wanted as u64;
    }
    Ok(hasher)
}
