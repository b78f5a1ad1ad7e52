//! Docker: what an instance means in Docker.
//!
//! One instance is one container, named `nova-<uuid>` and labelled with the instance's identity. It is found by that
//! exact name or by the label, never by a part of a name. The container is asked for `network=none`; the runtime
//! `nova-docker-runtime` puts it into the namespace that [`network`](crate::network) has plugged.
//!
//! | file | what |
//! |---|---|
//! | `engine`, `error`, `hijack` | the connection to Docker, its failures, and raw streams beside the client library's |
//! | `create`, `container`, `privileges`, `restart` | a container is made: limits, least privilege, what loosens it, who starts it again |
//! | `files`, `upload`, `network_files`, `peers`, `config_drive`, `given` | files that it finds: those of an instance, of its network, of links, and those that are mounted |
//! | `lifecycle`, `stops`, `hopeless` | start, stop, pause, remove; what a stop can do |
//! | `aside`, `recreate`, `rescue`, `made_as` | a container makes room for another one, and what the other one is made of |
//! | `checkpoint`, `criu`, `dumps` | suspend to disk |
//! | `snapshot`, `saved`, `scrub` | an image of an instance, without its data |
//! | `image`, `image_config`, `image_volumes` | images in Docker's store |
//! | `image_whole`, `image_archive` | what the containerd image store leaves out of them |
//! | `console`, `past_log`, `log_file`, `pieces` | what processes have written |
//! | `terminal`, `exec`, `process` | processes beside the first one, and what the kernel says of them |
//! | `script`, `password`, `shadow` | what is done inside an instance from outside |
//! | `labels`, `links`, `notes` | what ties a container to its instance, what the runtime is told, what only this host knows |
//! | `state`, `events`, `watch`, `usage` | what containers do and use |
//! | `volumes`, `storage`, `written` | volumes, and what is on the disk |
//! | `host`, `survey`, `read_file` | the host, and Docker itself |

mod aside;
mod checkpoint;
mod config_drive;
mod console;
mod container;
mod create;
mod criu;
mod dumps;
mod engine;
mod error;
mod events;
mod exec;
mod files;
mod given;
mod hijack;
mod hopeless;
mod host;
mod image;
mod image_archive;
mod image_config;
mod image_volumes;
mod image_whole;
mod labels;
mod lifecycle;
mod links;
mod log_file;
mod made_as;
mod network_files;
mod notes;
mod password;
mod past_log;
mod peers;
mod pieces;
mod privileges;
mod process;
mod read_file;
mod recreate;
mod rescue;
mod restart;
mod saved;
mod script;
mod scrub;
mod shadow;
mod snapshot;
mod state;
mod stops;
mod storage;
mod survey;
mod terminal;
mod upload;
mod usage;
mod volumes;
mod watch;
mod written;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast;
use uuid::Uuid;

pub(crate) use criu::find_program;
pub use criu::{Criu, look as look_for_criu};
pub use error::Error;
pub use exec::{Command, Exec, ExecWindow, Running, Size};
pub use image::{UnusedImage, name_in_registry};
pub use peers::Linked;
pub use pieces::{Piece, Pieces, Source};
pub use snapshot::Snapshot;
pub(crate) use storage::ADVICE as STORAGE_ADVICE;
pub use storage::Storage;
pub use survey::{RuntimeEntry, Survey, survey};
pub use terminal::{Input, Offer, Shell, Terminal};
pub use usage::Used;
pub use volumes::{Removed, Volume, Volumes, check as check_volumes};
pub use watch::{Attached, Part};
pub use written::Written;

use crate::config::HostMount;
use crate::locks::InstanceLocks;
use engine::Engine;
use notes::Notes;

/// Ends of scripts that wait for a reader of events.
const SCRIPTS: usize = 256;

