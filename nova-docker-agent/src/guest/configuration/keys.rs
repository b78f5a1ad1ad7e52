//! The one table of keys: where each may be set, and what its value may be.

use super::value::{self, Tmpfs};
use super::{Configuration, Place, Restart, given, link, logging, privileges, script, volume};

/// Keys for all.
pub(super) const EVERYWHERE: &[Place] = &[Place::Image, Place::Flavor, Place::Metadata, Place::UserData];
/// Keys that loosen what holds a container: the operator's, and of some of them what a flavor lets others choose.
pub(super) const OPERATOR: &[Place] = &[Place::Flavor];
/// Keys that say what others may do in a container: not its user's.
pub(super) const PROVIDERS: &[Place] = &[Place::Image, Place::Flavor];

/// Keys that say what one server has to do with others: its user's alone.
pub(super) const USERS: &[Place] = &[Place::Metadata, Place::UserData];

/// A key, without its prefix.
pub(super) struct Key {
    /// With a colon at its end it goes on with a name.
    pub(super) name: &'static str,
    /// Who may set it.
    pub(super) places: &'static [Place],
    /// What a mistake is told with.
    pub(super) allowed: &'static str,
    pub(super) set: fn(&mut Configuration, Setting<'_>) -> Result<(), &'static str>,
}

/// What a key is set to.
#[derive(Clone, Copy)]
pub(super) struct Setting<'a> {
    pub(super) place: Place,
    /// What follows the key's colon.
    pub(super) name: &'a str,
    pub(super) value: &'a str,
    /// The flavor's memory in bytes.
    pub(super) memory: u64,
    /// As Nova keeps it.
    pub(super) user_data: &'a str,
}

/// Keys whose values are longer than metadata may be, and nobody else's business.
pub(super) const SERVICE: &[Place] = &[Place::UserData];

