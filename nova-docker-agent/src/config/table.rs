//! Every option that is read: its name and default are Nova's (or oslo.messaging's, keystoneauth's, os-vif's), `[docker]` is ours.

use nova_docker_service::config::{Kind, Spec};

/// Default name and address of this host.
#[derive(Clone, Debug)]
pub(super) struct HostDefaults {
    pub(super) hostname: String,
    pub(super) address: String,
}

/// All sections whose options do not depend on other options.
pub(super) fn fixed(host: &HostDefaults) -> Vec<Spec> {
    let mut specs = general(host);
    specs.extend(resources());
    specs.extend(periodic());
    specs.extend(rabbit());
    specs.extend(docker());
    specs.extend(api());
    specs.extend(image_cache());
    specs.extend(docker_grpc());
    specs.extend(serial_console());
    specs.push(
        Spec::new("service_user", "send_service_user_token", Kind::Bool, "Send the agent's token beside a user's.")
            .or("false"),
    );
    specs
        .push(Spec::new("neutron", "ovs_bridge", Kind::Text, "Bridge of ports whose binding names none.").or("br-int"));
    specs.push(
        Spec::new("neutron", "extension_sync_interval", SECONDS, "How long the list of extensions is kept.").or("600"),
    );
    specs.push(
        Spec::new(
            "neutron",
            "http_retries",
            Kind::Int { min: 0, max: 100 },
            "Repetitions of a call that is safe to repeat.",
        )
        .or("3"),
    );
    specs.push(
        Spec::new(
            "glance",
            "num_retries",
            Kind::Int { min: 0, max: 100 },
            "Repetitions of a call that is safe to repeat.",
        )
        .or("3"),
    );
    specs.push(Spec::new(
        "glance",
        "api_servers",
        Kind::List,
        "Glance's addresses (old); the next one is asked when one does not answer.",
    ));
    specs.push(
        Spec::new("os_vif_ovs", "ovsdb_connection", Kind::OvsdbUrl, "Open vSwitch's database.")
            .or("tcp:127.0.0.1:6640"),
    );
    specs.push(
        Spec::new(
            "os_vif_ovs",
            "ovs_vsctl_timeout",
            Kind::Int { min: 1, max: 86_400 },
            "Limit of one change of Open vSwitch, in seconds.",
        )
        .or("120"),
    );
    specs.push(
        Spec::new("os_vif_ovs", "isolate_vif", Kind::Bool, "Keep a new port apart until Neutron's agent has wired it.")
            .or("false"),
    );
    specs.push(
        Spec::new("filter_scheduler", "track_instance_changes", Kind::Bool, "Tell the schedulers about instances.")
            .or("true"),
    );
    specs.push(
        Spec::new(
            "workarounds",
            "disable_group_policy_check_upcall",
            Kind::Bool,
            "Leave server groups to the scheduler alone.",
        )
        .or("false"),
    );
    specs
}

const SECONDS: Kind = Kind::Int { min: 0, max: 10_000_000 };
/// Periodic tasks: negative switches off, 0 is the default rate.
const INTERVAL: Kind = Kind::Int { min: -1, max: 10_000_000 };

fn general(host: &HostDefaults) -> Vec<Spec> {
    let spec = |name, kind, help| Spec::new("DEFAULT", name, kind, help);
    vec![
        spec("host", Kind::Text, "Name of this host; must be that of its Neutron agent.").or(&host.hostname),
        spec("my_ip", Kind::Ip, "Address of this host.").or(&host.address),
        spec("state_path", Kind::Text, "Directory of compute_id.").or("/var/lib/nova"),
        spec("instances_path", Kind::Text, "Not used.").or("$state_path/instances"),
        spec("transport_url", Kind::Text, "RabbitMQ: rabbit://user:password@host:port/vhost.").required().secret(),
        spec("control_exchange", Kind::Text, "Exchange of the control plane.").or("nova"),
        spec(
            "rpc_response_timeout",
            Kind::Int { min: 1, max: 86_400 },
            "Limit of one call to the conductor, in seconds.",
        )
        .or("60"),
        spec(
            "long_rpc_timeout",
            Kind::Int { min: 1, max: 86_400 },
            "For how long the conductor waits for the scheduler, in seconds.",
        )
        .or("1800"),
        spec("executor_thread_pool_size", Kind::Int { min: 1, max: 16_384 }, "Requests of one queue at a time.")
            .or("64")
            .aliases(&["rpc_thread_pool_size"]),
        spec("rpc_ping_enabled", Kind::Bool, "Answer oslo_rpc_server_ping.").or("false"),
        spec(
            "report_interval",
            Kind::Int { min: 1, max: 86_400 },
            "Seconds between reports that the service is alive.",
        )
        .or("10"),
        spec("service_down_time", Kind::Int { min: 1, max: 86_400 }, "Seconds without one after which a host is down.")
            .or("60"),
        spec("shutdown_timeout", SECONDS, "Seconds between the stop signal and the kill of a container.").or("60"),
        spec("graceful_shutdown_timeout", SECONDS, "Seconds that running operations have when the agent stops.")
            .or("180"),
        spec("manager_shutdown_timeout", SECONDS, "The same; the smaller of the two counts.").or("160"),
        spec("vif_plugging_timeout", SECONDS, "Seconds that a launch waits for its ports; 0: it does not wait.")
            .or("300"),
        spec("vif_plugging_is_fatal", Kind::Bool, "Fail the launch after that time.").or("true"),
        spec(
            "resume_guests_state_on_host_boot",
            Kind::Bool,
            "Start the containers that ran before the host was restarted.",
        )
        .or("false"),
        spec("dhcp_domain", Kind::Text, "The older place of [api] dhcp_domain.").or("novalocal"),
        spec("force_config_drive", Kind::Bool, "Give every new instance a config drive.").or("false"),
        spec("default_availability_zone", Kind::Text, "Zone for ports of instances that have none.").or("nova"),
        spec("debug", Kind::Bool, "Log more.").or("false"),
        spec("use_json", Kind::Bool, "Log as JSON.").or("false"),
    ]
}

