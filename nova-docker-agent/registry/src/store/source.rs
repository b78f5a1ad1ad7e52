//! Where the bytes of an image come from.

use std::ops::Range;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use uuid::Uuid;

use crate::Error;

/// What the image service says of an image, as far as it matters here.
#[derive(Clone, Debug)]
pub struct ImageDescriptor {
    pub id: Uuid,
    /// The user's name for it, for messages.
    pub name: Option<String>,
    /// Size of the stored file in bytes.
    pub size: u64,
    /// Must be `docker`.
    pub container_format: String,
    /// Usually `raw`; not looked at.
    pub disk_format: String,
    /// Hash of the whole stored file (Glance's `os_hash_value`), in any notation: it identifies the content, so that the
    /// index of an image that was read before needs no second reading. `None` where the store keeps no hash.
    pub content_hash: Option<String>,
}

impl ImageDescriptor {
    pub fn label(&self) -> String {
        label(self.name.as_deref(), self.id)
    }
}

/// The image in messages: the user's name for it, and its id.
pub fn label(name: Option<&str>, id: Uuid) -> String {
    match name {
        Some(name) => format!("{:?} ({id})", name.chars().take(100).collect::<String>()),
        None => id.to_string(),
    }
}

/// The stored file of one image, readable with the credentials of one caller.
pub trait Source: Send + Sync {
    /// Reads the bytes `range` of the file, or all of it.
    ///
    /// A store that cannot read ranges either fails with [`SourceError::RangeUnsupported`], or answers with the whole file
    /// and says so in [`SourceBody::ranged`].
    fn read(&self, range: Option<Range<u64>>) -> BoxFuture<'_, Result<SourceBody, SourceError>>;
}

impl dyn Source {
    /// Whether its caller may read the file: what others have read of it is not for everybody.
    pub async fn check_access(&self, image: &str) -> Result<(), Error> {
        match self.read(Some(0..1)).await {
            Ok(_) | Err(SourceError::RangeUnsupported) => Ok(()),
            Err(cause) => Err(Error::Source { image: image.to_owned(), cause }),
        }
    }
}

/// The answer to [`Source::read`].
pub struct SourceBody {
    /// The stream has the range that was asked for (HTTP 206), not the whole file (HTTP 200).
    pub ranged: bool,
    /// The bytes, in chunks of any size.
    pub stream: BoxStream<'static, Result<Bytes, SourceError>>,
}

/// Why a file could not be read. The texts are whole sentences without a full stop.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SourceError {
    /// The store behind the image service has no random access (Glance: 400 to a ranged request).
    #[error("the image store cannot read a range of an image")]
    RangeUnsupported,
    /// The image, or its data, is gone.
    #[error("{0}")]
    NotFound(String),
    /// The caller may not read it.
    #[error("{0}")]
    Forbidden(String),
    /// The image service did not answer, or the connection broke: worth another try.
    #[error("{0}")]
    Unavailable(String),
}

impl SourceError {
    /// Whether the same request may succeed a little later.
    pub fn is_temporary(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }
}
