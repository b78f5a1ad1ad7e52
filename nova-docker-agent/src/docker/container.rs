//! Docker's create request for an instance's container: identity, limits, least privilege.

use std::collections::HashMap;

use bollard::models::{
    ContainerCreateBody, HealthConfig, HostConfig, HostConfigCgroupnsModeEnum, HostConfigLogConfig, RestartPolicy,
    RestartPolicyNameEnum,
};

use super::{DockerConfig, Error, labels};
use crate::guest::Guest;
use crate::limits;

const MIB: u64 = 1024 * 1024;
/// Length of the scheduling period in microseconds; the kernel's default.
const CPU_PERIOD: i64 = 100_000;
/// The kernel's upper bound of a weight (cgroup v1).
const MAX_CPU_SHARES: i64 = 262_144;
/// Linux takes no longer host name than 64 bytes; a DNS label has at most 63.
const MAX_HOSTNAME: usize = 63;

/// The capabilities of a container: those that sshd, su, web servers and package managers need. Of Docker's own set,
/// NET_RAW is missing (forged packets, and the kernel's packet sockets; a `ping` that knows datagram sockets works
/// without it) and MKNOD (device files).
const CAPABILITIES: [&str; 12] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

/// Extra specifications of the flavor that change the container; only an operator can write them.
const SPEC_CAPABILITIES: &str = "docker:cap_add";
const SPEC_INIT: &str = "docker:init";
const SPEC_NO_NEW_PRIVILEGES: &str = "docker:no_new_privileges";
const SPEC_PIDS_LIMIT: &str = "docker:pids_limit";

/// The body of Docker's create request. `quota` says whether the storage driver enforces a size.
pub(super) fn body(
    guest: &Guest,
    hostname: &str,
    image: &str,
    interfaces: usize,
    config: &DockerConfig,
    quota: bool,
) -> Result<ContainerCreateBody, Error> {
    Ok(ContainerCreateBody {
        image: Some(image.to_owned()),
        cmd: guest.command.clone(),
        env: Some(environment(guest)?),
        labels: Some(labels::of(guest, interfaces)),
        tty: Some(false),
        open_stdin: Some(false),
        // Nova does not look at it, and an image may ask for a probe every millisecond.
        healthcheck: Some(HealthConfig { test: Some(vec!["NONE".to_owned()]), ..Default::default() }),
        host_config: Some(host_config(guest, config, quota)?),
        hostname: Some(hostname.to_owned()),
        // Docker must leave the namespace alone: it would disable IPv6 in it, and flush the addresses, before each start.
        network_disabled: Some(true),
        ..Default::default()
    })
}

fn host_config(guest: &Guest, config: &DockerConfig, quota: bool) -> Result<HostConfig, Error> {
    let memory = to_bytes(guest.memory_mb);
    Ok(HostConfig {
        runtime: Some(config.runtime.clone()),
        network_mode: Some("none".to_owned()),

        memory: Some(memory),
        // Memory and swap together: equal to the memory, there is no swap.
        memory_swap: Some(memory.saturating_add(to_bytes(guest.swap_mb))),
        // Not NanoCpus: Docker refuses more of those than the host has, which an overcommitted flavor may well ask for.
        cpu_period: Some(CPU_PERIOD),
        cpu_quota: Some(CPU_PERIOD.saturating_mul(i64::from(guest.vcpus))),
        cpu_shares: Some(i64::from(guest.vcpus).saturating_mul(1024).clamp(2, MAX_CPU_SHARES)),
        pids_limit: Some(spec_processes(guest, SPEC_PIDS_LIMIT)?.unwrap_or(config.pids_limit)),
        storage_opt: (quota && guest.root_gb > 0)
            .then(|| HashMap::from([("size".to_owned(), format!("{}G", guest.root_gb))])),
        log_config: Some(log_config(config)),
        // Nova owns the power state; two masters would fight over it.
        restart_policy: Some(RestartPolicy { name: Some(RestartPolicyNameEnum::NO), maximum_retry_count: None }),

        // The image's own entrypoint is PID 1, as an init or a single service expects: it gets the stop signal, and it reaps
        // what it orphans. A flavor can put Docker's init before it for images that leave zombies.
        init: Some(spec_bool(guest, SPEC_INIT)?.unwrap_or(false)),
        privileged: Some(false),
        cap_drop: Some(vec!["ALL".to_owned()]),
        cap_add: Some(capabilities(guest)?),
        // The seccomp profile, masked paths and the LSM profile are Docker's defaults as long as nothing is said of them.
        security_opt: spec_bool(guest, SPEC_NO_NEW_PRIVILEGES)?
            .unwrap_or(true)
            .then(|| vec!["no-new-privileges:true".to_owned()]),
        ipc_mode: Some("private".to_owned()),
        cgroupns_mode: Some(HostConfigCgroupnsModeEnum::PRIVATE),
        ..Default::default()
    })
}

