//! Images that nobody names any more. A tag that moves leaves a whole image behind: it goes when it has had no tag for long, with
//! the rights of whoever pushes to its repository then.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::{Push, What};
use crate::public::{Grant, Name, Tag, property};
use crate::{ApiError, Digest};
use nova_docker_cloud::glance::ImageMeta;

/// Images that one push looks at, and that it deletes.
const MAX_LOOKED_AT: usize = 32;
const MAX_DELETED: usize = 8;

impl Push {
    /// Deletes old images of the repository that have no tag. What cannot be deleted is in the way of nothing.
    pub(super) async fn retire(&self, grant: &Grant, name: &Name, age: Duration) {
        if let Err(error) = self.try_retire(grant, name, age).await {
            tracing::info!(%name, "images without tags were not looked for: {}", error.message);
        }
    }

    async fn try_retire(&self, grant: &Grant, name: &Name, age: Duration) -> Result<(), ApiError> {
        let _alone = self.lock(grant, name, What::Tags).await?;
        self.images.changed(grant);
        let mut unnamed = unnamed(self.images.of_repository(grant, name).await?);
        // The oldest first.
        unnamed.reverse();
        unnamed.retain(|record| is_older(record.created_at.as_deref(), age));
        let mut deleted = 0;
        for record in unnamed.iter().take(MAX_LOOKED_AT) {
            // As it is now, and when that was last changed: since then it has no tag.
            let Ok(now) = self.glance.image(&grant.caller(), record.id).await else { continue };
            if now.name != record.name || now.tags != record.tags || !is_older(property::text(&now, "updated_at"), age)
            {
                continue;
            }
            match self.glance.delete(&grant.caller(), record.id).await {
                Ok(_) => tracing::info!(image = %record.id, %name, "an image that had no tag for long was deleted"),
                Err(error) => tracing::info!(image = %record.id, %name, %error, "an image without a tag stays"),
            }
            deleted += 1;
            if deleted == MAX_DELETED {
                break;
            }
        }
        self.images.changed(grant);
        Ok(())
    }
}

/// Those of a repository's images that the registry made, and that nothing refers to: no tag, and no image with a tag that says
/// something of them. What says something of an image stays as long as that.
fn unnamed(records: Vec<(Arc<ImageMeta>, Vec<Tag>)>) -> Vec<Arc<ImageMeta>> {
    let mut named: HashSet<String> = HashSet::new();
    for (record, tags) in &records {
        if !tags.is_empty() {
            named.extend(property::subjects(record).map(str::to_owned));
            named.extend(tags.iter().filter_map(signed));
        }
    }
    let digest = |record: &ImageMeta| property::text(record, property::DIGEST).map(str::to_owned);
    let there: HashSet<String> = records.iter().filter_map(|(record, _)| digest(record)).collect();
    let is_unnamed = |(record, tags): (Arc<ImageMeta>, Vec<Tag>)| {
        let digest = digest(&record)?;
        let says_something = property::subjects(&record).any(|subject| there.contains(subject));
        let is_kept = !tags.is_empty() || named.contains(&digest) || says_something || !property::is_own(&record);
        (!is_kept).then_some(record)
    };
    records.into_iter().filter_map(is_unnamed).collect()
}

/// The digest that a tag of the form `sha256-HEX` or `sha256-HEX.sig` says something of.
fn signed(tag: &Tag) -> Option<String> {
    let (algorithm, rest) = tag.as_str().split_once('-')?;
    let hex = rest.split('.').next()?;
    format!("{algorithm}:{hex}").parse::<Digest>().ok().map(|digest| digest.to_string())
}

fn is_older(time: Option<&str>, age: Duration) -> bool {
    let passed = time.and_then(|time| time.parse::<Timestamp>().ok()).map(|time| Timestamp::now().duration_since(time));
    passed.and_then(|passed| Duration::try_from(passed).ok()).is_some_and(|passed| passed > age)
}
