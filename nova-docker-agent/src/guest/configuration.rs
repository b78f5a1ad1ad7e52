//! What the image's author, the operator and the user say of a container: environment, command, user and so on.
//!
//! Every key is in [`KEYS`], with the places where it may be set. The image's author writes it as an image property that begins
//! with `docker_`; the operator as an extra spec of the flavor that begins with `docker:`, which wins over the image; the user as
//! server metadata that begins with `docker:`, which wins over both, or as user data that is a service of Compose, which wins over
//! all. None of it is trusted: each value is checked and bounded
//! here, and all mistakes are told at once. Values are in no message and no log: they hold passwords.

mod compose;
mod explain;
mod mistakes;
mod reader;
mod user_data;
mod value;
mod volume;
mod yaml;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

pub use explain::explain;
pub use mistakes::Mistakes;
use reader::{Reader, Won};
use value::Tmpfs;
pub use volume::{Volume, are_removed as volumes_are_removed};

/// What image properties begin with.
const PROPERTY: &str = "docker_";
/// What the keys of server metadata and of a flavor's extra specs begin with.
const METADATA: &str = "docker:";

/// Where a key is set, weakest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Image,
    Flavor,
    Metadata,
    UserData,
}

/// Keys for all.
const EVERYWHERE: &[Place] = &[Place::Image, Place::Flavor, Place::Metadata, Place::UserData];
/// Keys that loosen what holds a container: the operator's alone.
const OPERATOR: &[Place] = &[Place::Flavor];
/// Keys that say what others may do in a container: not its user's.
const PROVIDERS: &[Place] = &[Place::Image, Place::Flavor];

/// Where a configuration comes from.
#[derive(Default)]
pub struct Sources {
    /// The image's properties.
    pub properties: BTreeMap<String, String>,
    /// The flavor's extra specs.
    pub extra_specs: BTreeMap<String, String>,
    /// The server's metadata.
    pub metadata: BTreeMap<String, String>,
    /// The server's user data as Nova keeps it, in base64. Means something here when it is a configuration.
    pub user_data: String,
    /// Variables that the caller gives besides; they win.
    pub environment: BTreeMap<String, String>,
    /// The flavor's memory in MiB, which bounds file systems in memory.
    pub memory_mb: u64,
}

/// How a container differs from what its image says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Configuration {
    /// On top of the image's.
    pub environment: Environment,
    /// Replaces the image's CMD.
    pub command: Option<Vec<String>>,
    /// Replaces the image's entry point, and with it the image's CMD; empty: there is none.
    pub entrypoint: Option<Vec<String>>,
    /// Directory in which the command begins.
    pub working_dir: Option<String>,
    /// User and group that the command runs as.
    pub user: Option<String>,
    /// Whether there is a terminal.
    pub tty: Option<bool>,
    /// Whether standard input stays open; without a word of it, where there is a terminal.
    pub stdin_open: Option<bool>,
    /// Shell that a console leads to where there is no terminal: a path, or `none`.
    pub console_shell: Option<String>,
    /// Signal that asks the command to end.
    pub stop_signal: Option<String>,
    /// Whether Docker's init runs before the command.
    pub init: Option<bool>,
    /// Size of `/dev/shm` in bytes.
    pub shm_size: Option<u64>,
    /// Directories in memory, with their sizes in bytes.
    pub tmpfs: BTreeMap<String, u64>,
    /// Labels on top of the image's and of ours.
    pub labels: BTreeMap<String, String>,
    /// Capabilities on top of the usual ones, without `CAP_`; `ALL` is all.
    pub cap_add: Vec<String>,
    /// Capabilities that the container does not get, whoever adds them.
    pub cap_drop: Vec<String>,
    /// Whether programs can gain privileges; without it they cannot.
    pub no_new_privileges: Option<bool>,
    /// Processes and threads; bounded by `most_processes`, or else by the host's limit.
    pub pids_limit: Option<i64>,
    /// The flavor's limit of processes and threads, which takes the place of the host's.
    pub most_processes: Option<i64>,
    /// Groups on top of the user's.
    pub group_add: Vec<String>,
    /// Limits of resources, by Docker's names.
    pub ulimits: BTreeMap<String, Ulimit>,
    /// The flavor's limits of them, which take the place of the usual ones.
    pub most_ulimits: BTreeMap<String, i64>,
    /// Settings of the kernel that the container has of its own.
    pub sysctls: BTreeMap<String, String>,
    /// How willingly the kernel kills it for memory, 0 to 1000.
    pub oom_score_adj: Option<i64>,
    /// Names in `/etc/hosts`.
    pub hosts: BTreeMap<String, Vec<IpAddr>>,
    /// Domains in which a resolver looks for names.
    pub dns_search: Vec<String>,
    /// Options of a resolver.
    pub dns_opt: Vec<String>,
    /// How Docker asks whether it works; the image's own check is never taken.
    pub health: Option<Health>,
    /// Volumes of the project, by their names.
    pub volumes: BTreeMap<String, Volume>,
    /// The flavor's limit of them.
    pub most_volumes: Option<usize>,
}

