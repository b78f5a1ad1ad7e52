//! What can go wrong, told apart by who can do something about it: the owner of the image, or the operator.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use crate::files::FileError;
use crate::{Digest, SourceError};

/// Why an image could not be served. Each text is a sentence for the user who launched a server from the image, or, for
/// [`Error::Listen`] and [`Error::Cache`], for the operator.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The image itself is not usable; trying again, or elsewhere, cannot help.
    #[error("image {image}: {problem}")]
    BadImage { image: String, problem: Problem },
    /// The image could not be read from the image service.
    #[error("image {image} could not be read: {cause}")]
    Source { image: String, cause: SourceError },
    /// The host has no room for the image's layers.
    #[error(
        "image {image}: the host has no room for its layers: {needed} bytes are needed and {available} are free under {directory}"
    )]
    NoSpace { image: String, needed: u64, available: u64, directory: PathBuf },
    /// A file of the layer cache could not be read or written.
    #[error("layer cache: {0}")]
    Cache(#[from] FileError),
    /// The registry could not listen.
    #[error("the image registry cannot listen on {address}: {cause}")]
    Listen { address: SocketAddr, cause: Arc<io::Error> },
    /// dockerd takes a registry without TLS on loopback only, and nobody else should see it.
    #[error("the image registry must listen on a loopback address, not on {address}")]
    NotLoopback { address: SocketAddr },
    /// The last lease of the image was dropped.
    #[error("image {image} was closed while it was being read")]
    Closed { image: String },
    /// The registry is shutting down.
    #[error("the image registry is shutting down")]
    ShuttingDown,
}

impl Error {
    /// The image is at fault: another try, or another host, gives the same result.
    pub fn is_bad_image(&self) -> bool {
        matches!(self, Self::BadImage { .. })
    }

    /// Another host would fail in the same way: the image is bad, gone, or not the caller's to read.
    pub fn is_final(&self) -> bool {
        match self {
            Self::BadImage { .. } => true,
            Self::Source { cause, .. } => matches!(cause, SourceError::NotFound(_) | SourceError::Forbidden(_)),
            _ => false,
        }
    }

    /// What is wrong with the image, when the image is at fault.
    pub fn problem(&self) -> Option<&Problem> {
        match self {
            Self::BadImage { problem, .. } => Some(problem),
            _ => None,
        }
    }

    /// The same, of this image: whoever reads an archive, or makes room for a blob, does not know whose it is.
    pub(super) fn of(self, label: &str) -> Self {
        let image = label.to_owned();
        match self {
            Self::BadImage { problem, .. } => Self::BadImage { image, problem },
            Self::Source { cause, .. } => Self::Source { image, cause },
            Self::NoSpace { needed, available, directory, .. } => Self::NoSpace { image, needed, available, directory },
            other => other,
        }
    }
}

impl From<Problem> for Error {
    fn from(problem: Problem) -> Self {
        Self::BadImage { image: String::new(), problem }
    }
}

impl From<SourceError> for Error {
    fn from(cause: SourceError) -> Self {
        Self::Source { image: String::new(), cause }
    }
}

/// How to upload an image so that it is right.
const HOW: &str =
    "upload it with `docker save IMAGE | openstack image create --container-format docker --disk-format raw NAME`";

/// What is wrong with an image. Each text continues "image NAME: ".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    #[error("its container format is {found}, not docker; {HOW}")]
    ContainerFormat { found: String },
    #[error("it is not a tar archive ({found}); {HOW}")]
    NotATar { found: &'static str },
    #[error("it is not a `docker save` archive: {reason}; {HOW}")]
    NotADockerArchive { reason: String },
    #[error("it is truncated: it ends at byte {size}, and {what} goes on to byte {needed}; upload it again")]
    Truncated { what: String, needed: u64, size: u64 },
    #[error("its archive is damaged at byte {offset}: {reason}; upload it again")]
    Damaged { offset: u64, reason: String },
    #[error("{file} in it is not usable: {reason}")]
    BadMetadata { file: String, reason: String },
    #[error("{file}, which its manifest names, is missing from the archive; save and upload it again")]
    Missing { file: String },
    #[error(
        "layer {expected} of it has digest {found}: its content was altered after it was built; save and upload it again"
    )]
    DigestMismatch { expected: Digest, found: Digest },
    #[error("it has {found} layers, and at most {limit} are possible")]
    TooManyLayers { found: usize, limit: usize },
    #[error("{what} has {found} bytes, and at most {limit} are possible")]
    TooLarge { what: String, found: u64, limit: u64 },
    /// `names` are those of some of them.
    #[error("it holds {found} images ({}); save one image only", .names.join(", "))]
    SeveralImages { found: usize, names: Vec<String> },
    #[error("it is built for {found}, and this host runs {host}")]
    Platform { found: String, host: String },
    #[error("a layer of it cannot be unpacked: {reason}; save and upload it again")]
    Undecodable { reason: String },
    /// Nova's words, and its bytes: of the flavor's disk, and what the image takes at least.
    #[error("Flavor's disk is too small for requested image. Flavor disk is {disk} bytes, image is {image} bytes.")]
    LargerThanDisk { disk: u64, image: u64 },
    #[error("its layer {layer} is stored as {media_type}, which is not supported")]
    UnsupportedLayer { layer: String, media_type: String },
}
