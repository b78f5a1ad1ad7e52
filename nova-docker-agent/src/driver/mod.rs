//! What both doors drive: containers with their networks and images, on this host.
//!
//! The doors convert what they were asked into this module's words and report what became of it in their own; what happens to
//! a container happens here, so that it is the same through either.
//!
//! | file | what |
//! |---|---|
//! | `spawn`, `image` | a new guest: image and network at the same time, then the container |
//! | `image_cache` | how long images stay that nobody uses |
//! | `guests` | guests that are there: power, console log, interfaces, removal |
//! | `reboot` | a guest's container starts again, as it is or as it is to be |
//! | `replace` | a guest's container makes room for another one |
//! | `suspend` | suspend and resume |
//! | `diagnostics` | what a guest has used |
//! | `consoles` | guests' serial consoles |
//! | `snapshot` | a guest's files as a new image in Glance |
//! | `interfaces`, `dhcp_options` | from Neutron's ports to what is plugged |
//! | `links` | what guests know of others |
//! | `volumes` | since when named volumes are unused, and their end |
//! | `overuse` | what guests have written where Docker does not hold them to their disks |
//! | `unused` | the record of when that began, of volumes and of images |

mod consoles;
mod dhcp_options;
mod diagnostics;
mod error;
mod guests;
mod image;
mod image_cache;
mod interfaces;
mod links;
mod overuse;
mod reboot;
mod replace;
mod snapshot;
mod spawn;
mod suspend;
mod unused;
mod volumes;

use std::time::Duration;

use backon::{ExponentialBuilder, Retryable as _};
use tokio::sync::RwLock;
use tracing::warn;

pub use dhcp_options::DhcpOption;
pub use diagnostics::Diagnostics;
pub use error::{Error, StartError};
pub use image::check_status;
pub use interfaces::{Port, Subnet, interfaces};
pub use overuse::{DiskWatch, Overuse};
pub use replace::Prepared;
pub use snapshot::{SnapshotImage, SnapshotProgress};
pub use spawn::Image;
pub use volumes::{End, Listed, Listing, Volumes};

use self::image_cache::ImageCache;
use crate::{
    cloud::Glance,
    config::{Config, Suspend},
    console::Consoles,
    docker::{self, Docker, DockerConfig},
    locks::InstanceLocks,
    network::{self, NetworkConfig, Plumber},
    registry::{Registry, RegistryConfig},
};

/// What containers have of Nova's driver capabilities; those that are not named they do not have.
pub const CAPABILITIES: &[(&str, bool)] = &[
    ("supports_attach_interface", true),
    ("supports_device_tagging", true),
    ("supports_image_type_raw", true),
    ("supports_tagged_attach_interface", true),
];
/// Name of the directory of config drives in `state_path`.
const CONFIG_DRIVES: &str = "docker-config-drives";
/// Name of the directory of notes which containers were stopped, there too.
const STOPS: &str = "docker-stops";
/// Name of the directory of what containers wrote that were made anew, there too.
const PAST_LOGS: &str = "docker-past-logs";
/// Name of the directory of what suspended containers had in memory, there too.
const CHECKPOINTS: &str = "docker-checkpoints";
/// Tells placement that containers run here.
pub const TRAIT: &str = "CUSTOM_HV_DOCKER";

/// Docker, Open vSwitch and the embedded registry of one host.
pub struct Driver {
    /// Containers.
    docker: Docker,
    /// Their networks.
    plumber: Plumber,
    /// Held while something of an instance's network is made, changed or removed: Neutron's events do not wait for the
    /// operation under way on it.
    plugging: InstanceLocks,
    registry: Registry,
    glance: Glance,
    volumes: Volumes,
    image_cache: ImageCache,
    /// None: they are switched off.
    consoles: Option<Consoles>,
    build_grace: Duration,
    suspend: Suspend,
    /// Read while an image is pulled and not used by a container yet; written to prune.
    images: RwLock<()>,
}

