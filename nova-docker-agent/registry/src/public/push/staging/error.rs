//! What can go wrong with uploads on disk, and how clients are told.

use axum::http::StatusCode;

use crate::files::FileError;
use crate::{ApiError, Code, Digest};

/// Why an upload could not be begun, continued or completed. The texts are for the user at the client's command line,
/// but for [`StagingError::File`], which is for the operator.
#[derive(Debug, thiserror::Error)]
pub enum StagingError {
    /// Never begun, begun by somebody else or for another repository, completed, cancelled or expired.
    #[error("there is no such upload: it may have expired; begin a new one")]
    UnknownUpload,
    #[error("another request is using this upload")]
    Busy,
    #[error("a blob has at most {limit} bytes in this registry")]
    TooLarge { limit: u64 },
    #[error(
        "what the project has uploaded and not yet pushed a manifest for has {used} bytes, and may have {limit}: push the manifests, or cancel uploads"
    )]
    Quota { used: u64, limit: u64 },
    #[error(
        "what has been uploaded to this registry and has no manifest yet has reached its bound of {limit} bytes; try again later"
    )]
    AllFull { limit: u64 },
    #[error("the project has {limit} {what}, and more are not possible: {advice}")]
    TooMany { limit: usize, what: &'static str, advice: &'static str },
    #[error("the registry has no room on its disk")]
    DiskFull,
    #[error("the content has the digest {found}, not {expected}")]
    Mismatch { expected: Digest, found: Digest },
    /// Keystone's ids have nothing but letters, digits and dashes.
    #[error("the project's id has characters that this registry does not know in ids")]
    BadProject,
    #[error(transparent)]
    File(#[from] FileError),
    #[error("the registry is shutting down")]
    ShuttingDown,
}

impl From<StagingError> for ApiError {
    fn from(error: StagingError) -> Self {
        let message = error.to_string();
        match error {
            StagingError::UnknownUpload => Self::new(Code::BlobUploadUnknown, message),
            StagingError::Busy => Self::new(Code::BlobUploadInvalid, message).with_status(StatusCode::CONFLICT),
            StagingError::TooLarge { .. } => {
                Self::new(Code::SizeInvalid, message).with_status(StatusCode::PAYLOAD_TOO_LARGE)
            }
            StagingError::Quota { .. } | StagingError::BadProject => Self::new(Code::Denied, message),
            StagingError::TooMany { .. } => Self::new(Code::TooManyRequests, message),
            StagingError::Mismatch { .. } => Self::new(Code::DigestInvalid, message),
            StagingError::DiskFull | StagingError::AllFull { .. } | StagingError::ShuttingDown => {
                tracing::warn!("an upload was refused: {message}");
                Self::new(Code::Unavailable, message)
            }
            StagingError::File(_) => {
                tracing::error!("staged uploads: {message}");
                Self::new(Code::Unavailable, "the registry cannot use its disk now")
            }
        }
    }
}
