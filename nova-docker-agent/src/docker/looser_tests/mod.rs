//! Whatever users write, alone or together: no container of theirs is held less than the flavor alone holds it, or lets them choose.

mod said;

use std::collections::BTreeSet;

use base64::{Engine, engine::general_purpose::STANDARD};
use rand::{SeedableRng, rngs::StdRng};
use serde_json::Value;

use super::*;
use crate::guest::configuration::{Sources, all_keys};
use said::{Dice, Said};

const COMBINATIONS: usize = 3000;
const MEMORY_MB: u64 = 64;
/// Replaces the seed, to see a failure again.
const SEED: &str = "NOVA_DOCKER_TEST_SEED";

/// What operators may have said.
const FLAVORS: [&[(&str, &str)]; 7] = [
    &[],
    &[("docker:cap_add", "ALL"), ("docker:cap_drop", "SYS_ADMIN, CHOWN")],
    &[("docker:pids_limit", "100"), ("docker:ulimit:nofile", "512:1024"), ("docker:volumes", "1")],
    &[("docker:cap_add", "MKNOD SYS_PTRACE"), ("docker:cap_drop", "NET_RAW"), ("docker:ulimit:memlock", "65536")],
    &[("docker:cap_add", "ALL"), ("docker:no_new_privileges", "false"), ("docker:oom_score_adj", "500")],
    &[("docker:tmpfs", "/run:1m"), ("docker:read_only", "true"), ("docker:sysctl:net.core.somaxconn", "7")],
    &[("docker:shm_size", "1m"), ("docker:init", "true"), ("docker:restart", "no"), ("docker:stop_grace_period", "9")],
];

/// What they let users choose, and what a flavor gives that has all of that itself.
const CHOICES: [(&str, &[(&str, &str)]); 5] = [
    ("", &[]),
    ("cap_add:NET_ADMIN, cap_add:MKNOD", &[("docker:cap_add", "NET_ADMIN MKNOD")]),
    (
        "devices:/dev/kvm:r, devices:/dev/fuse, device_cgroup_rules:c 1:3 r, runtime:crun",
        &[
            ("docker:devices", "/dev/kvm:r /dev/fuse"),
            ("docker:device_cgroup_rules", "c 1:3 r"),
            ("docker:runtime", "crun"),
        ],
    ),
    (
        "security_opt:systempaths=unconfined, no_new_privileges, host_mount:data, gpus:1",
        &[
            ("docker:security_opt", "systempaths=unconfined"),
            ("docker:no_new_privileges", "false"),
            ("docker:host_mount:data", "/most"),
            ("docker:gpus", "1"),
        ],
    ),
    ("privileged", &[("docker:privileged", "true")]),
];

/// What is looked at when a check fails.
struct Shown(String);

impl Drop for Shown {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.0);
        }
    }
}

/// What the flavor and the users make of a container, and the OCI runtime that it needs; none when it is refused.
fn made(flavor: &[(&str, &str)], said: &Said) -> Option<(HostConfig, String)> {
    let user_data = match said.service.is_empty() {
        true => String::new(),
        // JSON is YAML.
        false => STANDARD.encode(format!("#container-config\n{}", Value::from(said.service.clone()))),
    };
    let sources = Sources {
        properties: said.properties.clone(),
        extra_specs: flavor.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
        metadata: said.metadata.clone(),
        user_data,
        memory_mb: MEMORY_MB,
        ..Sources::default()
    };
    let configuration = Configuration::parse(&sources).ok()?;
    let guest = Guest {
        uuid: uuid::Uuid::nil(),
        name: "web".to_owned(),
        hostname: "web".to_owned(),
        project_id: "p".to_owned(),
        user_id: "u".to_owned(),
        vcpus: 1,
        memory_mb: MEMORY_MB,
        root_gb: 1,
        swap_mb: 0,
        configuration,
        key: None,
        rescues: false,
        inside: crate::guest::Inside::default(),
        links: crate::guest::Peers::default(),
        created_by: "c".to_owned(),
    };
    let directory = |path: &str| crate::config::HostMount { path: path.into(), read_only: false };
    let host_mounts = [("data", "/srv/data"), ("secret", "/srv/secret")]
        .map(|(name, path)| (name.to_owned(), directory(path)))
        .into();
    let config = DockerConfig { host_mounts, ..DockerConfig::default() };
    let made = body(&guest, "h", "image", &[crate::network::an_interface()], &config, true);
    let labels = made.labels.unwrap();
    let own = [labels::INSTANCE, labels::COMPUTE, labels::INTERFACES, labels::RESCUE, labels::BASE]
        .map(|name| &labels[name][..]);
    assert_eq!(own, [&guest.uuid.to_string(), "c", "1", "false", ""], "{said:?}");
    assert_eq!((made.network_disabled, made.exposed_ports, made.volumes), (Some(true), None, None));
    made.host_config.map(|host| (host, labels[labels::RUNTIME].clone()))
}