/// Settings of a [`Docker`].
#[derive(Clone, Debug)]
pub struct DockerConfig {
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
    /// Where the config drives of instances are.
    pub config_drive_directory: PathBuf,
    /// Where it is noted which containers were stopped.
    pub stops_directory: PathBuf,
    /// Where it is kept what containers wrote that were made anew.
    pub past_logs_directory: PathBuf,
    /// Where the processes of suspended instances are.
    pub checkpoint_directory: PathBuf,
    /// What writes them there, by its path or its name.
    pub criu: String,
    /// Whether the password that Nova makes for each launch is put into the container.
    pub inject_password: bool,
    /// OCI runtimes that flavors can name, and their programs.
    pub runtimes: BTreeMap<String, PathBuf>,
    /// Directories of the host that flavors can name.
    pub host_mounts: BTreeMap<String, HostMount>,
}

impl Default for DockerConfig {
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
            config_drive_directory: "/var/lib/nova/docker-config-drives".into(),
            stops_directory: "/var/lib/nova/docker-stops".into(),
            past_logs_directory: "/var/lib/nova/docker-past-logs".into(),
            checkpoint_directory: "/var/lib/nova/docker-checkpoints".into(),
            criu: "criu".to_owned(),
            inject_password: false,
            runtimes: BTreeMap::new(),
            host_mounts: BTreeMap::new(),
        }
    }
}

/// Runs instances in Docker. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Docker {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    engine: Engine,
    volumes: Volumes,
    config: DockerConfig,
    storage: Storage,
    criu: criu::Known,
    dumps: dumps::Dumps,
    stops: Notes,
    past_logs: Notes,
    /// Of images whose rest Docker is given.
    giving: InstanceLocks,
    /// Instances whose scripts have ended.
    scripts: broadcast::Sender<Uuid>,
}

impl Docker {
    /// Connects, agrees on an API version, makes sure that Docker knows our runtime, and removes what a crash has left of
    /// snapshots and of containers that were to be made anew. Warns when Docker does not enforce the size of root disks.
    pub async fn connect(config: DockerConfig) -> Result<Self, Error> {
        let engine = Engine::connect(&config.host_url, config.timeout).await?;
        let info = engine.docker.info().await.map_err(|error| engine.error("describe", "itself", error))?;
        if !info.runtimes.as_ref().is_some_and(|runtimes| runtimes.contains_key(&config.runtime)) {
            let reason = "Docker does not know it; add it under \"runtimes\" in daemon.json, with the path of \
                nova-docker-runtime, and reload Docker"
                .to_owned();
            return Err(Error::Invalid { what: format!("runtime {:?}", config.runtime), reason });
        }
        let storage = Storage::look(&info).await?;
        if !storage.quota_enforced {
            let (found, advice) = (storage.described(), STORAGE_ADVICE);
            tracing::warn!(
                "Docker does not hold root disks to their size ({found}): root_gb is counted, and no limit; {advice}"
            );
        }
        let volumes = Volumes::of(engine.clone());
        let docker = Self {
            inner: Arc::new(Inner {
                engine,
                volumes,
                storage,
                criu: criu::Known::default(),
                dumps: dumps::Dumps::default(),
                giving: InstanceLocks::default(),
                stops: Notes::new(config.stops_directory.clone()),
                past_logs: Notes::new(config.past_logs_directory.clone()),
                config,
                scripts: broadcast::Sender::new(SCRIPTS),
            }),
        };
        docker.remove_stale_images().await?;
        docker.remove_stale_files().await?;
        docker.remove_stray_config_drives().await?;
        docker.remove_stray_given().await?;
        docker.remove_stray_stops().await?;
        docker.remove_stray_past_logs().await?;
        docker.remove_stray_checkpoints().await?;
        Ok(docker)
    }

    /// Whether Docker takes new connections: one that is about to end answers on the old ones only.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn takes_connections(&self) -> Result<(), Error> {
        Engine::connect(&self.engine().host, self.inner.config.timeout).await.map(drop)
    }

    /// The named volumes.
    pub fn volumes(&self) -> &Volumes {
        &self.inner.volumes
    }

    fn engine(&self) -> &Engine {
        &self.inner.engine
    }
}