/// Nova's options of metadata, as far as config drives obey them.
fn api() -> Vec<Spec> {
    let spec = |name, kind, help| Spec::new("api", name, kind, help);
    vec![
        spec("dhcp_domain", Kind::Text, "Domain of the host names in config drives; unset: [DEFAULT] dhcp_domain."),
        spec(
            "vendordata_providers",
            Kind::List,
            "Sources of vendor data; StaticJSON is the only one that has an effect.",
        )
        .or("StaticJSON"),
        spec("vendordata_jsonfile_path", Kind::Text, "The file of StaticJSON."),
        spec("config_drive_skip_versions", Kind::Text, "Versions of EC2's metadata that config drives do not have.")
            .or("1.0 2007-01-19 2007-03-01 2007-08-29 2007-10-10 2007-12-15 2008-02-01 2008-09-01"),
    ]
}

fn resources() -> Vec<Spec> {
    let spec = |name, kind, help| Spec::new("DEFAULT", name, kind, help);
    let ratio = |name, help| spec(name, Kind::Float { min: 0.0 }, help);
    vec![
        spec("reserved_host_memory_mb", Kind::at_least(0), "MiB of memory to keep from instances.").or("512"),
        spec("reserved_host_disk_mb", Kind::at_least(0), "MiB of disk to keep from instances.").or("0"),
        spec("reserved_host_cpus", Kind::at_least(0), "CPUs to keep from instances.").or("0"),
        ratio("cpu_allocation_ratio", "Virtual CPUs for each CPU; unset or 0: as in placement, else the initial one."),
        ratio("ram_allocation_ratio", "The same for memory."),
        ratio("disk_allocation_ratio", "The same for disk."),
        ratio("initial_cpu_allocation_ratio", "Ratio of a new host.").or("4.0"),
        ratio("initial_ram_allocation_ratio", "Ratio of a new host.").or("1.0"),
        ratio("initial_disk_allocation_ratio", "Ratio of a new host.").or("1.0"),
        spec("max_concurrent_builds", Kind::at_least(0), "Launches at the same time; 0: no limit.").or("10"),
        spec("max_concurrent_snapshots", Kind::at_least(0), "Snapshots at the same time; 0: no limit.").or("5"),
    ]
}