/// Without what would be refused for itself, so that much is left of most combinations.
fn without_refused(flavor: &[(&str, &str)], said: Said) -> Said {
    let alone = |properties: Option<(&String, &String)>,
                 metadata: Option<(&String, &String)>,
                 service: Option<(&String, &Value)>| {
        let text = |(key, value): (&String, &String)| (key.clone(), value.clone());
        let only = Said {
            properties: properties.map(text).into_iter().collect(),
            metadata: metadata.map(text).into_iter().collect(),
            service: service.map(|(key, value)| (key.clone(), value.clone())).into_iter().collect(),
        };
        made(flavor, &only).is_some()
    };
    Said {
        properties: said.properties.into_iter().filter(|(key, value)| alone(Some((key, value)), None, None)).collect(),
        metadata: said.metadata.into_iter().filter(|(key, value)| alone(None, Some((key, value)), None)).collect(),
        service: said.service.into_iter().filter(|(key, value)| alone(None, None, Some((key, value)))).collect(),
    }
}

fn held_capabilities(host: &HostConfig) -> BTreeSet<String> {
    let names = |list: &Option<Vec<String>>| list.clone().unwrap_or_default();
    let (added, dropped) = (names(&host.cap_add), names(&host.cap_drop));
    let drops_all = dropped.iter().any(|name| name == "ALL");
    if added.iter().any(|name| name == "ALL") {
        // Those of others are enough to tell what is dropped.
        let all = CAPABILITIES.into_iter().chain(["NET_ADMIN", "SYS_ADMIN", "MKNOD", "SYS_PTRACE"]).map(str::to_owned);
        return all.filter(|name| !dropped.contains(name)).collect();
    }
    assert!(drops_all, "Docker's own set would be on top: {host:?}");
    added.into_iter().collect()
}

/// What a limit of a resource may be at most.
fn bound(name: &str, flavors: &HostConfig) -> i64 {
    let said =
        flavors.ulimits.iter().flatten().find(|limit| limit.name.as_deref() == Some(name)).and_then(|limit| limit.hard);
    let usual = match name {
        "memlock" => 8 << 20,
        "msgqueue" => 819_200,
        "nofile" => 1 << 20,
        "sigpending" => 1 << 16,
        "nice" | "rtprio" => 0,
        _ => -1,
    };
    let most = said.unwrap_or(usual);
    if most == -1 { i64::MAX } else { most }
}

