//! How a key is shown to people, and what its value looks like, for programs that cannot ask the agent.
//!
//! A form takes whatever the agent takes; it may take more, where only the agent can know. A key that is not here takes any text.

use crate::guest::configuration::privileges::CHOOSABLE;
use crate::guest::configuration::value::kernel::{CAPABILITIES, RESOURCES, SETTINGS};
use crate::guest::configuration::value::{RESERVED, SIGNAL_NAMES};

/// What a value looks like.
#[derive(Clone)]
pub(super) enum Form {
    Flag,
    Number {
        least: i64,
        most: i64,
    },
    /// What the whole of it matches, for the regular expressions of Python. Without `(?i:`, also for those of browsers.
    Text(String),
}

/// A key for people.
pub(super) struct Shown {
    pub(super) title: String,
    /// None: any text.
    pub(super) form: Option<Form>,
    /// What the name after a key's colon matches.
    pub(super) name: Option<String>,
    /// Names that are shown where a list cannot have a key with any name.
    pub(super) examples: &'static [&'static str],
}

/// Not zero bytes and other control characters.
const PRINTABLE: &str = r"[^\x00-\x1f\x7f-\x9f]";
const ADDRESS: &str = r"(?:[0-9]{1,3}(?:\.[0-9]{1,3}){3}|[0-9A-Fa-f]*:[0-9A-Fa-f.]*:[0-9A-Fa-f:.]*)";
const ACCOUNT: &str = "[A-Za-z0-9_.][A-Za-z0-9_.-]*";
const HOST: &str = "[A-Za-z0-9_][A-Za-z0-9_.-]*";
/// A part of a name in DNS.
const LABEL: &str = "[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?";
const SHORT_NAME: &str = "[A-Za-z0-9][A-Za-z0-9_.-]{0,62}";
const FLAG: &str = r"\s*(?i:true|yes|on|1|false|no|off|0)\s*";
const SIZE: &str = r"\s*0*[1-9][0-9]*[kKmMgG]?[bB]?\s*";
/// Neither the root nor the kernel's own, and without `.` and `..`.
const PATH: &str = r"(?!/(?:dev|proc|sys)(?:[/:]|$))(?:/(?!\.{1,2}(?:[/:]|$))[^/:\x00-\x1f\x7f-\x9f]+)+";
/// The same, as one of several words.
const WORD: &str = r"(?!/(?:dev|proc|sys)(?:[/:\s]|$))(?:/(?!\.{1,2}(?:[/:\s]|$))[^/: \x00-\x1f\x7f-\x9f]+)+";
/// A path below /dev, as one of several words.
const DEVICE: &str = r"/dev(?:/(?!\.{1,2}(?:[/:, ]|$))[^/:, \x00-\x1f\x7f-\x9f]+)+";
const LIMIT: &str = r"\s*(?:unlimited|-1|[0-9]+)\s*";

impl Form {
    pub(super) fn pattern(&self) -> String {
        match self {
            Self::Flag => FLAG.to_owned(),
            Self::Number { .. } => r"\s*[+-]?[0-9]+\s*".to_owned(),
            Self::Text(pattern) => pattern.clone(),
        }
    }
}

/// What people and programs are told of a key.
pub(super) fn shown(key: &str) -> Shown {
    let title = TITLES.iter().find(|(known, _)| *known == key).map_or(key.trim_end_matches(':'), |(_, title)| title);
    Shown { title: title.to_owned(), form: form(key), name: name(key), examples: examples(key) }
}

