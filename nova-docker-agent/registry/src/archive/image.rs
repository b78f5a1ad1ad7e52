//! One image as dockerd sees it: a manifest, a configuration and layers, and where in the stored file the layers are.

use std::collections::HashMap;
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
}

/// Where a layer is in the stored file, exactly as it is served (compressed or not), or packed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    pub range: Range<u64>,
    /// It is unpacked before it is served, by the digest that it has then.
    pub packing: Option<Packing>,
    /// Bytes as it is served; 0 as long as nobody has unpacked it.
    pub size: u64,
}

impl Layer {
    /// One that is served as it is stored.
    pub fn as_stored(range: Range<u64>) -> Self {
        let size = range.end - range.start;
        Self { range, packing: None, size }
    }

    /// One that is served unpacked.
    pub fn packed(range: Range<u64>, digest: Option<Digest>) -> Self {
        Self { range, packing: Some(Packing { digest }), size: 0 }
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
    /// Their order, the lowest first. One may be there twice.
    pub order: Vec<Digest>,
    /// The store cannot read it by range.
    pub sequential: bool,
    /// The requests that it took to read the index.
    pub reads: u64,
}

impl Image {
    /// Layers that are to be unpacked, and whose size nobody knows yet.
    pub fn packed(&self) -> impl Iterator<Item = (Digest, Layer)> {
        self.layers.iter().filter(|(_, layer)| layer.packing.is_some()).map(|(digest, layer)| (*digest, layer.clone()))
    }

    /// The same image with a layer that was unpacked.
    pub fn set_size(&mut self, digest: &Digest, size: u64) {
        if let Some(layer) = self.layers.get_mut(digest) {
            layer.size = size;
        }
    }

    /// Writes the manifest anew, of layers as they are served.
    pub fn rebuild_manifest(&mut self) -> Result<(), Problem> {
        let size = |digest: &Digest| self.layers.get(digest).map_or(0, |layer| layer.size);
        let layers = self.order.iter().map(|digest| Descriptor::new(OCI_LAYER, *digest, size(digest))).collect();
        let config = Descriptor::new(OCI_CONFIG, self.config.digest, self.config.bytes.len() as u64);
        let built = Manifest::build(config, layers);
        let built = built.map_err(|error| super::layout::bad("its manifest", &error.to_string()))?;
        self.manifest = Document::new(OCI_MANIFEST, built);
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
        let size = |digest: &Digest| self.layers.get(digest).map_or(0, |layer| layer.size);
        self.order.iter().map(size).fold(0, u64::saturating_add)
    }

    /// How many bytes its documents have.
    pub fn documents(&self) -> usize {
        self.manifest.bytes.len() + self.config.bytes.len()
    }
}
