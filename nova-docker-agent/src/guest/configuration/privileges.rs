//! What loosens the hold on a container: the flavor's word alone, and of it what the flavor lets others choose.
//!
//! `docker:allow` names keys, or keys with a value: `cap_add:NET_ADMIN, devices:/dev/kvm`. What others choose comes on top of what
//! the flavor itself gives, or takes the place of its one value.

use std::collections::BTreeMap;

use super::{Place, Volume, value, volume};

/// Entries of one list.
const MOST: usize = 64;
/// The kernel's numbers of devices have 20 bits.
const GREATEST_NUMBER: u32 = 0xf_ffff;
/// GPUs of one container.
const MOST_GPUS: i64 = 64;
/// What Docker takes for all of them.
const ALL_GPUS: i64 = -1;
/// Every capability.
const ALL: &str = "ALL";
const DEVICES: &str = "/dev/";
/// What the container has of a device when nobody says less: read, write, mknod.
const WHOLE_ACCESS: &str = "rwm";

pub(super) const ALLOWED_DEVICES: &str =
    "devices of the host, as /dev/kvm, or HOST:PATH:rwm, with commas or spaces between";
pub(super) const ALLOWED_RULES: &str = "rules as c 10:200 rwm, with commas between";
pub(super) const ALLOWED_GPUS: &str = "all, a number, or device=ID,ID";
pub(super) const ALLOWED_OPTIONS: &str =
    "seccomp=unconfined, systempaths=unconfined, apparmor=PROFILE, label=disable or label=KEY:VALUE";
pub(super) const ALLOWED_CHOICES: &str = "KEY or KEY:VALUE, with commas between, of cap_add, device_cgroup_rules, devices, gpus, \
    host_mount, no_new_privileges, privileged, runtime, security_opt";

type Result<T> = std::result::Result<T, &'static str>;

/// What a container has beyond the usual hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Privileges {
    /// Whether Docker takes the hold off altogether.
    pub privileged: Option<bool>,
    /// Devices of the host.
    pub devices: Layers<Device>,
    /// What the container may do with devices that it makes itself, in Docker's words.
    pub device_cgroup_rules: Layers<String>,
    /// Graphics processors.
    pub gpus: Option<Gpus>,
    /// Docker's security options.
    pub security_opt: Layers<String>,
    /// The OCI runtime, by the operator's name of it.
    pub runtime: Option<String>,
    /// Directories of the host, by the operator's names of them.
    pub host_mounts: BTreeMap<String, Volume>,
}

/// A list of which the flavor's part is there whatever others say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layers<T> {
    flavors: Vec<T>,
    chosen: Vec<T>,
}

impl<T> Default for Layers<T> {
    fn default() -> Self {
        Self { flavors: vec![], chosen: vec![] }
    }
}

impl<T: PartialEq> Layers<T> {
    /// The flavor's, then what others have chosen besides.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.flavors.iter().chain(self.chosen.iter().filter(|item| !self.flavors.contains(item)))
    }

    pub fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }

    pub(super) fn set(&mut self, place: Place, items: Vec<T>) -> Result<()> {
        if items.len() > MOST {
            return Err("there are more than 64");
        }
        *(if place == Place::Flavor { &mut self.flavors } else { &mut self.chosen }) = items;
        Ok(())
    }
}

/// A device of the host, or a directory of devices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// On the host.
    pub host: String,
    /// In the container.
    pub path: String,
    /// Of `r`, `w` and `m`.
    pub access: String,
}

impl Device {
    /// Whether who may have this device may have the other one: with no more access, wherever it is in the container.
    fn covers(&self, other: &Self) -> bool {
        self.host == other.host && other.access.chars().all(|right| self.access.contains(right))
    }
}

/// Which graphics processors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Gpus {
    /// So many; -1 is all.
    Count(i64),
    /// Those of these ids.
    Ids(Vec<String>),
}

/// What a flavor lets others choose.
#[derive(Clone, Debug, Default)]
pub(super) struct Choices(Vec<Choice>);

#[derive(Clone, Debug)]
struct Choice {
    key: &'static str,
    /// None: whatever the key takes.
    value: Option<Item>,
    /// As the flavor writes it.
    written: String,
}

/// One thing that a key gives, in its only spelling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Item {
    Text(String),
    Device(Device),
    Gpus(Gpus),
}

impl Item {
    fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Device(allowed), Self::Device(asked)) => allowed.covers(asked),
            _ => self == other,
        }
    }
}

