//! Configs and secrets: files that a container is given besides its image, out of user data.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;

use super::{Configuration, value};

/// What a mistake is told with.
pub(super) const ALLOWED: &str =
    "a short name, and a text, or a map of content, target, uid, gid and mode as 0400; no path twice";
/// Files of one container.
const MOST: usize = 64;
const MOST_MODE: u32 = 0o777;
const MOST_ID: u32 = i32::MAX as u32;

/// Files by their kinds and names.
pub type Given = BTreeMap<String, GivenFile>;

/// A file that the container's processes find, and no image has.
#[derive(Clone, PartialEq, Eq)]
pub struct GivenFile {
    /// Absolute, without `.` and `..`.
    pub path: String,
    /// Permissions.
    pub mode: u32,
    /// Whose it is; without it, the user's that the command runs as.
    pub user: Option<u32>,
    /// The same of its group.
    pub group: Option<u32>,
    /// What is in it.
    pub content: String,
}

impl fmt::Debug for GivenFile {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} ({:o})", self.path, self.mode)
    }
}

#[derive(Clone, Copy)]
pub(super) enum Kind {
    Config,
    Secret,
}

impl Kind {
    fn directory(self) -> &'static str {
        match self {
            Self::Config => "",
            Self::Secret => "/run/secrets",
        }
    }

    fn mode(self) -> u32 {
        match self {
            Self::Config => 0o444,
            Self::Secret => 0o400,
        }
    }

    fn key(self) -> &'static str {
        match self {
            Self::Config => "config:",
            Self::Secret => "secret:",
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    content: String,
    target: Option<String>,
    uid: Option<String>,
    gid: Option<String>,
    mode: Option<String>,
}

/// Takes a file down, from the JSON that stands for its text or map.
pub(super) fn give(all: &mut Configuration, kind: Kind, name: &str, text: &str) -> Result<(), &'static str> {
    super::volume::name(name)?;
    let file = file(kind, name, text)?;
    all.given.insert(format!("{}{name}", kind.key()), file);
    if all.given.len() > MOST { Err("there are more than 64") } else { Ok(()) }
}

fn file(kind: Kind, name: &str, text: &str) -> Result<GivenFile, &'static str> {
    const FORM: &str = "it is neither a text nor a map of content, target, uid, gid and mode";
    let written: Written = serde_json::from_str(text).map_err(|_| FORM)?;
    if written.content.contains('\0') {
        return Err("it has a zero byte");
    }
    let target = written.target.unwrap_or_else(|| name.to_owned());
    let path = if target.starts_with('/') { target } else { format!("{}/{target}", kind.directory()) };
    Ok(GivenFile {
        path: value::mount_point(&path)?,
        mode: written.mode.map_or(Ok(kind.mode()), |text| mode(&text))?,
        user: written.uid.map(|text| id(&text)).transpose()?,
        group: written.gid.map(|text| id(&text)).transpose()?,
        content: written.content,
    })
}

/// Octal, as `0400`, `400` or `0o400`.
fn mode(text: &str) -> Result<u32, &'static str> {
    let digits = text.strip_prefix("0o").unwrap_or(text);
    let is_octal = !digits.is_empty() && digits.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
    let mode = u32::from_str_radix(digits, 8).ok().filter(|mode| is_octal && *mode <= MOST_MODE);
    mode.ok_or("its mode is no octal number of at most 0777")
}

fn id(text: &str) -> Result<u32, &'static str> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let id = text.parse().ok().filter(|id| is_number && *id <= MOST_ID);
    id.ok_or("its uid or gid is no number of at most 2147483647")
}

/// Keys of the files whose path another file, a volume or a directory in memory has too.
pub(super) fn without_own_path(made: &Configuration) -> Vec<&String> {
    let volumes = made.volumes.values().chain(made.privileges.host_mounts.values()).map(|volume| volume.path.as_str());
    let mut taken: Vec<&str> = made.tmpfs.keys().map(String::as_str).chain(volumes).collect();
    let mut clashing = vec![];
    for (key, file) in &made.given {
        if taken.contains(&file.path.as_str()) {
            clashing.push(key);
        }
        taken.push(&file.path);
    }
    clashing
}