fn periodic() -> Vec<Spec> {
    let spec = |name, help, default: &str| Spec::new("DEFAULT", name, INTERVAL, help).or(default);
    let choices = Kind::Choice(&["reap", "log", "shutdown", "noop"]);
    vec![
        spec("sync_power_state_interval", "Seconds between comparisons of power states.", "600"),
        spec("update_resources_interval", "Seconds between resource audits.", "0"),
        spec("heal_instance_info_cache_interval", "Seconds between refreshes of network information.", "-1"),
        spec("scheduler_instance_sync_interval", "Seconds between reports to the schedulers.", "120"),
        spec(
            "running_deleted_instance_poll_interval",
            "Seconds between searches for containers of deleted instances.",
            "1800",
        ),
        Spec::new(
            "DEFAULT",
            "resize_confirm_window",
            SECONDS,
            "Seconds until a resize is confirmed by itself; 0: never.",
        )
        .or("0"),
        Spec::new(
            "DEFAULT",
            "reboot_timeout",
            SECONDS,
            "Seconds after which a soft reboot is a hard one; 0: no limit.",
        )
        .or("0"),
        Spec::new("DEFAULT", "instance_build_timeout", SECONDS, "Seconds that a launch may take; 0: no limit.").or("0"),
        Spec::new(
            "DEFAULT",
            "network_allocate_retries",
            Kind::Int { min: 0, max: 100 },
            "Repetitions of an allocation.",
        )
        .or("0"),
        Spec::new("DEFAULT", "reclaim_instance_interval", INTERVAL, "Seconds that a soft-deleted instance is kept.")
            .or("0"),
        Spec::new(
            "DEFAULT",
            "shelved_offload_time",
            INTERVAL,
            "Seconds that a shelved instance stays on its host; 0: none, -1: until an operator offloads it.",
        )
        .or("0"),
        spec("shelved_poll_interval", "Seconds between searches for shelved instances to offload.", "3600"),
        Spec::new(
            "DEFAULT",
            "running_deleted_instance_timeout",
            SECONDS,
            "Seconds that such an instance must have been deleted for.",
        )
        .or("0"),
        Spec::new("DEFAULT", "running_deleted_instance_action", choices, "What to do with such a container.")
            .or("reap"),
    ]
}

fn rabbit() -> Vec<Spec> {
    let spec = |name, kind, help| Spec::new("oslo_messaging_rabbit", name, kind, help);
    let flag = |name, help| spec(name, Kind::Bool, help).or("false");
    let number = |name, help, default: &str| spec(name, Kind::Int { min: 0, max: i32::MAX as i64 }, help).or(default);
    let choices = Kind::Choice(&["PLAIN", "AMQPLAIN", "EXTERNAL"]);
    vec![
        flag("amqp_durable_queues", "Exchange and queues survive a restart of the broker.")
            .aliases(&["rabbit_durable_queues"]),
        flag("amqp_auto_delete", "The broker deletes an exchange and queues that nobody uses."),
        flag("rabbit_ha_queues", "Mirrored queues."),
        flag("rabbit_quorum_queue", "Replicated queues."),
        number("rabbit_quorum_delivery_limit", "Deliveries before a message is dropped; 0: no limit.", "0"),
        number("rabbit_quorum_max_memory_length", "Messages in memory; 0: no limit.", "0"),
        number("rabbit_quorum_max_memory_bytes", "Bytes in memory; 0: no limit.", "0"),
        flag("rabbit_transient_quorum_queue", "Replicated reply and fanout queues."),
        number("rabbit_transient_queues_ttl", "Seconds that an unused one of them lives.", "1800"),
        flag("use_queue_manager", "A reply queue whose name stays the same over restarts."),
        number("heartbeat_timeout_threshold", "Seconds of silence that mean a dead connection; 0: never.", "60"),
        spec(
            "rabbit_qos_prefetch_count",
            Kind::Int { min: 0, max: 65_535 },
            "Requests that wait here; 0: 4 for each that may run.",
        )
        .or("0"),
        spec("rabbit_login_method", choices, "How to log in.").or("AMQPLAIN"),
        spec("rabbit_retry_interval", Kind::Int { min: 1, max: 3600 }, "First pause between connections.").or("1"),
        spec("rabbit_interval_max", Kind::Int { min: 1, max: 3600 }, "Longest pause between connections.").or("30"),
        number("kombu_missing_consumer_retry_timeout", "Seconds that a reply waits for a missing queue.", "60")
            .aliases(&["kombu_reconnect_timeout"]),
        flag("ssl", "Use TLS.").aliases(&["rabbit_use_ssl"]),
        spec("ssl_ca_file", Kind::Text, "PEM file of authorities.").aliases(&["kombu_ssl_ca_certs"]),
        spec("ssl_cert_file", Kind::Text, "PEM file of a client certificate.").aliases(&["kombu_ssl_certfile"]),
        spec("ssl_key_file", Kind::Text, "PEM file of its key.").aliases(&["kombu_ssl_keyfile"]),
    ]
}

/// The second door. The virt driver reads options of its own in this section.
fn docker_grpc() -> Vec<Spec> {
    let spec = |name, kind, help| Spec::new("docker_grpc", name, kind, help);
    vec![
        spec("listen", Kind::Text, "Where serve-driver listens: unix:///PATH or https://ADDRESS:PORT.")
            .or("unix:///run/nova-docker-agent/driver.sock"),
        spec("socket_user", Kind::Text, "User who may use the socket besides root and the agent's own."),
        spec("tls_certificate", Kind::Text, "Certificate chain (PEM) of an https address."),
        spec("tls_key", Kind::Text, "Private key (PEM) of the certificate."),
        spec("tls_client_ca", Kind::Text, "Authority (PEM) that must have signed the clients' certificates."),
        spec("max_concurrent_requests", Kind::Int { min: 1, max: 10_000 }, "Calls at the same time; more calls wait.")
            .or("64"),
    ]
}