/// The default capabilities and those that the flavor adds, which are separated by commas or spaces.
fn capabilities(guest: &Guest) -> Result<Vec<String>, Error> {
    let mut names = CAPABILITIES.map(str::to_owned).to_vec();
    let added = guest.extra_specs.get(SPEC_CAPABILITIES).map_or("", String::as_str);
    for name in added.split([',', ' ']).filter(|name| !name.is_empty()) {
        let name = name.to_ascii_uppercase();
        let name = name.strip_prefix("CAP_").unwrap_or(&name);
        if !name.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_') {
            return Err(spec_invalid(SPEC_CAPABILITIES, format!("{name:?} is no capability")));
        }
        names.push(name.to_owned());
    }
    Ok(names)
}

fn log_config(config: &DockerConfig) -> HostConfigLogConfig {
    let options = HashMap::from([
        ("max-size".to_owned(), config.log_max_size.clone()),
        ("max-file".to_owned(), config.log_max_files.to_string()),
    ]);
    HostConfigLogConfig { typ: Some("json-file".to_owned()), config: Some(options) }
}

/// `NAME=value` of each variable, on top of the image's.
fn environment(guest: &Guest) -> Result<Vec<String>, Error> {
    let variable = |(name, value): (&String, &String)| {
        if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
            let reason = "it needs a name without '=' and no zero byte".to_owned();
            return Err(Error::Invalid { what: format!("environment variable {name:?}"), reason });
        }
        Ok(format!("{name}={value}"))
    };
    guest.environment.iter().map(variable).collect()
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

fn spec_bool(guest: &Guest, name: &str) -> Result<Option<bool>, Error> {
    let Some(value) = guest.extra_specs.get(name) else { return Ok(None) };
    match value.trim().to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "1" => Ok(Some(true)),
        "false" | "no" | "off" | "0" => Ok(Some(false)),
        _ => Err(spec_invalid(name, format!("{value:?} is neither true nor false"))),
    }
}

fn spec_processes(guest: &Guest, name: &str) -> Result<Option<i64>, Error> {
    let Some(value) = guest.extra_specs.get(name) else { return Ok(None) };
    match value.trim().parse().ok().and_then(limits::processes) {
        Some(number) => Ok(Some(number)),
        None => Err(spec_invalid(name, format!("{value:?} is no positive number"))),
    }
}

fn spec_invalid(name: &str, reason: String) -> Error {
    Error::Invalid { what: format!("extra specification {name} of the flavor"), reason }
}

