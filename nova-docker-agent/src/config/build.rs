//! The configuration, put together from checked options.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nova_docker_service::config::{ConfigError, Reader, Settings, named_directories, ports, programs};
use nova_docker_service::telemetry::LogConfig;
use url::Url;
use uuid::Uuid;

use super::table::{self, HostDefaults};
use super::unmet;
use super::{
    Config, DockerConfig, GrpcConfig, GrpcListen, GrpcTls, HostMount, ImageCacheConfig, MetadataConfig, MetadataRoute,
    OvsConfig, RunningDeletedAction, SerialConsoleConfig, ShelvedOffload, StorageOveruse, Suspend, VendorData,
};
use crate::cloud::CloudConfig;
use crate::messaging::{Login, TlsConfig, TransportConfig, TransportUrl};

/// Nova's rate of periodic tasks whose interval is 0.
const DEFAULT_PERIOD: Duration = Duration::from_secs(60);
/// In seconds.
const DAY: u64 = 24 * 3600;

/// Reads everything; the reader knows afterwards what is wrong. None only when something is.
pub(super) fn build<'a>(settings: &'a Settings, files: &[PathBuf]) -> (Option<Config>, Reader<'a>) {
    let mut reader = Reader::new(settings);
    reader.read(table::fixed(&host_defaults()));
    let config = config(&mut reader, files);
    reader.refuse_unknown("docker");
    reader.errors.extend(unmet::refused(settings));
    let config = if reader.errors.is_empty() { config } else { None };
    (config, reader)
}

fn config(reader: &mut Reader, files: &[PathBuf]) -> Option<Config> {
    let cloud = cloud(reader);
    let transport = transport(reader);
    let serial_console = serial_console(reader);
    let grpc = grpc(reader);
    let period = |option| period(reader.number("DEFAULT", option));
    let ratio = |option| reader.parsed::<f64>("DEFAULT", option);
    let seconds = |option| reader.seconds("DEFAULT", option);
    Some(Config {
        host: reader.string("DEFAULT", "host"),
        my_ip: reader.parsed("DEFAULT", "my_ip")?,
        state_path: reader.path("DEFAULT", "state_path")?,
        instances_path: reader.path("DEFAULT", "instances_path")?,
        config_directories: directories(files),
        messaging: transport?,
        rpc_response_timeout: seconds("rpc_response_timeout"),
        long_rpc_timeout: seconds("long_rpc_timeout"),
        report_interval: seconds("report_interval"),
        shutdown_timeout: seconds("shutdown_timeout"),
        graceful_shutdown_timeout: seconds("graceful_shutdown_timeout"),
        manager_shutdown_timeout: seconds("manager_shutdown_timeout"),
        vif_plugging_timeout: seconds("vif_plugging_timeout"),
        vif_plugging_is_fatal: reader.flag("DEFAULT", "vif_plugging_is_fatal"),
        reserved_host_memory_mb: reader.number("DEFAULT", "reserved_host_memory_mb"),
        reserved_host_disk_mb: reader.number("DEFAULT", "reserved_host_disk_mb"),
        reserved_host_cpus: reader.number("DEFAULT", "reserved_host_cpus"),
        // Zero means unset, as for Nova.
        cpu_allocation_ratio: ratio("cpu_allocation_ratio").filter(|&ratio| ratio > 0.0),
        ram_allocation_ratio: ratio("ram_allocation_ratio").filter(|&ratio| ratio > 0.0),
        disk_allocation_ratio: ratio("disk_allocation_ratio").filter(|&ratio| ratio > 0.0),
        initial_cpu_allocation_ratio: ratio("initial_cpu_allocation_ratio")?,
        initial_ram_allocation_ratio: ratio("initial_ram_allocation_ratio")?,
        initial_disk_allocation_ratio: ratio("initial_disk_allocation_ratio")?,
        max_concurrent_builds: reader.number("DEFAULT", "max_concurrent_builds"),
        max_concurrent_snapshots: reader.number("DEFAULT", "max_concurrent_snapshots"),
        sync_power_state_interval: period("sync_power_state_interval"),
        update_resources_interval: period("update_resources_interval"),
        heal_instance_info_cache_interval: period("heal_instance_info_cache_interval"),
        resize_confirm_window: Some(seconds("resize_confirm_window")).filter(|window| !window.is_zero()),
        reboot_timeout: Some(seconds("reboot_timeout")).filter(|limit| !limit.is_zero()),
        instance_build_timeout: Some(seconds("instance_build_timeout")).filter(|limit| !limit.is_zero()),
        network_allocate_retries: reader.number("DEFAULT", "network_allocate_retries"),
        // Zero and less: off.
        reclaim_instance_interval: Some(seconds("reclaim_instance_interval")).filter(|wait| !wait.is_zero()),
        shelved_offload: shelved_offload(reader),
        shelved_poll_interval: period("shelved_poll_interval"),
        scheduler_instance_sync_interval: period("scheduler_instance_sync_interval"),
        track_instance_changes: reader.flag("filter_scheduler", "track_instance_changes"),
        disable_group_policy_check_upcall: reader.flag("workarounds", "disable_group_policy_check_upcall"),
        running_deleted_instance_action: running_deleted_action(reader),
        running_deleted_instance_poll_interval: period("running_deleted_instance_poll_interval"),
        running_deleted_instance_timeout: seconds("running_deleted_instance_timeout"),
        resume_guests_state_on_host_boot: reader.flag("DEFAULT", "resume_guests_state_on_host_boot"),
        metadata: metadata(reader),
        default_availability_zone: reader.string("DEFAULT", "default_availability_zone"),
        cloud,
        image_cache: image_cache(reader),
        docker: docker(reader)?,
        grpc: grpc?,
        serial_console,
        ovs: OvsConfig {
            ovsdb_connection: reader.string("os_vif_ovs", "ovsdb_connection"),
            timeout: reader.seconds("os_vif_ovs", "ovs_vsctl_timeout"),
            isolates: reader.flag("os_vif_ovs", "isolate_vif"),
        },
        log: LogConfig { debug: reader.flag("DEFAULT", "debug"), json: reader.flag("DEFAULT", "use_json") },
        unmet: unmet::unmet(reader.settings),
    })
}

