//! Reads the sources of a configuration, one after the other.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::compose::{self, Said};
use super::keys::{KEYS, OPERATOR, PROVIDERS, SERVICE, Setting, USERS};
use super::mistakes::{Allowed, Mistake, Mistakes};
use super::privileges::Choices;
use super::yaml::Refused;
use super::{
    Configuration, Given, METADATA, PROPERTY, Place, Restart, given, link, logging, privileges, user_data, volume, yaml,
};

/// Nova's own image property for a command; weaker than `docker_command`.
const COMMAND_LINE: &str = "os_command_line";
/// What a flavor lets others choose.
const CHOICES: &str = "docker:allow";
/// How mistakes name it.
const USER_DATA: &str = "user_data";
/// As in metadata and extra specs.
const ENTRYPOINT: &str = "docker:entrypoint";
/// Bytes of one value. The kernel takes no argument or variable of 128 KiB.
const MOST_OF_VALUE: usize = 64 * 1024;
/// Bytes of all keys and values together. The kernel takes 2 MiB of arguments and variables.
const MOST_OF_ALL: usize = 512 * 1024;

/// What a key is set to, and where.
pub(super) struct Won {
    pub(super) place: Place,
    pub(super) value: String,
}

/// Reads one source after the other, weakest first.
pub(super) struct Reader<'a> {
    /// The flavor's, in bytes.
    memory: u64,
    user_data: &'a str,
    choices: Choices,
    made: Configuration,
    /// Where the value of each key and name comes from.
    won: BTreeMap<String, Won>,
    bytes: usize,
    mistakes: Vec<Mistake>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(memory: u64, user_data: &'a str) -> Self {
        Self {
            memory,
            user_data,
            choices: Choices::default(),
            made: Configuration::default(),
            won: BTreeMap::new(),
            bytes: 0,
            mistakes: vec![],
        }
    }

    /// What the flavor lets others choose, which an image may do before the flavor has its turn. A mistake is told then.
    pub(super) fn choices(&mut self, extra_specs: &BTreeMap<String, String>) {
        self.choices = extra_specs.get(CHOICES).and_then(|text| Choices::parse(text).ok()).unwrap_or_default();
    }

    /// An empty one is none.
    pub(super) fn command_line(&mut self, properties: &BTreeMap<String, String>) {
        match properties.get(COMMAND_LINE) {
            Some(line) if !line.trim().is_empty() => self.set(Place::Image, "command", COMMAND_LINE, "", line),
            _ => {}
        }
    }

    pub(super) fn source(&mut self, place: Place, source: &BTreeMap<String, String>) {
        let prefix = if place == Place::Image { PROPERTY } else { METADATA };
        if place != Place::Image && source.contains_key(ENTRYPOINT) {
            self.drop_command();
        }
        for (key, value) in source {
            let Some(rest) = key.strip_prefix(prefix) else { continue };
            // The name ends with its colon, which a metadata key's prefix has too.
            let (name, more) = rest.find(':').map_or((rest, ""), |colon| rest.split_at(colon + 1));
            let shown = if place == Place::Flavor { format!("flavor {key}") } else { key.clone() };
            self.set(place, name, &shown, more, value);
        }
    }

    /// A service in user data.
    pub(super) fn user_data(&mut self) {
        let service = match user_data::configuration(self.user_data) {
            Ok(None) => return,
            Ok(Some(text)) => yaml::parse(&text),
            Err(problem) => return self.mistake(USER_DATA, problem, Allowed::Nothing),
        };
        let (said, refused) = match service {
            Ok(node) => compose::settings(node),
            Err(refused) => (vec![], vec![refused]),
        };
        for Refused { place, problem } in refused {
            self.mistake(format!("{USER_DATA} {place}").trim_end(), problem, Allowed::Nothing);
        }
        if said.iter().any(|said| said.key == "entrypoint") {
            self.drop_command();
        }
        for Said { key, name, place, value } in said {
            self.set(Place::UserData, key, &format!("{USER_DATA} {place}"), &name, &value);
        }
    }

    /// The arguments of another entry point.
    fn drop_command(&mut self) {
        self.made.command = None;
        self.won.remove("command");
    }

    pub(super) fn set(&mut self, place: Place, key: &str, shown: &str, name: &str, value: &str) {
        self.bytes = self.bytes.saturating_add(shown.len()).saturating_add(value.len());
        let Some(key) = KEYS.iter().find(|known| known.name == key) else {
            let problem = if KEYS.iter().any(|known| known.name.strip_suffix(':') == Some(key)) {
                "the name after a colon is missing"
            } else {
                "there is no such key"
            };
            return self.mistake(shown, problem, Allowed::Keys);
        };
        if !key.places.contains(&place) {
            let objection = match key.places {
                OPERATOR => self.choices.objection(key.name, name, value).map(Cow::from),
                SERVICE => Some("only a service in user data can set it".into()),
                PROVIDERS => Some("only an image and a flavor can set it".into()),
                USERS => Some("only server metadata and user data can set it".into()),
                _ => Some("only server metadata can set it".into()),
            };
            if let Some(problem) = objection {
                return self.mistake(shown, problem, Allowed::Nothing);
            }
        }
        let checked = match value {
            _ if value.len() > MOST_OF_VALUE => Err("it is longer than 65536 bytes"),
            _ if value.contains('\0') => Err("it has a zero byte"),
            _ => {
                let Self { memory, user_data, .. } = *self;
                (key.set)(&mut self.made, Setting { place, name, value, memory, user_data })
            }
        };
        match checked {
            Ok(()) => drop(self.won.insert(format!("{}{name}", key.name), Won { place, value: value.to_owned() })),
            Err(problem) => self.mistake(shown, problem, Allowed::Values(key.allowed)),
        }
    }

    /// The configs and secrets so far.
    pub(super) fn given(self) -> Given {
        self.made.given
    }

    fn mistake(&mut self, key: &str, problem: impl Into<Cow<'static, str>>, allowed: Allowed) {
        self.mistakes.push(Mistake { key: key.to_owned(), problem: problem.into(), allowed });
    }

    /// Known only when every source has been read.
    fn volumes(&mut self) {
        let clashing: Vec<String> = privileges::without_own_path(&self.made).into_iter().cloned().collect();
        for name in clashing {
            let problem = "another host_mount or tmpfs has its path";
            self.mistake(&format!("docker:host_mount:{name}"), problem, Allowed::Values(volume::ALLOWED));
        }
        let clashing: Vec<String> = volume::without_own_path(&self.made).into_iter().cloned().collect();
        for name in clashing {
            let problem = "another volume, host_mount or tmpfs has its path";
            self.mistake(&format!("docker:volume:{name}"), problem, Allowed::Values(volume::ALLOWED));
        }
        let clashing: Vec<String> = given::without_own_path(&self.made).into_iter().cloned().collect();
        for key in clashing {
            let problem = "another file, volume or tmpfs has its path";
            self.mistake(&format!("docker:{key}"), problem, Allowed::Values(given::ALLOWED));
        }
        if self.made.most_volumes.is_some_and(|most| self.made.volumes.len() > most) {
            self.mistake("docker:volume:*", "there are more volumes than the flavor allows", Allowed::Nothing);
        }
    }

    pub(super) fn end(mut self) -> Result<(Configuration, BTreeMap<String, Won>), Mistakes> {
        if self.bytes > MOST_OF_ALL {
            let problem = "all keys and values together are longer than 524288 bytes";
            self.mistake("docker:*", problem, Allowed::Nothing);
        }
        if let (Some(limit), Some(most)) = (self.made.pids_limit, self.made.most_processes)
            && limit > most
        {
            self.mistake("docker:pids_limit", "it is more than the flavor's", Allowed::Nothing);
        }
        if let (Some(time), Some(most)) = (self.made.stop_grace_period, self.made.most_grace)
            && time > most
        {
            self.mistake("docker:stop_grace_period", "it is more than the flavor's", Allowed::Nothing);
        }
        if logging::is_too_much(&self.made) {
            self.mistake("docker:logging:*", "it is more than the flavor's", Allowed::Nothing);
        }
        if self.made.privileges.privileged == Some(true) && !self.made.cap_drop.is_empty() {
            let problem = "it gives all capabilities, and docker:cap_drop takes some away";
            self.mistake("docker:privileged", problem, Allowed::Nothing);
        }
        if self.made.links.len() > link::MOST {
            self.mistake("docker:link:*", "there are more than 64 links", Allowed::Nothing);
        }
        if self.made.oneshot == Some(true) && self.made.restart == Some(Restart::Always) {
            let problem = "restart would start it again when it is done; on-failure does not";
            self.mistake("docker:oneshot", problem, Allowed::Nothing);
        }
        self.volumes();
        if self.mistakes.is_empty() { Ok((self.made, self.won)) } else { Err(Mistakes(self.mistakes)) }
    }
}
