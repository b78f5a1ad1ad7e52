//! Manifests and indexes as clients push them: what is accepted, and what they refer to.
//!
//! Source: OCI image specification 1.1 (manifest.md, image-index.md, descriptor.md), Docker "Image Manifest Version 2,
//! Schema 2".

use std::time::Duration;

use axum::body::Body;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, StatusCode};
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use serde::de::{Deserialize, Deserializer, Error as _, IgnoredAny};
use tokio::time::timeout;

use crate::http::{content_length, header};
use crate::manifest::{DOCKER_LIST, DOCKER_MANIFEST, OCI_CONFIG, OCI_INDEX, OCI_MANIFEST, or_default, parse};
use crate::{Algorithm, ApiError, Code, Digest};

const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
const IMAGE_LAYERS: [&str; 2] = ["application/vnd.oci.image.layer.", "application/vnd.docker.image.rootfs."];
/// Layers that registries need not have: clients know other places for them.
const FOREIGN_LAYERS: [&str; 2] =
    ["application/vnd.oci.image.layer.nondistributable.", "application/vnd.docker.image.rootfs.foreign."];

/// A manifest, or an index.
#[derive(Clone, Debug)]
pub struct Document {
    /// As they came; never written anew, so that they keep their digest.
    pub bytes: Bytes,
    pub digest: Digest,
    pub media_type: String,
    /// Of a manifest; an index has none.
    pub config: Option<Pointer>,
    /// The layers of a manifest; of an index, what it lists and is no manifest: BuildKit keeps its cache so.
    pub blobs: Vec<Pointer>,
    /// Of an index.
    pub manifests: Vec<Pointer>,
    /// The manifest that this one says something about. It may not be there.
    pub subject: Option<Digest>,
    /// `artifactType`, or the configuration's media type.
    pub artifact_type: Option<String>,
}

/// A descriptor.
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Pointer {
    #[serde(default, deserialize_with = "or_default")]
    pub media_type: String,
    #[serde(deserialize_with = "digest")]
    pub digest: Digest,
    pub size: u64,
}

impl Pointer {
    fn is_manifest(&self) -> bool {
        ["", OCI_MANIFEST, OCI_INDEX, DOCKER_MANIFEST, DOCKER_LIST].contains(&self.media_type.as_str())
    }

    /// Whether a registry may do without it.
    pub fn is_foreign(&self) -> bool {
        FOREIGN_LAYERS.iter().any(|start| self.media_type.starts_with(start))
    }
}

impl Document {
    /// Reads a manifest, as of `content_type` where that is given.
    ///
    /// # Errors
    /// [`Code::ManifestInvalid`], with what is wrong with it.
    pub fn parse(bytes: Bytes, content_type: Option<&str>, algorithm: Algorithm) -> Result<Self, ApiError> {
        let raw: Raw = parse(&bytes).map_err(|error| invalid(format!("it is not readable: {error}")))?;
        raw.check_schema()?;
        let media_type = raw.media_type(content_type)?;
        raw.check_shape(&media_type)?;
        let Raw { config, layers, manifests, subject, artifact_type, .. } = raw;
        let (manifests, others) = manifests.unwrap_or_default().into_iter().partition(Pointer::is_manifest);
        let configured = config.as_ref().map(|config| config.media_type.clone());
        Ok(Self {
            digest: algorithm.digest(&bytes),
            bytes,
            media_type,
            config,
            blobs: layers.unwrap_or(others),
            manifests,
            subject: subject.map(|subject| subject.digest),
            artifact_type: artifact_type.filter(|text| !text.is_empty()).or(configured),
        })
    }

    /// Whether a server can be launched from it, as far as it shows: an image's configuration, and layers of a file
    /// system.
    pub fn is_runnable(&self) -> bool {
        let is_layer = |layer: &Pointer| IMAGE_LAYERS.iter().any(|start| layer.media_type.starts_with(start));
        let Self { config, blobs, .. } = self;
        config.as_ref().is_some_and(|config| [OCI_CONFIG, DOCKER_CONFIG].contains(&config.media_type.as_str()))
            && !blobs.is_empty()
            && blobs.iter().all(is_layer)
    }
}

/// Everything of a manifest that matters here. What does not is skipped without being kept, so that no manifest takes
/// much more memory than its own length; a field that is there twice is an error.
#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    schema_version: Option<u64>,
    media_type: Option<String>,
    artifact_type: Option<String>,
    config: Option<Pointer>,
    layers: Option<Vec<Pointer>>,
    manifests: Option<Vec<Pointer>>,
    subject: Option<Pointer>,
    fs_layers: Option<IgnoredAny>,
}

