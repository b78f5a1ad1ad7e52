//! The container driver: what an instance means in Docker.
//!
//! One instance is one container, named `nova-<uuid>` and labelled with the instance's identity. It is found by that
//! exact name or by the label, never by a part of a name. The container is asked for `network=none`; the runtime
//! `nova-docker-runtime` puts it into the namespace that [`network`](crate::network) has plugged.

mod error;
mod guest;
mod stub;

use std::path::PathBuf;
use std::time::Duration;

pub use error::Error;
pub use guest::{Event, EventKind, Guest, GuestSummary, HostResources, PowerState, PublicKey};
pub use stub::{Driver, Snapshot, split_command};

/// Settings of a [`Driver`].
#[derive(Clone, Debug)]
pub struct DriverConfig {
    /// Docker's address: `unix:///var/run/docker.sock` or `tcp://127.0.0.1:2375`.
    pub host_url: String,
    /// Name of the runtime in Docker's `runtimes` that leads to `nova-docker-runtime`.
    pub runtime: String,
    /// Where the runtime looks for the namespaces of containers.
    pub link_directory: PathBuf,
    /// How long Docker may take for one answer; pulls, saves and waits are not bounded by it.
    pub timeout: Duration,
    /// Processes and threads that a container may have.
    pub pids_limit: i64,
    /// Size at which a log file is rotated, in Docker's notation (`10m`).
    pub log_max_size: String,
    /// Log files that are kept of a container.
    pub log_max_files: u32,
    /// Whether the key pair is put into the container.
    pub inject_key: bool,
}

impl Default for DriverConfig {
    fn default() -> Self {
        Self {
            host_url: "unix:///var/run/docker.sock".to_owned(),
            runtime: "nova".to_owned(),
            link_directory: crate::network::LINK_DIRECTORY.into(),
            timeout: Duration::from_secs(120),
            pids_limit: 4096,
            log_max_size: "10m".to_owned(),
            log_max_files: 2,
            inject_key: true,
        }
    }
}
