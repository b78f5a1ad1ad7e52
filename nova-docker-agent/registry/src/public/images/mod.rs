//! The images that Glance shows a caller, as repositories, manifests and blobs.
//!
//! ```text
//! records   what Glance lists, for a few seconds
//!   changes   what other processes have changed
//! search    which of it holds a manifest, or a blob
//! opened    images whose files were read, and who may read them
//!   open      one image's file -> its manifests, and where its blobs are
//! blob      a blob's bytes
//! ```

mod blob;
mod changes;
mod open;
mod opened;
mod records;
mod search;

use std::ops::{Deref, Range};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::stream::BoxStream;
use secrecy::ExposeSecret;

use super::name::{self, Reference, Tag};
use super::{Grant, Repository, property};
use crate::store::{Cache, Fetcher, Sharing, Stored};
use crate::{ApiError, Code, Counters, Digest, Error, GlanceSource, SourceError};
use blob::StoredBlob;
use changes::Changes;
use nova_docker_cloud::Glance;
use nova_docker_cloud::glance::ImageMeta;
use open::Opened;
use opened::OpenedImages;
use records::{Hidden, Of, Records};
pub use search::{Age, Blobs, MAX_OPENED};

/// How old a listing may be where the registry serves users.
pub const FRESH: Duration = Duration::from_secs(5);

/// One Glance image, opened.
pub struct Content {
    pub record: ImageMeta,
    opened: Arc<Opened>,
}

impl Deref for Content {
    type Target = Opened;

    fn deref(&self) -> &Opened {
        &self.opened
    }
}

/// An image, with the tags that it has in a repository.
pub type Tagged = (Arc<ImageMeta>, Vec<Tag>);

/// Where a repository's images are looked for.
#[derive(Clone, Copy)]
enum Place {
    /// Its name may be the id of an image: that one is asked for by itself, and goes before others.
    Id,
    /// Among the project's images that listings show. What most pulls want is there, and Glance is asked once.
    Shown,
    /// Among all images of the project.
    All,
}

impl Place {
    /// Each, the cheapest first.
    const EACH: [Self; 3] = [Self::Id, Self::Shown, Self::All];
}

/// A blob that the caller may read.
pub trait ReadableBlob: Send + Sync {
    fn size(&self) -> u64;
    /// The image that has it; none of what was uploaded and is in no image yet.
    fn image(&self) -> Option<&ImageMeta> {
        None
    }
    /// Its bytes; verified before the last of them is given.
    fn read(self: Arc<Self>, range: Range<u64>) -> BoxStream<'static, Result<Bytes, Error>>;
}

/// Finds images in Glance.
pub struct Images {
    glance: Glance,
    /// Reads blobs, of which some are on this host.
    pub fetcher: Arc<Fetcher>,
    pub records: Records,
    opened: OpenedImages,
    next_lease: AtomicU64,
}

impl Images {
    /// Opens the cache of blobs below `directory`, bounded to `size` bytes, and what processes tell each other there. Listings are
    /// kept for as long as `fresh`. Blocks.
    pub fn open(glance: Glance, directory: &Path, size: u64, fresh: Duration) -> Result<Arc<Self>, Error> {
        let fetcher = Fetcher::new(Cache::open(&directory.join("cache"), size)?);
        Ok(Arc::new(Self {
            records: Records::new(glance.clone(), Changes::open(directory.join("changes"))?, fresh),
            opened: OpenedImages::new(glance.clone(), fetcher.clone()),
            glance,
            fetcher,
            next_lease: AtomicU64::new(0),
        }))
    }

    /// The image that a tag or digest stands for in a repository, if the caller sees one. Of several with the same tag, the newest
    /// that is the registry's own; those that are hidden from listings go behind.
    ///
    /// # Errors
    /// Glance's; and for a tag, what is wrong with the image.
    pub async fn find(&self, at: &Repository, reference: &Reference) -> Result<Option<Arc<Content>>, ApiError> {
        // What is not found may have come just now; but what was listed since the question need not be listed again.
        let begun = Instant::now();
        let tag = match reference {
            Reference::Digest(digest) => {
                return match self.holder(at, digest, Age::Seconds).await? {
                    Some(content) => Ok(Some(content)),
                    None => self.holder(at, digest, Age::Then(begun)).await,
                };
            }
            Reference::Tag(tag) => tag,
        };
        let with_tag = |images: Vec<Tagged>| {
            let images = images.into_iter().filter(|(_, tags)| tags.contains(tag));
            images.min_by_key(|(record, _)| !property::is_own(record))
        };
        let places = Place::EACH.map(|place| (place, Age::Seconds)).into_iter().chain([(Place::All, Age::Then(begun))]);
        for (place, age) in places {
            if let Some((record, _)) = with_tag(self.repository(at, place, age).await?) {
                return self.content(&at.grant, &record).await.map(Some);
            }
        }
        Ok(None)
    }

    /// The records of a repository's images that the caller sees, with the tags of each; the newest first.
    pub async fn of_repository(&self, at: &Repository) -> Result<Vec<Tagged>, ApiError> {
        self.repository(at, Place::All, Age::Seconds).await
    }

