//! A service of a Compose file, as settings of [`KEYS`](super::keys::KEYS): Compose's forms become the texts that the one validator reads.

use std::collections::BTreeMap;

use super::yaml::{Node, Refused};
use super::{env_file, link};

/// What a service says of one of our keys.
pub(super) struct Said {
    pub(super) key: &'static str,
    /// What follows the key's colon.
    pub(super) name: String,
    /// Where the service says it.
    pub(super) place: String,
    pub(super) value: String,
}

/// How Compose writes a key.
#[derive(Clone, Copy)]
enum Form {
    /// A text, a number or a truth.
    Scalar,
    /// A text, or a list of texts: the words of a command.
    Command,
    /// A text or a list; words with spaces between.
    Words,
    /// A map, or a list of `NAME=value`; whether a name needs a value.
    Pairs(bool),
    /// Lines of `NAME=value`, or a list of such texts.
    Lines,
    /// A map, or a list of `NAME=address` or `NAME:address`.
    Hosts,
    /// A map of numbers, or of maps with `soft` and `hard`.
    Limits,
    /// A path or a list; `PATH`, or `PATH:size=SIZE`.
    Tmpfs,
    /// A list of `NAME:PATH` and `NAME:PATH:ro`.
    Volumes,
    /// A list of `SERVER` and `SERVER:ALIAS`.
    Links,
    /// A map of texts, or of maps with `content`.
    Files,
    /// A map, as JSON.
    Object,
    /// A list of texts; with commas between.
    Rules,
    /// A map of `driver` and `options`.
    Logging,
}

/// Our key of variables.
const ENVIRONMENT: &str = "env:";
/// Compose's keys, ours, and their forms.
const FORMS: [(&str, &str, Form); 46] = [
    ("cap_drop", "cap_drop", Form::Words),
    ("command", "command", Form::Command),
    ("configs", "config:", Form::Files),
    ("dns", "dns", Form::Words),
    ("dns_opt", "dns_opt", Form::Words),
    ("dns_search", "dns_search", Form::Words),
    ("domainname", "domainname", Form::Scalar),
    ("entrypoint", "entrypoint", Form::Command),
    ("env_file", ENVIRONMENT, Form::Lines),
    ("environment", ENVIRONMENT, Form::Pairs(true)),
    ("external_links", "link:", Form::Links),
    ("extra_hosts", "host:", Form::Hosts),
    ("group_add", "group_add", Form::Words),
    ("healthcheck", "healthcheck", Form::Object),
    ("hostname", "hostname", Form::Scalar),
    ("init", "init", Form::Scalar),
    ("labels", "label:", Form::Pairs(false)),
    ("link_wait", "link_wait", Form::Scalar),
    ("links", "link:", Form::Links),
    ("logging", "logging:", Form::Logging),
    ("oneshot", "oneshot", Form::Scalar),
    ("oom_score_adj", "oom_score_adj", Form::Scalar),
    ("pids_limit", "pids_limit", Form::Scalar),
    ("read_only", "read_only", Form::Scalar),
    ("restart", "restart", Form::Scalar),
    ("secrets", "secret:", Form::Files),
    ("shm_size", "shm_size", Form::Scalar),
    ("stdin_open", "stdin_open", Form::Scalar),
    ("stop_grace_period", "stop_grace_period", Form::Scalar),
    ("stop_signal", "stop_signal", Form::Scalar),
    ("sysctls", "sysctl:", Form::Pairs(true)),
    ("tmpfs", "tmpfs", Form::Tmpfs),
    ("tty", "tty", Form::Scalar),
    ("ulimits", "ulimit:", Form::Limits),
    ("user", "user", Form::Scalar),
    ("volumes", "volume:", Form::Volumes),
    ("working_dir", "working_dir", Form::Scalar),
    // Only what a flavor allows.
    ("cap_add", "cap_add", Form::Words),
    ("device_cgroup_rules", "device_cgroup_rules", Form::Rules),
    ("devices", "devices", Form::Words),
    ("gpus", "gpus", Form::Scalar),
    ("host_mounts", "host_mount:", Form::Volumes),
    ("no_new_privileges", "no_new_privileges", Form::Scalar),
    ("privileged", "privileged", Form::Scalar),
    ("runtime", "runtime", Form::Scalar),
    ("security_opt", "security_opt", Form::Words),
];

/// Keys of Compose that another part of the cloud has, or that containers of Nova do not have.
const ELSEWHERE: [(&str, &str); 8] = [
    ("container_name", "the server's name says it"),
    ("expose", "Neutron's security groups say it"),
    ("image", "the server's image says it"),
    ("mac_address", "the server's ports say it"),
    ("network_mode", "the server's ports say it"),
    ("networks", "the server's ports say it"),
    ("ports", "Neutron's security groups and floating IPs say it"),
    ("deploy", "the server's flavor says it"),
];

