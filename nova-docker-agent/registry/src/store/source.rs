//! Where the bytes of an image come from, and where in them a blob is.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use uuid::Uuid;

use super::{Blob, Sharing};
use crate::{Digest, Error};
use nova_docker_cloud::{self as cloud, Caller, Glance};

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
    /// Where the store cannot read ranges the answer is the whole file, and says so: [`SourceBody::ranged`]. It fails where it
    /// gives nothing for long.
    fn read(&self, range: Option<Range<u64>>) -> BoxFuture<'_, Result<SourceBody, SourceError>>;
}

impl dyn Source {
    /// Whether its caller may read the file: what others have read of it is not for everybody.
    pub async fn check_access(&self, image: &str) -> Result<(), Error> {
        match self.read(Some(0..1)).await {
            Ok(_) => Ok(()),
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

impl From<cloud::Error> for SourceError {
    fn from(error: cloud::Error) -> Self {
        let text = error.to_string();
        match error.status() {
            Some(404) => Self::NotFound(text),
            Some(401 | 403) => Self::Forbidden(text),
            _ => Self::Unavailable(text),
        }
    }
}

/// An image of Glance, read with one caller's rights.
pub struct GlanceSource {
    glance: Glance,
    caller: Caller,
    image: Uuid,
}

impl GlanceSource {
    pub fn new(glance: Glance, caller: Caller, image: Uuid) -> Self {
        Self { glance, caller, image }
    }
}

impl Source for GlanceSource {
    fn read(&self, range: Option<Range<u64>>) -> BoxFuture<'_, Result<SourceBody, SourceError>> {
        Box::pin(async move {
            let body = self.glance.read(&self.caller, self.image, range).await?;
            Ok(SourceBody {
                ranged: body.ranged,
                stream: body.stream.map(|chunk| chunk.map_err(SourceError::from)).boxed(),
            })
        })
    }
}

/// A blob in the stored file of one image, which the credentials of one caller can read.
#[derive(Clone)]
pub struct Stored {
    pub image: Uuid,
    /// Tells the credentials for one image apart.
    pub lease: u64,
    /// The image in messages.
    pub label: String,
    pub source: Arc<dyn Source>,
    /// The bytes of the file that are the blob.
    pub range: Range<u64>,
    /// They are the blob packed, and this is what they are.
    pub packing: Option<Packing>,
    pub sharing: Sharing,
}

/// How a layer is stored that is served unpacked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packing {
    /// The digest of the stored bytes, where a manifest names it.
    pub digest: Option<Digest>,
}

impl Stored {
    pub fn size(&self) -> u64 {
        self.range.end - self.range.start
    }

    /// Whether a blob of its digest has the size that it should have. The host's Docker gets nothing that it would unpack: that
    /// has no bound there.
    pub fn may_be(&self, blob: &Blob) -> bool {
        let has_size = self.packing.is_some() || blob.size == self.size();
        has_size && (self.sharing != Sharing::Host || blob.is_plain())
    }
}

#[cfg(test)]
mod tests;