    /// The records of all images of the project that the caller sees; the newest first.
    pub async fn of_project(&self, grant: &Grant, age: Age) -> Result<Vec<Arc<ImageMeta>>, ApiError> {
        let listing = |hidden| self.records.listing(grant, Of::Owner(grant.owner.clone(), Hidden(hidden)), age);
        let (shown, hidden) = tokio::try_join!(listing(false), listing(true))?;
        let mut all: Vec<_> = shown.iter().chain(&*hidden).cloned().collect();
        all.sort_by(|one, other| records::newest_first(one, other));
        Ok(all)
    }

    /// Forgets what is remembered of the project's images: they were changed.
    pub fn changed(&self, grant: &Grant) {
        self.records.forget(&grant.owner);
    }

    /// Takes a file that a member of the project `owner` has uploaded, verified and on the disk, as a blob that need not be read
    /// from Glance. It is gone from its place then, or is left there when the cache has no room for it. Blocks.
    pub fn adopt(&self, owner: &str, digest: &Digest, file: &Path) -> Result<(), Error> {
        self.fetcher.adopt(*digest, &Sharing::Circle(owner.to_owned()), file)
    }

    /// What was done so far.
    pub fn counters(&self) -> Counters {
        self.fetcher.counters()
    }

    async fn repository(&self, at: &Repository, place: Place, age: Age) -> Result<Vec<Tagged>, ApiError> {
        let Repository { grant, name } = at;
        let of_repository = |record: &Arc<ImageMeta>| {
            let tags = tags_of(record, name.repository());
            let belongs = !tags.is_empty() || is_untagged_in(record, name.repository());
            let belongs = belongs && grant.owns(record) && grant.may_see(record);
            belongs.then(|| (record.clone(), tags))
        };
        let records = match (place, name.image_id()) {
            // It is no project of the user's.
            _ if grant.owner.is_empty() => return Ok(vec![]),
            (Place::Id, None) => return Ok(vec![]),
            (Place::Id, Some(id)) => self.records.listing(grant, Of::Id(id), age).await?,
            (Place::Shown, _) => {
                self.records.listing(grant, Of::Owner(grant.owner.clone(), Hidden(false)), age).await?
            }
            (Place::All, _) => Arc::new(self.of_project(grant, age).await?),
        };
        Ok(records.iter().filter_map(of_repository).collect())
    }

    /// The content of an image; None for an image that is not usable, or not the caller's to read.
    pub async fn readable(&self, grant: &Grant, record: &ImageMeta) -> Result<Option<Arc<Content>>, ApiError> {
        match self.content(grant, record).await {
            Ok(content) => Ok(Some(content)),
            Err(error) if error.code == Code::Unavailable => Err(error),
            Err(error) => {
                tracing::debug!(image = %record.id, "passed over: {}", error.message);
                Ok(None)
            }
        }
    }

    /// The content of an image: the one that is known, when the file is the same, or read now.
    async fn content(&self, grant: &Grant, record: &ImageMeta) -> Result<Arc<Content>, ApiError> {
        let opened = self.opened.open(grant, record).await.map_err(|error| unreadable(&error))?;
        Ok(Arc::new(Content { record: record.clone(), opened }))
    }

    fn stored(&self, grant: &Grant, record: &ImageMeta, digest: &Digest, range: Range<u64>) -> StoredBlob {
        let source = GlanceSource::new(self.glance.clone(), grant.caller(), record.id);
        let circle = record.owner.clone().unwrap_or_default();
        let stored = Stored {
            image: record.id,
            lease: self.next_lease.fetch_add(1, Ordering::Relaxed),
            label: record.id.to_string(),
            source: Arc::new(source),
            range,
            packing: None,
            sharing: Sharing::Circle(circle),
        };
        StoredBlob { fetcher: self.fetcher.clone(), digest: *digest, stored, record: record.clone() }
    }
}

/// Of a user's token.
fn fingerprint(grant: &Grant) -> Digest {
    Digest::of(grant.token.expose_secret().as_bytes())
}

/// The tags by which an image is found in a repository: its own, and `latest` in the repository of its id.
fn tags_of(record: &ImageMeta, repository: &str) -> Vec<Tag> {
    let mut tags = name::tags_of(record, repository);
    if record.id.to_string() == repository && !tags.contains(&Tag::latest()) {
        tags.insert(0, Tag::latest());
    }
    tags
}

/// Whether an image that has no tag in the repository was pushed there.
fn is_untagged_in(record: &ImageMeta, repository: &str) -> bool {
    let property = property::text(record, property::REPOSITORY);
    let named = record.name.as_deref().and_then(|name| name.split_once('@')).map(|(repository, _)| repository);
    property == Some(repository) || named == Some(repository)
}

/// What the user is told of an image that the user sees, and that cannot be read.
fn unreadable(error: &Error) -> ApiError {
    match error {
        Error::BadImage { .. } => ApiError::new(Code::Unsupported, error.to_string())
            .with_status(axum::http::StatusCode::UNPROCESSABLE_ENTITY),
        Error::Source { cause: SourceError::NotFound(_), .. } => {
            ApiError::new(Code::ManifestUnknown, "the image has no data")
        }
        Error::Source { cause: SourceError::Forbidden(_), .. } => {
            ApiError::new(Code::Denied, "the image service does not let you read this image")
        }
        _ => {
            tracing::warn!("an image cannot be read: {error}");
            ApiError::new(Code::Unavailable, "the image service cannot give the image now; try again")
        }
    }
}
