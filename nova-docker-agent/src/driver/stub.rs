//! Signatures; the bodies follow.

use std::time::Duration;

use bytes::Bytes;
use futures::Stream;
use secrecy::SecretString;
use uuid::Uuid;

use super::{DriverConfig, Error, Event, Guest, GuestSummary, HostResources, PowerState};
use crate::network::Interface;

fn missing<T>() -> Result<T, Error> {
    Err(Error::Docker { action: "do anything".to_owned(), status: 501, message: "not there yet".to_owned() })
}

/// Splits a command line as a POSIX shell does, without expanding anything.
pub fn split_command(_line: &str) -> Result<Vec<String>, Error> {
    missing()
}

/// Runs instances in Docker.
#[derive(Clone, Debug)]
pub struct Driver {}

impl Driver {
    /// Connects, agrees on an API version, and removes what a crash has left of snapshots.
    pub async fn connect(_config: DriverConfig) -> Result<Self, Error> {
        missing()
    }
    /// What the host has.
    pub async fn host(&self) -> Result<HostResources, Error> {
        missing()
    }
    /// Has Docker pull an image by `name@digest`. No stray tag stays.
    pub async fn pull(&self, _name: &str, _username: &str, _secret: &SecretString) -> Result<(), Error> {
        missing()
    }
    /// Removes images that came from our registry and that no container uses, but those in `keep` (references).
    pub async fn prune_images(&self, _keep: &[String]) -> Result<Vec<String>, Error> {
        missing()
    }
    /// Creates the container of an instance from a local image; `image` is a reference or an ID.
    pub async fn create(&self, _guest: &Guest, _image: &str, _interfaces: &[Interface]) -> Result<(), Error> {
        missing()
    }
    /// Starts the container; no failure when it runs.
    pub async fn start(&self, _uuid: Uuid) -> Result<(), Error> {
        missing()
    }
    /// Waits until a container just started has run for `grace`.
    pub async fn started_well(&self, _uuid: Uuid, _grace: Duration) -> Result<(), Error> {
        missing()
    }
    /// Stops with the image's stop signal, and kills after `timeout`; zero kills at once. No failure when it is not running.
    pub async fn stop(&self, _uuid: Uuid, _timeout: Duration) -> Result<(), Error> {
        missing()
    }
    /// Freezes every process.
    pub async fn pause(&self, _uuid: Uuid) -> Result<(), Error> {
        missing()
    }
    /// Thaws every process.
    pub async fn unpause(&self, _uuid: Uuid) -> Result<(), Error> {
        missing()
    }
    /// Kills and removes the container; no failure when it is absent.
    pub async fn remove(&self, _uuid: Uuid) -> Result<(), Error> {
        missing()
    }
    /// What the container is doing; none when there is no container.
    pub async fn state(&self, _uuid: Uuid) -> Result<Option<PowerState>, Error> {
        missing()
    }
    /// Every container with our label.
    pub async fn list(&self) -> Result<Vec<GuestSummary>, Error> {
        missing()
    }
    /// The last `tail` lines of stdout and stderr, in order, at most the last 100 KiB; all of that without `tail`.
    pub async fn console(&self, _uuid: Uuid, _tail: Option<usize>) -> Result<String, Error> {
        missing()
    }
    /// Commits the container to a temporary image, to be read as a `docker save` archive.
    pub async fn snapshot(&self, _uuid: Uuid) -> Result<Snapshot, Error> {
        missing()
    }
    /// What happens to our containers, from now on; reconnects by itself and misses nothing that Docker remembers.
    pub fn events(&self) -> impl Stream<Item = Event> + Send + use<> {
        futures::stream::empty()
    }
}

/// A container's image as a `docker save` archive. Its temporary image is removed by [`finish`](Self::finish), or when
/// this is dropped.
#[derive(Debug)]
pub struct Snapshot {}

impl Snapshot {
    /// The archive's bytes, once.
    pub fn stream(&mut self) -> impl Stream<Item = Result<Bytes, Error>> + Send + use<> {
        futures::stream::empty()
    }
    /// Removes the temporary image, and waits for it.
    pub async fn finish(self) -> Result<(), Error> {
        missing()
    }
}
