//! One image as dockerd sees it: a manifest, a configuration and layers, and where in the stored file the layers are.

use std::ops::Range;

use bytes::Bytes;

use super::volumes;
use crate::manifest::{Descriptor, Manifest, OCI_CONFIG, OCI_LAYER, OCI_MANIFEST};
use crate::store::Packing;
use crate::{Digest, Platform, Problem};

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

    /// The manifest of an image that has none of its own.
    pub fn manifest(config: &Self, layers: &[Layer]) -> Result<Self, Problem> {
        let config = Descriptor::new(OCI_CONFIG, config.digest, config.bytes.len() as u64);
        let layers = layers.iter().map(|layer| Descriptor::new(layer.media_type, layer.digest, layer.size)).collect();
        let built = Manifest::build(config, layers);
        let built = built.map_err(|error| super::layout::bad("its manifest", &error.to_string()))?;
        Ok(Self::new(OCI_MANIFEST, built))
    }
}

/// A layer, and where it is in the stored file: exactly as it is served (compressed or not), or packed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// As it is served, like the next two.
    pub digest: Digest,
    pub media_type: &'static str,
    /// In bytes; 0 as long as nobody has unpacked it.
    pub size: u64,
    pub range: Range<u64>,
    /// It is unpacked before it is served.
    pub packing: Option<Packing>,
}

impl Layer {
    /// A tar archive that is served as it is stored.
    pub fn as_stored(digest: Digest, range: Range<u64>) -> Self {
        Self { digest, media_type: OCI_LAYER, size: range.end - range.start, range, packing: None }
    }

    /// One that is served unpacked, by the digest that it has then.
    pub fn packed(digest: Digest, range: Range<u64>, packing: Packing) -> Self {
        Self { digest, media_type: OCI_LAYER, size: 0, range, packing: Some(packing) }
    }
}

/// An image whose index was read.
#[derive(Debug)]
pub struct Image {
    pub manifest: Document,
    pub config: Document,
    /// What it says that it is for.
    pub platform: Platform,
    /// The lowest first. One may be there twice.
    pub layers: Vec<Layer>,
    /// The store cannot read it by range.
    pub sequential: bool,
    /// The requests that it took to read the index.
    pub reads: u64,
}

impl Image {
    /// The layer that is served by this digest.
    pub fn layer(&self, digest: &Digest) -> Option<&Layer> {
        self.layers.iter().find(|layer| layer.digest == *digest)
    }

    /// The digests of its layers.
    pub fn digests(&self) -> impl Iterator<Item = Digest> {
        self.layers.iter().map(|layer| layer.digest)
    }

    /// The same image with a layer that was unpacked.
    pub fn set_size(&mut self, digest: &Digest, size: u64) {
        self.layers.iter_mut().filter(|layer| layer.digest == *digest).for_each(|layer| layer.size = size);
    }

    /// Writes the manifest anew, of layers as they are served.
    pub fn rebuild_manifest(&mut self) -> Result<(), Problem> {
        self.manifest = Document::manifest(&self.config, &self.layers)?;
        Ok(())
    }

    /// The same image without volumes; see [`volumes`].
    pub fn drop_volumes(&mut self) -> Result<(), Problem> {
        let unread = |reason: String| super::layout::bad("its configuration", &reason);
        let Some(config) = volumes::dropped(&self.config.bytes).map_err(unread)? else { return Ok(()) };
        let broken = |error: serde_json::Error| super::layout::bad("its manifest", &error.to_string());
        let mut manifest: Manifest = crate::manifest::parse(&self.manifest.bytes).map_err(broken)?;
        self.config = Document::new(&self.config.media_type, config);
        manifest.config.digest = self.config.digest.to_string();
        manifest.config.size = self.config.bytes.len() as u64;
        let bytes = serde_json::to_vec(&manifest).map_err(broken)?;
        self.manifest = Document::new(&self.manifest.media_type, bytes.into());
        Ok(())
    }

    /// Bytes that Docker unpacks for it.
    pub fn unpacked(&self) -> u64 {
        self.layers.iter().map(|layer| layer.size).fold(0, u64::saturating_add)
    }

    /// How many bytes its documents have.
    pub fn documents(&self) -> usize {
        self.manifest.bytes.len() + self.config.bytes.len()
    }
}
