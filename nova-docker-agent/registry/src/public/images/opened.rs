//! Images whose files were read, and who may read them.

use std::sync::Arc;
use std::time::Duration;

use moka::sync::Cache;
use uuid::Uuid;

use super::fingerprint;
use super::open::{self, Opened};
use crate::public::Grant;
use crate::store::source::label;
use crate::store::{Fetcher, Indexes, Stamp, Turn, Turns};
use crate::{Digest, Error, GlanceSource, Source};
use nova_docker_cloud::Glance;
use nova_docker_cloud::glance::ImageMeta;

/// Images whose manifests are kept in memory, and how many bytes each may have.
const MAX_IMAGES: u64 = 128;
const MAX_SIZE: usize = 128 * 1024;
/// How long it is remembered that a user may read an image, and what is wrong with one: other properties may make a bad image
/// good.
const REMEMBERED_FOR: Duration = Duration::from_secs(60);
const MAX_ALLOWED: u64 = 16_384;
const MAX_BAD: u64 = 1024;
/// Images that are opened at a time, in total, and for the users of one project, or one client that has not logged in.
const MAX_OPENS: usize = 16;
const MAX_OPENS_OF_ONE: usize = 2;

/// Opens images, each content once.
pub struct OpenedImages {
    glance: Glance,
    fetcher: Arc<Fetcher>,
    good: Indexes<Opened>,
    bad: Cache<Stamp, Error>,
    turns: Arc<Turns>,
    /// Who may read which image, by a hash of the user's token.
    allowed: Cache<(Digest, Uuid), ()>,
}

impl OpenedImages {
    pub fn new(glance: Glance, fetcher: Arc<Fetcher>) -> Self {
        Self {
            glance,
            fetcher,
            good: Indexes::new(MAX_IMAGES, |opened: &Opened| opened.weight() <= MAX_SIZE),
            bad: Cache::builder().max_capacity(MAX_BAD).time_to_live(REMEMBERED_FOR).build(),
            turns: Turns::new(MAX_OPENS, MAX_OPENS_OF_ONE),
            allowed: Cache::builder().max_capacity(MAX_ALLOWED).time_to_live(REMEMBERED_FOR).build(),
        }
    }

    /// What is in an image: as it is known, when the file is the same, or read now. Whoever else asks for it meanwhile waits for
    /// that reading, and must be allowed to read the image as well.
    pub async fn open(&self, grant: &Grant, record: &ImageMeta) -> Result<Arc<Opened>, Error> {
        let source: Arc<dyn Source> = Arc::new(GlanceSource::new(self.glance.clone(), grant.caller(), record.id));
        // Nobody waits for a reading that waits for somebody else's turn: whoever has a turn can read.
        let turn = if self.has(record) { None } else { Some(self.turns.take(Some(&grant.turns)).await?) };
        let Some(stamp) = stamp(record) else { return Box::pin(self.read(grant, record, source, turn)).await };
        let read = async {
            if let Some(error) = self.bad.get(&stamp) {
                return Err(error);
            }
            self.read(grant, record, source.clone(), turn).await.inspect_err(|error| {
                if error.is_bad_image() {
                    self.bad.insert(stamp.clone(), error.clone());
                }
            })
        };
        let opened = self.good.get_or_read(&stamp, Box::pin(read)).await;
        let is_read = opened.as_ref().err().is_none_or(Error::is_bad_image);
        if is_read && !self.allowed.contains_key(&(fingerprint(grant), record.id)) {
            source.check_access(&record.id.to_string()).await?;
            self.allow(grant, record.id);
        }
        opened
    }

    /// Reads an image's file, in a turn that has been taken, or when there is one.
    async fn read(
        &self,
        grant: &Grant,
        record: &ImageMeta,
        source: Arc<dyn Source>,
        turn: Option<Turn>,
    ) -> Result<Arc<Opened>, Error> {
        let turn = match turn {
            Some(turn) => turn,
            None => self.turns.take(Some(&grant.turns)).await?,
        };
        let opened = open::open(source, record, &self.fetcher, turn).await;
        let opened = opened.map_err(|failure| failure.of(&label(record.name.as_deref(), record.id)));
        if opened.as_ref().err().is_none_or(Error::is_bad_image) {
            self.allow(grant, record.id);
        }
        opened.map(Arc::new)
    }

    /// Whether an image was opened already.
    pub fn has(&self, record: &ImageMeta) -> bool {
        stamp(record).is_some_and(|stamp| self.good.has(&stamp) || self.bad.contains_key(&stamp))
    }

    fn allow(&self, grant: &Grant, image: Uuid) {
        self.allowed.insert((fingerprint(grant), image), ());
    }
}

/// What identifies the content of an image; None where Glance keeps no hash.
fn stamp(record: &ImageMeta) -> Option<Stamp> {
    Some((record.id, record.size?, record.os_hash_value.clone()?))
}
