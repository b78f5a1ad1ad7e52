//! Pull: OCI distribution specification 1.1, "Pulling manifests", "Pulling blobs".

use axum::http::{HeaderMap, Method};
use axum::response::Response;

use super::api::Api;
use super::{Grant, Name, Reference};
use crate::registry::http::accept::Accept;
use crate::registry::http::content::{self, document};
use crate::registry::{ApiError, Code, Digest};

impl Api {
    /// `GET` and `HEAD /v2/NAME/manifests/REFERENCE`: as it is stored, or, by tag, in the other form if only that is accepted.
    pub async fn manifest(
        &self,
        grant: &Grant,
        name: &Name,
        reference: &Reference,
        headers: &HeaderMap,
    ) -> Result<Response, ApiError> {
        let unknown =
            || ApiError::new(Code::ManifestUnknown, format!("{name} has no {reference}, or you may not see it"));
        let Some(content) = self.images.find(grant, name, reference).await? else {
            let Reference::Digest(digest) = reference else { return Err(unknown()) };
            let converted = self.images.find_converted(grant, name, digest).await?.ok_or_else(unknown)?;
            return Ok(document(headers, converted.digest, converted.media_type, converted.bytes));
        };
        let digest = match reference {
            Reference::Digest(digest) => *digest,
            Reference::Tag(_) => content.root,
        };
        let (media_type, bytes) = content.manifests.get(&digest).ok_or_else(unknown)?;
        let accept = Accept::of(headers);
        if matches!(reference, Reference::Tag(_))
            && !accept.takes(media_type)
            && let Some(other) = self.images.convert(&content, &digest)
            && accept.takes(other.media_type)
        {
            return Ok(document(headers, other.digest, other.media_type, other.bytes));
        }
        Ok(document(headers, digest, media_type, bytes.clone()))
    }

    /// `GET` and `HEAD /v2/NAME/blobs/DIGEST`.
    pub async fn blob(
        &self,
        grant: &Grant,
        name: &Name,
        digest: &Digest,
        method: &Method,
        headers: &HeaderMap,
    ) -> Result<Response, ApiError> {
        let blob = match self.images.blob(grant, name, digest).await? {
            Some(blob) => Some(blob),
            None => self.push.staged(grant, digest).await?,
        };
        let blob = blob.ok_or_else(|| {
            ApiError::new(Code::BlobUnknown, format!("{name} has no blob {digest}, or you may not see it"))
        })?;
        content::blob((method, headers), *digest, blob.size(), |range| blob.read(range)).await
    }
}
