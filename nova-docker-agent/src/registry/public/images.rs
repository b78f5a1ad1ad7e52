//! The images that Glance shows a caller, as repositories, manifests and blobs.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::BoxStream;

use super::error::{ApiError, Code};
use super::grant::Grant;
use super::name::{Name, Reference, Tag};
use crate::cloud::glance::{Glance, ImageMeta};
use crate::registry::{Digest, Error};

/// One Glance image, opened: which manifests and blobs are in its file.
pub struct Content {
    pub record: ImageMeta,
    /// The manifest, or index, that its tags stand for.
    pub root: Digest,
    /// Manifests and indexes, with their media types.
    pub manifests: HashMap<Digest, (String, Bytes)>,
    /// Where everything else is in the stored file.
    pub blobs: HashMap<Digest, Range<u64>>,
}

/// A blob that the caller may read.
pub trait ReadableBlob: Send + Sync {
    fn size(&self) -> u64;
    /// Its bytes; verified before the last of them is given.
    fn read(self: Arc<Self>, range: Range<u64>) -> BoxStream<'static, Result<Bytes, Error>>;
}

/// Finds images in Glance.
pub struct Images {
    glance: Glance,
}

impl Images {
    /// The image that a tag or digest stands for in a repository, if the caller sees one. Of several with the same tag, the newest.
    pub async fn find(
        &self,
        grant: &Grant,
        name: &Name,
        reference: &Reference,
    ) -> Result<Option<Arc<Content>>, ApiError> {
        let _ = (grant, name, reference, &self.glance);
        Err(ApiError::new(Code::Unsupported, "find"))
    }

    /// The records of a repository's images that the caller sees, with the tags of each.
    pub async fn of_repository(&self, grant: &Grant, name: &Name) -> Result<Vec<(ImageMeta, Vec<Tag>)>, ApiError> {
        let _ = (grant, name);
        Err(ApiError::new(Code::Unsupported, "of_repository"))
    }

    /// A blob of one of the repository's images.
    pub async fn blob(
        &self,
        grant: &Grant,
        name: &Name,
        digest: &Digest,
    ) -> Result<Option<Arc<dyn ReadableBlob>>, ApiError> {
        let _ = (grant, name, digest);
        Err(ApiError::new(Code::Unsupported, "blob"))
    }

    /// Forgets what is remembered of a repository: it was changed.
    pub fn changed(&self, grant: &Grant, name: &Name) {
        let _ = (grant, name);
    }
}