impl Driver {
    /// Connects to Docker, for as long as that takes, and starts the embedded registry and the consoles. Images are read from
    /// `glance`.
    ///
    /// # Errors
    /// Docker does not know our runtime, or an address is taken.
    pub async fn start(config: &Config, glance: Glance) -> Result<Self, StartError> {
        let docker = connect_docker(config).await?;
        let registry = Registry::start(RegistryConfig {
            listen: config.docker.registry_listen,
            cache_directory: config.docker.cache_directory.clone(),
            cache_size: config.docker.cache_size_gb << 30,
        })
        .await?;
        let network = NetworkConfig {
            ovsdb_connection: config.ovs.ovsdb_connection.clone(),
            ovsdb_timeout: config.ovs.timeout,
            isolates: config.ovs.isolates,
            accept_ra_networks: config.docker.accept_ra_networks.clone(),
        };
        tokio::spawn(compare_with_chassis(network.clone(), config.cloud.ovs_bridge.clone(), config.host.clone()));
        let plumber = Plumber::new(network);
        let volumes = Volumes::new(docker.volumes().clone(), config.docker.volume_grace, &config.state_path);
        let consoles = match &config.serial_console {
            Some(settings) => Some(Consoles::start(settings, docker.clone()).await?),
            None => None,
        };
        let build_grace = config.docker.build_grace;
        Ok(Self {
            docker,
            plumber,
            plugging: InstanceLocks::default(),
            registry,
            glance,
            volumes,
            image_cache: ImageCache::new(config.image_cache.minimum_age, &config.state_path),
            consoles,
            build_grace,
            suspend: config.docker.suspend,
            images: RwLock::new(()),
        })
    }

    /// Ends the consoles, and what the registry serves.
    pub async fn shutdown(&self) {
        if let Some(consoles) = &self.consoles {
            consoles.shutdown().await;
        }
        self.registry.shutdown().await;
    }
}

/// Warns where OVN calls this host otherwise: of a launch Neutron says then no more than that a port did not bind. A switch that
/// does not answer is told of where it is needed.
async fn compare_with_chassis(network: NetworkConfig, bridge: String, host: String) {
    let Ok(survey) = network::survey(&network, &bridge).await else { return };
    if let Some(name) = survey.other_name(&host) {
        warn!(
            host,
            chassis = name,
            "OVN calls this host otherwise than [DEFAULT] host does: ports do not bind; set host, or external_ids:hostname in \
             Open vSwitch, and restart ovn-controller"
        );
    }
}

/// Docker may be restarting: the service waits for it rather than fail over and over.
async fn connect_docker(config: &Config) -> Result<Docker, docker::Error> {
    let settings = &config.docker;
    let docker_config = DockerConfig {
        host_url: settings.host_url.clone(),
        runtime: settings.runtime.clone(),
        pids_limit: i64::try_from(settings.pids_limit).unwrap_or(i64::MAX),
        log_max_size: settings.log_max_size.clone(),
        log_max_files: u32::try_from(settings.log_max_files).unwrap_or(u32::MAX),
        inject_key: settings.inject_key,
        inject_password: settings.inject_password,
        runtimes: settings.runtimes.clone(),
        host_mounts: settings.host_mounts.clone(),
        config_drive_directory: config.state_path.join(CONFIG_DRIVES),
        stops_directory: config.state_path.join(STOPS),
        past_logs_directory: config.state_path.join(PAST_LOGS),
        checkpoint_directory: config.state_path.join(CHECKPOINTS),
        criu: settings.criu.clone(),
        ..DockerConfig::default()
    };
    let backoff = ExponentialBuilder::default().with_max_delay(Duration::from_secs(30)).without_max_times();
    (|| Docker::connect(docker_config.clone()))
        .retry(backoff)
        .when(|error| matches!(error, docker::Error::Unavailable { .. }))
        .notify(|error, pause| warn!(%error, retry_in = ?pause, "waiting for Docker"))
        .await
}