/// All keys.
pub(super) const KEYS: [Key; 49] = [
    Key {
        name: "allow",
        places: OPERATOR,
        allowed: privileges::ALLOWED_CHOICES,
        // It was read before all others.
        set: |_, new| privileges::Choices::parse(new.value).map(drop),
    },
    Key {
        name: "cap_add",
        places: OPERATOR,
        allowed: "names of capabilities, with commas or spaces between, or ALL",
        set: |all, new| all.cap_add.set(new.place, value::capabilities(new.value)?),
    },
    Key {
        name: "cap_drop",
        places: EVERYWHERE,
        allowed: "names of capabilities, with commas or spaces between, or ALL",
        set: |all, new| {
            let mut names = value::capabilities(new.value)?;
            if new.place == Place::Flavor {
                all.least_drop.clone_from(&names);
            }
            names.retain(|name| !all.least_drop.contains(name));
            all.cap_drop = all.least_drop.iter().cloned().chain(names).collect();
            Ok(())
        },
    },
    Key {
        name: "command",
        places: EVERYWHERE,
        allowed: "words as for a shell, or a JSON list of strings",
        set: |all, new| value::command(new.value).map(|words| all.command = Some(words)),
    },
    Key {
        name: "config:",
        places: SERVICE,
        allowed: given::ALLOWED,
        set: |all, new| given::give(all, given::Kind::Config, new.name, new.value),
    },
    Key {
        name: "console_shell",
        places: PROVIDERS,
        allowed: "an absolute path, or none",
        set: |all, new| value::shell(new.value).map(|shell| all.console_shell = Some(shell)),
    },
    Key {
        name: "device_cgroup_rules",
        places: OPERATOR,
        allowed: privileges::ALLOWED_RULES,
        set: |all, new| all.privileges.device_cgroup_rules.set(new.place, privileges::rules(new.value)?),
    },
    Key {
        name: "devices",
        places: OPERATOR,
        allowed: privileges::ALLOWED_DEVICES,
        set: |all, new| all.privileges.devices.set(new.place, privileges::devices(new.value)?),
    },
    Key {
        name: "dns",
        places: EVERYWHERE,
        allowed: "one to three IP addresses, with spaces between",
        set: |all, new| value::name_servers(new.value).map(|servers| all.dns = servers),
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
        name: "domainname",
        places: EVERYWHERE,
        allowed: "a domain of at most 64 bytes",
        set: |all, new| value::domain(new.value).map(|name| all.domainname = Some(name)),
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
        name: "gpus",
        places: OPERATOR,
        allowed: privileges::ALLOWED_GPUS,
        set: |all, new| privileges::gpus(new.value).map(|gpus| all.privileges.gpus = Some(gpus)),
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
        name: "host_mount:",
        places: OPERATOR,
        allowed: volume::ALLOWED,
        set: |all, new| {
            volume::name(new.name)?;
            all.privileges.host_mounts.insert(new.name.to_owned(), volume::place(new.value)?);
            Ok(())
        },
    },
    Key {
        name: "hostname",
        places: EVERYWHERE,
        allowed: "a host name of at most 63 bytes, of letters, digits, '-' and '.'",
        set: |all, new| value::own_name(new.value).map(|name| all.hostname = Some(name)),
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
        name: "link:",
        places: USERS,
        allowed: link::ALLOWED,
        set: |all, new| {
            link::alias(new.name)?;
            all.links.insert(new.name.to_owned(), link::Target::parse(new.value)?);
            Ok(())
        },
    },
    Key {
        name: "link_wait",
        places: USERS,
        allowed: "seconds, or a time as 1m30s, of at most ten minutes, or optional",
        set: |all, new| link::wait(new.value).map(|wait| all.link_wait = Some(wait)),
    },
    Key {
        name: "logging:",
        places: EVERYWHERE,
        allowed: logging::ALLOWED,
        set: |all, new| logging::set(all, new.place, new.name, new.value),
    },
    Key {
        name: "no_new_privileges",
        places: OPERATOR,
        allowed: "true or false",
        set: |all, new| value::flag(new.value).map(|flag| all.no_new_privileges = Some(flag)),
    },
    Key {
        name: "oneshot",
        places: EVERYWHERE,
        allowed: "true or false",
        set: |all, new| value::flag(new.value).map(|flag| all.oneshot = Some(flag)),
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
        name: "privileged",
        places: OPERATOR,
        allowed: "true or false",
        set: |all, new| value::flag(new.value).map(|flag| all.privileges.privileged = Some(flag)),
    },
    Key {
        name: "read_only",
        places: EVERYWHERE,
        allowed: "true or false",
        set: |all, new| value::flag(new.value).map(|flag| all.read_only = Some(flag)),
    },
    Key {
        name: "remove_volumes",
        places: &[Place::Metadata],
        allowed: "true or false",
        // It is read when the server is deleted.
        set: |_, new| value::flag(new.value).map(drop),
    },
    Key {
        name: "restart",
        places: EVERYWHERE,
        allowed: "no, always, unless-stopped, on-failure or on-failure:NUMBER",
        set: |all, new| Restart::parse(new.value).map(|restart| all.restart = restart),
    },
    Key {
        name: "run_user_data",
        places: &[Place::Metadata],
        allowed: "true or false; with true, user data that is a script",
        set: |all, new| {
            if value::flag(new.value)? {
                all.script = Some(script::script(new.user_data)?);
            }
            Ok(())
        },
    },
    Key {
        name: "runtime",
        places: OPERATOR,
        allowed: "the name of an OCI runtime in the agent's configuration",
        set: |all, new| privileges::runtime(new.value).map(|name| all.privileges.runtime = Some(name)),
    },
    Key {
        name: "secret:",
        places: SERVICE,
        allowed: given::ALLOWED,
        set: |all, new| given::give(all, given::Kind::Secret, new.name, new.value),
    },
    Key {
        name: "security_opt",
        places: OPERATOR,
        allowed: privileges::ALLOWED_OPTIONS,
        set: |all, new| all.privileges.security_opt.set(new.place, privileges::security_options(new.value)?),
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
        name: "stop_grace_period",
        places: EVERYWHERE,
        allowed: "seconds, or a time as 1m30s, of at most an hour; at most the flavor's",
        set: |all, new| {
            let time = Some(value::grace(new.value)?);
            *(if new.place == Place::Flavor { &mut all.most_grace } else { &mut all.stop_grace_period }) = time;
            Ok(())
        },
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
