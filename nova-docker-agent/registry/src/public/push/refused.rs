//! What Glance's refusals mean to a client that pushes.

use super::manifest::invalid;
use crate::{ApiError, Code};
use nova_docker_cloud::Error;

/// The answer to a client when Glance did not do what it was asked. Its own words are for the user where it says what
/// the user may not do.
pub fn refused(error: &Error) -> ApiError {
    let words = error.message();
    match error.status() {
        Some(401) => ApiError::new(Code::Unauthorized, "your session with the cloud has ended; log in again"),
        Some(403 | 409 | 413) => ApiError::new(Code::Denied, format!("the image service refuses it: {words}")),
        Some(400) => invalid(format!("the image service does not take it: {words}")),
        Some(404) => ApiError::new(Code::ManifestUnknown, "the image is not there any more"),
        _ => {
            tracing::warn!(%error, "a push was not taken by the image service");
            ApiError::new(Code::Unavailable, "the image service does not answer; try again")
        }
    }
}
