//! Pull: OCI distribution specification 1.1, "Pulling manifests", "Pulling blobs".

use std::sync::Arc;

use axum::http::{HeaderMap, Method};
use axum::response::Response;

use super::api::Api;
use super::images::ReadableBlob;
use super::{Reference, Repository};
use crate::http::content::{self, document};
use crate::{ApiError, Code, Digest};

impl Api {
    /// `GET` and `HEAD /v2/NAME/manifests/REFERENCE`: as it is stored. All clients of today know both forms of it.
    pub async fn manifest(
        &self,
        at: &Repository,
        reference: &Reference,
        headers: &HeaderMap,
    ) -> Result<Response, ApiError> {
        if let Reference::Digest(digest) = reference
            && let Some(staged) = self.push.staged_manifest(at, digest).await?
        {
            return Ok(document(headers, *digest, &staged.media_type, staged.bytes));
        }
        let unknown =
            || ApiError::new(Code::ManifestUnknown, format!("{} has no {reference}, or you may not see it", at.name));
        let content = self.images.find(at, reference).await?.ok_or_else(unknown)?;
        let digest = match reference {
            Reference::Digest(digest) => *digest,
            Reference::Tag(_) => content.root,
        };
        let (media_type, bytes) = content.manifests.get(&digest).ok_or_else(unknown)?;
        Ok(document(headers, digest, media_type, bytes.clone()))
    }

    /// `GET` and `HEAD /v2/NAME/blobs/DIGEST`. What was uploaded and is in no image is for those who may push.
    pub async fn blob(
        &self,
        at: &Repository,
        digest: &Digest,
        method: &Method,
        headers: &HeaderMap,
    ) -> Result<Response, ApiError> {
        let Repository { name, grant } = at;
        // Who may push looks first, and goes by that.
        let counts = method == Method::HEAD && grant.sees_staged();
        let kept = async |found: Option<Arc<dyn ReadableBlob>>| match found {
            Some(blob) if counts && !self.push.stays(grant, &*blob).await => None,
            found => found,
        };
        let blob = match kept(self.images.blob(at, digest).await?).await {
            None => kept(self.push.staged(at, digest).await?).await,
            found => found,
        };
        let blob = blob.ok_or_else(|| {
            ApiError::new(Code::BlobUnknown, format!("{name} has no blob {digest}, or you may not see it"))
        })?;
        content::blob((method, headers), *digest, blob.size(), |range| blob.read(range)).await
    }
}