/// Everything that a service says; mistakes of its form beside it. Keys that begin with `x-` are for others.
pub(super) fn settings(service: Node) -> (Vec<Said>, Vec<Refused>) {
    let mut all = Settings { said: vec![], variables: BTreeMap::new(), refused: vec![] };
    match service {
        Node::Map(entries) => {
            for (key, node) in entries {
                if !key.starts_with("x-") {
                    all.entry(&key, node);
                }
            }
        }
        _ => all.refuse("", "it is no map"),
    }
    all.add_variables();
    (all.said, all.refused)
}

struct Settings {
    said: Vec<Said>,
    /// Those of `env_file`, and where it says them.
    variables: BTreeMap<String, (String, String)>,
    refused: Vec<Refused>,
}

impl Settings {
    fn entry(&mut self, key: &str, node: Node) {
        let Some((_, ours, form)) = FORMS.iter().find(|(known, ..)| *known == key) else {
            let elsewhere = ELSEWHERE.iter().find(|(known, _)| *known == key);
            return self.refuse(key, elsewhere.map_or("there is no such key", |(_, problem)| problem));
        };
        match form {
            Form::Pairs(needs_value) => self.pairs(ours, key, node, &['='], *needs_value),
            Form::Hosts => self.pairs(ours, key, node, &['=', ':'], true),
            Form::Volumes if matches!(node, Node::Map(_)) => self.refuse(key, "it is no list"),
            Form::Volumes => self.pairs(ours, key, node, &[':'], true),
            Form::Lines => self.lines(key, node),
            Form::Links => self.links(ours, key, node),
            Form::Limits => self.each(ours, key, node, limit),
            Form::Files => self.each(ours, key, node, file),
            Form::Logging => self.logging(ours, key, node),
            form => match text(*form, node) {
                Ok(value) => self.say(ours, "", key.to_owned(), value),
                Err(problem) => self.refuse(key, problem),
            },
        }
    }

    /// A map, or a list of texts that are split at the first of the separators that is there.
    fn pairs(&mut self, ours: &'static str, key: &str, node: Node, separators: &[char], needs_value: bool) {
        match node {
            Node::Map(entries) => {
                for (name, node) in entries {
                    let place = format!("{key}.{name}");
                    match node {
                        Node::Scalar(None) if !needs_value => self.say(ours, &name, place, String::new()),
                        node => match words(node) {
                            Ok(value) => self.say(ours, &name, place, value),
                            Err(problem) => self.refuse(&place, problem),
                        },
                    }
                }
            }
            Node::List(items) => {
                for (number, item) in items.into_iter().enumerate() {
                    let Node::Scalar(Some(item)) = item else {
                        self.refuse(&format!("{key}.{number}"), "it is no text");
                        continue;
                    };
                    let pair = separators.iter().find_map(|separator| item.split_once(*separator));
                    match pair.or((!needs_value).then_some((item.as_str(), ""))) {
                        Some((name, value)) => self.say(ours, name, format!("{key}.{name}"), value.to_owned()),
                        None => self.refuse(&format!("{key}.{number}"), "it has no value"),
                    }
                }
            }
            Node::Scalar(_) => self.refuse(key, "it is neither a map nor a list"),
        }
    }

    /// What is said last of a name counts.
    fn lines(&mut self, key: &str, node: Node) {
        let texts = match scalars(node) {
            Ok(texts) => texts,
            Err(problem) => return self.refuse(key, problem),
        };
        let lines: Vec<&str> = texts.iter().flat_map(|text| text.lines()).collect();
        if lines.len() > env_file::MOST {
            return self.refuse(key, "there are more than 1000 lines");
        }
        for (number, line) in lines.into_iter().enumerate() {
            let place = format!("{key} line {}", number + 1);
            match env_file::variable(line) {
                Ok(Some((name, value))) => drop(self.variables.insert(name, (place, value))),
                Ok(None) => {}
                Err(problem) => self.refuse(&place, problem),
            }
        }
    }

    /// What `environment` says wins.
    fn add_variables(&mut self) {
        let is_said = |said: &Said, name: &str| said.key == ENVIRONMENT && said.name == name;
        for (name, (place, value)) in std::mem::take(&mut self.variables) {
            if !self.said.iter().any(|said| is_said(said, &name)) {
                self.said.push(Said { key: ENVIRONMENT, name, place, value });
            }
        }
    }

    /// A list of servers, each perhaps with another name.
    fn links(&mut self, ours: &'static str, key: &str, node: Node) {
        let Node::List(items) = node else { return self.refuse(key, "it is no list") };
        for (number, item) in items.into_iter().enumerate() {
            let Node::Scalar(Some(item)) = item else {
                self.refuse(&format!("{key}.{number}"), "it is no text");
                continue;
            };
            let (alias, target) = link::of_compose(&item);
            self.say(ours, alias, format!("{key}.{alias}"), target.to_owned());
        }
    }

