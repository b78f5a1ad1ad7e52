//! What an instance is on this host: a model of its own, neither Nova's objects nor Docker's.

mod config_drive;
pub mod configuration;
mod inside;
mod links;

use uuid::Uuid;

pub use config_drive::ConfigDrive;
pub use configuration::Configuration;
pub use inside::{InjectedFile, Inside, Password, check_files};
pub use links::{Exposed, Peer, Peers, Protocol};

/// One instance, as it is to run in a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guest {
    /// Nova's instance.
    pub uuid: Uuid,
    /// Display name.
    pub name: String,
    /// Host name inside; one DNS label.
    pub hostname: String,
    /// Owner.
    pub project_id: String,
    /// Who launched it.
    pub user_id: String,
    /// Processors; a quota as well as a weight.
    pub vcpus: u32,
    /// Memory in MiB.
    pub memory_mb: u64,
    /// Root disk in GiB; 0 is unlimited.
    pub root_gb: u64,
    /// Swap in MiB, on top of the memory.
    pub swap_mb: u64,
    /// What is other than its image says.
    pub configuration: Configuration,
    /// The servers that its links lead to, as they are now.
    pub links: Peers,
    /// Goes into root's `authorized_keys`.
    pub key: Option<PublicKey>,
    /// Whether it rescues: the file system of the container that was set aside for it is at `/rescue`.
    pub rescues: bool,
    /// What is put into the container before its first start.
    pub inside: Inside,
    /// Identity of the compute service that creates the container (`compute_id`).
    pub created_by: String,
}

/// The public half of a key pair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey {
    /// The key pair's name.
    pub name: String,
    /// One line in the form of `authorized_keys`.
    pub data: String,
}

/// What an instance's container is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PowerState {
    /// Made and never started.
    Created,
    /// Its first process runs.
    Running,
    /// Frozen.
    Paused,
    /// Its processes are on disk.
    Suspended,
    /// Ended well, or by the signals that a stop sends (exit codes 0, 137 and 143), or with any code when it was stopped.
    Stopped {
        /// Exit code of the first process; 128 + n for signal n.
        exit_code: i64,
    },
    /// Ended by itself and badly, or was killed for memory.
    Crashed {
        /// Exit code of the first process; 128 + n for signal n.
        exit_code: i64,
        /// Whether the kernel killed it for memory.
        oom: bool,
    },
}

/// What the check of a container's health has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// Nothing yet.
    Starting,
    Healthy,
    Unhealthy,
}

impl Health {
    /// Docker's word for it: `starting`, `healthy` or `unhealthy`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
        }
    }

    /// None for every other word.
    pub fn of(word: &str) -> Option<Self> {
        [Self::Starting, Self::Healthy, Self::Unhealthy].into_iter().find(|health| health.as_str() == word)
    }
}

/// One of our containers, from its labels alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuestSummary {
    /// The instance.
    pub uuid: Uuid,
    /// What it is doing.
    pub state: PowerState,
    /// What its check has found; none where it has no check, or does not run.
    pub health: Option<Health>,
    /// How the script of its user data has ended; none where it has not, or there is none, or the host was restarted since.
    pub script: Option<i64>,
    /// Identity of the compute service that created it.
    pub compute_id: String,
}

/// Something happened to one of our containers, or to Docker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// To a container.
    Guest {
        /// The instance.
        uuid: Uuid,
        /// What happened.
        kind: EventKind,
    },
    /// Docker does not answer any more.
    DockerLost,
    /// Docker answers again.
    DockerBack,
}

/// What happened to a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// Its first process runs.
    Started,
    /// Its first process ended.
    Died {
        /// Exit code; 128 + n for signal n.
        exit_code: i64,
        /// Whether the kernel killed a process of the container for memory.
        oom: bool,
    },
    /// Frozen.
    Paused,
    /// Thawed.
    Unpaused,
    /// Its check has come to another finding.
    Health(Health),
    /// The script of its user data has ended.
    ScriptEnded,
    /// Removed from Docker.
    Destroyed,
}

/// What the host has, for the resource tracker.
#[derive(Clone, Debug, PartialEq)]
pub struct HostResources {
    /// Processors that Docker may use.
    pub vcpus: u32,
    /// Memory in MiB.
    pub memory_mb: u64,
    /// Size of the file system below Docker's data root in GiB.
    pub disk_gb: u64,
    /// What is used of it in GiB.
    pub disk_used_gb: u64,
    /// Memory in use by anything on the host, in MiB.
    pub memory_used_mb: u64,
    /// Version of the Docker Engine, `20.10.24`.
    pub docker_version: String,
    /// API version that was agreed on, `1.41`.
    pub api_version: String,
    /// `overlay2`, `vfs`, `overlayfs` (containerd), ...
    pub storage_driver: String,
    /// Whether a storage quota (`root_gb`) is enforced by the storage driver.
    pub quota_enforced: bool,
    /// `x86_64`, `aarch64`, ...
    pub arch: String,
    /// Kernel release.
    pub kernel: String,
    /// Seconds since the host booted.
    pub uptime: u64,
    /// Processes waiting for a processor, averaged over 1, 5 and 15 minutes.
    pub load: [f64; 3],
}
