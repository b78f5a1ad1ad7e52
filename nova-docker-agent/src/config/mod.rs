//! The operator's nova.conf, typed and validated.
//!
//! The same sections and option names that nova-compute reads, with oslo.config's rules for the files, and `[docker]`
//! and `[docker_grpc]` for our own. Every mistake is reported at once, before anything is opened. Sections and options
//! that nobody here reads are ignored (the file is shared with other services), except in `[docker]`, where they are
//! mistakes.
//!
//! `sources` says which files are read. `table` lists the options; the service crate reads and checks them; `build` puts the [`Config`]
//! together. `unmet` knows the options that only nova-compute obeys.

mod build;
mod sources;
mod table;
mod unmet;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use nova_docker_service::config;
pub use nova_docker_service::config::{ConfigError, Listing, Origin, Setting, Settings, Source};
use nova_docker_service::telemetry::LogConfig;
pub use sources::sources;
pub use unmet::Unmet;
use uuid::Uuid;

use crate::cloud::CloudConfig;
use crate::messaging::TransportConfig;

/// The default path of nova.conf.
pub const DEFAULT_FILE: &str = "/etc/nova/nova.conf";

/// The whole configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// Name of this host everywhere: queues, service row, neutron binding. `[DEFAULT] host`.
    pub host: String,
    pub my_ip: IpAddr,
    /// Where `compute_id` is kept, and our own state. `[DEFAULT] state_path`.
    pub state_path: PathBuf,
    pub instances_path: PathBuf,
    /// Directories of the configuration files, first one first: `compute_id` is looked for there before `state_path`.
    pub config_directories: Vec<PathBuf>,
    /// `transport_url`, `control_exchange` and `[oslo_messaging_rabbit]`, the options of the URL applied.
    pub messaging: TransportConfig,
    pub rpc_response_timeout: Duration,
    pub long_rpc_timeout: Duration,
    pub report_interval: Duration,
    /// Time that a guest has for a clean stop.
    pub shutdown_timeout: Duration,
    pub graceful_shutdown_timeout: Duration,
    pub manager_shutdown_timeout: Duration,
    /// Zero: do not wait for network-vif-plugged.
    pub vif_plugging_timeout: Duration,
    pub vif_plugging_is_fatal: bool,
    pub reserved_host_memory_mb: u64,
    pub reserved_host_disk_mb: u64,
    pub reserved_host_cpus: u64,
    /// None: what placement has, else the initial ratio.
    pub cpu_allocation_ratio: Option<f64>,
    pub ram_allocation_ratio: Option<f64>,
    pub disk_allocation_ratio: Option<f64>,
    pub initial_cpu_allocation_ratio: f64,
    pub initial_ram_allocation_ratio: f64,
    pub initial_disk_allocation_ratio: f64,
    /// 0: no limit.
    pub max_concurrent_builds: usize,
    /// 0: no limit.
    pub max_concurrent_snapshots: usize,
    /// None: switched off (-1). Zero in the file is Nova's default rate of 60 s.
    pub sync_power_state_interval: Option<Duration>,
    pub update_resources_interval: Option<Duration>,
    pub heal_instance_info_cache_interval: Option<Duration>,
    /// None: a soft reboot may take as long as the container's clean stop.
    pub reboot_timeout: Option<Duration>,
    /// None: a build may take as long as it takes.
    pub instance_build_timeout: Option<Duration>,
    /// How long after a resize it is confirmed by itself; none: never.
    pub resize_confirm_window: Option<Duration>,
    pub network_allocate_retries: usize,
    /// None: deletions are never soft.
    pub reclaim_instance_interval: Option<Duration>,
    pub shelved_offload: ShelvedOffload,
    /// None: switched off (-1).
    pub shelved_poll_interval: Option<Duration>,
    pub scheduler_instance_sync_interval: Option<Duration>,
    /// `[filter_scheduler] track_instance_changes`.
    pub track_instance_changes: bool,
    /// `[workarounds]`: launches are not checked against their server group.
    pub disable_group_policy_check_upcall: bool,
    pub running_deleted_instance_action: RunningDeletedAction,
    pub running_deleted_instance_poll_interval: Option<Duration>,
    pub running_deleted_instance_timeout: Duration,
    pub resume_guests_state_on_host_boot: bool,
    /// What the metadata of instances says.
    pub metadata: MetadataConfig,
    pub default_availability_zone: String,
    /// `[service_user]`, `[placement]`, `[neutron]`, `[glance]`.
    pub cloud: CloudConfig,
    pub image_cache: ImageCacheConfig,
    pub docker: DockerConfig,
    pub grpc: GrpcConfig,
    /// None: there are no serial consoles.
    pub serial_console: Option<SerialConsoleConfig>,
    pub ovs: OvsConfig,
    pub log: LogConfig,
    /// Options of nova-compute that are set and have no effect.
    pub unmet: Vec<Unmet>,
}

