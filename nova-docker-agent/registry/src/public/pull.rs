//! Pull: OCI distribution specification 1.1, "Pulling manifests", "Pulling blobs".

use axum::http::{HeaderMap, Method};
use axum::response::Response;

use super::api::Api;
use super::{Action, Bearer, Grant, Name, Reference};
use crate::http::content::{self, document};
use crate::{ApiError, Code, Digest};

impl Api {
    /// `GET` and `HEAD /v2/NAME/manifests/REFERENCE`: as it is stored. All clients of today know both forms of it.
    pub async fn manifest(
        &self,
        grant: &Grant,
        name: &Name,
        reference: &Reference,
        headers: &HeaderMap,
    ) -> Result<Response, ApiError> {
        let unknown =
            || ApiError::new(Code::ManifestUnknown, format!("{name} has no {reference}, or you may not see it"));
        let content = self.images.find(grant, name, reference).await?.ok_or_else(unknown)?;
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
        bearer: &Bearer,
        name: &Name,
        digest: &Digest,
        method: &Method,
        headers: &HeaderMap,
    ) -> Result<Response, ApiError> {
        let grant = bearer.grant(name, Action::Pull)?;
        let blob = match (self.images.blob(grant, name, digest).await?, bearer.grant(name, Action::Push)) {
            (None, Ok(grant)) => self.push.staged(grant, digest).await?,
            (found, _) => found,
        };
        let blob = blob.ok_or_else(|| {
            ApiError::new(Code::BlobUnknown, format!("{name} has no blob {digest}, or you may not see it"))
        })?;
        content::blob((method, headers), *digest, blob.size(), |range| blob.read(range)).await
    }
}
