//! Images that nobody names any more. A tag that moves leaves a whole image behind: it goes when it has had no tag for long, or
//! when its project keeps too many bytes so, with the rights of whoever pushes to its project then, or of the registry's own
//! identity, where that may push.
//!
//! Registries of different hosts have no lock in common. So one that is about to delete an image writes that into it, and looks
//! again; and one that gives it a tag, or renews it, does so first and looks then. At least one of them sees the other, unless
//! Glance takes longer for the one's write than for all requests of the other: it saves an image whole, as it was when the write
//! began, whether that adds a property or a tag. A push then finds that the image has gone, and repeats.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use backon::BackoffBuilder;
use jiff::Timestamp;
use uuid::Uuid;

use super::publish::TAG_PAUSES;
use super::{Push, TAGS, refused};
use crate::public::images::{Age, ReadableBlob};
use crate::public::name::all_of_glance;
use crate::public::{Grant, Name, Repository, Tag, property};
use crate::{ApiError, Code, Digest};
use nova_docker_cloud::Error;
use nova_docker_cloud::glance::{ImageMeta, Patch};

/// Images of a project that are looked at, and that are deleted, at one time.
const MAX_LOOKED_AT: usize = 32;
const MAX_DELETED: usize = 8;
/// What was named so short a time ago stays, however much there is: somebody may be pulling it.
const SHORTEST: Duration = Duration::from_secs(3600);
/// A registry that has not deleted an image so long after it said that it would does not do so: it was killed.
const SAID: Duration = Duration::from_secs(600);

impl Push {
    /// Deletes old images of the project that have no tag, where that is wanted. What cannot be deleted is in the way of nothing.
    pub async fn retire(&self, grant: &Grant) {
        if !self.config.retires() {
            return;
        }
        if let Err(error) = self.try_retire(grant).await {
            tracing::info!(project = grant.owner, "images without tags were not looked for: {}", error.message);
        }
    }

    async fn try_retire(&self, grant: &Grant) -> Result<(), ApiError> {
        let records = self.images.of_project(grant, Age::now()).await?;
        let mut going = self.going(&records);
        // In any order: what turns out to stay is not in the way of the others the next time.
        going.sort_by_cached_key(|_| rand::random::<u64>());
        let mut deleted = 0;
        for (record, repository, age) in going.into_iter().take(MAX_LOOKED_AT) {
            let Ok(name) = format!("{}/{repository}", grant.owner).parse::<Name>() else { continue };
            let at = Repository { name, grant: grant.clone() };
            let (name, _alone) = (&at.name, self.lock(&at, TAGS).await?);
            // As it is now, and when that was last changed: since then it has no tag.
            let Ok(now) = self.glance.image(&grant.caller(), record.id).await else { continue };
            if now.name != record.name || now.tags != record.tags || !is_older(property::text(&now, "updated_at"), age)
            {
                continue;
            }
            if self.speaks_of_what_is_there(&at, record).await? {
                continue;
            }
            match self.delete_unnamed(grant, &now).await {
                Ok(true) => {
                    tracing::info!(image = %record.id, %name, "an image that had no tag for long was deleted");
                    deleted += 1;
                }
                Ok(false) => tracing::info!(image = %record.id, %name, "an image was named again, and stays"),
                Err(error) => tracing::info!(image = %record.id, %name, %error, "an image without a tag stays"),
            }
            if deleted == MAX_DELETED {
                break;
            }
        }
        self.images.changed(grant);
        Ok(())
    }

