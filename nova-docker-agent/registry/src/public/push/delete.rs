//! Deleting: OCI distribution specification 1.1, "Content Management".

use std::sync::Arc;

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use uuid::Uuid;

use super::{Push, TAGS, refused};
use crate::public::images::{Content, Tagged};
use crate::public::name::{of_glance, tags_of};
use crate::public::{Grant, Reference, Repository, Tag, property};
use crate::{ApiError, Code, Digest};
use nova_docker_cloud::glance::ImageMeta;

/// Images with the same digest that one request deletes.
const MAX_SAME: usize = 64;

impl Push {
    /// `DELETE /v2/NAME/manifests/REFERENCE`: a tag, and the image with its last one; or the image of a digest.
    ///
    /// # Errors
    /// [`ApiError`] for the client: [`Code::Denied`] with Glance's words for an image that may not be deleted.
    pub async fn delete_manifest(
        self: &Arc<Self>,
        at: &Repository,
        reference: &Reference,
    ) -> Result<Response, ApiError> {
        let (push, at, reference) = (self.clone(), at.clone(), reference.clone());
        self.run(async move {
            let _alone = push.lock(&at, TAGS).await?;
            push.images.changed(&at.grant);
            let deleted = match &reference {
                Reference::Tag(tag) => push.delete_tag(&at, tag).await,
                Reference::Digest(digest) => push.delete_digest(&at, digest).await,
            };
            push.images.changed(&at.grant);
            deleted.map(|()| StatusCode::ACCEPTED.into_response())
        })
        .await
    }

    /// `DELETE /v2/NAME/blobs/DIGEST`. What is in an image stays in it.
    ///
    /// # Errors
    /// [`ApiError`] for the client: [`Code::Unsupported`] for a blob of an image.
    pub async fn delete_blob(&self, at: &Repository, digest: &Digest) -> Result<Response, ApiError> {
        let wanted = *digest;
        if self.images.blob(at, digest).await?.is_some() {
            let message = "the blob is part of an image: delete the image's manifest";
            return Err(ApiError::new(Code::Unsupported, message));
        }
        match self.on_disk(at, move |area| area.remove(&wanted)).await? {
            true => Ok(StatusCode::ACCEPTED.into_response()),
            false => Err(ApiError::new(Code::BlobUnknown, "there is no such blob")),
        }
    }

    /// The newest image with the tag loses it, and goes if it was the last. Older ones, which it hid, are not the image
    /// that the client meant: they only lose the tag.
    async fn delete_tag(&self, at: &Repository, tag: &Tag) -> Result<(), ApiError> {
        // An image whose file is damaged cannot be opened, and can be deleted.
        let content = self.images.find(at, &Reference::Tag(tag.clone())).await.ok().flatten();
        let with_tag = |(record, tags): Tagged| tags.contains(tag).then_some(record);
        let mut found: Vec<_> = self.images.of_repository(at).await?.into_iter().filter_map(with_tag).collect();
        if found.is_empty() {
            return Err(ApiError::new(Code::ManifestUnknown, "there is no such tag"));
        }
        let newest = content.as_ref().map(|content| content.record.id);
        let target = found.remove(found.iter().position(|record| Some(record.id) == newest).unwrap_or(0));
        for older in found {
            if self.is_the_same(&at.grant, &older, content.as_deref()).await? {
                self.delete_tagged(at, &older, tag).await?;
            } else {
                self.untag(at, &older, std::slice::from_ref(tag)).await?;
            }
        }
        self.delete_tagged(at, &target, tag).await
    }

    /// Whether an image has the manifest of `content`: two registries that share nothing may have made one each.
    async fn is_the_same(
        &self,
        grant: &Grant,
        record: &ImageMeta,
        content: Option<&Content>,
    ) -> Result<bool, ApiError> {
        let Some(content) = content else { return Ok(false) };
        Ok(self.images.readable(grant, record).await?.is_some_and(|other| other.root == content.root))
    }

    /// An image goes with its last tag.
    async fn delete_tagged(&self, at: &Repository, record: &ImageMeta, tag: &Tag) -> Result<(), ApiError> {
        if tags_of(record, at.name.repository()).iter().any(|other| other != tag) {
            if !property::is_own(record) && record.name.as_deref().and_then(of_glance).is_some_and(|(_, of)| of == *tag)
            {
                let message = "the tag is the name of an image that was not pushed: rename it in the image service";
                return Err(ApiError::new(Code::Denied, message));
            }
            return self.untag(at, record, std::slice::from_ref(tag)).await;
        }
        self.delete_image(&at.grant, record.id).await
    }

    async fn delete_digest(&self, at: &Repository, digest: &Digest) -> Result<(), ApiError> {
        let was_staged = self.drop_staged(at, digest).await?;
        let mut deleted: Vec<Uuid> = vec![];
        while let Some(content) = self.images.find(at, &Reference::Digest(*digest)).await? {
            if content.root != *digest {
                if deleted.is_empty() && !was_staged {
                    let message = format!("the manifest is part of {}, an index: delete that", content.root);
                    return Err(ApiError::new(Code::Unsupported, message));
                }
                break;
            }
            if deleted.contains(&content.record.id) || deleted.len() >= MAX_SAME {
                break;
            }
            deleted.push(content.record.id);
            self.delete_image(&at.grant, content.record.id).await?;
            self.images.changed(&at.grant);
        }
        if was_staged || !deleted.is_empty() {
            return Ok(());
        }
        Err(ApiError::new(Code::ManifestUnknown, "there is no such manifest"))
    }

    async fn delete_image(&self, grant: &Grant, id: Uuid) -> Result<(), ApiError> {
        // Whether somebody else was first does not matter.
        self.glance.delete(&grant.caller(), id).await.map_err(|error| refused(&error))?;
        tracing::info!(image = %id, project = grant.owner, "an image was deleted");
        Ok(())
    }
}
