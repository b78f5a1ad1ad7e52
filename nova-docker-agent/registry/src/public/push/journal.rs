//! What has to be undone when this process is killed in the middle of a push.
//!
//! `JOURNAL/IMAGE.json` is there from before an image is made in Glance, or given tags, until it is complete and has them alone;
//! it is locked (flock) by the process that does so, so that what is not locked was left behind.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use nix::fcntl::Flock;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::staging::StagingError;
use crate::files::{self, At, FileError, entries, if_there, is_at, make, measure, private, sync_parent};
use crate::public::token::Key;
use crate::public::{Name, Tag};

/// Writing an entry takes less.
const ABANDONED: Duration = Duration::from_secs(3600);

/// What users' tokens are sealed for here.
const PURPOSE: &str = "journal of pushes";

/// One image that is being made.
#[derive(Clone, Serialize, Deserialize)]
pub struct Entry {
    pub image: Uuid,
    /// Keystone's id of the project that it is made in.
    pub owner: String,
    /// What it is to be called, for messages.
    pub name: String,
    /// The tags that it is given, and in which repository (`PROJECT/REPOSITORY`).
    #[serde(default)]
    pub repository: String,
    #[serde(default)]
    pub tags: Vec<String>,
    /// The user's token, sealed.
    token: String,
}

impl Entry {
    pub fn new(image: Uuid, owner: &str, name: String, token: &SecretString, key: &Key) -> Self {
        // None only if it is longer than any memory; what is empty does not open.
        let token = STANDARD.encode(key.seal(PURPOSE, token.expose_secret().as_bytes()).unwrap_or_default());
        Self { image, owner: owner.to_owned(), name, repository: String::new(), tags: vec![], token }
    }

    /// The same for an image that is given tags.
    pub fn with_tags(mut self, repository: &Name, tags: &[Tag]) -> Self {
        self.repository = repository.to_string();
        self.tags = tags.iter().map(Tag::to_string).collect();
        self
    }

    /// The token of the user who pushed it.
    pub fn token(&self, key: &Key) -> Option<SecretString> {
        let token = key.open(PURPOSE, &String::from_utf8(STANDARD.decode(&self.token).ok()?).ok()?)?;
        String::from_utf8(token).ok().map(SecretString::from)
    }
}

/// The directory of entries. Everything here blocks.
pub struct Journal {
    directory: PathBuf,
}

/// An entry that nobody else works on.
pub struct Open {
    pub entry: Entry,
    path: PathBuf,
    lock: Flock<File>,
}

impl Journal {
    pub fn open(directory: PathBuf) -> Result<Self, StagingError> {
        make(&directory)?;
        Ok(Self { directory })
    }

    /// Writes an entry, on the disk when this returns.
    pub fn begin(&self, entry: Entry) -> Result<Open, StagingError> {
        let path = self.directory.join(format!("{}.json", entry.image));
        // Of its own: a process may have been killed while it wrote one for the same image.
        let partial = path.with_extension(format!("{}.partial", Uuid::new_v4()));
        let file = private().create_new(true).open(&partial).at("write", &partial)?;
        // Before it has the name by which others find it.
        let mut lock = files::lock(file, &partial)?.ok_or(StagingError::Busy)?;
        let written = serde_json::to_vec(&entry).map_err(io::Error::from).and_then(|bytes| lock.write_all(&bytes));
        written.and_then(|()| lock.sync_all()).and_then(|()| fs::rename(&partial, &path)).at("write", &partial)?;
        sync_parent(&path)?;
        Ok(Open { entry, path, lock })
    }

    /// What was left behind, in the project `owner` or in all. Entries that cannot be read are passed over, with a
    /// warning.
    pub fn left(&self, owner: Option<&str>) -> Result<Vec<Open>, StagingError> {
        let mut found = vec![];
        for path in entries(&self.directory)? {
            match open(&path) {
                Ok(Some(open)) if owner.is_none_or(|owner| open.entry.owner == owner) => found.push(open),
                Ok(_) => {}
                Err(error) => tracing::warn!("unfinished pushes: {error}"),
            }
        }
        Ok(found)
    }
}

/// None for what another request, or process, is working on, or has just finished.
fn open(path: &Path) -> Result<Option<Open>, FileError> {
    // An entry that was never complete; its image was not asked for.
    if path.extension().is_some_and(|extension| extension == "partial") && age(path) > ABANDONED {
        files::remove(path)?;
    }
    if path.extension().is_none_or(|extension| extension != "json") {
        return Ok(None);
    }
    let Some(file) = if_there(File::open(path)).at("open", path)? else { return Ok(None) };
    let Some(lock) = files::lock(file, path)? else { return Ok(None) };
    let Some(bytes) = if_there(fs::read(path)).at("read", path)? else { return Ok(None) };
    let entry = serde_json::from_slice(&bytes).map_err(io::Error::from).at("read", path)?;
    Ok(Some(Open { entry, path: path.to_owned(), lock }))
}

impl Open {
    /// Nothing is left to be undone.
    pub fn close(self) -> Result<(), StagingError> {
        // A later request may have begun another entry for the image.
        if is_at(&self.lock, &self.path) {
            files::remove(&self.path)?;
        }
        Ok(())
    }

    /// How long ago it was begun.
    pub fn age(&self) -> Duration {
        age(&self.path)
    }
}

fn age(path: &Path) -> Duration {
    measure(path).ok().flatten().and_then(|(_, modified)| modified.elapsed().ok()).unwrap_or_default()
}
