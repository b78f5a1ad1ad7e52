//! Who runs on this host, from `/proc`.

use std::fs;
use std::path::PathBuf;

/// What the kernel keeps of a process's name.
const AGENT: &str = "nova-docker-age";

/// A running process of this program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Agent {
    pub(super) pid: u32,
    /// `run`, `serve-driver`, `registry`, ...
    pub(super) command: String,
}

impl Agent {
    /// It is the compute service of this host, or what that drives.
    pub(super) fn serves_nova(&self) -> bool {
        matches!(self.command.as_str(), "run" | "serve-driver")
    }
}

/// All processes of this program but this one.
pub(super) async fn agents() -> Vec<Agent> {
    tokio::task::spawn_blocking(agents_now).await.unwrap_or_default()
}

pub(super) fn agents_now() -> Vec<Agent> {
    named(AGENT).into_iter().filter(|&pid| pid != std::process::id()).filter_map(agent).collect()
}

/// The process, if it is one of this program.
pub(super) fn agent(pid: u32) -> Option<Agent> {
    let command = arguments(pid).into_iter().nth(1)?;
    (name(pid)? == AGENT).then_some(Agent { pid, command })
}

/// The processes of this name, at most 15 characters of it.
pub(super) fn named(wanted: &str) -> Vec<u32> {
    processes().filter(|&pid| name(pid).is_some_and(|name| name == wanted)).collect()
}

/// The name of a process; none when it has ended.
pub(super) fn name(pid: u32) -> Option<String> {
    Some(fs::read_to_string(format!("/proc/{pid}/comm")).ok()?.trim_end().to_owned())
}

/// How a process was started.
pub(super) fn arguments(pid: u32) -> Vec<String> {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    words(&line)
}

fn words(line: &[u8]) -> Vec<String> {
    let line = line.strip_suffix(b"\0").unwrap_or(line);
    line.split(|&byte| byte == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect()
}

fn processes() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// Who holds a socket, by the number of its inode. Only root sees the files of others.
pub(super) fn holder(inode: u64) -> Option<u32> {
    let wanted = PathBuf::from(format!("socket:[{inode}]"));
    processes().find(|pid| {
        let files = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        files.map(|file| fs::read_link(file.path())).any(|link| link.is_ok_and(|link| link == wanted))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_line_is_read_word_by_word() {
        assert_eq!(words(b"dockerd\0--config-file\0/etc/d.json\0"), ["dockerd", "--config-file", "/etc/d.json"]);
        assert_eq!(words(b"dockerd\0--bip\0\0"), ["dockerd", "--bip", ""]);
    }

    #[test]
    fn the_holder_of_a_socket_is_found() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let link = fs::read_link(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&listener))).unwrap();
        let inode = link.to_str().unwrap().trim_start_matches("socket:[").trim_end_matches(']').parse().unwrap();
        assert_eq!(holder(inode), Some(std::process::id()));
        assert_eq!(holder(u64::MAX), None);
    }
}
