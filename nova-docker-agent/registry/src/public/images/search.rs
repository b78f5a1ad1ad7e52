//! Which images hold what is asked for by its digest.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use super::{Content, Images, Place, ReadableBlob};
use crate::public::{Grant, Repository, property};
use crate::{ApiError, Digest};
use nova_docker_cloud::glance::ImageMeta;

/// Images that are opened to look for one digest: more than are kept would push each other out. Beyond that, those that are
/// known are looked at.
pub const MAX_OPENED: usize = 64;

/// The rank of an image that must be opened to tell what it holds.
const UNKNOWN: u8 = 3;

/// Blobs by their digests.
pub type Blobs = HashMap<Digest, Arc<dyn ReadableBlob>>;

/// How old the listing may be that is looked through.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Age {
    /// As old as listings are kept, a few seconds, unless [`Images::changed`] was called since.
    Seconds,
    /// What has come until then is found.
    Then(Instant),
}

impl Age {
    /// What has come until now is found.
    pub fn now() -> Self {
        Self::Then(Instant::now())
    }
}

impl Images {
    /// A blob of one of the repository's images.
    pub async fn blob(&self, at: &Repository, digest: &Digest) -> Result<Option<Arc<dyn ReadableBlob>>, ApiError> {
        Ok(self.blobs(at, [*digest], Age::Seconds).await?.remove(digest))
    }

    /// Those of the blobs that the repository's images have. They are looked for in one listing, and each image is opened once.
    pub async fn blobs(
        &self,
        at: &Repository,
        wanted: impl IntoIterator<Item = Digest>,
        age: Age,
    ) -> Result<Blobs, ApiError> {
        let wanted = wanted.into_iter().map(|digest| (digest.to_string(), digest));
        let mut wanted: HashMap<String, Digest> = wanted.collect();
        let mut found = Blobs::new();
        let mut left = MAX_OPENED + wanted.len();
        for place in Place::EACH {
            if wanted.is_empty() {
                break;
            }
            for record in self.candidates(at, |word| wanted.contains_key(word), place, age).await? {
                // What it was chosen for may have been found meanwhile.
                if wanted.is_empty() || self.rank(&record, |word| wanted.contains_key(word)).is_none() {
                    continue;
                }
                let Some(content) = self.look_into(&at.grant, &record, &mut left).await? else { continue };
                wanted.retain(|_, digest| {
                    let range = content.blobs.get(digest).cloned();
                    let range = range.filter(|range| !range.is_empty() || digest.algorithm().digest(b"") == *digest);
                    let Some(range) = range else { return true };
                    found.insert(*digest, Arc::new(self.stored(&at.grant, &content.record, digest, range)));
                    false
                });
            }
        }
        Ok(found)
    }

    /// The repository's image that holds a manifest.
    pub async fn holder(&self, at: &Repository, manifest: &Digest, age: Age) -> Result<Option<Arc<Content>>, ApiError> {
        let text = manifest.to_string();
        let mut left = MAX_OPENED;
        for place in Place::EACH {
            for record in self.candidates(at, |word| word == text, place, age).await? {
                let content = self.look_into(&at.grant, &record, &mut left).await?;
                if let Some(content) = content.filter(|content| content.manifests.contains_key(manifest)) {
                    return Ok(Some(content));
                }
            }
        }
        Ok(None)
    }

    /// The content of an image that may hold what is wanted; at most `left` more are opened for it.
    pub async fn look_into(
        &self,
        grant: &Grant,
        record: &ImageMeta,
        left: &mut usize,
    ) -> Result<Option<Arc<Content>>, ApiError> {
        if !self.opened.has(record) {
            let Some(less) = left.checked_sub(1) else { return Ok(None) };
            *left = less;
        }
        self.readable(grant, record).await
    }

    /// The repository's images that may hold what is wanted, the likeliest first.
    async fn candidates(
        &self,
        at: &Repository,
        is_wanted: impl Fn(&str) -> bool,
        place: Place,
        age: Age,
    ) -> Result<Vec<Arc<ImageMeta>>, ApiError> {
        let records = self.repository(at, place, age).await?.into_iter().map(|(record, _)| record);
        let ranked = records.filter_map(|record| Some((self.rank(&record, &is_wanted)?, record)));
        // Before many are opened to tell, those that are hidden may say so.
        let is_cheap = |rank: u8| !matches!(place, Place::Shown) || rank != UNKNOWN;
        let mut ranked: Vec<_> = ranked.filter(|(rank, _)| is_cheap(*rank)).collect();
        ranked.sort_by_key(|(rank, _)| *rank);
        Ok(ranked.into_iter().map(|(_, record)| record).collect())
    }

    /// Images that say so come first, then those whose content is known, then those that must be opened to tell. None for one
    /// that says what it holds, and does not hold it.
    fn rank(&self, record: &ImageMeta, is_wanted: impl Fn(&str) -> bool) -> Option<u8> {
        match (property::told(record, property::DIGEST), property::told(record, property::BLOBS)) {
            (Some(root), _) if is_wanted(root) => Some(0),
            // It is JSON whose keys are digests.
            (_, Some(blobs)) if blobs.split('"').any(is_wanted) => Some(1),
            (Some(_), Some(_)) => None,
            _ if self.opened.has(record) => Some(2),
            _ => Some(UNKNOWN),
        }
    }
}