const TITLES: [(&str, &str); 49] = [
    ("allow", "What users may choose"),
    ("cap_add", "Capabilities to add"),
    ("cap_drop", "Capabilities to drop"),
    ("command", "Command"),
    ("config:", "Config file"),
    ("console_shell", "Shell of serial consoles"),
    ("device_cgroup_rules", "Rules of devices"),
    ("devices", "Devices of the host"),
    ("dns", "Name servers"),
    ("dns_opt", "Options of the resolver"),
    ("dns_search", "Domains to search"),
    ("domainname", "Domain"),
    ("entrypoint", "Entry point"),
    ("env:", "Environment variable"),
    ("gpus", "Graphics processors"),
    ("group_add", "More groups of the user"),
    ("healthcheck", "Health check"),
    ("host:", "Host name"),
    ("host_mount:", "Directory of the host"),
    ("hostname", "Own host name"),
    ("init", "Init process"),
    ("label:", "Label"),
    ("link:", "Linked server"),
    ("link_wait", "Wait for linked servers"),
    ("logging:", "Bound of the log"),
    ("no_new_privileges", "No new privileges"),
    ("oneshot", "Job"),
    ("oom_score_adj", "Willingness to be killed for memory"),
    ("pids_limit", "Limit of processes"),
    ("privileged", "Privileged"),
    ("read_only", "Read-only root file system"),
    ("remove_volumes", "Remove volumes with the server"),
    ("restart", "Restart policy"),
    ("run_user_data", "Run the user data"),
    ("runtime", "OCI runtime"),
    ("secret:", "Secret file"),
    ("security_opt", "Security options"),
    ("shm_size", "Size of /dev/shm"),
    ("stdin_open", "Standard input stays open"),
    ("stop_grace_period", "Time to stop"),
    ("stop_signal", "Signal to stop"),
    ("sysctl:", "Setting of the kernel"),
    ("tmpfs", "Directories in memory"),
    ("tty", "Terminal"),
    ("ulimit:", "Limit of a resource"),
    ("user", "User"),
    ("volume:", "Volume"),
    ("volumes", "Limit of volumes"),
    ("working_dir", "Working directory"),
];

fn examples(key: &str) -> &'static [&'static str] {
    match key {
        "env:" => &["TZ"],
        "logging:" => &["max-file", "max-size"],
        "sysctl:" => &["net.core.somaxconn"],
        "ulimit:" => &["core", "memlock", "nofile"],
        "volume:" => &["data"],
        _ => &[],
    }
}

fn name(key: &str) -> Option<String> {
    let reserved = RESERVED.map(|name| name.replace('.', r"\.")).join("|");
    let pattern = match key {
        "env:" => r"[^=\x00-\x1f\x7f-\x9f]+".to_owned(),
        "host:" => HOST.to_owned(),
        "label:" => format!("(?!(?i:{reserved})){PRINTABLE}+"),
        "sysctl:" => {
            let own = SETTINGS.map(|name| name.replace('.', r"\.")).join("|");
            format!(r"(?:net|fs\.mqueue)(?:\.[A-Za-z0-9_-]+)+|{own}")
        }
        "ulimit:" => RESOURCES.map(|(name, _)| name).join("|"),
        "logging:" => "max-size|max-file".to_owned(),
        "host_mount:" | "volume:" => SHORT_NAME.to_owned(),
        _ => return None,
    };
    Some(pattern)
}

