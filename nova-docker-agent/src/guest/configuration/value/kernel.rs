//! Values that the kernel takes: capabilities, limits of resources, its own settings.

use super::{Result, any_name};
use crate::guest::configuration::Ulimit;
use crate::limits;

/// All of Linux, without `CAP_`.
pub(in crate::guest::configuration) const CAPABILITIES: [&str; 41] = [
    "AUDIT_CONTROL",
    "AUDIT_READ",
    "AUDIT_WRITE",
    "BLOCK_SUSPEND",
    "BPF",
    "CHECKPOINT_RESTORE",
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "IPC_LOCK",
    "IPC_OWNER",
    "KILL",
    "LEASE",
    "LINUX_IMMUTABLE",
    "MAC_ADMIN",
    "MAC_OVERRIDE",
    "MKNOD",
    "NET_ADMIN",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_RAW",
    "PERFMON",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYSLOG",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_CHROOT",
    "SYS_MODULE",
    "SYS_NICE",
    "SYS_PACCT",
    "SYS_PTRACE",
    "SYS_RAWIO",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "WAKE_ALARM",
];
/// What a user may have of each resource: the kernel's own hard limits, and Docker's of open files. More of what has a bound here
/// takes from the whole host.
pub(in crate::guest::configuration) const RESOURCES: [(&str, i64); 15] = [
    ("core", UNLIMITED),
    ("cpu", UNLIMITED),
    ("data", UNLIMITED),
    ("fsize", UNLIMITED),
    ("locks", UNLIMITED),
    ("memlock", 8 << 20),
    ("msgqueue", 819_200),
    ("nice", 0),
    ("nofile", 1 << 20),
    // The limit of processes bounds them.
    ("nproc", UNLIMITED),
    ("rss", UNLIMITED),
    ("rtprio", 0),
    ("rttime", UNLIMITED),
    ("sigpending", 1 << 16),
    ("stack", UNLIMITED),
];
const UNLIMITED: i64 = -1;
/// Settings that each container has of its own, besides those below `net.` and `fs.mqueue.`.
pub(in crate::guest::configuration) const SETTINGS: [&str; 8] = [
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shm_rmid_forced",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
];
/// Bytes of a setting's value.
const LONGEST_SETTING: usize = 1024;
/// The most likely to be killed when the host's memory ends.
const WORST_SCORE: i64 = 1000;

/// A limit of processes, brought to what the kernel takes.
pub(in crate::guest::configuration) fn processes(text: &str) -> Result<i64> {
    text.trim().parse().ok().and_then(limits::processes).ok_or("it is no positive number")
}

/// Capabilities, without `CAP_`.
pub(in crate::guest::configuration) fn capabilities(text: &str) -> Result<Vec<String>> {
    let names = text.split([',', ' ']).filter(|name| !name.is_empty()).map(str::to_ascii_uppercase);
    let names = names.map(|name| name.strip_prefix("CAP_").map(str::to_owned).unwrap_or(name));
    let known = |name: &str| name == "ALL" || CAPABILITIES.contains(&name);
    names.map(|name| if known(&name) { Ok(name) } else { Err("there is no such capability") }).collect()
}

/// `SOFT:HARD`, or one number for both; `unlimited` and -1 are no limit. `most` takes the place of what users may have.
pub(in crate::guest::configuration) fn ulimit(name: &str, text: &str, most: Option<i64>) -> Result<Ulimit> {
    let Some((_, usual)) = RESOURCES.iter().find(|(known, _)| *known == name) else {
        return Err("there is no such resource");
    };
    let (soft, hard) = text.split_once(':').unwrap_or((text, text));
    let limit = Ulimit { soft: amount(soft)?, hard: amount(hard)? };
    let greatness = |amount: i64| if amount == UNLIMITED { i64::MAX } else { amount };
    match limit {
        _ if greatness(limit.soft) > greatness(limit.hard) => Err("the soft limit is more than the hard one"),
        _ if greatness(limit.hard) > greatness(most.unwrap_or(*usual)) => Err("it is more than the flavor allows"),
        _ => Ok(limit),
    }
}

fn amount(text: &str) -> Result<i64> {
    match text.trim() {
        "unlimited" | "-1" => Ok(UNLIMITED),
        digits if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            // Digits that do not fit are a number all the same.
            Ok(digits.parse().unwrap_or(i64::MAX))
        }
        _ => Err("it is no number"),
    }
}

/// The name of a setting that each container has of its own.
pub(in crate::guest::configuration) fn sysctl_name(name: &str) -> Result<()> {
    any_name(name)?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    let is_own = SETTINGS.contains(&name) || name.starts_with("net.") || name.starts_with("fs.mqueue.");
    match name {
        _ if !is_own => Err("the setting is the host's, not the container's"),
        _ if !name.bytes().all(plain) || name.split('.').any(str::is_empty) => Err("there is no such setting"),
        _ => Ok(()),
    }
}

pub(in crate::guest::configuration) fn sysctl(text: &str) -> Result<String> {
    let is_plain = |character: char| !character.is_control() || character == '\t';
    match text.trim() {
        "" => Err("it is empty"),
        text if text.len() > LONGEST_SETTING => Err("it is longer than 1024 bytes"),
        text if !text.chars().all(is_plain) => Err("it has a control character"),
        text => Ok(text.to_owned()),
    }
}

/// How willingly the kernel kills a container for memory; less than usual is not to be had.
pub(in crate::guest::configuration) fn oom_score(text: &str) -> Result<i64> {
    let score = text.trim().parse().ok().filter(|score| (0..=WORST_SCORE).contains(score));
    score.ok_or("it is no number from 0 to 1000")
}
