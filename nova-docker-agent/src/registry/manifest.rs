//! Image manifests, of the kinds that dockerd takes: OCI and Docker schema 2, which differ in their media types only.
//!
//! Source: OCI image specification 1.1 (manifest.md, image-index.md), Docker "Image Manifest Version 2, Schema 2".

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::registry::Digest;

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

/// Bounds of what one image may have, since whoever reads it keeps all its manifests in memory: bytes of one manifest and of
/// all, how many, and indexes within indexes.
pub const MAX_MANIFEST: u64 = 4 * 1024 * 1024;
pub const MAX_ALL_MANIFESTS: u64 = 16 * 1024 * 1024;
pub const MAX_MANIFESTS: usize = 256;
pub const MAX_DEPTH: usize = 4;

/// A pointer to a blob.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    #[serde(default)]
    pub media_type: String,
    pub digest: String,
    pub size: u64,
    /// Other places to have it from. A client may go there, from the host's network.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
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

    /// A statement about an image (BuildKit's provenance and the like), not an image.
    pub fn is_attestation(&self) -> bool {
        self.annotation("vnd.docker.reference.type").is_some()
            || self.platform.as_ref().is_some_and(|platform| platform.os == "unknown")
    }

    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.annotations.get(key)?.as_str()
    }
}

/// What an image runs on, in Go's words (`linux`, `amd64`).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Platform {
    #[serde(default)]
    pub os: String,
    #[serde(default)]
    pub architecture: String,
}

impl Platform {
    /// What this host runs.
    pub fn host() -> Self {
        let architecture = match std::env::consts::ARCH {
            "x86" => "386",
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            "powerpc64" => "ppc64le",
            "loongarch64" => "loong64",
            other => other,
        };
        Self { os: "linux".into(), architecture: architecture.into() }
    }

    /// Whether an image for `other` runs on this platform. What an image leaves out is taken to fit, as dockerd does.
    pub fn runs(&self, other: &Self) -> bool {
        let fits = |wanted: &str, own: &str| wanted.is_empty() || wanted == own;
        let narrower = [("amd64", "386"), ("arm64", "arm")].contains(&(&*self.architecture, &*other.architecture));
        fits(&other.os, &self.os) && (fits(&other.architecture, &self.architecture) || narrower)
    }
}

impl std::fmt::Display for Platform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)
    }
}

/// A list of manifests, for several platforms or several images.
#[derive(Clone, Debug, Deserialize)]
pub struct Index {
    #[serde(default)]
    pub manifests: Vec<Descriptor>,
}

/// The manifest of one image.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    #[serde(default)]
    pub schema_version: u32,
    #[serde(default)]
    pub media_type: String,
    pub config: Descriptor,
    #[serde(default)]
    pub layers: Vec<Descriptor>,
}

impl Manifest {
    /// The OCI manifest of an image that has none of its own, and its bytes, which are the same every time.
    pub fn build(config: Descriptor, layers: Vec<Descriptor>) -> serde_json::Result<Bytes> {
        let manifest = Self { schema_version: 2, media_type: OCI_MANIFEST.into(), config, layers };
        serde_json::to_vec(&manifest).map(Bytes::from)
    }
}

#[cfg(test)]
mod tests;