/// What a flavor may let users choose is at most what the flavor would give that has all of it.
fn check_chosen(users: &HostConfig, most: &HostConfig) {
    let (users_capabilities, most_capabilities) = (held_capabilities(users), held_capabilities(most));
    let more: Vec<_> = users_capabilities.difference(&most_capabilities).collect();
    assert!(more.is_empty(), "capabilities {more:?}");
    for device in users.devices.iter().flatten() {
        let rights = |of: &bollard::models::DeviceMapping| of.cgroup_permissions.clone().unwrap();
        let may = |most: &bollard::models::DeviceMapping| {
            most.path_on_host == device.path_on_host && rights(device).chars().all(|right| rights(most).contains(right))
        };
        assert!(most.devices.iter().flatten().any(may), "{device:?}");
    }
    for rule in users.device_cgroup_rules.iter().flatten() {
        assert!(most.device_cgroup_rules.iter().flatten().any(|allowed| allowed == rule), "{rule}");
    }
    assert!(users.device_requests.is_none() || users.device_requests == most.device_requests);
    assert!(users.privileged == Some(false) || most.privileged == Some(true));
    assert!(users.masked_paths.is_none() || most.masked_paths.is_some());
    assert_eq!(users.readonly_paths, users.masked_paths);
    let (held, loose): (Vec<_>, Vec<_>) =
        users.security_opt.iter().flatten().partition(|option| *option == "no-new-privileges:true");
    assert!(loose.is_empty(), "{loose:?}");
    assert!(!held.is_empty() || most.security_opt.is_none());
    for mount in users.mounts.iter().flatten().filter(|mount| mount.typ == Some(bollard::models::MountType::BIND)) {
        assert!(most.mounts.iter().flatten().any(|allowed| allowed.source == mount.source), "{mount:?}");
        assert!(is_the_containers(mount.target.as_deref().unwrap()), "{mount:?}");
    }
}

fn check_bounded(users: &HostConfig, flavors: &HostConfig) {
    let log = |host: &HostConfig, name: &str| {
        let text = host.log_config.as_ref().unwrap().config.as_ref().unwrap()[name].clone();
        log_bytes(&text)
    };
    assert!(["max-size", "max-file"].iter().all(|name| (1..=log(flavors, name)).contains(&log(users, name))));
    assert_eq!(users.log_config.as_ref().unwrap().typ.as_deref(), Some("json-file"));
    assert!(
        users.pids_limit.unwrap() > 0 && users.pids_limit <= flavors.pids_limit,
        "processes {:?}",
        users.pids_limit
    );
    assert!((0..=1000).contains(&users.oom_score_adj.unwrap_or(0)));
    let memory = users.memory.unwrap();
    assert!((1..=memory).contains(&users.shm_size.unwrap()));
    for (path, options) in users.tmpfs.iter().flatten() {
        let size: i64 = options.strip_prefix("size=").unwrap().parse().unwrap();
        assert!((1..=memory).contains(&size) && is_the_containers(path), "tmpfs {path} {options}");
    }
    for limit in users.ulimits.iter().flatten() {
        let unlimited = |amount: Option<i64>| amount.map(|amount| if amount == -1 { i64::MAX } else { amount });
        let most = bound(limit.name.as_deref().unwrap(), flavors);
        assert!(unlimited(limit.hard) <= Some(most) && unlimited(limit.soft) <= unlimited(limit.hard), "{limit:?}");
    }
    for name in users.sysctls.iter().flatten().map(|(name, _)| name) {
        assert!(
            ["net.", "fs.mqueue.", "kernel.sem", "kernel.msg", "kernel.shm"].iter().any(|own| name.starts_with(own)),
            "{name}"
        );
    }
    for mount in users.mounts.iter().flatten().filter(|mount| mount.typ != Some(bollard::models::MountType::BIND)) {
        let (source, target) = (mount.source.as_deref().unwrap(), mount.target.as_deref().unwrap());
        assert!(
            mount.typ == Some(bollard::models::MountType::VOLUME) && source.starts_with("nova-volume.p."),
            "{mount:?}"
        );
        assert!(is_the_containers(target), "{mount:?}");
    }
}

fn is_the_containers(path: &str) -> bool {
    let kernels = ["/dev", "/proc", "/sys"].iter().any(|own| path == *own || path.starts_with(&format!("{own}/")));
    path.starts_with('/') && path.len() > 1 && !kernels && !path.split('/').any(|part| part == "..")
}