    /// A map whose values have a form of their own.
    fn each(&mut self, ours: &'static str, key: &str, node: Node, text: fn(Node) -> Result<String, &'static str>) {
        let Node::Map(entries) = node else { return self.refuse(key, "it is no map") };
        for (name, node) in entries {
            let place = format!("{key}.{name}");
            match text(node) {
                Ok(value) => self.say(ours, &name, place, value),
                Err(problem) => self.refuse(&place, problem),
            }
        }
    }

    /// Of the drivers of Compose there is the one whose files the agent reads.
    fn logging(&mut self, ours: &'static str, key: &str, node: Node) {
        let Node::Map(entries) = node else { return self.refuse(key, "it is no map") };
        for (name, node) in entries {
            let place = format!("{key}.{name}");
            match (name.as_str(), node) {
                ("options", Node::Map(options)) => self.each(ours, &place, Node::Map(options), scalar),
                ("driver", Node::Scalar(Some(driver))) if driver == "json-file" => {}
                ("driver", _) => self.refuse(&place, "it is not json-file"),
                ("options", _) => self.refuse(&place, "it is no map"),
                _ => self.refuse(&place, "it is neither driver nor options"),
            }
        }
    }

    fn say(&mut self, key: &'static str, name: &str, place: String, value: String) {
        // A list can name the same twice.
        if self.said.iter().any(|said| said.key == key && said.name == name) {
            return self.refuse(&place, "it is there twice");
        }
        self.said.push(Said { key, name: name.to_owned(), place, value });
    }

    fn refuse(&mut self, place: &str, problem: &'static str) {
        self.refused.push(Refused { place: place.to_owned(), problem });
    }
}

fn text(form: Form, node: Node) -> Result<String, &'static str> {
    match form {
        Form::Command => match node {
            Node::List(items) => json_list(items),
            // A word can begin as a JSON list does.
            node => {
                scalar(node).map(|line| shlex::split(&line).map_or(line, |words| serde_json::json!(words).to_string()))
            }
        },
        Form::Words => words(node),
        Form::Rules => scalars(node).map(|rules| rules.join(", ")),
        Form::Tmpfs => tmpfs(node),
        Form::Object => object(node),
        _ => scalar(node),
    }
}

fn scalar(node: Node) -> Result<String, &'static str> {
    match node {
        Node::Scalar(Some(text)) => Ok(text),
        Node::Scalar(None) => Err("it has no value"),
        Node::List(_) | Node::Map(_) => Err("it is no text"),
    }
}

fn scalars(node: Node) -> Result<Vec<String>, &'static str> {
    match node {
        Node::List(items) => items.into_iter().map(scalar).collect(),
        node => scalar(node).map(|text| vec![text]),
    }
}

fn words(node: Node) -> Result<String, &'static str> {
    scalars(node).map(|words| words.join(" "))
}

fn json_list(items: Vec<Node>) -> Result<String, &'static str> {
    let words: Vec<String> = items.into_iter().map(scalar).collect::<Result<_, _>>()?;
    Ok(serde_json::json!(words).to_string())
}

fn limit(node: Node) -> Result<String, &'static str> {
    const FORM: &str = "it is neither a number nor a map of soft and hard";
    let Node::Map(entries) = node else { return scalar(node).map_err(|_| FORM) };
    let (mut soft, mut hard) = (None, None);
    for (name, node) in entries {
        match name.as_str() {
            "soft" => soft = Some(scalar(node)?),
            "hard" => hard = Some(scalar(node)?),
            _ => return Err(FORM),
        }
    }
    Ok(format!("{}:{}", soft.ok_or(FORM)?, hard.ok_or(FORM)?))
}

/// A text is the content alone.
fn file(node: Node) -> Result<String, &'static str> {
    match node {
        Node::Map(_) => object(node),
        node => scalar(node).map(|content| serde_json::json!({ "content": content }).to_string()),
    }
}

fn tmpfs(node: Node) -> Result<String, &'static str> {
    let mut words = vec![];
    for item in scalars(node)? {
        words.push(match item.split_once(":size=") {
            Some((path, size)) => format!("{path}:{size}"),
            None => item,
        });
    }
    shlex::try_join(words.iter().map(String::as_str)).map_err(|_| "it has a zero byte")
}

fn object(node: Node) -> Result<String, &'static str> {
    let Node::Map(entries) = node else { return Err("it is no map") };
    let value = |node| match node {
        Node::List(items) => items.into_iter().map(scalar).collect::<Result<Vec<_>, _>>().map(serde_json::Value::from),
        node => scalar(node).map(serde_json::Value::from),
    };
    let all = entries.into_iter().map(|(key, node)| Ok((key, value(node)?)));
    all.collect::<Result<serde_json::Map<_, _>, _>>().map(|map| serde_json::Value::from(map).to_string())
}
