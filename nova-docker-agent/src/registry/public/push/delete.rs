//! Deleting: OCI distribution specification 1.1, "Content Management".

use axum::body::Body;
use axum::http::StatusCode;
use axum::response::Response;

use super::super::error::{ApiError, Code};
use super::super::grant::{Action, Bearer};
use super::super::name::Name;
use super::staging::blocking;
use super::{Push, writer};
use crate::registry::Digest;

impl Push {
    /// `DELETE /v2/NAME/blobs/DIGEST`. What is in an image stays in it.
    ///
    /// # Errors
    /// [`ApiError`] for the client: [`Code::Unsupported`] for a blob of an image.
    pub async fn delete_blob(&self, bearer: &Bearer, name: &Name, digest: &Digest) -> Result<Response, ApiError> {
        let grant = writer(bearer, name, Action::Delete)?;
        let (staging, project, wanted) = (self.staging.clone(), grant.owner.clone(), *digest);
        if blocking(move || staging.remove(&project, &wanted)).await? {
            return Ok(accepted());
        }
        Err(match self.catalog.blob(grant, name, digest).await? {
            Some(_) => ApiError::new(Code::Unsupported, "the blob is part of an image: delete the image's manifest"),
            None => ApiError::new(Code::BlobUnknown, "there is no such blob"),
        })
    }
}

fn accepted() -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::ACCEPTED;
    response
}