/// What users may change within bounds is left out: everything else, whatever it is, is the flavor's.
fn fixed(host: &HostConfig) -> Value {
    let mut all = serde_json::to_value(host).unwrap();
    for name in [
        "CapAdd",
        "CapDrop",
        "PidsLimit",
        "OomScoreAdj",
        "ShmSize",
        "Tmpfs",
        "Ulimits",
        "Sysctls",
        "Mounts",
        "Init",
        "GroupAdd",
        "LogConfig",
        // See `check_chosen`.
        "DeviceCgroupRules",
        "DeviceRequests",
        "Devices",
        "MaskedPaths",
        "Privileged",
        "ReadonlyPaths",
        "SecurityOpt",
    ] {
        all.as_object_mut().unwrap().remove(name);
    }
    all
}

/// A container of a flavor that has all itself that it lets users choose.
fn loosest(own: &[(&str, &str)], all_of_them: &[(&str, &str)]) -> (HostConfig, String) {
    let merged = |key: &str| {
        let of = |specs: &[(&str, &str)]| {
            specs.iter().find(|(known, _)| *known == key).map(|(_, value)| (*value).to_owned())
        };
        match (of(own), of(all_of_them)) {
            (Some(one), Some(other)) if key == "docker:cap_add" => format!("{one}, {other}"),
            (one, other) => other.or(one).unwrap(),
        }
    };
    let is_privileged = all_of_them.iter().any(|(key, _)| *key == "docker:privileged");
    let keys: BTreeSet<&str> = own.iter().chain(all_of_them).map(|(key, _)| *key).collect();
    // A privileged flavor cannot drop any.
    let keys = keys.into_iter().filter(|key| !(is_privileged && *key == "docker:cap_drop"));
    let specs: Vec<(String, String)> = keys.map(|key| (key.to_owned(), merged(key))).collect();
    let specs: Vec<(&str, &str)> = specs.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    made(&specs, &Said::default()).unwrap()
}

#[test]
fn no_combination_of_what_users_write_loosens_what_the_flavor_holds() {
    let seed = std::env::var(SEED).ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(rand::random::<u64>);
    let writable = || all_keys().filter(|(_, is_users)| *is_users).map(|(name, _)| name);
    let mut dice = Dice { rng: StdRng::seed_from_u64(seed), keys: writable().collect() };
    let (mut taken, mut chosen, mut keys) = (0, 0, BTreeSet::new());
    for number in 0..COMBINATIONS {
        let own = FLAVORS[number % FLAVORS.len()];
        let (choices, all_of_them) = CHOICES[number / FLAVORS.len() % CHOICES.len()];
        let flavor = [own, &[("docker:allow", choices)]].concat();
        let said = dice.said();
        let whole = made(&flavor, &said).map(|made| (said.clone(), made));
        let said = without_refused(&flavor, said);
        let rest = made(&flavor, &said).map(|made| (said, made));
        for (said, (host, runtime)) in whole.into_iter().chain(rest) {
            let (flavors, usual_runtime) = made(&flavor, &Said::default()).unwrap();
            let _shown = Shown(format!("{SEED}={seed}, combination {number} of flavor {flavor:?}: {said:?}"));
            assert_eq!(fixed(&host), fixed(&flavors));
            check_bounded(&host, &flavors);
            let (most, chosen_runtime) = loosest(own, all_of_them);
            check_chosen(&host, &most);
            assert!([usual_runtime, chosen_runtime].contains(&runtime), "{runtime}");
            chosen += usize::from(host.devices != flavors.devices || host.cap_add > flavors.cap_add);
            let users = said.properties.keys().map(|key| &key["docker_".len()..]);
            let users = users.chain(said.metadata.keys().map(|key| &key["docker:".len()..]));
            keys.extend(users.map(|key| key.find(':').map_or(key, |end| &key[..=end]).to_owned()));
            taken += 1;
        }
    }
    assert!(taken > COMBINATIONS / 2, "only {taken} were taken; {SEED}={seed}");
    assert!(chosen > 20, "only {chosen} have what they chose; {SEED}={seed}");
    let never: Vec<_> = writable().filter(|key| !keys.contains(*key)).collect();
    assert!(never.is_empty(), "never taken: {never:?}; {SEED}={seed}");
}
