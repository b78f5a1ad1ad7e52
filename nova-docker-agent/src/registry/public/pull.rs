//! Pull: OCI distribution specification 1.1, "Pulling manifests", "Pulling blobs".

use axum::body::Body;
use axum::http::header::{ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::Response;
use bytes::Bytes;
use futures::StreamExt;

use super::api::Api;
use super::grant::Grant;
use super::name::{Name, Reference};
use crate::registry::host::api::{body, described, empty, ranged, unchanged};
use crate::registry::http::accept::Accept;
use crate::registry::http::error::{ApiError, Code};
use crate::registry::http::range::Wanted;
use crate::registry::{Digest, Error, SourceError};

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
            return Ok(document(converted.digest, converted.media_type, converted.bytes, headers));
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
            return Ok(document(other.digest, other.media_type, other.bytes, headers));
        }
        Ok(document(digest, media_type, bytes.clone(), headers))
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
        if unchanged(headers, *digest) {
            return Ok(empty(described(StatusCode::NOT_MODIFIED, *digest)));
        }
        let size = blob.size();
        let (response, range) = match ranged(headers, *digest, size) {
            Wanted::All => (described(StatusCode::OK, *digest), 0..size),
            Wanted::Part(range) => {
                let part = format!("bytes {}-{}/{size}", range.start, range.end - 1);
                (described(StatusCode::PARTIAL_CONTENT, *digest).header(CONTENT_RANGE, part), range)
            }
            Wanted::Unsatisfiable => {
                let status = StatusCode::RANGE_NOT_SATISFIABLE;
                return Ok(empty(described(status, *digest).header(CONTENT_RANGE, format!("bytes */{size}"))));
            }
        };
        let response = response
            .header(CONTENT_TYPE, "application/octet-stream")
            .header(CONTENT_LENGTH, range.end - range.start)
            .header(ACCEPT_RANGES, "bytes");
        if method == Method::HEAD {
            return Ok(empty(response));
        }
        // The answer begins with the first bytes, so that whatever fails at once can be told by a status.
        let mut bytes = blob.read(range);
        match bytes.next().await {
            Some(Err(error)) => Err(failed(&error)),
            first => Ok(body(response, Body::from_stream(futures::stream::iter(first).chain(bytes)))),
        }
    }
}

/// A manifest, whole.
fn document(digest: Digest, media_type: &str, bytes: Bytes, headers: &HeaderMap) -> Response {
    if unchanged(headers, digest) {
        return empty(described(StatusCode::NOT_MODIFIED, digest));
    }
    let response = described(StatusCode::OK, digest);
    body(response.header(CONTENT_TYPE, media_type).header(CONTENT_LENGTH, bytes.len()), bytes.into())
}

/// Why a blob cannot be given.
fn failed(error: &Error) -> ApiError {
    match error {
        Error::BadImage { problem, .. } => ApiError::new(Code::Unsupported, format!("the image is damaged: {problem}"))
            .with_status(StatusCode::UNPROCESSABLE_ENTITY),
        Error::Source { cause: SourceError::Forbidden(_), .. } => {
            ApiError::new(Code::Denied, "the image service does not let you read this image")
        }
        Error::Source { cause: SourceError::NotFound(_), .. } => {
            ApiError::new(Code::BlobUnknown, "the blob is no longer in the image service")
        }
        _ => {
            tracing::warn!("a blob cannot be given: {error}");
            ApiError::new(Code::Unavailable, "the blob cannot be read now; try again")
        }
    }
}
