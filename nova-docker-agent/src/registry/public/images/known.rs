//! Images whose files were read, and who may read them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::OnceCell;
use uuid::Uuid;

use super::super::grant::Grant;
use super::fingerprint;
use super::open::{self, Opened};
use crate::cloud::Glance;
use crate::cloud::glance::ImageMeta;
use crate::registry::fetch::Fetcher;
use crate::registry::glance::GlanceSource;
use crate::registry::source::Source;
use crate::registry::{Digest, Error, SourceError};

/// Images whose manifests are kept in memory, and how many bytes they may have.
const KNOWN_IMAGES: usize = 128;
const KNOWN_SIZE: usize = 128 * 1024;
/// How long a user who was allowed to read an image is not asked about again.
const ALLOWED_FOR: Duration = Duration::from_secs(60);
const MAX_ALLOWED: usize = 16_384;

/// Opens images, each content once.
pub struct Known {
    glance: Glance,
    fetcher: Arc<Fetcher>,
    contents: Mutex<HashMap<Stamp, Cell>>,
    /// Who may read which image: a hash of the user's token, and since when that is known.
    allowed: Mutex<HashMap<(Digest, Uuid), Instant>>,
}

/// One content of one image: its id, size and Glance's hash of its file.
type Stamp = (Uuid, u64, String);
type Cell = Arc<OnceCell<Arc<Opened>>>;

impl Known {
    pub fn new(glance: Glance, fetcher: Arc<Fetcher>) -> Self {
        Self { glance, fetcher, contents: Mutex::default(), allowed: Mutex::default() }
    }

    /// What is in an image: as it is known, when the file is the same, or read now. Whoever else asks for it meanwhile waits for
    /// that reading.
    ///
    /// # Errors
    /// What is wrong with the image, or that the user may not read it.
    pub async fn open(&self, grant: &Grant, record: &ImageMeta) -> Result<Arc<Opened>, Error> {
        let source: Arc<dyn Source> = Arc::new(GlanceSource::new(self.glance.clone(), grant.caller(), record.id));
        let read = || async {
            let opened = open::open(source.clone(), record, &self.fetcher).await?;
            self.allow(grant, record.id);
            Ok(Arc::new(opened))
        };
        let Some(stamp) = stamp(record) else { return read().await };
        let opened = self.cell(&stamp).get_or_try_init(read).await?.clone();
        if opened.weight() > KNOWN_SIZE {
            self.contents().remove(&stamp);
        }
        if !self.is_allowed(grant, record.id) {
            // Another user opened it; this one must be allowed to read it as well.
            match source.read(Some(0..1)).await {
                Ok(_) | Err(SourceError::RangeUnsupported) => self.allow(grant, record.id),
                Err(cause) => return Err(Error::Source { image: record.id.to_string(), cause }),
            }
        }
        Ok(opened)
    }

    /// Whether an image was opened already.
    pub fn has(&self, record: &ImageMeta) -> bool {
        stamp(record).is_some_and(|stamp| self.contents().get(&stamp).is_some_and(|cell| cell.initialized()))
    }

    fn cell(&self, stamp: &Stamp) -> Cell {
        let mut contents = self.contents();
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