/// `[api]`: options of Nova's metadata service that config drives obey too, and `force_config_drive`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MetadataConfig {
    /// Every new instance has a config drive.
    pub force_config_drive: bool,
    /// Comes after the instance's host name; may be empty.
    pub dhcp_domain: String,
    /// The file of vendor data; none without `StaticJSON` among the providers.
    pub vendor_data: VendorData,
    /// EC2's versions that config drives do not have.
    pub skipped_versions: Vec<String>,
}

/// `vendordata_providers` and `vendordata_jsonfile_path`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum VendorData {
    /// `StaticJSON` is not among the providers.
    #[default]
    None,
    /// It is, and has no file.
    Empty,
    File(PathBuf),
}

/// What to do with guests whose instance was deleted while we were away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunningDeletedAction {
    Reap,
    Log,
    Shutdown,
    Noop,
}

/// When a shelved instance leaves its host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShelvedOffload {
    AtOnce,
    After(Duration),
    /// Only when an operator says so.
    Never,
}

/// What suspending a server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suspend {
    /// To disk where that can be done, else in memory.
    Auto,
    /// Its processes are written to disk.
    Checkpoint,
    /// Its processes are frozen in memory.
    Freeze,
    Refuse,
}

/// What becomes of a server that has written more than its flavor's disk, where nothing holds it to that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StorageOveruse {
    /// The agent's log tells of it.
    Log,
    /// It is stopped, too.
    Stop,
}

/// `[image_cache]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageCacheConfig {
    /// Time between two searches for images to remove; none: switched off.
    pub interval: Option<Duration>,
    /// How long nobody must have used an image; none: images stay.
    pub minimum_age: Option<Duration>,
}

/// Where the metadata service of a subnet is looked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MetadataRoute {
    /// At the DHCP server where no router of Neutron's is the gateway, as with the DHCP agents' `enable_isolated_metadata`.
    #[default]
    Isolated,
    /// At the DHCP server, as with their `force_metadata`.
    Dhcp,
    /// At the gateway, whoever it is.
    Gateway,
}

/// A directory of the host that flavors can give to containers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostMount {
    pub path: PathBuf,
    /// Whether no container can write there.
    pub read_only: bool,
}