/// Splits a command line as a POSIX shell does, without expanding anything. An empty line is refused.
pub fn split_command(line: &str) -> Result<Vec<String>, Error> {
    let invalid = |reason: &str| Error::Invalid { what: format!("command line {line:?}"), reason: reason.to_owned() };
    match shlex::split(line) {
        None => Err(invalid("a quote is not closed")),
        Some(words) if words.is_empty() => Err(invalid("there is no command")),
        Some(words) => Ok(words),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guest() -> Guest {
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
            command: None,
            environment: Default::default(),
            extra_specs: Default::default(),
            key: None,
            created_by: "c".to_owned(),
        }
    }

    fn host_config_of(guest: &Guest) -> HostConfig {
        body(guest, "h", "image", 0, &DockerConfig::default(), false).unwrap().host_config.unwrap()
    }

    #[test]
    fn swap_comes_on_top_of_the_memory_and_only_from_the_flavor() {
        assert_eq!(host_config_of(&guest()).memory_swap, Some(64 << 20));
        assert_eq!(host_config_of(&Guest { swap_mb: 16, ..guest() }).memory_swap, Some(80 << 20));
    }

    #[test]
    fn a_storage_quota_is_asked_for_only_where_it_is_enforced() {
        assert_eq!(host_config_of(&guest()).storage_opt, None);
        let body = body(&guest(), "h", "image", 0, &DockerConfig::default(), true).unwrap();
        assert_eq!(body.host_config.unwrap().storage_opt.unwrap()["size"], "1G");
    }

    #[test]
    fn only_the_flavor_loosens_new_privileges() {
        assert_eq!(host_config_of(&guest()).security_opt.unwrap(), ["no-new-privileges:true"]);
        let specs = [(SPEC_NO_NEW_PRIVILEGES.to_owned(), "False".to_owned())].into();
        assert_eq!(host_config_of(&Guest { extra_specs: specs, ..guest() }).security_opt, None);
        let specs = [(SPEC_NO_NEW_PRIVILEGES.to_owned(), "perhaps".to_owned())].into();
        assert!(body(&Guest { extra_specs: specs, ..guest() }, "h", "i", 0, &DockerConfig::default(), false).is_err());
    }

    #[test]
    fn limits_of_any_size_are_positive_numbers_in_dockers_request() {
        use crate::limits::extremes::{TEXTS, UNSIGNED};
        for &amount in UNSIGNED.iter().filter(|&&amount| amount > 0) {
            let vcpus = u32::try_from(amount).unwrap_or(u32::MAX);
            let guest = Guest { memory_mb: amount, swap_mb: amount, root_gb: amount, vcpus, ..guest() };
            let host = host_config_of(&guest);
            let numbers = [host.memory, host.memory_swap, host.cpu_quota, host.cpu_shares, host.pids_limit];
            assert!(numbers.iter().all(|number| number.is_some_and(|number| number > 0)), "{amount}: {numbers:?}");
            assert!(host.memory_swap >= host.memory);
        }
        for text in TEXTS {
            let specs = [(SPEC_PIDS_LIMIT.to_owned(), (*text).to_owned())].into();
            let made = body(&Guest { extra_specs: specs, ..guest() }, "h", "i", 0, &DockerConfig::default(), false);
            let limit = made.ok().and_then(|body| body.host_config?.pids_limit);
            assert!(limit.is_none_or(|limit| (1..=4_194_304).contains(&limit)), "{text:?}: {limit:?}");
        }
    }

    #[test]
    fn a_flavor_adds_capabilities_to_the_usual_ones() {
        let specs = [(SPEC_CAPABILITIES.to_owned(), "cap_net_raw, MKNOD".to_owned())].into();
        let names = host_config_of(&Guest { extra_specs: specs, ..guest() }).cap_add.unwrap();
        assert_eq!(names[CAPABILITIES.len()..], ["NET_RAW", "MKNOD"]);
        assert!(!host_config_of(&guest()).cap_add.unwrap().contains(&"NET_RAW".to_owned()));
    }

    #[test]
    fn a_host_name_is_cut_to_what_linux_takes() {
        assert_eq!(hostname(&"a".repeat(80)).unwrap().len(), 63);
        assert_eq!(hostname(&format!("{}-b", "a".repeat(62))).unwrap(), "a".repeat(62));
        assert!(hostname("").is_err());
        assert!(hostname("two words").is_err());
    }

    #[test]
    fn a_variable_cannot_smuggle_another_one_in() {
        let environment = [("A=B".to_owned(), "1".to_owned())].into();
        assert!(body(&Guest { environment, ..guest() }, "h", "i", 0, &DockerConfig::default(), false).is_err());
    }

    #[test]
    fn a_command_line_is_split_as_by_a_shell() {
        assert_eq!(split_command("sh -c 'echo \"a  b\"' c\\ d").unwrap(), ["sh", "-c", "echo \"a  b\"", "c d"]);
        assert!(split_command("sh -c 'open").is_err());
        assert!(split_command("  ").is_err());
    }
}