/// A limit of a resource; -1 is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ulimit {
    /// What holds.
    pub soft: i64,
    /// What a program can raise it to.
    pub hard: i64,
}

/// A check of a container's health.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// In Docker's form: begins with CMD or CMD-SHELL.
    pub test: Vec<String>,
    /// From the end of one check to the next.
    pub interval: Duration,
    /// After it a check has failed.
    pub timeout: Duration,
    /// Failures in it do not count.
    pub start_period: Duration,
    /// Failures in a row that make it unhealthy.
    pub retries: i64,
}

/// Environment variables. Shown are their names alone.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Environment(pub BTreeMap<String, String>);

impl fmt::Debug for Environment {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_set().entries(self.0.keys()).finish()
    }
}

/// A key, without its prefix.
struct Key {
    /// With a colon at its end it goes on with a name.
    name: &'static str,
    /// Who may set it.
    places: &'static [Place],
    /// What a mistake is told with.
    allowed: &'static str,
    set: fn(&mut Configuration, Setting<'_>) -> Result<(), &'static str>,
}

/// What a key is set to.
#[derive(Clone, Copy)]
struct Setting<'a> {
    place: Place,
    /// What follows the key's colon.
    name: &'a str,
    value: &'a str,
    /// The flavor's memory in bytes.
    memory: u64,
}