fn form(key: &str) -> Option<Form> {
    Some(match key {
        "init" | "no_new_privileges" | "oneshot" | "privileged" | "read_only" | "remove_volumes" | "run_user_data"
        | "stdin_open" | "tty" => Form::Flag,
        "oom_score_adj" => Form::Number { least: 0, most: 1000 },
        "pids_limit" => Form::Number { least: 1, most: i64::MAX },
        "cap_add" | "cap_drop" => {
            Form::Text(list(&format!("(?i:(?:CAP_)?(?:ALL|{}))", CAPABILITIES.join("|")), "[ ,]"))
        }
        "command" => Form::Text(words()),
        "entrypoint" => Form::Text(format!(r"\s*|{}", words())),
        "allow" => Form::Text(choices()),
        "device_cgroup_rules" => {
            let rule = r"[abc]\s+(?:[0-9]+|\*):(?:[0-9]+|\*)\s+[rwm]{1,3}";
            Form::Text(format!(r"(?:\s*(?:{rule})?\s*(?:,|$))*"))
        }
        "devices" => Form::Text(list(&format!("{DEVICE}(?::{DEVICE})?(?::[rwm]{{1,3}})?"), "[ ,]")),
        "gpus" => Form::Text(r"\s*(?:all|\+?0*(?:[1-9]|[1-5][0-9]|6[0-4])|device=[A-Za-z0-9_.:, -]+)\s*".to_owned()),
        "logging:" => Form::Text(r"\s*\+?0*[1-9][0-9]*[kKmMgG]?[bB]?\s*".to_owned()),
        "runtime" => Form::Text(SHORT_NAME.to_owned()),
        "security_opt" => Form::Text(list(
            "(?:(?:seccomp|systempaths)[=:]unconfined|(?:apparmor|label)[=:][A-Za-z0-9_./:-]+)",
            "[ ,]",
        )),
        "console_shell" => Form::Text(format!("none|/{PRINTABLE}*")),
        "dns" => Form::Text(format!(r"\s*{ADDRESS}(?:\s+{ADDRESS}){{0,2}}\s*")),
        "dns_opt" => Form::Text(list("[A-Za-z0-9_:.-]+", r"\s")),
        "dns_search" => Form::Text(list(HOST, r"\s")),
        "domainname" => Form::Text(r"\s*[A-Za-z0-9_][A-Za-z0-9_-]*(?:\.[A-Za-z0-9_-]+)*\.?\s*".to_owned()),
        "group_add" => Form::Text(list(ACCOUNT, "[ ,]")),
        "healthcheck" => Form::Text(r"\s*\{[\s\S]*\}\s*".to_owned()),
        "host:" => Form::Text(format!(r"\s*{ADDRESS}(?:\s+{ADDRESS})*\s*")),
        "hostname" => Form::Text(format!(r"\s*{LABEL}(?:\.{LABEL})*\s*")),
        "restart" => Form::Text(r"\s*(?:no|false|always|unless-stopped|on-failure(?::0*[1-9][0-9]*)?)\s*".to_owned()),
        "shm_size" => Form::Text(SIZE.to_owned()),
        "stop_grace_period" => Form::Text(r"\s*(?:[0-9]+|(?:[0-9]+(?:ms|s|m|h))+)\s*".to_owned()),
        "stop_signal" => Form::Text(signal()),
        "sysctl:" => Form::Text(r"\s*[^\s\x00-\x1f\x7f-\x9f][^\x00-\x08\x0a-\x1f\x7f-\x9f]*\s*".to_owned()),
        // Quotes, comments and lists are not looked into.
        "tmpfs" => Form::Text(format!(r#"[ \t\n]*(?:{WORD}(?::{SIZE})?(?:[ \t\n]+|$))+|[\s\S]*['"\\#\[][\s\S]*"#)),
        "ulimit:" => Form::Text(format!("{LIMIT}(?::{LIMIT})?")),
        "user" => Form::Text(format!("{ACCOUNT}(?::{ACCOUNT})?")),
        "host_mount:" | "volume:" => Form::Text(format!("{PATH}(?::r[ow])?")),
        "volumes" => Form::Text(r"\s*(?:(?i:true|yes|on|false|no|off)|\+?[0-9]+)\s*".to_owned()),
        "working_dir" => Form::Text(format!("/{PRINTABLE}*")),
        _ => return None,
    })
}

/// Items with separators between; none at all is a list too.
fn list(item: &str, separator: &str) -> String {
    format!("{separator}*(?:{item}(?:{separator}+|$))*")
}

/// A list in brackets, or words with every quote closed. A comment hides quotes.
fn words() -> String {
    let quoted = r#"\\[\s\S]|'[^']*'|"(?:[^"\\]|\\[\s\S])*""#;
    format!(r#"\s*\[[\s\S]*\]\s*|[\s\S]*#[\s\S]*|[ \t\n]*(?:[^ \t\n\['"\\]|{quoted})(?:[^'"\\]|{quoted})*"#)
}

/// Values of the keys are not looked into.
fn choices() -> String {
    let keys = CHOOSABLE.map(|(key, _)| key).join("|");
    format!(r"(?:\s*(?:(?:{keys})(?::[^,]*)?)?\s*(?:,|$))*")
}

fn signal() -> String {
    let names = SIGNAL_NAMES.join("|");
    let realtime = r"RTMIN(?:\+1[0-5]|\+[1-9])?|RTMAX(?:-1[0-4]|-[1-9])?";
    format!(r"\s*(?:(?i:(?:SIG)?(?:{names}|XFSZ|{realtime}))|0*(?:[1-9]|[1-5][0-9]|6[0-4]))\s*")
}
