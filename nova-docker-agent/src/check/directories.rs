//! What the agent keeps on this host: whose it is, and how much room there is.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use nix::sys::statvfs::{FsFlags, statvfs};
use nix::unistd::geteuid;

use super::finding::Finding;
use crate::config::Config;

const CHECK: &str = "directories";
const GIB: u64 = 1 << 30;
/// Below this no image fits any more.
const LEAST: u64 = GIB;
/// Below both of these it is time to look.
const LITTLE: u64 = 10 * GIB;
const LITTLE_SHARE: f64 = 0.1;

pub(super) fn look(config: &Config) -> Vec<Finding> {
    let directories = [("state_path", &config.state_path), ("cache_directory", &config.docker.cache_directory)];
    let mut findings: Vec<Finding> =
        directories.iter().map(|(option, path)| judge(option, path, &Directory::of(path))).collect();
    findings.extend(room("state-disk", &config.state_path));
    findings
}

/// How much room there is where Docker keeps everything.
pub(super) async fn look_at_disk(check: &'static str, path: PathBuf) -> Vec<Finding> {
    tokio::task::spawn_blocking(move || room(check, &path)).await.unwrap_or_default().into_iter().collect()
}

/// What is at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Directory {
    /// Nothing; what is missing is made in this directory.
    Absent(PathBuf),
    There {
        owner: u32,
        mode: u32,
    },
    /// Something else, or out of reach.
    Unfit(String),
}

impl Directory {
    fn of(path: &Path) -> Self {
        match fs::metadata(path) {
            Ok(found) if found.is_dir() => {
                Self::There { owner: found.uid(), mode: found.permissions().mode() & 0o7777 }
            }
            Ok(_) => Self::Unfit("it is no directory".to_owned()),
            Err(error) if error.kind() == ErrorKind::NotFound => match existing(path) {
                Some(parent) if parent.is_dir() => Self::Absent(parent.to_owned()),
                Some(parent) => Self::Unfit(format!("{} is no directory", parent.display())),
                None => Self::Unfit("there is no way to it".to_owned()),
            },
            Err(error) => Self::Unfit(error.to_string()),
        }
    }
}

/// The nearest that exists.
fn existing(path: &Path) -> Option<&Path> {
    path.ancestors().find(|ancestor| ancestor.exists())
}

fn judge(option: &str, path: &Path, directory: &Directory) -> Finding {
    let place = format!("{option} {}", path.display());
    match directory {
        Directory::Unfit(reason) => {
            Finding::failed(CHECK, format!("{place}: {reason}"), format!("correct {option}, or make the directory"))
        }
        Directory::Absent(parent) => {
            Finding::ok(CHECK, format!("{place}: the first start makes it in {}", parent.display()))
        }
        Directory::There { mode, .. } if mode & 0o002 != 0 => Finding::failed(
            CHECK,
            format!("{place} has mode {mode:04o}: every user of this host can change what the agent believes"),
            format!("`chmod o-w {}`", path.display()),
        ),
        Directory::There { owner, .. } if !geteuid().is_root() && *owner != geteuid().as_raw() => Finding::warning(
            CHECK,
            format!("{place} belongs to user {owner}"),
            "run the agent as root, or give it the directory",
        ),
        Directory::There { owner, mode } => Finding::ok(CHECK, format!("{place}: mode {mode:04o}, owner {owner}")),
    }
}

/// The room in the file system that holds a path; nothing when it cannot be measured.
fn room(check: &'static str, path: &Path) -> Option<Finding> {
    let found = statvfs(existing(path)?).ok()?;
    let unit = found.fragment_size();
    let (total, free) = (found.blocks().saturating_mul(unit), found.blocks_available().saturating_mul(unit));
    Some(judge_room(check, path, found.flags().contains(FsFlags::ST_RDONLY), total, free))
}

fn judge_room(check: &'static str, path: &Path, read_only: bool, total: u64, free: u64) -> Finding {
    let gib = |bytes: u64| bytes as f64 / GIB as f64;
    let found = format!("{}: {:.1} of {:.1} GiB free", path.display(), gib(free), gib(total));
    if read_only {
        return Finding::failed(
            check,
            format!("{}: its file system is read-only", path.display()),
            "see `dmesg`, and mount it for writing",
        );
    }
    let advice =
        "remove what nobody needs (never with `docker system prune`, see the operator's guide), or give it more room";
    let is_little = free < LITTLE && (free as f64) < total as f64 * LITTLE_SHARE;
    match free {
        free if free < LEAST => Finding::failed(check, found, advice),
        _ if is_little => Finding::warning(check, found, advice),
        _ => Finding::ok(check, found),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn a_directory_that_everybody_may_write_fails() {
        let directory = tempfile::tempdir().unwrap();
        let verdict = |path: &Path| judge("state_path", path, &Directory::of(path)).verdict;
        assert_eq!(verdict(directory.path()), Verdict::Ok);
        assert_eq!(verdict(&directory.path().join("a/b")), Verdict::Ok);
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777)).unwrap();
        assert_eq!(verdict(directory.path()), Verdict::Failed);
        let file = directory.path().join("file");
        fs::write(&file, "").unwrap();
        assert_eq!(verdict(&file), Verdict::Failed);
        assert_eq!(verdict(&file.join("below")), Verdict::Failed);
    }

    #[test]
    fn room_is_judged_by_what_is_left() {
        let verdict = |total, free| judge_room("disk", Path::new("/d"), false, total * GIB, free).verdict;
        assert_eq!(verdict(100, 50 * GIB), Verdict::Ok);
        assert_eq!(verdict(100, 9 * GIB), Verdict::Warning);
        assert_eq!(verdict(20, 9 * GIB), Verdict::Ok);
        assert_eq!(verdict(1000, 50 * GIB), Verdict::Ok);
        assert_eq!(verdict(100, GIB - 1), Verdict::Failed);
        assert_eq!(judge_room("disk", Path::new("/d"), true, GIB, GIB).verdict, Verdict::Failed);
    }
}
