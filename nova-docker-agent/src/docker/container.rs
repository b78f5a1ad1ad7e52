//! Docker's create request for an instance's container: identity, limits, least privilege.

use std::collections::HashMap;
use std::time::Duration;

use bollard::models::{
    ContainerCreateBody, HealthConfig, HostConfig, HostConfigCgroupnsModeEnum, HostConfigLogConfig, Mount,
    ResourcesUlimits,
};

use super::{DockerConfig, Error, config_drive, labels, peers, privileges, restart, volumes};
use crate::guest::configuration::{Logging, Ulimit};
use crate::guest::{Configuration, Guest};
use crate::limits;
use crate::network::Interface;

const MIB: u64 = 1024 * 1024;
/// Length of the scheduling period in microseconds; the kernel's default.
const CPU_PERIOD: i64 = 100_000;
/// The kernel's upper bound of a weight (cgroup v1).
const MAX_CPU_SHARES: i64 = 262_144;
/// Linux takes no longer host name than 64 bytes; a DNS label has at most 63.
const MAX_HOSTNAME: usize = 63;

/// The capabilities of a container: those that sshd, su, ping, web servers and package managers need. They are Docker's own set
/// but for MKNOD (device files). NET_RAW does not reach beyond the instance: the namespace is its own, and Neutron drops forged
/// packets at its ports.
const CAPABILITIES: [&str; 13] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "NET_BIND_SERVICE",
    "NET_RAW",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

/// Every capability, to Docker.
const ALL: &str = "ALL";
/// Docker's own time between checks in the start period.
const START_INTERVAL: Duration = Duration::from_secs(5);

/// The body of Docker's create request. `quota` says whether the storage driver enforces a size.
pub(super) fn body(
    guest: &Guest,
    hostname: &str,
    image: &str,
    interfaces: &[Interface],
    config: &DockerConfig,
    quota: bool,
) -> ContainerCreateBody {
    let asked = &guest.configuration;
    ContainerCreateBody {
        image: Some(image.to_owned()),
        cmd: asked.command.clone(),
        entrypoint: asked.entrypoint.clone().map(entrypoint),
        env: Some(environment(guest, hostname, interfaces)),
        working_dir: asked.working_dir.clone(),
        user: asked.user.clone(),
        stop_signal: asked.stop_signal.clone(),
        labels: Some(labels::of(guest, interfaces.len())),
        tty: Some(asked.tty.unwrap_or(false)),
        // Who can see a terminal wants to write to it, unless somebody says otherwise.
        open_stdin: Some(asked.stdin_open.or(asked.tty).unwrap_or(false)),
        healthcheck: Some(health(asked)),
        host_config: Some(host_config(guest, config, quota)),
        hostname: Some(hostname.to_owned()),
        domainname: asked.domainname.clone(),
        // Docker must leave the namespace alone: it would disable IPv6 in it, and flush the addresses, before each start.
        network_disabled: Some(true),
        ..Default::default()
    }
}

fn host_config(guest: &Guest, config: &DockerConfig, quota: bool) -> HostConfig {
    let memory = to_bytes(guest.memory_mb);
    let asked = &guest.configuration;
    let mut host = HostConfig {
        runtime: Some(config.runtime.clone()),
        network_mode: Some("none".to_owned()),

        memory: Some(memory),
        // Memory and swap together: equal to the memory, there is no swap.
        memory_swap: Some(memory.saturating_add(to_bytes(guest.swap_mb))),
        // Not NanoCpus: Docker refuses more of those than the host has, which an overcommitted flavor may well ask for.
        cpu_period: Some(CPU_PERIOD),
        cpu_quota: Some(CPU_PERIOD.saturating_mul(i64::from(guest.vcpus))),
        cpu_shares: Some(i64::from(guest.vcpus).saturating_mul(1024).clamp(2, MAX_CPU_SHARES)),
        pids_limit: Some(processes(asked, config.pids_limit)),
        // Files in memory count as the container's memory; Docker's own 64 MiB may be more than the flavor has, or too little.
        shm_size: Some(asked.shm_size.map_or(memory / 2, limits::signed)),
        tmpfs: (!asked.tmpfs.is_empty()).then(|| tmpfs(asked)),
        mounts: Some(mounts(guest, config)),
        storage_opt: (quota && guest.root_gb > 0)
            .then(|| HashMap::from([("size".to_owned(), format!("{}G", guest.root_gb))])),
        log_config: Some(log_config(asked, config)),
        // Nova owns the power state: what it has not started, Docker does not start again.
        restart_policy: Some(restart::never()),

        // The image's own entrypoint is PID 1, as an init or a single service expects: it gets the stop signal, and it reaps
        // what it orphans. Docker's init can be put before it for images that leave zombies.
        init: Some(asked.init.unwrap_or(false)),
        cap_drop: Some(if has_all(asked) { asked.cap_drop.clone() } else { vec![ALL.to_owned()] }),
        cap_add: Some(capabilities(asked)),
        group_add: Some(asked.group_add.clone()),
        ulimits: Some(asked.ulimits.iter().map(ulimit).collect()),
        sysctls: Some(asked.sysctls.clone().into_iter().collect()),
        oom_score_adj: asked.oom_score_adj,
        ipc_mode: Some("private".to_owned()),
        cgroupns_mode: Some(HostConfigCgroupnsModeEnum::PRIVATE),
        ..Default::default()
    };
    privileges::add(&mut host, asked);
    host
}

/// Docker makes them in an order of its own: a path before those below it.
fn mounts(guest: &Guest, config: &DockerConfig) -> Vec<Mount> {
    let drive = config_drive::mounts(guest, &config.config_drive_directory);
    [volumes::mounts(guest), privileges::mounts(guest, config), drive].concat()
}

