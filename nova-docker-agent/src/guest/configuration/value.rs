//! Values of a container's configuration, from texts that nobody has checked. An error says what is wrong, without the value.

mod health;
pub(super) mod kernel;
mod time;

use std::collections::BTreeMap;
use std::net::IpAddr;

pub(super) use health::healthcheck;
pub(super) use kernel::{capabilities, oom_score, processes, sysctl, sysctl_name, ulimit};
pub(super) use time::grace;

/// Linux takes no longer path, with the zero byte at its end.
const LONGEST_PATH: usize = 4095;
/// Bytes of a name of a variable, label, user or group.
const LONGEST_NAME: usize = 255;
/// Docker takes user and group numbers as 31 bits.
const GREATEST_ID: u64 = i32::MAX as u64;
/// Bytes of a name in DNS.
const LONGEST_HOST: usize = 253;
/// Bytes of a label in DNS. Linux takes one more.
const LONGEST_OWN_NAME: usize = 63;
/// Bytes of a domain that Linux takes.
const LONGEST_DOMAIN: usize = 64;
/// Name servers that resolvers look at.
const MOST_SERVERS: usize = 3;
/// Words of one line of a resolv.conf.
const MOST_WORDS: usize = 32;
const SIGNALS: std::ops::RangeInclusive<u32> = 1..=64;
/// Label names that begin so are ours, or kept by Docker for itself.
pub(super) const RESERVED: [&str; 4] = ["org.openstack.nova", "com.docker.", "io.docker.", "org.dockerproject."];
/// The kernel's own file systems; nothing may hide them.
const KERNELS: [&str; 3] = ["/dev", "/proc", "/sys"];
/// Signals, without SIG. Besides them there are RTMIN to RTMAX.
pub(super) const SIGNAL_NAMES: [&str; 33] = [
    "ABRT", "ALRM", "BUS", "CHLD", "CLD", "CONT", "FPE", "HUP", "ILL", "INT", "IO", "IOT", "KILL", "PIPE", "POLL",
    "PROF", "PWR", "QUIT", "SEGV", "STKFLT", "STOP", "SYS", "TERM", "TRAP", "TSTP", "TTIN", "TTOU", "URG", "USR1",
    "USR2", "VTALRM", "WINCH", "XCPU",
];

type Result<T> = std::result::Result<T, &'static str>;

/// Directories in memory, with their sizes in bytes.
pub(super) struct Tmpfs(pub(super) BTreeMap<String, u64>);

/// A command with at least one word.
pub(super) fn command(text: &str) -> Result<Vec<String>> {
    let words = words(text)?;
    if words.is_empty() { Err("there is no command") } else { Ok(words) }
}

/// An entry point; no words, or nothing but an empty one, is none.
pub(super) fn entrypoint(text: &str) -> Result<Vec<String>> {
    let words = words(text)?;
    match words.first() {
        Some(first) if first.is_empty() && words.len() > 1 => Err("the first word is empty"),
        Some(first) if first.is_empty() => Ok(vec![]),
        _ => Ok(words),
    }
}

/// A JSON list of strings, or words as a POSIX shell splits them, without expanding anything.
fn words(text: &str) -> Result<Vec<String>> {
    let words = if text.trim_start().starts_with('[') {
        serde_json::from_str(text).map_err(|_| "it begins with '[' and is no JSON list of strings")?
    } else {
        shlex::split(text).ok_or("a quote is not closed")?
    };
    // JSON can write a zero byte without having one.
    if words.iter().any(|word: &String| word.contains('\0')) { Err("a word has a zero byte") } else { Ok(words) }
}

/// Of an environment variable.
pub(super) fn variable_name(name: &str) -> Result<()> {
    if name.contains('=') {
        return Err("the name has an equals sign");
    }
    any_name(name)
}

/// Of a label that is neither ours nor Docker's.
pub(super) fn label_name(name: &str) -> Result<()> {
    let lower = name.to_ascii_lowercase();
    if RESERVED.iter().any(|reserved| lower.starts_with(reserved)) {
        return Err("the name is reserved");
    }
    any_name(name)
}

