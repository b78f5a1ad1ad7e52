//! What users may write, sensible and hostile, by chance.

use std::collections::BTreeMap;

use rand::seq::IndexedRandom;
use rand::{RngExt, rngs::StdRng};
use serde_json::{Map, Value, json};

/// Values of keys that a flavor may let users choose.
const CHOOSABLE: [(&str, &[&str]); 9] = [
    ("cap_add", &["NET_ADMIN", "MKNOD,net_admin", "SYS_ADMIN", "NET_ADMIN SYS_PTRACE", "ALL"]),
    ("device_cgroup_rules", &["c 1:3 r", "c  1:3  r", "c 1:3 rw", "a *:* rwm", "c *:3 r"]),
    (
        "devices",
        &["/dev/kvm:r", "/dev/kvm:/dev/a:r /dev/fuse", "/dev/kvm", "/dev/sda", "/dev/fuse/../sda", "/dev/fuse:m"],
    ),
    ("gpus", &["1", "2", "all", "device=0"]),
    ("host_mount:data", &["/data", "/data:ro", "/etc"]),
    ("host_mount:secret", &["/data"]),
    ("no_new_privileges", &["false", "true"]),
    ("privileged", &["true", "false"]),
    (
        "security_opt",
        &["systempaths=unconfined", "systempaths:unconfined", "seccomp=unconfined", "apparmor=unconfined"],
    ),
];

/// Values that each key takes; the first ones ask for the most.
const TAKEN: [(&str, &[&str]); 26] = [
    ("cap_drop", &["NET_RAW", "SETPCAP,CHOWN", "all", "CAP_MKNOD sys_ptrace"]),
    ("command", &["unshare -r sh", "[\"sh\"]"]),
    ("console_shell", &["/bin/sh", "none"]),
    ("dns", &["192.0.2.1"]),
    ("dns_opt", &["ndots:2"]),
    ("dns_search", &["example"]),
    ("domainname", &["host"]),
    ("entrypoint", &["", "/bin/sh"]),
    ("env:", &["privileged=true", "host"]),
    ("group_add", &["0", "docker", "root, 44"]),
    ("healthcheck", &["{\"test\": \"true\"}"]),
    ("host:", &["127.0.0.1"]),
    ("hostname", &["host", "localhost"]),
    ("label:", &["org.openstack.nova.rescue=true", "true"]),
    ("link_wait", &["10m", "optional"]),
    ("oom_score_adj", &["0", "1000"]),
    ("pids_limit", &["9223372036854775807", "4096", "1", "100"]),
    ("restart", &["always", "on-failure:2147483647"]),
    ("shm_size", &["64m", "1"]),
    ("stop_grace_period", &["1h", "1"]),
    ("stop_signal", &["SIGCONT", "64"]),
    ("tmpfs", &["/run:64m /var/tmp", "/etc:1"]),
    ("user", &["0:0", "root"]),
    ("volume:", &["/var/run", "/etc:ro", "/root:rw"]),
    ("working_dir", &["/proc/1/root", "/"]),
    ("remove_volumes", &["true"]),
];
const NAMED: [(&str, &[&str]); 4] = [
    ("logging:", &["max-size", "max-file", "mode"]),
    ("sysctl:", &["net.ipv4.ip_forward", "fs.mqueue.msg_max", "kernel.shmmax", "net.core.somaxconn"]),
    ("ulimit:", &["nofile", "memlock", "core", "nproc", "rtprio", "nice", "msgqueue", "sigpending"]),
    ("label:", &["a", "org.openstack.nova.rescue", "org.openstack.nova.instance-uuid", "org.openstack.nova.x"]),
];

/// What nobody should write, under any key.
const HOSTILE: [&str; 34] = [
    "true",
    "false",
    "0",
    "1",
    "-1",
    "unlimited",
    "unlimited:unlimited",
    "1048577",
    "99999999999999999999",
    "ALL",
    "all",
    "SYS_ADMIN",
    "CAP_SYS_ADMIN,ALL",
    "host",
    "container:x",
    "unconfined",
    "seccomp=unconfined",
    "no-new-privileges:false",
    "/:/host",
    "/dev/sda:/dev/sda:rwm",
    "/var/run/docker.sock:/s",
    "/proc",
    "/sys/fs/cgroup:rw",
    "/a:rw,exec,dev,suid",
    "/a:1m,mode=777",
    "..",
    "/../..",
    "\n",
    "a\0b",
    "\u{202e}e",
    "{\"privileged\": true}",
    "[\"ALL\"]",
    "runc",
    "1:2",
];

