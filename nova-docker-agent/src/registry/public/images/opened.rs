//! Images whose files were read, and who may read them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::OnceCell;
use uuid::Uuid;

use super::fingerprint;
use super::open::{self, Opened};
use crate::cloud::Glance;
use crate::cloud::glance::ImageMeta;
use crate::registry::public::grant::Grant;
use crate::registry::store::fetch::Fetcher;
use crate::registry::store::glance::GlanceSource;
use crate::registry::store::source::Source;
use crate::registry::store::turns::Turns;
use crate::registry::{Digest, Error, SourceError};

/// Images whose manifests are kept in memory, and how many bytes they may have.
const KNOWN_IMAGES: usize = 128;
const KNOWN_SIZE: usize = 128 * 1024;
/// How long a user who was allowed to read an image is not asked about again.
const ALLOWED_FOR: Duration = Duration::from_secs(60);
const MAX_ALLOWED: usize = 16_384;
/// How long it is remembered that an image cannot be used: to ask again costs nothing then.
const BAD_FOR: Duration = Duration::from_secs(60);
/// Images that are opened at one time, and those of them for the users of one project.
const MAX_OPENS: usize = 16;
const MAX_OPENS_OF_PROJECT: usize = 2;

/// Opens images, each content once.
pub struct Known {
    glance: Glance,
    fetcher: Arc<Fetcher>,
    contents: Mutex<HashMap<Stamp, Cell>>,
    turns: Arc<Turns>,
    /// Who may read which image: a hash of the user's token, and since when that is known.
    allowed: Mutex<HashMap<(Digest, Uuid), Instant>>,
}

/// One content of one image: its id, size and Glance's hash of its file.
type Stamp = (Uuid, u64, String);
type Cell = Arc<OnceCell<Outcome>>;

/// What came of opening an image.
#[derive(Clone)]
enum Outcome {
    Good(Arc<Opened>),
    /// Since when it is known what is wrong with the image.
    Bad(Instant, Error),
}

impl Outcome {
    fn opened(self) -> Result<Arc<Opened>, Error> {
        match self {
            Self::Good(opened) => Ok(opened),
            Self::Bad(_, error) => Err(error),
        }
    }

    /// Whether it has to be looked at again: other properties may make a bad image good.
    fn is_over(&self) -> bool {
        matches!(self, Self::Bad(since, _) if since.elapsed() >= BAD_FOR)
    }
}

impl Known {
    pub fn new(glance: Glance, fetcher: Arc<Fetcher>) -> Self {
        Self {
            glance,
            fetcher,
            contents: Mutex::default(),
            turns: Turns::new(MAX_OPENS, MAX_OPENS_OF_PROJECT),
            allowed: Mutex::default(),
        }
    }

    /// What is in an image: as it is known, when the file is the same, or read now. Whoever else asks for it meanwhile waits for
    /// that reading.
    ///
    /// # Errors
    /// What is wrong with the image, or that the user may not read it.
    pub async fn open(&self, grant: &Grant, record: &ImageMeta) -> Result<Arc<Opened>, Error> {
        let source: Arc<dyn Source> = Arc::new(GlanceSource::new(self.glance.clone(), grant.caller(), record.id));
        let read = || self.read(grant, record, source.clone());
        let Some(stamp) = stamp(record) else { return read().await?.opened() };
        let outcome = self.cell(&stamp).get_or_try_init(read).await?.clone();
        if matches!(&outcome, Outcome::Good(opened) if opened.weight() > KNOWN_SIZE) {
            self.contents().remove(&stamp);
        }
        if !self.is_allowed(grant, record.id) {
            // Another user opened it; this one must be allowed to read it as well.
            match source.read(Some(0..1)).await {
                Ok(_) | Err(SourceError::RangeUnsupported) => self.allow(grant, record.id),
                Err(cause) => return Err(Error::Source { image: record.id.to_string(), cause }),
            }
        }
        outcome.opened()
    }

    /// Reads an image's file when it is the project's turn.
    async fn read(&self, grant: &Grant, record: &ImageMeta, source: Arc<dyn Source>) -> Result<Outcome, Error> {
        let turn = self.turns.take(Some(&grant.project)).await?;
        let outcome = match open::open(source, record, &self.fetcher, turn).await {
            Ok(opened) => Outcome::Good(Arc::new(opened)),
            Err(error) if error.is_bad_image() => Outcome::Bad(Instant::now(), error),
            Err(error) => return Err(error),
        };
        self.allow(grant, record.id);
        Ok(outcome)
    }

    /// Whether an image was opened already.
    pub fn has(&self, record: &ImageMeta) -> bool {
        stamp(record).is_some_and(|stamp| {
            self.contents().get(&stamp).is_some_and(|cell| cell.get().is_some_and(|outcome| !outcome.is_over()))
        })
    }

    fn cell(&self, stamp: &Stamp) -> Cell {
        let mut contents = self.contents();
        if contents.get(stamp).is_some_and(|cell| cell.get().is_some_and(Outcome::is_over)) {
            contents.remove(stamp);
        }
        if contents.len() >= KNOWN_IMAGES && !contents.contains_key(stamp) {
            let any = contents.keys().next().cloned();
            any.and_then(|stamp| contents.remove(&stamp));
        }
        contents.entry(stamp.clone()).or_default().clone()
    }

    fn allow(&self, grant: &Grant, image: Uuid) {
        let mut allowed = self.allowed();
        if allowed.len() >= MAX_ALLOWED {
            allowed.retain(|_, since| since.elapsed() < ALLOWED_FOR);
        }
        if allowed.len() < MAX_ALLOWED {
            allowed.insert((fingerprint(grant), image), Instant::now());
        }
    }

    fn is_allowed(&self, grant: &Grant, image: Uuid) -> bool {
        let allowed = self.allowed();
        allowed.get(&(fingerprint(grant), image)).is_some_and(|since| since.elapsed() < ALLOWED_FOR)
    }

    fn contents(&self) -> MutexGuard<'_, HashMap<Stamp, Cell>> {
        self.contents.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn allowed(&self) -> MutexGuard<'_, HashMap<(Digest, Uuid), Instant>> {
        self.allowed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What identifies the content of an image; None where Glance keeps no hash.
fn stamp(record: &ImageMeta) -> Option<Stamp> {
    Some((record.id, record.size?, record.os_hash_value.clone()?))
}