fn any_name(name: &str) -> Result<()> {
    match name {
        "" => Err("the name is empty"),
        _ if name.len() > LONGEST_NAME => Err("the name is longer than 255 bytes"),
        _ if name.contains(char::is_control) => Err("the name has a control character"),
        _ => Ok(()),
    }
}

pub(super) fn flag(text: &str) -> Result<bool> {
    match text.trim().to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "1" => Ok(true),
        "false" | "no" | "off" | "0" => Ok(false),
        _ => Err("it is neither true nor false"),
    }
}

/// Bytes: a number, then perhaps k, m or g, then perhaps b; from 1 to `most`.
pub(super) fn size(text: &str, most: u64) -> Result<u64> {
    let text = text.trim().to_ascii_lowercase();
    let plain = text.strip_suffix('b').unwrap_or(&text);
    let (digits, unit) = match plain.char_indices().last() {
        Some((at, 'k')) => (&plain[..at], 1 << 10),
        Some((at, 'm')) => (&plain[..at], 1 << 20),
        Some((at, 'g')) => (&plain[..at], 1 << 30),
        _ => (plain, 1),
    };
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err("it is no size");
    }
    // Digits that do not fit are a number all the same.
    let size = digits.parse().unwrap_or(u64::MAX).saturating_mul(unit);
    match size {
        0 => Err("it is zero"),
        _ if size > most => Err("it is more than the flavor's memory"),
        _ => Ok(size),
    }
}

/// `SIGTERM`, `TERM`, `15`, `SIGRTMIN+3`: as Docker takes it.
pub(super) fn signal(text: &str) -> Result<String> {
    let text = text.trim().to_ascii_uppercase();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return match text.parse() {
            Ok(number) if SIGNALS.contains(&number) => Ok(number.to_string()),
            _ => Err("there is no such signal"),
        };
    }
    let name = text.strip_prefix("SIG").unwrap_or(&text);
    if SIGNAL_NAMES.contains(&name) || name == "XFSZ" || is_realtime(name) {
        Ok(format!("SIG{name}"))
    } else {
        Err("there is no such signal")
    }
}

/// Docker knows RTMIN to RTMIN+15 and RTMAX-14 to RTMAX.
fn is_realtime(name: &str) -> bool {
    let within = |from: &str, sign: char, most: u32| {
        let offset = name.strip_prefix(from)?;
        let number: u32 = if offset.is_empty() { 0 } else { offset.strip_prefix(sign)?.parse().ok()? };
        let written = if number == 0 { String::new() } else { format!("{sign}{number}") };
        (number <= most && offset == written).then_some(())
    };
    within("RTMIN", '+', 15).or_else(|| within("RTMAX", '-', 14)).is_some()
}

/// `USER` or `USER:GROUP`, by names or numbers.
pub(super) fn user(text: &str) -> Result<String> {
    let (user, group) = text.split_once(':').map_or((text, None), |(user, group)| (user, Some(group)));
    account(user)?;
    group.map_or(Ok(()), account)?;
    Ok(text.to_owned())
}

fn account(name: &str) -> Result<()> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    match name {
        "" => Err("a name is empty"),
        _ if name.len() > LONGEST_NAME => Err("a name is longer than 255 bytes"),
        _ if name.starts_with('-') || !name.bytes().all(plain) => {
            Err("a name has characters other than letters, digits, '_', '.' and '-'")
        }
        _ if name.bytes().all(|byte| byte.is_ascii_digit()) && name.parse().unwrap_or(u64::MAX) > GREATEST_ID => {
            Err("a number is greater than 2147483647")
        }
        _ => Ok(()),
    }
}

/// Groups by names or numbers, with commas or spaces between.
pub(super) fn groups(text: &str) -> Result<Vec<String>> {
    let names = text.split([',', ' ']).filter(|name| !name.is_empty());
    names.map(|name| account(name).map(|()| name.to_owned())).collect()
}

/// A name that `/etc/hosts` takes.
pub(super) fn host_name(name: &str) -> Result<()> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    match name {
        "" => Err("the name is empty"),
        _ if name.len() > LONGEST_HOST => Err("the name is longer than 253 bytes"),
        _ if name.starts_with(['-', '.']) || !name.bytes().all(plain) => Err("the name is no host name"),
        _ => Ok(()),
    }
}

