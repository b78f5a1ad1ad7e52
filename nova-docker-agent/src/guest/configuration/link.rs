//! Links to other servers of the project: an alias, and whom it names.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use uuid::Uuid;

use super::mistakes::{Allowed, Mistake};
use super::{Configuration, Mistakes, value};

/// What a mistake is told with.
pub(super) const ALLOWED: &str = "a host name, and the name or the id of a server of the project, or @TAG";
/// Links of a server, and servers that its links lead to.
pub const MOST: usize = 64;
/// Characters of a server's name, and of a tag.
const LONGEST_NAME: usize = 255;
const LONGEST_TAG: usize = 60;
/// The longest wait of a launch.
const LONGEST_WAIT: Duration = Duration::from_secs(600);
/// Names that every container has of its own.
const RESERVED: [&str; 5] = ["localhost", "ip6-localhost", "ip6-loopback", "ip6-allnodes", "ip6-allrouters"];

/// The links that a server asks for, by their aliases.
pub type Links = BTreeMap<String, Target>;

/// Whom an alias names: servers of the same project.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// One server.
    Id(Uuid),
    /// Every server of this name.
    Name(String),
    /// Every server with this tag.
    Tag(String),
}

/// What a launch does about a server that is not there yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Waits so long for it.
    For(Duration),
    /// Goes on without it: its names come into `/etc/hosts` when it comes.
    Optional,
}

impl Target {
    /// An id, `@TAG`, or else a name.
    ///
    /// # Errors
    /// No server could have it.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let text = text.trim();
        let (name, longest) = text.strip_prefix('@').map_or((text, LONGEST_NAME), |tag| (tag, LONGEST_TAG));
        match name {
            "" => return Err("it names no server"),
            _ if name.chars().count() > longest => return Err("it is longer than a server's name or tag"),
            _ if name.contains(char::is_control) => return Err("it has a control character"),
            _ => {}
        }
        match Uuid::parse_str(text) {
            _ if text.starts_with('@') && name.contains(['/', ',']) => Err("a tag has neither '/' nor ','"),
            _ if text.starts_with('@') => Ok(Self::Tag(name.to_owned())),
            Ok(id) => Ok(Self::Id(id)),
            Err(_) => Ok(Self::Name(name.to_owned())),
        }
    }

    /// Servers of one target that are looked at.
    pub const MOST_LOOKED_AT: usize = 200;

    /// Nova's filter for such servers, and what it filters for. It lets others through, too: a name is a pattern there, and some
    /// databases compare it without regard to case.
    pub fn filter(&self) -> (&'static str, String) {
        match self {
            Self::Id(id) => ("uuid", id.to_string()),
            Self::Name(name) => ("display_name", name_pattern(name)),
            Self::Tag(tag) => ("tags", tag.clone()),
        }
    }

    /// Whether a server that the filter let through is meant.
    pub fn is_met_by(&self, uuid: Uuid, name: &str) -> bool {
        match self {
            Self::Id(id) => uuid == *id,
            Self::Name(wanted) => wanted == name,
            Self::Tag(_) => true,
        }
    }
}

/// A regular expression that the name matches, and few others: what means something in one is any character.
fn name_pattern(name: &str) -> String {
    let mut pattern = "^".to_owned();
    for character in name.chars() {
        match character {
            _ if character.is_ascii_alphanumeric() || "_-".contains(character) => pattern.push(character),
            // A database may count bytes.
            _ if !pattern.ends_with(".*") => pattern.push_str(".*"),
            _ => {}
        }
    }
    pattern + "$"
}

impl fmt::Display for Target {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => id.fmt(formatter),
            Self::Name(name) => formatter.write_str(name),
            Self::Tag(tag) => write!(formatter, "@{tag}"),
        }
    }
}

/// A name that `/etc/hosts` takes, and that is not every container's own.
pub fn is_host_name(name: &str) -> bool {
    alias(name).is_ok()
}

pub(super) fn alias(name: &str) -> Result<(), &'static str> {
    value::host_name(name)?;
    if RESERVED.contains(&name.to_ascii_lowercase().as_str()) {
        Err("the name is every container's own")
    } else {
        Ok(())
    }
}

/// A time of at most ten minutes, or `optional`.
pub(super) fn wait(text: &str) -> Result<Wait, &'static str> {
    match text.trim() {
        "optional" => Ok(Wait::Optional),
        text => match value::grace(text) {
            Ok(time) if time > LONGEST_WAIT => Err("it is more than ten minutes"),
            Ok(time) => Ok(Wait::For(time)),
            Err(_) => Err("it is neither a time nor optional"),
        },
    }
}

/// Alias and target of Compose's `SERVER` or `SERVER:ALIAS`.
pub(super) fn of_compose(text: &str) -> (&str, &str) {
    let (target, alias) = text.rsplit_once(':').unwrap_or((text, text));
    (alias.trim_start_matches('@'), target)
}

/// What is wrong with links that are right in themselves: of each, the alias and the problem.
pub(in crate::guest) fn mistakes(found: Vec<(String, String)>) -> Mistakes {
    let mistake = |(alias, problem): (String, String)| Mistake {
        key: key(&alias),
        problem: String::into(problem),
        allowed: Allowed::Nothing,
    };
    Mistakes(found.into_iter().map(mistake).collect())
}

pub(super) fn key(alias: &str) -> String {
    format!("docker:link:{alias}")
}

/// What the label of a container says of its links.
pub fn written(links: &Links) -> String {
    let all = links.iter().map(|(alias, target)| (alias.clone(), target.to_string().into()));
    serde_json::Value::Object(all.collect()).to_string()
}

/// The links that [`written`] wrote; what cannot be read is none.
pub fn read(text: &str) -> Links {
    let all: BTreeMap<String, String> = serde_json::from_str(text).unwrap_or_default();
    all.into_iter().filter_map(|(alias, target)| Some((alias, Target::parse(&target).ok()?))).collect()
}

impl Configuration {
    /// How long a launch waits for servers that are not there yet; none goes on without them.
    pub fn link_patience(&self) -> Option<Duration> {
        match self.link_wait {
            None => Some(Duration::ZERO),
            Some(Wait::For(time)) => Some(time),
            Some(Wait::Optional) => None,
        }
    }
}
