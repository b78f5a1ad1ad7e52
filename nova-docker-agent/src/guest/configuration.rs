//! What the image's author, the operator and the user say of a container: environment, command, user and so on.
//!
//! Every key is in [`keys::KEYS`], with the places where it may be set. The image's author writes it as an image property that begins
//! with `docker_`; the operator as an extra spec of the flavor that begins with `docker:`, which wins over the image; the user as
//! server metadata that begins with `docker:`, which wins over both, or as user data that is a service of Compose, which wins over
//! all. None of it is trusted: each value is checked and bounded
//! here, and all mistakes are told at once. Values are in no message and no log: they hold passwords.

mod compose;
mod env_file;
mod explain;
mod given;
mod image_config;
mod keys;
pub mod link;
mod logging;
mod mistakes;
mod privileges;
mod reader;
mod restart;
mod script;
mod user_data;
mod value;
mod volume;
mod yaml;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

pub use explain::explain;
pub use given::{Given, GivenFile};
pub use image_config::ImageConfig;
pub use link::{Links, Target};
pub use logging::Logging;
pub use mistakes::Mistakes;
pub use privileges::{Device, Gpus, Layers, Privileges};
use reader::{Reader, Won};
pub use restart::Restart;
pub use script::{PATH as SCRIPT_PATH, Script};
pub use volume::{Volume, are_removed as volumes_are_removed};

/// What image properties begin with.
const PROPERTY: &str = "docker_";
/// What the keys of server metadata and of a flavor's extra specs begin with.
const METADATA: &str = "docker:";

/// Where a key is set, weakest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Image,
    Flavor,
    Metadata,
    UserData,
}

/// Where a configuration comes from.
#[derive(Default)]
pub struct Sources {
    /// The image's properties.
    pub properties: BTreeMap<String, String>,
    /// The flavor's extra specs.
    pub extra_specs: BTreeMap<String, String>,
    /// The server's metadata.
    pub metadata: BTreeMap<String, String>,
    /// The server's user data as Nova keeps it, in base64. Means something here when it is a configuration.
    pub user_data: String,
    /// Variables that the caller gives besides; they win.
    pub environment: BTreeMap<String, String>,
    /// The flavor's memory in MiB, which bounds file systems in memory.
    pub memory_mb: u64,
}

/// How a container differs from what its image says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Configuration {
    /// On top of the image's.
    pub environment: Environment,
    /// Replaces the image's CMD.
    pub command: Option<Vec<String>>,
    /// Replaces the image's entry point, and with it the image's CMD; empty: there is none.
    pub entrypoint: Option<Vec<String>>,
    /// Directory in which the command begins.
    pub working_dir: Option<String>,
    /// User and group that the command runs as.
    pub user: Option<String>,
    /// Whether there is a terminal.
    pub tty: Option<bool>,
    /// Whether standard input stays open; without a word of it, where there is a terminal.
    pub stdin_open: Option<bool>,
    /// Shell that a console leads to where there is no terminal: a path, or `none`.
    pub console_shell: Option<String>,
    /// Signal that asks the command to end.
    pub stop_signal: Option<String>,
    /// How long it may take to end before it is killed; bounded by `most_grace`.
    pub stop_grace_period: Option<Duration>,
    /// The flavor's limit of that, which holds where nothing else is said.
    pub most_grace: Option<Duration>,
    /// Whether it starts again when it has ended.
    pub restart: Option<Restart>,
    /// Whether it is a job: that it ends well is what is expected of it.
    pub oneshot: Option<bool>,
    /// Whether Docker's init runs before the command.
    pub init: Option<bool>,
    /// Size of `/dev/shm` in bytes.
    pub shm_size: Option<u64>,
    /// Directories in memory, with their sizes in bytes.
    pub tmpfs: BTreeMap<String, u64>,
    /// Whether its processes find their root file system read-only.
    pub read_only: Option<bool>,
    /// Labels on top of the image's and of ours.
    pub labels: BTreeMap<String, String>,
    /// Capabilities on top of the usual ones, without `CAP_`; `ALL` is all.
    pub cap_add: Layers<String>,
    /// Capabilities that the container does not get, whoever adds them.
    pub cap_drop: Vec<String>,
    /// Those of them that the flavor names; nobody gives them back.
    pub least_drop: Vec<String>,
    /// Whether programs can gain privileges; without it they cannot.
    pub no_new_privileges: Option<bool>,
    /// What else loosens the hold on it.
    pub privileges: Privileges,
    /// How much of its log is kept; bounded by `most_logging`, or else by the host's.
    pub logging: Logging,
    /// The flavor's bounds of that, which hold where nothing else is said.
    pub most_logging: Logging,
    /// Processes and threads; bounded by `most_processes`, or else by the host's limit.
    pub pids_limit: Option<i64>,
    /// The flavor's limit of processes and threads, which takes the place of the host's.
    pub most_processes: Option<i64>,
    /// Groups on top of the user's.
    pub group_add: Vec<String>,
    /// Limits of resources, by Docker's names.
    pub ulimits: BTreeMap<String, Ulimit>,
    /// The flavor's limits of them, which take the place of the usual ones.
    pub most_ulimits: BTreeMap<String, i64>,
    /// Settings of the kernel that the container has of its own.
    pub sysctls: BTreeMap<String, String>,
    /// How willingly the kernel kills it for memory, 0 to 1000.
    pub oom_score_adj: Option<i64>,
    /// Names in `/etc/hosts`.
    pub hosts: BTreeMap<String, Vec<IpAddr>>,
    /// Its own name, in place of the server's.
    pub hostname: Option<String>,
    /// Its domain.
    pub domainname: Option<String>,
    /// Name servers, before Neutron's.
    pub dns: Vec<IpAddr>,
    /// Domains in which a resolver looks for names.
    pub dns_search: Vec<String>,
    /// Options of a resolver.
    pub dns_opt: Vec<String>,
    /// How Docker asks whether it works; the image's own check is never taken.
    pub health: Option<Health>,
    /// Volumes of the project, by their names.
    pub volumes: BTreeMap<String, Volume>,
    /// Other servers of the project, by the names that they have here.
    pub links: Links,
    /// What a launch does about those that are not there yet.
    pub link_wait: Option<link::Wait>,
    /// Configs and secrets.
    pub given: Given,
    /// What runs once beside the first process, after the first start.
    pub script: Option<Script>,
    /// The flavor's limit of volumes.
    pub most_volumes: Option<usize>,
}

