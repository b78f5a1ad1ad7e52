//! What both doors drive: containers with their networks and images, on this host.
//!
//! The doors convert what they were asked into this module's words and report what became of it in their own; what happens to
//! a container happens here, so that it is the same through either.

mod error;
mod image;
mod interfaces;
mod locks;
mod snapshot;

use std::time::Duration;

use backon::{ExponentialBuilder, Retryable as _};
use tokio::sync::RwLock;
use tracing::warn;
use uuid::Uuid;

pub use error::{Error, StartError};
pub use image::{ImagesInUse, check_status};
pub use interfaces::{Port, Subnet, interfaces};
pub use locks::InstanceLocks;

use crate::{
    cloud::Glance,
    config::Config,
    docker::{self, Docker, DockerConfig},
    network::{Interface, NetworkConfig, Plumber},
    registry::{Registry, RegistryConfig},
};

/// What containers have of Nova's driver capabilities; those that are not named they do not have.
pub const CAPABILITIES: &[(&str, bool)] = &[("supports_attach_interface", true), ("supports_image_type_raw", true)];
/// Tells placement that containers run here.
pub const TRAIT: &str = "CUSTOM_HV_DOCKER";

/// Docker, Open vSwitch and the embedded registry of one host.
pub struct Driver {
    /// Containers.
    pub docker: Docker,
    /// Their networks.
    pub plumber: Plumber,
    registry: Registry,
    glance: Glance,
    build_grace: Duration,
    /// Read while an image is pulled and not used by a container yet; written to prune.
    images: RwLock<()>,
}

impl Driver {
    /// Connects to Docker, for as long as that takes, and starts the embedded registry. Images are read from `glance`.
    ///
    /// # Errors
    /// Docker does not know our runtime, or the registry's address is taken.
    pub async fn start(config: &Config, glance: Glance) -> Result<Self, StartError> {
        let docker = connect_docker(config).await?;
        let registry = Registry::start(RegistryConfig {
            listen: config.docker.registry_listen,
            cache_directory: config.docker.cache_directory.clone(),
            cache_size: config.docker.cache_size_gb << 30,
        })
        .await?;
        let plumber = Plumber::new(NetworkConfig {
            ovsdb_connection: config.ovs.ovsdb_connection.clone(),
            ..NetworkConfig::default()
        });
        let build_grace = config.docker.build_grace;
        Ok(Self { docker, plumber, registry, glance, build_grace, images: RwLock::new(()) })
    }

    /// Starts a container that is plugged, and sees whether it stays up.
    ///
    /// # Errors
    /// It does not start, or ended at once.
    pub async fn start_guest(&self, uuid: Uuid) -> Result<(), Error> {
        self.docker.start(uuid).await?;
        self.docker.started_well(uuid, self.build_grace).await?;
        Ok(())
    }

    /// Plugs what is not plugged (the host may have been restarted) and starts the container.
    ///
    /// # Errors
    /// There is no such guest, it cannot be plugged, does not start, or ended at once.
    pub async fn power_on(&self, uuid: Uuid, interfaces: &[Interface]) -> Result<(), Error> {
        self.plug(uuid, interfaces).await?;
        self.start_guest(uuid).await
    }

    /// Plugs what is not plugged of a guest that has a container: nobody would ever unplug it for one that has none.
    ///
    /// # Errors
    /// There is no such guest, or an interface cannot be plugged.
    pub async fn plug(&self, uuid: Uuid, interfaces: &[Interface]) -> Result<(), Error> {
        if self.docker.state(uuid).await?.is_none() {
            return Err(docker::Error::NotFound { what: format!("the container of instance {uuid}") }.into());
        }
        self.plumber.plug(uuid, interfaces).await?;
        Ok(())
    }

    /// Plugs one more interface into a guest, running or not, and returns its name inside. The default route stays that of the
    /// first interface.
    ///
    /// # Errors
    /// There is no such guest, or the interface cannot be plugged.
    pub async fn attach(&self, uuid: Uuid, mut interface: Interface) -> Result<String, Error> {
        // Every guest has its namespace, unless the host was restarted and it was not started since.
        self.plug(uuid, &[]).await?;
        interface.name = self.plumber.name_for(uuid, &interface.devname).await?;
        if interface.name != "eth0" {
            interface.gateways.clear();
        }
        self.plumber.plug(uuid, std::slice::from_ref(&interface)).await?;
        Ok(interface.name)
    }

    /// Unplugs one interface of a guest. One that is not plugged, or not into this guest, stays what it is.
    ///
    /// # Errors
    /// Open vSwitch's or the kernel's.
    pub async fn detach(&self, uuid: Uuid, port: Uuid) -> Result<(), Error> {
        for devname in self.plumber.devices_of(uuid, port).await? {
            self.plumber.unplug_port(&devname).await?;
        }
        Ok(())
    }

    /// Removes container, namespace and switch ports; what is absent is fine.
    ///
    /// # Errors
    /// Everything was tried; the first failure, with the second if there were two.
    pub async fn remove(&self, uuid: Uuid) -> Result<(), Error> {
        let container = self.docker.remove(uuid).await.map_err(Error::from);
        let network = self.plumber.unplug(uuid, &[]).await.map_err(Error::from);
        match (container, network) {
            (Err(error), Err(cleanup)) => Err(Error::Cleanup { error: Box::new(error), cleanup: cleanup.to_string() }),
            (container, network) => container.and(network),
        }
    }

    /// Ends what the registry serves.
    pub async fn shutdown(&self) {
        self.registry.shutdown().await;
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
        ..DockerConfig::default()
    };
    let backoff = ExponentialBuilder::default().with_max_delay(Duration::from_secs(30)).without_max_times();
    (|| Docker::connect(docker_config.clone()))
        .retry(backoff)
        .when(|error| matches!(error, docker::Error::Unavailable { .. }))
        .notify(|error, pause| warn!(%error, retry_in = ?pause, "waiting for Docker"))
        .await
}