/// The usual capabilities and those that the flavor adds, without those that are not wanted.
fn capabilities(asked: &Configuration) -> Vec<String> {
    if has_all(asked) {
        return vec![ALL.to_owned()];
    }
    let all = CAPABILITIES.into_iter().map(str::to_owned).chain(asked.cap_add.iter().cloned());
    all.filter(|name| !asked.cap_drop.iter().any(|dropped| dropped == ALL || dropped == name)).collect()
}

/// To Docker, ALL among the added wins over ALL among the dropped.
fn has_all(asked: &Configuration) -> bool {
    asked.cap_add.iter().any(|name| name == ALL) && !asked.cap_drop.iter().any(|name| name == ALL)
}

fn ulimit((name, limit): (&String, &Ulimit)) -> ResourcesUlimits {
    ResourcesUlimits { name: Some(name.clone()), soft: Some(limit.soft), hard: Some(limit.hard) }
}

/// Nova does not look at it, and an image may ask for a check every millisecond: without one that is asked for there is none.
/// Nothing is left for the image to fill in.
fn health(asked: &Configuration) -> HealthConfig {
    let Some(health) = &asked.health else {
        return HealthConfig { test: Some(vec!["NONE".to_owned()]), ..Default::default() };
    };
    let nanoseconds = |time: Duration| Some(i64::try_from(time.as_nanos()).unwrap_or(i64::MAX));
    HealthConfig {
        test: Some(health.test.clone()),
        interval: nanoseconds(health.interval),
        timeout: nanoseconds(health.timeout),
        // Docker would take zero for the image's.
        start_period: nanoseconds(health.start_period.max(Duration::from_millis(1))),
        start_interval: nanoseconds(START_INTERVAL),
        retries: Some(health.retries),
    }
}

/// The flavor's limit, or else the host's; the user may ask for less.
fn processes(asked: &Configuration, of_host: i64) -> i64 {
    let most = asked.most_processes.unwrap_or(of_host);
    asked.pids_limit.map_or(most, |limit| limit.min(most))
}

/// The flavor's bounds, or else the host's; the user may ask for less.
fn log_config(asked: &Configuration, config: &DockerConfig) -> HostConfigLogConfig {
    let Logging { size: most_size, files: most_files } = asked.most_logging;
    let most_size = most_size.map_or_else(|| config.log_max_size.clone(), |size| size.to_string());
    let size = match asked.logging.size {
        Some(size) if size < log_bytes(&most_size) => size.to_string(),
        _ => most_size,
    };
    let most_files = most_files.unwrap_or_else(|| config.log_max_files.into());
    let files = asked.logging.files.map_or(most_files, |files| files.min(most_files));
    let options = HashMap::from([("max-size".to_owned(), size), ("max-file".to_owned(), files.to_string())]);
    HostConfigLogConfig { typ: Some("json-file".to_owned()), config: Some(options) }
}

/// A size of a log as Docker reads it: a number, perhaps with k, m or g, of a thousand each.
fn log_bytes(text: &str) -> u64 {
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let power = match text[digits.len()..].to_ascii_lowercase().as_str() {
        "k" => 1,
        "m" => 2,
        "g" => 3,
        _ => 0,
    };
    digits.parse().unwrap_or(u64::MAX).saturating_mul(1000_u64.pow(power))
}

/// `NAME=value` of each variable, on top of the image's: what linked servers give, unless somebody says otherwise.
fn environment(guest: &Guest, hostname: &str, interfaces: &[Interface]) -> Vec<String> {
    let asked = &guest.configuration;
    let mut all = guest.links.environment(&asked.links, hostname, &peers::networks(interfaces));
    all.extend(asked.environment.0.clone());
    all.iter().map(|(name, value)| format!("{name}={value}")).collect()
}

/// To Docker no word is the image's entry point, and an empty word is none.
fn entrypoint(words: Vec<String>) -> Vec<String> {
    if words.is_empty() { vec![String::new()] } else { words }
}

fn tmpfs(asked: &Configuration) -> HashMap<String, String> {
    asked.tmpfs.iter().map(|(path, size)| (path.clone(), format!("size={size}"))).collect()
}

/// A name that Linux takes: cut to its length. The error names what is wrong with it.
pub(super) fn hostname(wanted: &str) -> Result<String, Error> {
    let mut hostname: String = wanted.chars().take(MAX_HOSTNAME).collect();
    hostname.truncate(hostname.trim_end_matches(['-', '.']).len());
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-.".contains(&byte);
    if hostname.is_empty() || hostname.starts_with(['-', '.']) || !hostname.bytes().all(plain) {
        return Err(Error::Invalid { what: format!("host name {wanted:?}"), reason: "it is no DNS name".to_owned() });
    }
    Ok(hostname)
}

fn to_bytes(mib: u64) -> i64 {
    i64::try_from(mib.saturating_mul(MIB)).unwrap_or(i64::MAX)
}

/// For tests.
#[cfg(test)]
pub(super) fn an_instance() -> Guest {
    Guest {
        uuid: uuid::Uuid::nil(),
        name: "web 1".to_owned(),
        hostname: "web-1".to_owned(),
        project_id: "p".to_owned(),
        user_id: "u".to_owned(),
        vcpus: 2,
        memory_mb: 64,
        root_gb: 1,
        swap_mb: 0,
        configuration: Configuration::default(),
        links: crate::guest::Peers::default(),
        key: None,
        rescues: false,
        inside: crate::guest::Inside::default(),
        created_by: "c".to_owned(),
    }
}

#[cfg(test)]
#[path = "container_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "looser_tests/mod.rs"]
mod looser;