/// What others know of containers, and users here may not write.
const STRANGE: [&str; 24] = [
    "privileged",
    "devices",
    "device_cgroup_rules",
    "gpus",
    "runtime",
    "security_opt",
    "host_mount:a",
    "allow",
    "network_mode",
    "pid",
    "ipc",
    "uts",
    "userns_mode",
    "cgroup_parent",
    "cgroupns_mode",
    "isolation",
    "volumes_from",
    "mem_limit",
    "memswap_limit",
    "cpus",
    "storage_opt",
    "no_new_privileges",
    "cap_add",
    "volumes",
];

type Texts = BTreeMap<String, String>;

/// What users say, in their three places.
#[derive(Clone, Debug, Default)]
pub(super) struct Said {
    pub(super) properties: Texts,
    pub(super) metadata: Texts,
    pub(super) service: Map<String, Value>,
}

pub(super) struct Dice {
    pub(super) rng: StdRng,
    pub(super) keys: Vec<&'static str>,
}

impl Dice {
    fn one<'a>(&mut self, of: &'a [&'a str]) -> &'a str {
        of.choose(&mut self.rng).unwrap()
    }

    /// A key with its name.
    fn key(&mut self) -> (String, &'static str) {
        if self.rng.random_bool(0.1) {
            return (self.one(&STRANGE).to_owned(), "");
        }
        if self.rng.random_bool(0.2) {
            let (key, _) = CHOOSABLE[self.rng.random_range(0..CHOOSABLE.len())];
            return (key.to_owned(), key);
        }
        if self.rng.random_bool(0.03) {
            return ("runtime".to_owned(), "runtime");
        }
        let known = self.keys[self.rng.random_range(0..self.keys.len())];
        let names = NAMED.iter().find(|(key, _)| *key == known).map_or(&["a", "b", "host"][..], |(_, names)| names);
        let name = if known.ends_with(':') { self.one(names) } else { "" };
        (format!("{known}{name}"), known)
    }

    fn value(&mut self, key: &str) -> String {
        let taken = TAKEN.iter().chain(&CHOOSABLE).find(|(known, _)| *known == key);
        let numbers = ["1", "1024:1048576", "65536", "8388608"];
        let values = match key {
            "sysctl:" | "ulimit:" | "logging:" => &numbers[..],
            "runtime" => &["crun", "runsc", "runc"][..],
            _ => taken.map_or(&["true", "false"][..], |(_, values)| values),
        };
        if self.rng.random_bool(0.3) { self.one(&HOSTILE).to_owned() } else { self.one(values).to_owned() }
    }

    pub(super) fn said(&mut self) -> Said {
        let mut said = Said::default();
        for _ in 0..self.rng.random_range(1..12) {
            let (key, known) = self.key();
            let value = self.value(known);
            match self.rng.random_range(0..3) {
                0 => drop(said.properties.insert(format!("docker_{key}"), value)),
                1 => drop(said.metadata.insert(format!("docker:{key}"), value)),
                _ => drop(said.service.insert(in_service(&key), of_service(&key, value))),
            }
        }
        said
    }
}

/// A key of ours as Compose's.
fn in_service(key: &str) -> String {
    let (kind, _) = key.split_once(':').unwrap_or((key, ""));
    let compose = [
        ("env", "environment"),
        ("host", "extra_hosts"),
        ("label", "labels"),
        ("sysctl", "sysctls"),
        ("ulimit", "ulimits"),
        ("volume", "volumes"),
        ("host_mount", "host_mounts"),
    ];
    compose.iter().find(|(ours, _)| *ours == kind).map_or(kind, |(_, theirs)| theirs).to_owned()
}

fn of_service(key: &str, value: String) -> Value {
    match key.split_once(':') {
        Some(("volume" | "host_mount", name)) => json!([format!("{name}:{value}")]),
        Some(("logging", name)) => json!({ "options": { name: value } }),
        None if key == "device_cgroup_rules" => json!([value]),
        Some((_, name)) => json!({ name: value }),
        None if key == "healthcheck" => serde_json::from_str(&value).unwrap_or(json!(value)),
        None => json!(value),
    }
}
