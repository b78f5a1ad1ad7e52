//! Pushes: blobs are uploaded to this host's disk first; the manifest that names them makes one Glance image of them
//! all, once it has a name itself.
//!
//! - A manifest that is pushed by a tag becomes an image at once, with all that it refers to, an index with its manifests.
//! - One that is pushed by its digest waits on the disk beside the blobs, and can be pulled by its digest meanwhile, by whoever may
//!   push: clients push the manifests of an index so, and then the index by a tag. What nobody has named when uploads expire goes.
//! - One that says something of another manifest (`subject`: a signature, an attestation) is named by that: it becomes an image when
//!   the other one is in an image, at once or later.
//!
//! ```text
//! upload      the end-points of blob uploads
//!   mount       blobs that need no upload
//!   receive     the body of a request -> the disk, digested on the way
//!   staging     what is on the disk: uploads, blobs, manifests without a name, bounds, expiry
//! publish     a manifest's end-point: an image in Glance, or a file on the disk, or nothing
//!   manifest    what is accepted as a manifest
//!   gather      what it refers to
//!   archive     the file that the image becomes
//!   tags        who has a tag
//!   locks       what is done once at a time
//!   journal     what to undo after a crash, and recover, which does
//! delete      tags, images and staged blobs
//! retire      images that have lost their tags
//! ```

mod archive;
mod delete;
mod gather;
mod journal;
mod locks;
mod manifest;
mod mount;
mod publish;
mod receive;
mod recover;
mod request;
mod retire;
mod staging;
mod tags;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod upload;

use std::fmt::Display;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use staging::StagingError;

use super::Repository;
use super::images::Images;
use super::token::Key;
use crate::{ApiError, Code};
use journal::Journal;
use locks::{Held, Locks};
use nova_docker_cloud::Glance;
use staging::{Staging, blocking};

/// All tags of a repository, which are changed once at a time. Whoever makes an image has locked that first.
const TAGS: &str = "tags";

/// Bounds of pushes, and where they are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PushConfig {
    /// Its sub-directory `push` is used.
    pub state_directory: PathBuf,
    /// Of a manifest, in bytes.
    pub max_manifest: usize,
    /// How long it may take to come.
    pub manifest_patience: Duration,
    /// Blobs of one manifest.
    pub max_blobs: usize,
    /// Of one blob, in bytes.
    pub max_blob: u64,
    /// Of what one project has uploaded and not yet pushed a manifest for, in bytes.
    pub max_staged: u64,
    /// The same of all projects together.
    pub max_staged_in_all: u64,
    /// Age at which abandoned uploads, and manifests that nobody has named, are removed.
    pub upload_expiry: Duration,
    /// Age at which images without a tag are deleted; None where they stay.
    pub untagged_retention: Option<Duration>,
    /// Bytes of them that a project may keep; None where there is no bound.
    pub max_untagged: Option<u64>,
}

impl PushConfig {
    /// Whether images without a tag are ever deleted.
    pub fn retires(&self) -> bool {
        self.untagged_retention.is_some() || self.max_untagged.is_some()
    }
}

/// The write side of the registry.
pub struct Push {
    config: PushConfig,
    glance: Glance,
    images: Arc<Images>,
    key: Key,
    staging: Arc<Staging>,
    journal: Arc<Journal>,
    locks: Locks,
    /// The registry shuts down.
    stop: CancellationToken,
    /// Requests that go on though their client has gone, to leave nothing half done.
    tasks: TaskTracker,
}

impl Push {
    /// Opens what was staged before, and undoes pushes that were cut off. Users' tokens are on the disk under `key` meanwhile.
    pub async fn open(
        config: PushConfig,
        glance: Glance,
        images: Arc<Images>,
        key: Key,
    ) -> Result<Arc<Self>, StagingError> {
        let (root, limits) = (config.state_directory.join("push"), config.clone());
        let cache = images.fetcher.cache.clone();
        let opened = move || {
            let staging = Staging::open(root.join("staged"), limits, &cache)?;
            Ok((staging, Journal::open(root.join("unfinished"))?, Locks::open(root.join("locks"))?))
        };
        let (staging, journal, locks) = blocking(opened).await?;
        let push = Arc::new(Self {
            config,
            glance,
            images,
            key,
            staging,
            journal: Arc::new(journal),
            locks,
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        });
        let recovering = push.clone();
        push.tasks.spawn(async move {
            if let Err(error) = recovering.recover(None).await {
                tracing::warn!("unfinished pushes: {error}");
            }
        });
        Ok(push)
    }

    /// Removes abandoned uploads. To be called from time to time.
    pub async fn expire(&self) -> Result<(), StagingError> {
        let staging = self.staging.clone();
        blocking(move || staging.expire()).await?;
        self.recover(None).await
    }

    /// Gives up what is being pushed, and waits until that has left nothing half done.
    pub async fn shutdown(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Waits until nobody else has this in the repository, an image by its digest or [`TAGS`], or until the registry shuts down.
    async fn lock(&self, at: &Repository, what: impl Display) -> Result<Held, StagingError> {
        let key = format!("{} {} {what}", at.grant.owner, at.name.repository());
        let locked = self.stop.run_until_cancelled(self.locks.lock(&key)).await;
        locked.unwrap_or(Err(StagingError::ShuttingDown))
    }

    /// Runs a request to its end, whether or not its client waits for it.
    async fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, ApiError>> + Send + 'static,
    ) -> Result<T, ApiError> {
        self.tasks.spawn(work).await.unwrap_or_else(|_| Err(StagingError::ShuttingDown.into()))
    }
}

/// The answer to a client when Glance did not do what it was asked. Its own words are for the user where it says what
/// the user may not do.
fn refused(error: &nova_docker_cloud::Error) -> ApiError {
    let words = error.message();
    match error.status() {
        Some(401) => ApiError::new(Code::Unauthorized, "your session with the cloud has ended; log in again"),
        Some(403 | 409 | 413) => ApiError::new(Code::Denied, format!("the image service refuses it: {words}")),
        Some(400) => manifest::invalid(format!("the image service does not take it: {words}")),
        Some(404) => ApiError::new(Code::ManifestUnknown, "the image is not there any more"),
        _ => {
            tracing::warn!(%error, "a push was not taken by the image service");
            ApiError::new(Code::Unavailable, "the image service does not answer; try again")
        }
    }
}