impl Raw {
    fn check_schema(&self) -> Result<(), ApiError> {
        if self.schema_version == Some(1) || self.fs_layers.is_some() {
            let advice =
                "it is of schema 1, which is no longer in use; push it with a newer client (Docker 1.10 or later)";
            return Err(invalid(advice));
        }
        match self.schema_version {
            Some(2) => Ok(()),
            Some(other) => Err(invalid(format!("its schemaVersion is {other}, not 2"))),
            None => Err(invalid("its schemaVersion is missing; it has to be 2")),
        }
    }

    /// What the request says and what the manifest says must be the same: other clients would go by either.
    fn media_type(&self, content_type: Option<&str>) -> Result<String, ApiError> {
        let own = self.media_type.as_deref().filter(|text| !text.is_empty());
        let shape = if self.manifests.is_some() { OCI_INDEX } else { OCI_MANIFEST };
        match (content_type, own) {
            (Some(sent), Some(own)) if sent != own => {
                Err(invalid(format!("it was sent as {}, and says that it is {}", short(sent), short(own))))
            }
            (sent, own) => Ok(sent.or(own).unwrap_or(shape).to_owned()),
        }
    }

    fn check_shape(&self, media_type: &str) -> Result<(), ApiError> {
        let is_index = [OCI_INDEX, DOCKER_LIST].contains(&media_type);
        match () {
            () if is_index && (self.config.is_some() || self.layers.is_some()) => {
                Err(invalid("an index has manifests, and neither config nor layers"))
            }
            () if is_index => Ok(()),
            () if ![OCI_MANIFEST, DOCKER_MANIFEST].contains(&media_type) => {
                let media_type = short(media_type);
                Err(invalid(format!("its media type {media_type} is none that this registry knows")))
            }
            () if self.manifests.is_some() => Err(invalid("a manifest has config and layers, and no manifests")),
            () if self.config.is_none() => Err(invalid("it has no config")),
            () => Ok(()),
        }
    }
}

fn digest<'de, D: Deserializer<'de>>(value: D) -> Result<Digest, D::Error> {
    let text = String::deserialize(value)?;
    text.parse().map_err(|error| D::Error::custom(format!("{} is {error}", short(&text))))
}

/// A manifest's bytes, at most `limit` of them, which have to come within `patience`.
///
/// # Errors
/// 413 for more of them, 408 for late ones; [`Code::ManifestInvalid`] when they do not come to an end.
pub async fn read(headers: &HeaderMap, body: Body, limit: usize, patience: Duration) -> Result<Bytes, ApiError> {
    let late = |_| invalid("it did not come in time").with_status(StatusCode::REQUEST_TIMEOUT);
    timeout(patience, read_all(headers, body, limit)).await.map_err(late)?
}

async fn read_all(headers: &HeaderMap, body: Body, limit: usize) -> Result<Bytes, ApiError> {
    let too_large = || {
        invalid(format!("it has more than {limit} bytes, which is the limit"))
            .with_status(StatusCode::PAYLOAD_TOO_LARGE)
    };
    let announced = content_length(headers);
    if announced.is_some_and(|length| length > limit as u64) {
        return Err(too_large());
    }
    let mut bytes = BytesMut::new();
    let mut stream = body.into_data_stream();
    while let Some(piece) = stream.next().await {
        let piece = piece.map_err(|_| invalid("the transfer broke off"))?;
        if bytes.len() + piece.len() > limit {
            return Err(too_large());
        }
        bytes.extend_from_slice(&piece);
    }
    if announced.is_some_and(|length| length != bytes.len() as u64) {
        return Err(invalid("the transfer broke off"));
    }
    Ok(bytes.freeze())
}

/// The media type that a request says to bring, without its parameters.
pub fn content_type(headers: &HeaderMap) -> Option<&str> {
    let value = header(headers, CONTENT_TYPE)?;
    let media_type = value.split(';').next().unwrap_or(value).trim();
    // What curl and the like say when they do not know.
    let unknown = ["", "application/json", "application/octet-stream", "application/x-www-form-urlencoded"];
    Some(media_type).filter(|media_type| !unknown.contains(media_type))
}

pub fn invalid(reason: impl Into<String>) -> ApiError {
    ApiError::new(Code::ManifestInvalid, format!("manifest: {}", reason.into()))
}

/// Messages repeat what the manifest says, which may be anything.
fn short(text: &str) -> String {
    format!("{:?}", text.chars().take(100).collect::<String>())
}

#[cfg(test)]
mod tests;
