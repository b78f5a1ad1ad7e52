//! Named volumes that a container asks for.

use std::collections::BTreeMap;

use super::{Configuration, value};

/// Bytes of a volume's name.
const LONGEST_NAME: usize = 63;

/// What a mistake is told with.
pub(super) const ALLOWED: &str = "a short name, and an absolute path, or PATH:ro; no path twice";

/// Where a named volume is in the container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// An absolute path without `.` and `..`.
    pub path: String,
    /// Whether the container cannot write there.
    pub read_only: bool,
}

/// Of a volume, within its project.
pub(super) fn name(name: &str) -> Result<(), &'static str> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    match name {
        "" => Err("the name is empty"),
        _ if name.len() > LONGEST_NAME => Err("the name is longer than 63 bytes"),
        _ if name.starts_with(['_', '.', '-']) || !name.bytes().all(plain) => Err(
            "the name has characters other than letters, digits, '_', '.' and '-', or begins with one of the last three",
        ),
        _ => Ok(()),
    }
}

/// `PATH`, `PATH:ro` or `PATH:rw`.
pub(super) fn place(text: &str) -> Result<Volume, &'static str> {
    let (path, read_only) = match text.split_once(':') {
        None => (text, false),
        Some((path, "rw")) => (path, false),
        Some((path, "ro")) => (path, true),
        Some(_) => return Err("what follows the path is neither ro nor rw"),
    };
    Ok(Volume { path: value::mount_point(path)?, read_only })
}

/// A flavor's limit; none is as many as users want.
pub(super) fn most(text: &str) -> Result<Option<usize>, &'static str> {
    let text = text.trim();
    match value::flag(text) {
        // As text, 0 and 1 are numbers here.
        Ok(flag) if !text.bytes().all(|byte| byte.is_ascii_digit()) => Ok((!flag).then_some(0)),
        _ => text.parse().map(Some).map_err(|_| "it is neither true, false nor a number"),
    }
}

/// Names of the volumes whose path another volume, a directory of the host or a directory in memory has too.
pub(super) fn without_own_path(made: &Configuration) -> Vec<&String> {
    let mounts = made.privileges.host_mounts.values().map(|mount| mount.path.as_str());
    let mut taken: Vec<&str> = made.tmpfs.keys().map(String::as_str).chain(mounts).collect();
    let mut clashing = vec![];
    for (name, volume) in &made.volumes {
        if taken.contains(&volume.path.as_str()) {
            clashing.push(name);
        }
        taken.push(&volume.path);
    }
    clashing
}

/// Whether the user wants the volumes of a server removed together with the last server that names them. Read when the server is
/// deleted; a value that is neither true nor false keeps them.
pub fn are_removed(metadata: &BTreeMap<String, String>) -> bool {
    metadata.get("docker:remove_volumes").is_some_and(|text| value::flag(text) == Ok(true))
}
