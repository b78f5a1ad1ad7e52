//! Image manifests, of the kinds that dockerd takes: OCI and Docker schema 2, which differ in their media types only.
//!
//! Source: OCI image specification 1.1 (manifest.md, image-index.md), Docker "Image Manifest Version 2, Schema 2".

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::{Digest, Platform, json};

pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
pub const OCI_LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";

/// Layer types that every dockerd unpacks. Those of layers that a registry would not hand out are among them: in a
/// `docker save` archive they are at hand all the same.
const LAYERS: [&str; 7] = [
    OCI_LAYER,
    OCI_LAYER_GZIP,
    "application/vnd.oci.image.layer.nondistributable.v1.tar",
    "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
    "application/vnd.docker.image.rootfs.diff.tar",
    "application/vnd.docker.image.rootfs.diff.tar.gzip",
    "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
];

const ZSTD_LAYERS: [&str; 3] = [
    "application/vnd.oci.image.layer.v1.tar+zstd",
    "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd",
    "application/vnd.docker.image.rootfs.diff.tar.zstd",
];

/// Bounds of what one image may have, since whoever reads it keeps all its manifests in memory: bytes of one manifest and of
/// all, how many, and indexes within indexes.
pub const MAX_MANIFEST: u64 = 4 * 1024 * 1024;
pub const MAX_ALL_MANIFESTS: u64 = 16 * 1024 * 1024;
pub const MAX_MANIFESTS: usize = 256;
pub const MAX_DEPTH: usize = 4;

/// Takes null for what is not there, as Go's readers do.
pub fn or_default<'de, T: Default + Deserialize<'de>, D: Deserializer<'de>>(value: D) -> Result<T, D::Error> {
    Option::deserialize(value).map(Option::unwrap_or_default)
}

/// Reads a manifest or an index. Go's readers take keys in any case: what they may understand otherwise is refused.
pub fn parse<T: DeserializeOwned>(bytes: &[u8]) -> serde_json::Result<T> {
    json::walk(bytes, (), |(), key| {
        let folded = json::folded(key);
        if !KEYS.contains(&key) && KEYS.iter().any(|known| known.to_lowercase() == folded) {
            let key: String = key.chars().take(100).collect();
            return Err(format!("the key {key:?} differs from the right one in its case"));
        }
        // The keys of annotations are anybody's.
        Ok((key != "annotations").then_some(()))
    })?;
    serde_json::from_slice(bytes)
}

/// Keys that Go's readers look for.
const KEYS: [&str; 17] = [
    "schemaVersion",
    "mediaType",
    "artifactType",
    "config",
    "layers",
    "manifests",
    "subject",
    "fsLayers",
    "digest",
    "size",
    "urls",
    "data",
    "platform",
    "annotations",
    "os",
    "architecture",
    "variant",
];

/// A pointer to a blob.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    #[serde(default, deserialize_with = "or_default")]
    pub media_type: String,
    pub digest: String,
    pub size: u64,
    /// Other places to have it from. A client may go there, from the host's network.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub annotations: Value,
}

impl Descriptor {
    pub fn new(media_type: &str, digest: Digest, size: u64) -> Self {
        let digest = digest.to_string();
        Self { media_type: media_type.into(), digest, size, urls: vec![], platform: None, annotations: Value::Null }
    }

    pub fn is_index(&self) -> bool {
        [OCI_INDEX, DOCKER_LIST].contains(&self.media_type.as_str())
    }

    pub fn is_manifest(&self) -> bool {
        [OCI_MANIFEST, DOCKER_MANIFEST].contains(&self.media_type.as_str())
    }

    /// A layer that dockerd can unpack.
    pub fn is_layer(&self) -> bool {
        LAYERS.contains(&self.media_type.as_str())
    }

    /// A layer that Docker unpacks from 23 on.
    pub fn is_zstd(&self) -> bool {
        ZSTD_LAYERS.contains(&self.media_type.as_str())
    }

    /// A statement about an image (BuildKit's provenance and the like), not an image.
    pub fn is_attestation(&self) -> bool {
        self.annotation("vnd.docker.reference.type").is_some()
            || self.platform.as_ref().is_some_and(|platform| platform.os == "unknown")
    }

    /// What the image is called, by whoever saved it.
    pub fn name(&self) -> Option<&str> {
        let name = self.annotation("io.containerd.image.name");
        name.or_else(|| self.annotation("org.opencontainers.image.ref.name"))
    }

    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.annotations.get(key)?.as_str()
    }
}

/// A list of manifests, for several platforms or several images.
#[derive(Clone, Debug, Deserialize)]
pub struct Index {
    #[serde(default, deserialize_with = "or_default")]
    pub manifests: Vec<Descriptor>,
}

/// The manifest of one image.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    #[serde(default, deserialize_with = "or_default")]
    pub schema_version: u32,
    #[serde(default, deserialize_with = "or_default")]
    pub media_type: String,
    pub config: Descriptor,
    #[serde(default, deserialize_with = "or_default")]
    pub layers: Vec<Descriptor>,
}

impl Manifest {
    /// The OCI manifest of an image that has none of its own, and its bytes, which are the same every time.
    pub fn build(config: Descriptor, layers: Vec<Descriptor>) -> serde_json::Result<Bytes> {
        let manifest = Self { schema_version: 2, media_type: OCI_MANIFEST.into(), config, layers };
        serde_json::to_vec(&manifest).map(Bytes::from)
    }

    /// Whether every Docker can unpack its layers.
    pub fn is_for_every_docker(&self) -> bool {
        self.layers.iter().all(Descriptor::is_layer)
    }
}

#[cfg(test)]
mod tests;