    /// The images that have no tag and are to go; each with its repository, and how long it must have had none.
    fn going<'a>(&self, records: &'a [Arc<ImageMeta>]) -> Vec<(&'a ImageMeta, &'a str, Duration)> {
        let (retention, most) = (self.config.untagged_retention, self.config.max_untagged.unwrap_or(u64::MAX));
        let mut kept: u64 = 0;
        let goes = |(record, repository): (&'a ImageMeta, &'a str)| {
            kept = kept.saturating_add(record.size.unwrap_or_default());
            let age = if kept > most { SHORTEST } else { retention? };
            let is_to_go =
                is_older(record.created_at.as_deref(), age) && !was_renewed(record, 2 * self.config.upload_expiry);
            is_to_go.then_some((record, repository, age))
        };
        unnamed(records).into_iter().filter_map(goes).collect()
    }

    /// Deletes an image, if nobody gives it a tag, or renews it, at the same time. Whether it was deleted.
    async fn delete_unnamed(&self, grant: &Grant, seen: &ImageMeta) -> Result<bool, Error> {
        let (caller, begun) = (grant.caller(), Instant::now());
        // Of its own: another registry's stays when this one's goes.
        let said = format!("{}{}", property::RETIRING, Uuid::new_v4().simple());
        self.glance.update(&caller, seen.id, &[Patch::set(&said, Timestamp::now().to_string())]).await?;
        let renewed = |record: &ImageMeta| property::text(record, property::RENEWED).map(str::to_owned);
        let is_seen = |now: &ImageMeta| now.name == seen.name && now.tags == seen.tags && renewed(now) == renewed(seen);
        let deleted = match self.glance.image(&caller, seen.id).await {
            Ok(now) if is_seen(&now) && begun.elapsed() < SAID / 2 => {
                self.glance.delete(&caller, seen.id).await.map(|_| true)
            }
            looked => looked.map(|_| false),
        };
        // What Glance has not answered may still be done.
        let is_over = match &deleted {
            Ok(deleted) => !deleted,
            Err(error) => error.status().is_some_and(|status| status < 500) && !error.is_not_found(),
        };
        if is_over {
            self.glance.update(&caller, seen.id, &[Patch::Remove { path: format!("/{said}") }]).await?;
        }
        deleted
    }

    /// Whether an image that had no tag when it was `seen`, and was given one or renewed since, is about to be deleted.
    pub(super) async fn is_retiring(&self, grant: &Grant, seen: &ImageMeta) -> Result<bool, ApiError> {
        let says_so = |record: &ImageMeta| {
            let mut said = record.properties.iter().filter(|(key, _)| key.starts_with(property::RETIRING));
            said.any(|(_, since)| !is_older(since.as_str(), SAID))
        };
        if all_of_glance(seen).next().is_some() {
            return Ok(says_so(seen));
        }
        Ok(says_so(&self.glance.image(&grant.caller(), seen.id).await.map_err(|error| refused(&error))?))
    }

    /// Lets an image without a tag, which was pushed by its digest again, stay for as long as a new one.
    pub(super) async fn renew_image(&self, grant: &Grant, record: &ImageMeta) -> Result<(), ApiError> {
        if !is_unnamed(record) {
            return Ok(());
        }
        for pause in TAG_PAUSES.build() {
            let patch = [Patch::set(property::RENEWED, Timestamp::now().to_string())];
            self.glance.update(&grant.caller(), record.id, &patch).await.map_err(|error| refused(&error))?;
            if !self.is_retiring(grant, record).await? {
                return Ok(());
            }
            tokio::time::sleep(pause).await;
        }
        Err(ApiError::new(Code::Unavailable, "another registry deletes the image; try again"))
    }

    /// Whether a blob that a client is told of stays until the client's manifest comes, for as long as an upload would: one of an
    /// image without a tag is kept for that. What does not stay is to be uploaded, as if nobody had it.
    pub async fn stays(&self, grant: &Grant, blob: &dyn ReadableBlob) -> bool {
        let Some(record) = blob.image().filter(|record| is_unnamed(record)) else { return true };
        // It is kept for twice as long as it is taken to be renewed: so once is enough for all of its blobs.
        if was_renewed(record, self.config.upload_expiry) {
            return true;
        }
        if !grant.owns(record) {
            return false;
        }
        match self.renew_image(grant, record).await {
            Ok(()) => {
                self.images.changed(grant);
                true
            }
            Err(error) => {
                tracing::info!(image = %record.id, "it is not kept: {}", error.message);
                false
            }
        }
    }

    /// Whether it says something of a manifest that an image has, if only within an index's.
    async fn speaks_of_what_is_there(&self, at: &Repository, record: &ImageMeta) -> Result<bool, ApiError> {
        for subject in property::subjects(record).filter_map(|subject| subject.parse::<Digest>().ok()) {
            if self.images.holder(at, &subject, Age::now()).await?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Whether the registry has made an image, and nothing names it, in whatever repository.
fn is_unnamed(record: &ImageMeta) -> bool {
    property::is_own(record) && all_of_glance(record).next().is_none()
}

/// Whether somebody has counted on an image no longer ago than that.
fn was_renewed(record: &ImageMeta, ago: Duration) -> bool {
    passed_since(property::text(record, property::RENEWED)).is_some_and(|passed| passed <= ago)
}

/// Those of a project's images, the newest first, that the registry made, that may be deleted, and that nothing refers to: no tag,
/// in whatever repository, and no image with a tag that says something of them. What says something of an image stays as long as
/// that. Each with its repository.
fn unnamed(records: &[Arc<ImageMeta>]) -> Vec<(&ImageMeta, &str)> {
    let mut named: HashSet<String> = HashSet::new();
    for record in records {
        let tags: Vec<Tag> = all_of_glance(record).map(|(_, tag)| tag).collect();
        if !tags.is_empty() {
            named.extend(property::subjects(record).map(str::to_owned));
            named.extend(tags.iter().filter_map(signed));
        }
    }
    let there: HashSet<&str> = records.iter().filter_map(|record| property::text(record, property::DIGEST)).collect();
    let is_nobodys = |record: &&ImageMeta| {
        let digest = property::text(record, property::DIGEST);
        let says_something = property::subjects(record).any(|subject| there.contains(subject));
        is_unnamed(record)
            && !property::is_protected(record)
            && digest.is_some_and(|digest| !named.contains(digest))
            && !says_something
    };
    let records = records.iter().map(|record| &**record).filter(is_nobodys);
    records.filter_map(|record| Some((record, property::text(record, property::REPOSITORY)?))).collect()
}

/// The digest that a tag of the form `sha256-HEX` or `sha256-HEX.sig` says something of.
fn signed(tag: &Tag) -> Option<String> {
    let (algorithm, rest) = tag.as_str().split_once('-')?;
    let hex = rest.split('.').next()?;
    format!("{algorithm}:{hex}").parse::<Digest>().ok().map(|digest| digest.to_string())
}

fn is_older(time: Option<&str>, age: Duration) -> bool {
    passed_since(time).is_some_and(|passed| passed > age)
}

/// None for what is no time, or lies ahead: users can write what they like.
fn passed_since(time: Option<&str>) -> Option<Duration> {
    Duration::try_from(Timestamp::now().duration_since(time?.parse().ok()?)).ok()
}
