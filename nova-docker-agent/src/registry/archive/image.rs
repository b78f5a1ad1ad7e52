//! One image as dockerd sees it: a manifest, a configuration and layers, and where in the stored file the layers are.

use std::collections::HashMap;
use std::ops::Range;

use bytes::Bytes;

use crate::registry::{Digest, Platform};

/// A blob that is held in memory: a manifest or a configuration.
#[derive(Clone, Debug)]
pub struct Document {
    pub digest: Digest,
    pub media_type: String,
    pub bytes: Bytes,
}

impl Document {
    pub fn new(media_type: &str, bytes: Bytes) -> Self {
        Self { digest: Digest::of(&bytes), media_type: media_type.into(), bytes }
    }
}

/// Where a layer is in the stored file, exactly as it is served (compressed or not).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    pub range: Range<u64>,
}

impl Layer {
    pub fn size(&self) -> u64 {
        self.range.end - self.range.start
    }
}

/// An image whose index was read.
#[derive(Debug)]
pub struct Image {
    pub manifest: Document,
    pub config: Document,
    /// Where the configuration is in the stored file.
    pub config_range: Range<u64>,
    /// What it says that it is for.
    pub platform: Platform,
    pub layers: HashMap<Digest, Layer>,
    /// The store cannot read it by range.
    pub sequential: bool,
    /// The requests that it took to read the index.
    pub reads: u64,
}

impl Image {
    /// How many bytes its documents have.
    pub fn documents(&self) -> usize {
        self.manifest.bytes.len() + self.config.bytes.len()
    }
}
