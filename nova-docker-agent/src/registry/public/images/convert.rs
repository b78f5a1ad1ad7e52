//! A plain image's manifest in the other of the two forms, OCI and Docker schema 2, which differ in their media types only.

use bytes::Bytes;
use serde_json::Value;

use crate::registry::Digest;
use crate::registry::manifest::{DOCKER_MANIFEST, OCI_MANIFEST};

/// OCI's media type, Docker's, for configurations and layers.
const PAIRS: [(&str, &str); 4] = [
    ("application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"),
    ("application/vnd.oci.image.layer.v1.tar", "application/vnd.docker.image.rootfs.diff.tar"),
    ("application/vnd.oci.image.layer.v1.tar+gzip", "application/vnd.docker.image.rootfs.diff.tar.gzip"),
    (
        "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
        "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
    ),
];

/// A manifest that was made of another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Converted {
    pub digest: Digest,
    pub media_type: &'static str,
    pub bytes: Bytes,
}

/// The other form of a manifest; None where there is none: indexes, artifacts, layers that only OCI knows.
pub fn other_form(media_type: &str, bytes: &[u8]) -> Option<Converted> {
    let (target, to_docker) = match media_type {
        OCI_MANIFEST => (DOCKER_MANIFEST, true),
        DOCKER_MANIFEST => (OCI_MANIFEST, false),
        _ => return None,
    };
    let mut manifest: Value = serde_json::from_slice(bytes).ok()?;
    if ["subject", "artifactType"].iter().any(|key| manifest.get(key).is_some()) {
        return None;
    }
    manifest.as_object_mut()?.insert("mediaType".into(), target.into());
    convert(manifest.get_mut("config")?, to_docker)?;
    for layer in manifest.get_mut("layers")?.as_array_mut()? {
        convert(layer, to_docker)?;
    }
    let bytes = Bytes::from(serde_json::to_vec(&manifest).ok()?);
    Some(Converted { digest: Digest::of(&bytes), media_type: target, bytes })
}

fn convert(descriptor: &mut Value, to_docker: bool) -> Option<()> {
    let media_type = descriptor.get("mediaType")?.as_str()?;
    let (oci, docker) = PAIRS.iter().find(|(oci, docker)| media_type == if to_docker { *oci } else { *docker })?;
    let other = if to_docker { *docker } else { *oci };
    descriptor.as_object_mut()?.insert("mediaType".into(), other.into());
    Some(())
}

#[cfg(test)]
mod tests;