fn metadata(reader: &Reader) -> MetadataConfig {
    let file = reader.path("api", "vendordata_jsonfile_path").filter(|path| !path.as_os_str().is_empty());
    let is_static = reader.list("api", "vendordata_providers").iter().any(|provider| provider == "StaticJSON");
    let vendor_data = match (is_static, file) {
        (false, _) => VendorData::None,
        (true, None) => VendorData::Empty,
        (true, Some(file)) => VendorData::File(file),
    };
    let skipped = reader.string("api", "config_drive_skip_versions");
    MetadataConfig {
        force_config_drive: reader.flag("DEFAULT", "force_config_drive"),
        // Nova's older section of it.
        dhcp_domain: reader.text("api", "dhcp_domain").unwrap_or_else(|| reader.string("DEFAULT", "dhcp_domain")),
        vendor_data,
        skipped_versions: skipped.split_whitespace().map(str::to_owned).collect(),
    }
}

fn cloud(reader: &mut Reader) -> CloudConfig {
    let service_user = reader.identity("service_user", false);
    let send_service_user_token = reader.flag("service_user", "send_service_user_token");
    if send_service_user_token && service_user.is_none() {
        let complained = reader.errors.iter().any(|error| {
            matches!(error, ConfigError::Value { section, .. } | ConfigError::Missing { section, .. } if section == "service_user")
        });
        if !complained {
            reader.missing("service_user", "auth_type", "an identity, since send_service_user_token is on");
        }
    }
    let placement = reader.service("placement", "placement", 3, true);
    let neutron_retries = reader.number("neutron", "http_retries");
    let neutron = reader.service("neutron", "network", neutron_retries, true);
    let glance_retries = reader.number("glance", "num_retries");
    let mut glance = reader.service("glance", "image", glance_retries, false);
    let servers = reader.list("glance", "api_servers");
    match servers.iter().map(|server| server.parse()).collect::<Result<Vec<Url>, _>>() {
        Ok(servers) => glance.endpoint.servers = servers,
        Err(_) => reader.reject("glance", "api_servers", "URLs that begin with http:// or https://"),
    }
    CloudConfig {
        service_user,
        send_service_user_token,
        placement,
        neutron,
        glance,
        ovs_bridge: reader.string("neutron", "ovs_bridge"),
        extension_sync_interval: reader.seconds("neutron", "extension_sync_interval"),
    }
}

