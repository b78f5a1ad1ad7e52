//! Where a blob is stored.

use std::ops::Range;
use std::sync::Arc;

use uuid::Uuid;

use super::{Blob, Sharing};
use crate::{Digest, Source};

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