/// A limit of a resource; -1 is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ulimit {
    /// What holds.
    pub soft: i64,
    /// What a program can raise it to.
    pub hard: i64,
}

/// A check of a container's health.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// In Docker's form: begins with CMD or CMD-SHELL.
    pub test: Vec<String>,
    /// From the end of one check to the next.
    pub interval: Duration,
    /// After it a check has failed.
    pub timeout: Duration,
    /// Failures in it do not count.
    pub start_period: Duration,
    /// Failures in a row that make it unhealthy.
    pub retries: i64,
}

/// Environment variables. Shown are their names alone.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Environment(pub BTreeMap<String, String>);

impl fmt::Debug for Environment {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_set().entries(self.0.keys()).finish()
    }
}

/// Names of the keys, with the colon of those that go on, and whether users may write them as server metadata or as an image's
/// property.
#[cfg(test)]
pub(crate) fn all_keys() -> impl Iterator<Item = (&'static str, bool)> {
    keys::KEYS
        .iter()
        .map(|key| (key.name, key.places.iter().any(|place| matches!(place, Place::Image | Place::Metadata))))
}

impl Configuration {
    /// What the sources say together.
    ///
    /// # Errors
    /// Everything that is wrong in any of them, also where another source would win.
    pub fn parse(sources: &Sources) -> Result<Self, Mistakes> {
        Self::read(sources).map(|(made, _)| made)
    }

    /// The configs and secrets of a service in user data, whatever else is wrong there: it was read before.
    pub fn given_by(user_data: &str) -> Given {
        let mut reader = Reader::new(u64::MAX, user_data);
        reader.user_data();
        reader.given()
    }

    /// How long the container has to end by itself, where anybody says so.
    pub fn grace(&self) -> Option<Duration> {
        let most = self.most_grace;
        self.stop_grace_period.map_or(most, |time| Some(most.map_or(time, |most| time.min(most))))
    }

    /// Beside the configuration, where each part of it comes from.
    fn read(sources: &Sources) -> Result<(Self, BTreeMap<String, Won>), Mistakes> {
        let memory = sources.memory_mb.saturating_mul(1024 * 1024);
        let mut reader = Reader::new(memory, &sources.user_data);
        reader.choices(&sources.extra_specs);
        reader.command_line(&sources.properties);
        reader.source(Place::Image, &sources.properties);
        reader.source(Place::Flavor, &sources.extra_specs);
        reader.source(Place::Metadata, &sources.metadata);
        reader.user_data();
        for (name, value) in &sources.environment {
            reader.set(Place::Metadata, "env:", &format!("environment {name}"), name, value);
        }
        reader.end()
    }
}