fn transport(reader: &mut Reader) -> Option<TransportConfig> {
    const RABBIT: &str = "oslo_messaging_rabbit";
    let url = match TransportUrl::parse(&reader.text("DEFAULT", "transport_url")?) {
        Ok(url) => url,
        Err(error) => {
            reader.reject("DEFAULT", "transport_url", format!("rabbit://user:password@host:port/vhost, but {error}"));
            return None;
        }
    };
    let flag = |option| reader.flag(RABBIT, option);
    let seconds = |option| reader.seconds(RABBIT, option);
    let mut config = TransportConfig {
        control_exchange: reader.string("DEFAULT", "control_exchange"),
        durable: flag("amqp_durable_queues"),
        auto_delete: flag("amqp_auto_delete"),
        ha_queues: flag("rabbit_ha_queues"),
        quorum: flag("rabbit_quorum_queue"),
        quorum_delivery_limit: reader.number(RABBIT, "rabbit_quorum_delivery_limit"),
        quorum_max_memory_length: reader.number(RABBIT, "rabbit_quorum_max_memory_length"),
        quorum_max_memory_bytes: reader.number(RABBIT, "rabbit_quorum_max_memory_bytes"),
        transient_quorum: flag("rabbit_transient_quorum_queue"),
        transient_ttl: seconds("rabbit_transient_queues_ttl"),
        heartbeat: seconds("heartbeat_timeout_threshold"),
        max_silence: reader.seconds("DEFAULT", "service_down_time") / 2,
        executor: reader.number("DEFAULT", "executor_thread_pool_size"),
        ping: reader.flag("DEFAULT", "rpc_ping_enabled"),
        // Of a cell's hosts no two have the same name; oslo.messaging counts the processes of a host instead.
        reply_queue: flag("use_queue_manager")
            .then(|| format!("reply_{}:nova-docker-agent", reader.string("DEFAULT", "host"))),
        prefetch: reader.number(RABBIT, "rabbit_qos_prefetch_count"),
        login: match reader.string(RABBIT, "rabbit_login_method").as_str() {
            "PLAIN" => Login::Plain,
            "EXTERNAL" => Login::External,
            _ => Login::Amqplain,
        },
        tls: TlsConfig {
            enabled: flag("ssl"),
            ca_file: reader.path(RABBIT, "ssl_ca_file"),
            cert_file: reader.path(RABBIT, "ssl_cert_file"),
            key_file: reader.path(RABBIT, "ssl_key_file"),
        },
        retry_interval: seconds("rabbit_retry_interval"),
        retry_interval_max: seconds("rabbit_interval_max"),
        missing_consumer_timeout: seconds("kombu_missing_consumer_retry_timeout"),
        ..TransportConfig::new(url)
    };
    if let Err(problems) = config.apply_url_options() {
        for problem in problems {
            reader.reject("DEFAULT", "transport_url", format!("right options after the question mark, but {problem}"));
        }
    }
    Some(config)
}

fn image_cache(reader: &Reader) -> ImageCacheConfig {
    const SECTION: &str = "image_cache";
    let minimum_age = reader.seconds(SECTION, "remove_unused_original_minimum_age_seconds");
    ImageCacheConfig {
        interval: period(reader.number(SECTION, "manager_interval")),
        minimum_age: reader.flag(SECTION, "remove_unused_base_images").then_some(minimum_age),
    }
}

fn accept_ra_networks(reader: &mut Reader) -> Option<BTreeSet<Uuid>> {
    let ids = reader.list("docker", "accept_ra_networks");
    let networks: Option<BTreeSet<Uuid>> = ids.iter().map(|id| Uuid::parse_str(id).ok()).collect();
    if networks.is_none() {
        reader.reject("docker", "accept_ra_networks", "ids of networks, with commas between");
    }
    networks
}

fn host_mounts(entries: &[String]) -> BTreeMap<String, HostMount> {
    let all = named_directories(entries).unwrap_or_default().into_iter();
    all.map(|(name, (path, read_only))| (name, HostMount { path, read_only })).collect()
}

fn docker(reader: &mut Reader) -> Option<DockerConfig> {
    Some(DockerConfig {
        host_url: reader.string("docker", "host_url"),
        runtime: reader.string("docker", "runtime"),
        registry_listen: reader.parsed("docker", "registry_listen")?,
        cache_directory: reader.path("docker", "cache_directory")?,
        cache_size_gb: reader.number("docker", "cache_size_gb"),
        build_grace: reader.seconds("docker", "build_grace_seconds"),
        waits_for_grace: reader.string("docker", "build_wait") == "grace",
        pids_limit: reader.number("docker", "pids_limit"),
        log_max_size: reader.string("docker", "log_max_size"),
        log_max_files: reader.number("docker", "log_max_files"),
        inject_key: reader.flag("docker", "inject_key"),
        inject_password: reader.flag("docker", "inject_password"),
        volume_grace: Duration::from_secs(reader.number::<u64>("docker", "volume_grace_days").saturating_mul(DAY)),
        suspend: suspend(reader),
        criu: reader.string("docker", "criu"),
        runtimes: programs(&reader.list("docker", "runtimes")).unwrap_or_default(),
        host_mounts: host_mounts(&reader.list("docker", "host_mounts")),
        storage_overuse: match reader.string("docker", "storage_overuse").as_str() {
            "stop" => StorageOveruse::Stop,
            _ => StorageOveruse::Log,
        },
        storage_check: Some(reader.seconds("docker", "storage_check_seconds")).filter(|period| !period.is_zero()),
        state_tags: reader.flag("docker", "state_tags"),
        metadata_route: match reader.string("docker", "metadata_route").as_str() {
            "dhcp" => MetadataRoute::Dhcp,
            "gateway" => MetadataRoute::Gateway,
            _ => MetadataRoute::Isolated,
        },
        accept_ra_networks: accept_ra_networks(reader)?,
    })
}