/// `[docker]`: what is ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DockerConfig {
    /// dockerd's API, `unix:///var/run/docker.sock` or `tcp://127.0.0.1:2375`.
    pub host_url: String,
    /// Name of our OCI runtime in dockerd's configuration.
    pub runtime: String,
    /// Where the embedded registry listens; loopback only. Port 0 takes any free one.
    pub registry_listen: SocketAddr,
    pub cache_directory: PathBuf,
    /// GiB of image layers kept on disk.
    pub cache_size_gb: u64,
    /// How long a new container must survive to count as started.
    pub build_grace: Duration,
    /// Whether a launch waits for all of that before it is ACTIVE (`build_wait`).
    pub waits_for_grace: bool,
    /// Processes of one container.
    pub pids_limit: u64,
    /// Size of one log file of a container, in dockerd's form (`10m`).
    pub log_max_size: String,
    pub log_max_files: u64,
    /// Write the key pair's public key into the container's `authorized_keys`.
    pub inject_key: bool,
    /// Whether the password that Nova makes for each launch is put into the container.
    pub inject_password: bool,
    /// How long a named volume is kept that no container names.
    pub volume_grace: Duration,
    pub storage_overuse: StorageOveruse,
    /// Time between two looks at what a server has written; none: nobody looks.
    pub storage_check: Option<Duration>,
    pub suspend: Suspend,
    /// CRIU, by its path or its name.
    pub criu: String,
    /// OCI runtimes that flavors can name, and their programs.
    pub runtimes: BTreeMap<String, PathBuf>,
    /// Directories of the host that flavors can name.
    pub host_mounts: BTreeMap<String, HostMount>,
    /// Whether servers get tags that say how their containers ended and how healthy they are.
    pub state_tags: bool,
    /// Where the metadata service of a network is looked for.
    pub metadata_route: MetadataRoute,
    /// Networks in which IPv6 routers that are not Neutron's are heeded.
    pub accept_ra_networks: BTreeSet<Uuid>,
}

/// `[docker_grpc]`: the second door.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrpcConfig {
    pub listen: GrpcListen,
    /// Who may use the socket besides root and the agent's own user.
    pub socket_user: Option<String>,
    /// Needed for an https address: certificate chain, its key, and the authority of the clients' certificates.
    pub tls: Option<GrpcTls>,
    pub max_concurrent_requests: usize,
}

/// `[serial_console]` and `[consoleauth]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SerialConsoleConfig {
    /// Where users reach nova-serialproxy.
    pub base_url: String,
    /// Where nova-serialproxy reaches this host: what the agent listens on.
    pub address: IpAddr,
    /// The agent takes the first free one.
    pub ports: RangeInclusive<u16>,
    /// How long a console can be opened after it was asked for.
    pub token_ttl: Duration,
}

/// Files (PEM) of the second door's mutual TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrpcTls {
    pub certificate: PathBuf,
    pub key: PathBuf,
    pub client_ca: PathBuf,
}

/// Where the second door listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GrpcListen {
    Unix(PathBuf),
    /// With mutual TLS.
    Tcp(SocketAddr),
}

impl GrpcListen {
    /// `unix:///PATH` or `https://ADDRESS:PORT`; None for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        match text.trim().split_once("://")? {
            ("unix", path) if path.starts_with('/') && path.len() > 1 => Some(Self::Unix(path.into())),
            ("https", address) => address.parse().ok().map(Self::Tcp),
            _ => None,
        }
    }
}

/// `[os_vif_ovs]`, as os-vif has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OvsConfig {
    /// `tcp:127.0.0.1:6640` or `unix:/var/run/openvswitch/db.sock`.
    pub ovsdb_connection: String,
    /// `ovs_vsctl_timeout`.
    pub timeout: Duration,
    /// `isolate_vif`.
    pub isolates: bool,
}

/// Reads the sources in order; later values win, and oslo.config's environment variables (`OS_<SECTION>__<OPTION>`) win over all.
///
/// # Errors
/// Everything that is wrong, all at once.
pub fn load(sources: &[Source]) -> Result<(Config, Listing), Vec<ConfigError>> {
    let files: Vec<PathBuf> = sources.iter().filter_map(Source::file).cloned().collect();
    config::load(sources, |settings| from_settings(settings, &files))
}

/// The configuration of settings from anywhere; `files` are only remembered for their directories.
///
/// # Errors
/// Everything that is wrong, all at once.
pub fn from_settings(settings: &Settings, files: &[PathBuf]) -> Result<(Config, Listing), Vec<ConfigError>> {
    match build::build(settings, files) {
        (Some(config), reader) => Ok((config, Listing::new(&reader))),
        (None, reader) => Err(reader.errors),
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