/// All keys.
const KEYS: [Key; 28] = [
    Key {
        name: "cap_add",
        places: OPERATOR,
        allowed: "names of capabilities, with commas or spaces between, or ALL",
        set: |all, new| value::capabilities(new.value).map(|names| all.cap_add = names),
    },
    Key {
        name: "cap_drop",
        places: EVERYWHERE,
        allowed: "names of capabilities, with commas or spaces between, or ALL",
        set: |all, new| value::capabilities(new.value).map(|names| all.cap_drop = names),
    },
    Key {
        name: "command",
        places: EVERYWHERE,
        allowed: "words as for a shell, or a JSON list of strings",
        set: |all, new| value::command(new.value).map(|words| all.command = Some(words)),
    },
    Key {
        name: "console_shell",
        places: PROVIDERS,
        allowed: "an absolute path, or none",
        set: |all, new| value::shell(new.value).map(|shell| all.console_shell = Some(shell)),
    },
    Key {
        name: "dns_opt",
        places: EVERYWHERE,
        allowed: "options of resolv.conf, with spaces between",
        set: |all, new| value::resolver_options(new.value).map(|words| all.dns_opt = words),
    },
    Key {
        name: "dns_search",
        places: EVERYWHERE,
        allowed: "domains, with spaces between",
        set: |all, new| value::domains(new.value).map(|names| all.dns_search = names),
    },
    Key {
        name: "entrypoint",
        places: EVERYWHERE,
        allowed: "words as for a shell, a JSON list of strings, or nothing",
        set: |all, new| value::entrypoint(new.value).map(|words| all.entrypoint = Some(words)),
    },
    Key {
        name: "env:",
        places: EVERYWHERE,
        allowed: "a name without '=' and control characters, and any text without a zero byte",
        set: |all, new| {
            value::variable_name(new.name)?;
            all.environment.0.insert(new.name.to_owned(), new.value.to_owned());
            Ok(())
        },
    },
    Key {
        name: "group_add",
        places: EVERYWHERE,
        allowed: "groups, by names or numbers, with commas or spaces between",
        set: |all, new| value::groups(new.value).map(|names| all.group_add = names),
    },
    Key {
        name: "healthcheck",
        places: EVERYWHERE,
        allowed: "a JSON object of test, interval, timeout, retries, start_period and disable; times from 1s, as 1m30s",
        set: |all, new| value::healthcheck(new.value).map(|check| all.health = check),
    },
    Key {
        name: "host:",
        places: EVERYWHERE,
        allowed: "a host name, and IP addresses with spaces between",
        set: |all, new| {
            value::host_name(new.name)?;
            all.hosts.insert(new.name.to_owned(), value::addresses(new.value)?);
            Ok(())
        },
    },
    Key {
        name: "init",
        places: EVERYWHERE,
        allowed: "true or false",
        set: |all, new| value::flag(new.value).map(|flag| all.init = Some(flag)),
    },
    Key {
        name: "label:",
        places: EVERYWHERE,
        allowed: "a name of at most 255 bytes outside org.openstack.nova and Docker's own, and any text without a zero byte",
        set: |all, new| {
            value::label_name(new.name)?;
            all.labels.insert(new.name.to_owned(), new.value.to_owned());
            Ok(())
        },
    },
    Key {
        name: "no_new_privileges",
        places: OPERATOR,
        allowed: "true or false",
        set: |all, new| value::flag(new.value).map(|flag| all.no_new_privileges = Some(flag)),
    },
    Key {
        name: "oom_score_adj",
        places: EVERYWHERE,
        allowed: "a number from 0 to 1000",
        set: |all, new| value::oom_score(new.value).map(|score| all.oom_score_adj = Some(score)),
    },
    Key {
        name: "pids_limit",
        places: EVERYWHERE,
        allowed: "a number of at least 1; at most the flavor's",
        set: |all, new| {
            let limit = Some(value::processes(new.value)?);
            *(if new.place == Place::Flavor { &mut all.most_processes } else { &mut all.pids_limit }) = limit;
            Ok(())
        },
    },
    Key {
        name: "remove_volumes",
        places: &[Place::Metadata],
        allowed: "true or false",
        // It is read when the server is deleted.
        set: |_, new| value::flag(new.value).map(drop),
    },
    Key {
        name: "shm_size",
        places: EVERYWHERE,
        allowed: "bytes, or a number with k, m or g; at most the flavor's memory",
        set: |all, new| value::size(new.value, new.memory).map(|size| all.shm_size = Some(size)),
    },
    Key {
        name: "stdin_open",
        places: EVERYWHERE,
        allowed: "true or false",
        set: |all, new| value::flag(new.value).map(|flag| all.stdin_open = Some(flag)),
    },
    Key {
        name: "stop_signal",
        places: EVERYWHERE,
        allowed: "a signal's name or a number from 1 to 64",
        set: |all, new| value::signal(new.value).map(|signal| all.stop_signal = Some(signal)),
    },
    Key {
        name: "sysctl:",
        places: EVERYWHERE,
        allowed: "settings below net. and fs.mqueue., kernel.sem, kernel.msg* and kernel.shm*",
        set: |all, new| {
            value::sysctl_name(new.name)?;
            all.sysctls.insert(new.name.to_owned(), value::sysctl(new.value)?);
            Ok(())
        },
    },
    Key {
        name: "tmpfs",
        places: EVERYWHERE,
        allowed: "absolute paths, or PATH:SIZE, with spaces between; a size is at most the flavor's memory",
        set: |all, new| value::tmpfs(new.value, new.memory).map(|Tmpfs(all_of_them)| all.tmpfs = all_of_them),
    },
    Key {
        name: "tty",
        places: EVERYWHERE,
        allowed: "true or false",
        set: |all, new| value::flag(new.value).map(|flag| all.tty = Some(flag)),
    },
    Key {
        name: "ulimit:",
        places: EVERYWHERE,
        allowed: "SOFT:HARD or one number, -1 for none; of core, cpu, data, fsize, locks, memlock, nofile, nproc, stack and so on",
        set: |all, new| {
            let is_flavor = new.place == Place::Flavor;
            let most = if is_flavor { Some(-1) } else { all.most_ulimits.get(new.name).copied() };
            let limit = value::ulimit(new.name, new.value, most)?;
            if is_flavor {
                all.most_ulimits.insert(new.name.to_owned(), limit.hard);
            }
            all.ulimits.insert(new.name.to_owned(), limit);
            Ok(())
        },
    },
    Key {
        name: "user",
        places: EVERYWHERE,
        allowed: "USER or USER:GROUP, by names or numbers",
        set: |all, new| value::user(new.value).map(|user| all.user = Some(user)),
    },
    Key {
        name: "volume:",
        places: EVERYWHERE,
        allowed: volume::ALLOWED,
        set: |all, new| {
            volume::name(new.name)?;
            all.volumes.insert(new.name.to_owned(), volume::place(new.value)?);
            Ok(())
        },
    },
    Key {
        name: "volumes",
        places: OPERATOR,
        allowed: "true, false, or the greatest number of volumes",
        set: |all, new| volume::most(new.value).map(|most| all.most_volumes = most),
    },
    Key {
        name: "working_dir",
        places: EVERYWHERE,
        allowed: "an absolute path",
        set: |all, new| value::path(new.value).map(|path| all.working_dir = Some(path)),
    },
];

impl Configuration {
    /// What the sources say together.
    ///
    /// # Errors
    /// Everything that is wrong in any of them, also where another source would win.
    pub fn parse(sources: &Sources) -> Result<Self, Mistakes> {
        Self::read(sources).map(|(made, _)| made)
    }

    /// Beside the configuration, where each part of it comes from.
    fn read(sources: &Sources) -> Result<(Self, BTreeMap<String, Won>), Mistakes> {
        let memory = sources.memory_mb.saturating_mul(1024 * 1024);
        let mut reader = Reader::new(memory);
        reader.command_line(&sources.properties);
        reader.source(Place::Image, &sources.properties);
        reader.source(Place::Flavor, &sources.extra_specs);
        reader.source(Place::Metadata, &sources.metadata);
        reader.user_data(&sources.user_data);
        for (name, value) in &sources.environment {
            reader.set(Place::Metadata, "env:", &format!("environment {name}"), name, value);
        }
        reader.end()
    }
}