/// IP addresses with spaces between.
pub(super) fn addresses(text: &str) -> Result<Vec<IpAddr>> {
    let all = text.split_whitespace().map(|word| word.parse().map_err(|_| "it is no IP address"));
    let all: Vec<IpAddr> = all.collect::<Result<_>>()?;
    if all.is_empty() { Err("there is no IP address") } else { Ok(all) }
}

/// Addresses of name servers with spaces between.
pub(super) fn name_servers(text: &str) -> Result<Vec<IpAddr>> {
    let servers = addresses(text)?;
    if servers.len() > MOST_SERVERS { Err("there are more than 3") } else { Ok(servers) }
}

/// One domain; a dot at its end is left out.
pub(super) fn domain(text: &str) -> Result<String> {
    let name = text.trim();
    let name = name.strip_suffix('.').unwrap_or(name);
    host_name(name)?;
    match name {
        _ if name.len() > LONGEST_DOMAIN => Err("the name is longer than 64 bytes"),
        _ if name.split('.').any(str::is_empty) => Err("the name is no host name"),
        _ => Ok(name.to_owned()),
    }
}

/// What a container calls itself: one name, or several with dots between.
pub(super) fn own_name(text: &str) -> Result<String> {
    let name = text.trim();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-".contains(&byte);
    let is_name = |part: &str| !part.is_empty() && !part.starts_with('-') && !part.ends_with('-');
    match name {
        _ if name.len() > LONGEST_OWN_NAME => Err("the name is longer than 63 bytes"),
        _ if !name.bytes().all(plain) || !name.split('.').all(is_name) => Err("the name is no host name"),
        _ => Ok(name.to_owned()),
    }
}

/// Domains with spaces between; a dot at the end of one is left out.
pub(super) fn domains(text: &str) -> Result<Vec<String>> {
    let names = text.split_whitespace().map(|name| name.strip_suffix('.').unwrap_or(name));
    let names: Vec<String> = names.map(|name| host_name(name).map(|()| name.to_owned())).collect::<Result<_>>()?;
    if names.len() > MOST_WORDS { Err("there are more than 32") } else { Ok(names) }
}

/// Options of a resolver, as `ndots:2`, with spaces between.
pub(super) fn resolver_options(text: &str) -> Result<Vec<String>> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_:.-".contains(&byte);
    let words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
    match words {
        _ if words.len() > MOST_WORDS => Err("there are more than 32"),
        _ if words.iter().any(|word| word.len() > LONGEST_NAME || !word.bytes().all(plain)) => Err("it is no option"),
        _ => Ok(words),
    }
}

/// An absolute path.
pub(super) fn path(text: &str) -> Result<String> {
    match text {
        _ if !text.starts_with('/') => Err("it is no absolute path"),
        _ if text.len() > LONGEST_PATH => Err("it is longer than 4095 bytes"),
        _ if text.contains(char::is_control) => Err("it has a control character"),
        _ => Ok(text.to_owned()),
    }
}

/// The path of a shell, or `none`.
pub(super) fn shell(text: &str) -> Result<String> {
    if text == "none" { Ok(text.to_owned()) } else { path(text) }
}

/// A path that something is mounted at: plain, and neither the root nor the kernel's.
pub(super) fn mount_point(text: &str) -> Result<String> {
    let directory = path(text)?;
    if directory.split('/').skip(1).any(|part| matches!(part, "" | "." | "..")) {
        return Err("a path is the root, or has an empty part, '.' or '..'");
    }
    if KERNELS
        .iter()
        .any(|own| directory.strip_prefix(own).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))
    {
        return Err("/dev, /proc and /sys are the kernel's");
    }
    Ok(directory)
}

/// Words that are each `PATH` or `PATH:SIZE`; without a size, half of the memory.
pub(super) fn tmpfs(text: &str, memory: u64) -> Result<Tmpfs> {
    let mut all = BTreeMap::new();
    for word in command(text)? {
        let (directory, size) = match word.split_once(':') {
            Some((directory, text)) => (directory, size(text, memory)?),
            None => (word.as_str(), memory / 2),
        };
        let directory = mount_point(directory)?;
        if all.insert(directory, size).is_some() {
            return Err("a path is named twice");
        }
    }
    Ok(Tmpfs(all))
}
