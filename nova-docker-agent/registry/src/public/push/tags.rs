//! The tags of images in Glance: an image's name is one, `REPOSITORY:TAG`, and so is each of its Glance tags of that
//! form.
//!
//! A tag that moves is first given to the new image and then taken from the old one. In between both have it, and the
//! newer image counts: whenever this is cut off, the tag stands for one of the two.

use super::{Push, TAGS, refused};
use crate::public::name::{of_glance, tags_of};
use crate::public::{Name, Reference, Repository, Tag, property};
use crate::{ApiError, Digest};
use nova_docker_cloud::glance::{ImageMeta, Patch};

/// What Glance calls an image that has no tag.
pub fn untagged_name(name: &Name, digest: &Digest) -> String {
    format!("{}@{digest}", name.repository())
}

impl Push {
    /// Gives tags to an image that is there already.
    pub(super) async fn add_tags(
        &self,
        at: &Repository,
        record: &ImageMeta,
        tags: &[Tag],
        runnable: bool,
    ) -> Result<(), ApiError> {
        let name = &at.name;
        let known = tags_of(record, name.repository());
        let mut new = tags.iter().filter(|tag| !known.contains(tag));
        let mut patch = vec![];
        if known.is_empty()
            && let Some(first) = new.next()
        {
            patch.push(Patch::set("name", name.glance_name(first)));
            patch.push(Patch::set("os_hidden", !runnable));
        }
        let more: Vec<String> = new.map(|tag| name.glance_name(tag)).collect();
        if !more.is_empty() {
            patch.push(set_tags(record.tags.iter().cloned().chain(more)));
        }
        if patch.is_empty() {
            return Ok(());
        }
        self.glance.update(&at.grant.caller(), record.id, &patch).await.map_err(|error| refused(&error))?;
        Ok(())
    }

    /// Takes tags from every image of the repository but `keep`.
    pub(super) async fn take_tags(&self, at: &Repository, tags: &[Tag], keep: uuid::Uuid) -> Result<(), ApiError> {
        self.images.changed(&at.grant);
        for (record, _) in self.images.of_repository(at).await? {
            if record.id != keep {
                self.untag(at, &record, tags).await?;
            }
        }
        Ok(())
    }

    /// Leaves each of the tags to one image, where a move of them was cut off: to the one that clients get.
    pub(super) async fn settle_tags(&self, at: &Repository, tags: &[Tag]) -> Result<(), ApiError> {
        let _alone = self.lock(at, TAGS).await?;
        self.images.changed(&at.grant);
        let mut records = self.images.of_repository(at).await?;
        records.sort_by_key(|(record, _)| !property::is_own(record));
        let mut given: Vec<Tag> = vec![];
        for (record, own) in records {
            let lost: Vec<Tag> = own.iter().filter(|tag| given.contains(tag)).cloned().collect();
            self.untag(at, &record, &lost).await?;
            given.extend(own.into_iter().filter(|tag| tags.contains(tag)));
        }
        self.images.changed(&at.grant);
        Ok(())
    }

    /// Whether each of the tags is the image's, or another one's that has taken it.
    pub(super) async fn are_given(&self, at: &Repository, tags: &[Tag], id: uuid::Uuid) -> Result<bool, ApiError> {
        let record = self.glance.image(&at.grant.caller(), id).await.map_err(|error| refused(&error))?;
        let own = tags_of(&record, at.name.repository());
        if tags.iter().all(|tag| own.contains(tag)) {
            return Ok(true);
        }
        self.images.changed(&at.grant);
        let all = self.images.of_repository(at).await?;
        Ok(tags.iter().all(|tag| all.iter().any(|(_, tags)| tags.contains(tag))))
    }

    /// Takes tags from one image. One that has lost its last tag stays, without a name that clients could ask for. The name of an
    /// image that is not the registry's own is its user's, and stays.
    pub(super) async fn untag(&self, at: &Repository, record: &ImageMeta, tags: &[Tag]) -> Result<(), ApiError> {
        let name = &at.name;
        let (lost, left): (Vec<Tag>, Vec<Tag>) =
            tags_of(record, name.repository()).into_iter().partition(|tag| tags.contains(tag));
        if lost.is_empty() {
            return Ok(());
        }
        let is_lost =
            |text: &str| of_glance(text).is_some_and(|(of, tag)| of == name.repository() && lost.contains(&tag));
        let mut patch = vec![];
        if property::is_own(record) && record.name.as_deref().is_some_and(is_lost) {
            match left.first() {
                Some(tag) => patch.push(Patch::set("name", name.glance_name(tag))),
                None => patch.extend(self.without_name(at, record).await),
            }
        }
        let kept: Vec<String> =
            record.tags.iter().filter(|tag| !(tag.contains(':') && is_lost(tag))).cloned().collect();
        if kept.len() < record.tags.len() {
            patch.push(set_tags(kept));
        }
        if patch.is_empty() {
            return Ok(());
        }
        match self.glance.update(&at.grant.caller(), record.id, &patch).await {
            // Deleted meanwhile.
            Err(error) if error.is_not_found() => Ok(()),
            Err(error) => Err(refused(&error)),
            Ok(_) => Ok(()),
        }
    }

    async fn without_name(&self, at: &Repository, record: &ImageMeta) -> [Patch; 2] {
        let told = property::text(record, property::DIGEST).and_then(|digest| digest.parse::<Digest>().ok());
        let digest = match told {
            Some(digest) => Some(digest),
            // It was not pushed, but uploaded to Glance: only its file tells.
            None => self.opened_digest(at, record).await,
        };
        let untagged = match digest {
            Some(digest) => untagged_name(&at.name, &digest),
            None => format!("{}@{}", at.name.repository(), record.id),
        };
        [Patch::set("name", untagged), Patch::set("os_hidden", true)]
    }

    /// The digest of an image that can be opened: it is the only one in the repository of its id.
    async fn opened_digest(&self, at: &Repository, record: &ImageMeta) -> Option<Digest> {
        let name = format!("{}/{}", at.name.project(), record.id).parse().ok()?;
        let alone = Repository { name, grant: at.grant.clone() };
        match self.images.find(&alone, &Reference::Tag(Tag::latest())).await {
            Ok(content) => content.filter(|content| content.record.id == record.id).map(|content| content.root),
            Err(error) => {
                tracing::debug!(image = %record.id, "its digest is not known: {}", error.message);
                None
            }
        }
    }
}

fn set_tags(tags: impl IntoIterator<Item = String>) -> Patch {
    Patch::Replace { path: "/tags".into(), value: tags.into_iter().collect::<Vec<_>>().into() }
}