/// The keys that a flavor can open, without their colons, and what a value of each gives.
pub(super) type Items = fn(&str) -> Result<Vec<Item>>;
pub(super) const CHOOSABLE: [(&str, Items); 9] = [
    ("cap_add", |text| Ok(texts(value::capabilities(text)?))),
    ("device_cgroup_rules", |text| Ok(texts(rules(text)?))),
    ("devices", |text| Ok(devices(text)?.into_iter().map(Item::Device).collect())),
    ("gpus", |text| Ok(vec![Item::Gpus(gpus(text)?)])),
    ("host_mount", |text| {
        volume::name(text)?;
        Ok(texts(vec![text.to_owned()]))
    }),
    ("no_new_privileges", |text| Ok(texts(vec![value::flag(text)?.to_string()]))),
    ("privileged", |text| Ok(texts(vec![value::flag(text)?.to_string()]))),
    ("runtime", |text| Ok(texts(vec![runtime(text)?]))),
    ("security_opt", |text| Ok(texts(security_options(text)?))),
];

fn texts(words: Vec<String>) -> Vec<Item> {
    words.into_iter().map(Item::Text).collect()
}

fn choosable(key: &str) -> Option<(&'static str, Items)> {
    CHOOSABLE.iter().find(|(known, _)| *known == key).copied()
}

impl Choices {
    /// `KEY` and `KEY:VALUE`, with commas between.
    pub(super) fn parse(text: &str) -> Result<Self> {
        let written = text.split(',').map(str::trim).filter(|written| !written.is_empty());
        let all: Vec<Choice> = written.map(Choice::parse).collect::<Result<_>>()?;
        if all.len() > MOST { Err("there are more than 64") } else { Ok(Self(all)) }
    }

    /// What is wrong with somebody's else than the flavor's use of a key; none where the flavor allows it. A value that is none at
    /// all is left to the key.
    pub(super) fn objection(&self, key: &str, name: &str, value: &str) -> Option<String> {
        const ONLY: &str = "only a flavor can set it";
        let key = key.trim_end_matches(':');
        let Some((key, items)) = choosable(key).filter(|_| !self.0.is_empty()) else { return Some(ONLY.to_owned()) };
        let mine: Vec<&Choice> = self.0.iter().filter(|choice| choice.key == key).collect();
        if mine.is_empty() {
            return Some(format!("{ONLY}; this one lets users choose {}", self.written()));
        }
        let asked = items(if name.is_empty() { value } else { name }).unwrap_or_default();
        let is_open = |item: &Item| mine.iter().any(|choice| choice.covers(item));
        let refused = !asked.iter().all(is_open);
        refused.then(|| format!("this flavor lets users choose only {}", self.written()))
    }

    fn written(&self) -> String {
        self.0.iter().map(|choice| choice.written.as_str()).collect::<Vec<_>>().join(", ")
    }
}

impl Choice {
    fn parse(written: &str) -> Result<Self> {
        let (key, value) = written.split_once(':').map_or((written, None), |(key, value)| (key, Some(value)));
        let (key, items) = choosable(key).ok_or("there is no such key to choose")?;
        let value = match value.map(items).transpose()? {
            None => None,
            Some(mut items) if items.len() == 1 => items.pop(),
            Some(_) => return Err("there is not one value after a key's colon"),
        };
        Ok(Self { key, value, written: written.to_owned() })
    }

    fn covers(&self, item: &Item) -> bool {
        let every_capability = |allowed: &Item| self.key == "cap_add" && *allowed == Item::Text(ALL.to_owned());
        self.value.as_ref().is_none_or(|allowed| allowed.covers(item) || every_capability(allowed))
    }
}

/// `HOST`, `HOST:PATH`, `HOST:ACCESS` or `HOST:PATH:ACCESS` each.
pub(super) fn devices(text: &str) -> Result<Vec<Device>> {
    text.split([',', ' ']).filter(|word| !word.is_empty()).map(device).collect()
}

fn device(word: &str) -> Result<Device> {
    let parts: Vec<&str> = word.split(':').collect();
    let (host, path, access) = match parts[..] {
        [host] => (host, host, WHOLE_ACCESS),
        [host, access] if !access.starts_with('/') => (host, host, access),
        [host, path] => (host, path, WHOLE_ACCESS),
        [host, path, access] => (host, path, access),
        _ => return Err("a device has more than three parts"),
    };
    if !is_access(access) {
        return Err("a device's access has other letters than r, w and m, or none");
    }
    Ok(Device { host: device_path(host)?, path: device_path(path)?, access: access.to_owned() })
}