fn serial_console() -> Vec<Spec> {
    let spec = |name, kind, help| Spec::new("serial_console", name, kind, help);
    vec![
        spec("enabled", Kind::Bool, "Offer serial consoles.").or("false"),
        spec("base_url", Kind::WebSocketUrl, "Where users reach nova-serialproxy.").or("ws://127.0.0.1:6083/"),
        spec("proxyclient_address", Kind::Text, "Address of this host that nova-serialproxy connects to.")
            .or("127.0.0.1"),
        spec("port_range", Kind::PortRange, "The agent listens on the first free port of it.").or("10000:20000"),
        Spec::new("consoleauth", "token_ttl", SECONDS, "Seconds in which a console can be opened.").or("600"),
    ]
}

fn image_cache() -> Vec<Spec> {
    let spec = |name, kind, help| Spec::new("image_cache", name, kind, help);
    vec![
        spec("manager_interval", INTERVAL, "Seconds between searches for unused images.").or("2400"),
        spec("remove_unused_base_images", Kind::Bool, "Remove images that nobody uses from Docker.").or("true"),
        spec("remove_unused_original_minimum_age_seconds", SECONDS, "Seconds that nobody must have used an image.")
            .or("86400"),
    ]
}

fn docker() -> Vec<Spec> {
    let spec = |name, kind, help| Spec::new("docker", name, kind, help);
    vec![
        spec("host_url", Kind::DockerUrl, "How to reach dockerd.").or("unix:///var/run/docker.sock"),
        spec("runtime", Kind::Text, "Our OCI runtime's name in dockerd's configuration.").or("nova"),
        spec("registry_listen", Kind::Loopback, "Where the embedded registry listens.").or("127.0.0.1:0"),
        spec("cache_directory", Kind::Text, "Where image layers are kept.").or("$state_path/docker-layers"),
        spec("cache_size_gb", Kind::Int { min: 1, max: 1_000_000 }, "GiB of image layers to keep.").or("20"),
        spec("build_grace_seconds", Kind::Int { min: 0, max: 600 }, "Seconds that a new container must run.").or("1"),
        spec(
            "build_wait",
            Kind::Choice(&["failing-start", "grace"]),
            "What of them a launch waits before it is ACTIVE.",
        )
        .or("failing-start"),
        spec("pids_limit", Kind::Int { min: 1, max: 4_194_304 }, "Processes of one container.").or("4096"),
        spec("log_max_size", Kind::Size, "Size of one log file of a container.").or("10m"),
        spec("log_max_files", Kind::Int { min: 1, max: 100 }, "Log files of a container.").or("2"),
        spec("inject_key", Kind::Bool, "Write the key pair's public key into the container.").or("true"),
        spec("inject_password", Kind::Bool, "Write the password of a launch into the container.").or("false"),
        spec("volume_grace_days", Kind::Int { min: 0, max: 36_500 }, "Days that an unused named volume is kept.")
            .or("7"),
        spec(
            "suspend",
            Kind::Choice(&["auto", "checkpoint", "freeze", "refuse"]),
            "What suspending a server does to its container.",
        )
        .or("auto"),
        spec("criu", Kind::Text, "The program that suspends to disk.").or("criu"),
        spec("runtimes", Kind::Programs, "OCI runtimes that flavors can name: NAME=PATH.").or(""),
        spec("host_mounts", Kind::Directories, "Directories that flavors can name: NAME=PATH or NAME=PATH:ro.").or(""),
        spec(
            "storage_overuse",
            Kind::Choice(&["log", "stop"]),
            "What happens to a server that writes more than its disk where Docker does not hold it to that.",
        )
        .or("log"),
        spec(
            "storage_check_seconds",
            Kind::Int { min: 0, max: 10_000_000 },
            "Seconds between two looks at what a server has written. 0: nobody looks.",
        )
        .or("600"),
        spec("state_tags", Kind::Bool, "Give servers tags that tell exit code and health.").or("true"),
        spec(
            "metadata_route",
            Kind::Choice(&["isolated", "dhcp", "gateway"]),
            "Where the metadata service is looked for.",
        )
        .or("isolated"),
        spec("accept_ra_networks", Kind::List, "Networks whose own IPv6 routers are heeded."),
    ]
}