/// An address that Nova's proxy could only look up is refused where it would be used: the agent could not tell what to listen on.
fn serial_console(reader: &mut Reader) -> Option<SerialConsoleConfig> {
    const SECTION: &str = "serial_console";
    if !reader.flag(SECTION, "enabled") {
        return None;
    }
    let address = reader.parsed(SECTION, "proxyclient_address");
    if address.is_none() {
        reader.reject(SECTION, "proxyclient_address", "an IP address of this host");
    }
    Some(SerialConsoleConfig {
        base_url: reader.string(SECTION, "base_url"),
        address: address?,
        ports: ports(&reader.text(SECTION, "port_range")?)?,
        token_ttl: reader.seconds("consoleauth", "token_ttl"),
    })
}

fn grpc(reader: &mut Reader) -> Option<GrpcConfig> {
    const SECTION: &str = "docker_grpc";
    let listen = GrpcListen::parse(&reader.text(SECTION, "listen")?);
    if listen.is_none() {
        reader.reject(SECTION, "listen", "unix:///PATH of a socket, or https://ADDRESS:PORT with an IP address");
    }
    let listen = listen?;
    let [certificate, key, client_ca] =
        ["tls_certificate", "tls_key", "tls_client_ca"].map(|option| reader.path(SECTION, option));
    if let GrpcListen::Tcp(_) = listen {
        for (option, file) in [("tls_certificate", &certificate), ("tls_key", &key), ("tls_client_ca", &client_ca)] {
            if file.is_none() {
                reader.missing(SECTION, option, "a file, since listen is an https address");
            }
        }
    }
    let tls = match (certificate, key, client_ca) {
        (Some(certificate), Some(key), Some(client_ca)) => Some(GrpcTls { certificate, key, client_ca }),
        _ => None,
    };
    let socket_user = reader.text(SECTION, "socket_user").filter(|user| !user.is_empty());
    let max_concurrent_requests = reader.number(SECTION, "max_concurrent_requests");
    Some(GrpcConfig { listen, socket_user, tls, max_concurrent_requests })
}

fn running_deleted_action(reader: &Reader) -> RunningDeletedAction {
    match reader.string("DEFAULT", "running_deleted_instance_action").as_str() {
        "log" => RunningDeletedAction::Log,
        "shutdown" => RunningDeletedAction::Shutdown,
        "noop" => RunningDeletedAction::Noop,
        _ => RunningDeletedAction::Reap,
    }
}

fn shelved_offload(reader: &Reader) -> ShelvedOffload {
    let seconds: i64 = reader.number("DEFAULT", "shelved_offload_time");
    match u64::try_from(seconds) {
        Err(_) => ShelvedOffload::Never,
        Ok(0) => ShelvedOffload::AtOnce,
        Ok(seconds) => ShelvedOffload::After(Duration::from_secs(seconds)),
    }
}

fn suspend(reader: &Reader) -> Suspend {
    match reader.string("docker", "suspend").as_str() {
        "checkpoint" => Suspend::Checkpoint,
        "freeze" => Suspend::Freeze,
        "refuse" => Suspend::Refuse,
        _ => Suspend::Auto,
    }
}

fn period(seconds: i64) -> Option<Duration> {
    match u64::try_from(seconds) {
        Err(_) => None,
        Ok(0) => Some(DEFAULT_PERIOD),
        Ok(seconds) => Some(Duration::from_secs(seconds)),
    }
}

fn directories(files: &[PathBuf]) -> Vec<PathBuf> {
    let mut directories: Vec<PathBuf> = Vec::new();
    for directory in files.iter().filter_map(|file| file.parent()) {
        let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
        if !directories.iter().any(|known| known == directory) {
            directories.push(directory.to_owned());
        }
    }
    directories
}

fn host_defaults() -> HostDefaults {
    let hostname = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
    HostDefaults { hostname: hostname.unwrap_or_else(|| "localhost".into()), address: own_address().to_string() }
}

/// The address that leads to the default route. Connecting a datagram socket sends nothing.
fn own_address() -> IpAddr {
    let documentation_address = (Ipv4Addr::new(192, 0, 2, 1), 9);
    UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))
        .and_then(|socket| socket.connect(documentation_address).and_then(|()| socket.local_addr()))
        .map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |address| address.ip())
}