fn device_path(text: &str) -> Result<String> {
    let rest = text.strip_prefix(DEVICES).ok_or("a device is not below /dev")?;
    if rest.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err("a device's path has an empty part, '.' or '..'");
    }
    value::path(text)
}

fn is_access(text: &str) -> bool {
    (1..=3).contains(&text.len()) && text.chars().all(|right| WHOLE_ACCESS.contains(right))
}

/// `c 10:200 rwm` each; `*` is any number.
pub(super) fn rules(text: &str) -> Result<Vec<String>> {
    text.split(',').map(str::trim).filter(|rule| !rule.is_empty()).map(rule).collect()
}

fn rule(text: &str) -> Result<String> {
    const FORM: &str = "it is no rule";
    let words: Vec<&str> = text.split_whitespace().collect();
    let [kind, numbers, access] = words[..] else { return Err(FORM) };
    let (major, minor) = numbers.split_once(':').ok_or(FORM)?;
    let is_number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        text == "*" || (digits && text.parse::<u32>().is_ok_and(|number| number <= GREATEST_NUMBER))
    };
    let is_right = matches!(kind, "a" | "b" | "c") && is_number(major) && is_number(minor) && is_access(access);
    if is_right { Ok(format!("{kind} {numbers} {access}")) } else { Err(FORM) }
}

/// `all`, a number, or `device=ID,ID`.
pub(super) fn gpus(text: &str) -> Result<Gpus> {
    let text = text.trim();
    if text == "all" {
        return Ok(Gpus::Count(ALL_GPUS));
    }
    if let Some(ids) = text.strip_prefix("device=") {
        let ids: Vec<String> = ids.split([',', ' ']).filter(|id| !id.is_empty()).map(str::to_owned).collect();
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_.:-".contains(&byte);
        let is_right = (1..=MOST).contains(&ids.len()) && ids.iter().all(|id| id.len() <= 255 && id.bytes().all(plain));
        return if is_right { Ok(Gpus::Ids(ids)) } else { Err("a device has no id") };
    }
    let count = text.parse().ok().filter(|count| (1..=MOST_GPUS).contains(count));
    count.map(Gpus::Count).ok_or("it is neither all, nor a number from 1 to 64, nor device=ID")
}

/// `NAME=VALUE` each, also as `NAME:VALUE`.
pub(super) fn security_options(text: &str) -> Result<Vec<String>> {
    text.split([',', ' ']).filter(|word| !word.is_empty()).map(security_option).collect()
}

fn security_option(word: &str) -> Result<String> {
    let (name, value) = word.split_once(['=', ':']).ok_or("an option has no value")?;
    let plain = |text: &str| {
        let rest = |byte: u8| byte.is_ascii_alphanumeric() || b"_./-".contains(&byte);
        (1..=255).contains(&text.len())
            && text.starts_with(|first: char| first.is_ascii_alphanumeric())
            && text.bytes().all(rest)
    };
    let is_label = |text: &str| {
        let pair = text.split_once(':');
        text == "disable"
            || pair.is_some_and(|(key, value)| {
                matches!(key, "user" | "role" | "type" | "level" | "filetype") && value.split(':').all(plain)
            })
    };
    let is_right = match name {
        "seccomp" | "systempaths" => value == "unconfined",
        "apparmor" => plain(value),
        "label" => is_label(value),
        "no-new-privileges" => return Err("the key no_new_privileges says it"),
        _ => false,
    };
    if is_right { Ok(format!("{name}={value}")) } else { Err("there is no such option") }
}

/// The operator's name of an OCI runtime.
pub(super) fn runtime(text: &str) -> Result<String> {
    volume::name(text)?;
    Ok(text.to_owned())
}

/// Names of the mounts whose path another one, or a directory in memory, has too.
pub(super) fn without_own_path(made: &super::Configuration) -> Vec<&String> {
    let mut taken: Vec<&str> = made.tmpfs.keys().map(String::as_str).collect();
    let mut clashing = vec![];
    for (name, mount) in &made.privileges.host_mounts {
        if taken.contains(&mount.path.as_str()) {
            clashing.push(name);
        }
        taken.push(&mount.path);
    }
    clashing
}
