//! What only dockerd's own settings say: its process is found by its socket, its file by its process.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tokio::net::UnixStream;

use super::processes;

const DOCKERD: &str = "dockerd";
const DEFAULT_FILE: &str = "/etc/docker/daemon.json";
const CONFIG_FILE: &str = "--config-file";
const USERLAND_PROXY: &str = "--userland-proxy";

/// Settings that Docker tells nobody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Settings {
    pub(super) file: PathBuf,
    /// None: its file cannot be read.
    pub(super) userland_proxy: Option<bool>,
}

/// The settings of the dockerd that listens there; none when its process is not found.
pub(super) async fn settings(host_url: &str) -> Option<Settings> {
    let listening = match host_url.strip_prefix("unix://") {
        Some(path) => peer(path).await,
        None => None,
    };
    let looked = tokio::task::spawn_blocking(move || {
        // systemd may have made the socket.
        let listening = listening.filter(|&pid| processes::name(pid).as_deref() == Some(DOCKERD));
        let only = || match processes::named(DOCKERD)[..] {
            [pid] => Some(pid),
            _ => None,
        };
        let arguments = processes::arguments(listening.or_else(only)?);
        let file = PathBuf::from(value(&arguments, CONFIG_FILE).unwrap_or(DEFAULT_FILE));
        let text = read(&file);
        Some(Settings { userland_proxy: userland_proxy(&arguments, text.as_deref()), file })
    });
    looked.await.ok().flatten()
}

async fn peer(path: &str) -> Option<u32> {
    let stream = UnixStream::connect(path).await.ok()?;
    stream.peer_cred().ok()?.pid()?.try_into().ok()
}

/// dockerd starts without a file.
fn read(file: &Path) -> Option<String> {
    match fs::read_to_string(file) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Some("{}".to_owned()),
        read => read.ok(),
    }
}

/// `--name=value` or `--name value`
fn value<'a>(arguments: &'a [String], name: &str) -> Option<&'a str> {
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        match argument.strip_prefix(name) {
            Some("") => return arguments.next().map(String::as_str),
            Some(rest) if rest.starts_with('=') => return Some(&rest[1..]),
            _ => {}
        }
    }
    None
}

fn userland_proxy(arguments: &[String], file: Option<&str>) -> Option<bool> {
    let flag = arguments.iter().find_map(|argument| argument.strip_prefix(USERLAND_PROXY));
    match flag {
        Some("" | "=true" | "=1") => return Some(true),
        Some("=false" | "=0") => return Some(false),
        _ => {}
    }
    let settings: Value = serde_json::from_str(file?).ok()?;
    Some(settings.get("userland-proxy").and_then(Value::as_bool).unwrap_or(true))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn the_file_is_named_in_either_form() {
        assert_eq!(value(&words("dockerd --config-file=/a -D"), CONFIG_FILE), Some("/a"));
        assert_eq!(value(&words("dockerd --config-file /a -D"), CONFIG_FILE), Some("/a"));
        assert_eq!(value(&words("dockerd --config-files=/a"), CONFIG_FILE), None);
    }

    #[test]
    fn the_proxy_is_on_unless_a_flag_or_the_file_says_otherwise() {
        let proxy = |line: &str, file| userland_proxy(&words(line), file);
        assert_eq!(proxy("dockerd", Some("{}")), Some(true));
        assert_eq!(proxy("dockerd", Some(r#"{"userland-proxy": false}"#)), Some(false));
        assert_eq!(proxy("dockerd --userland-proxy=false", Some("{}")), Some(false));
        assert_eq!(proxy("dockerd --userland-proxy-path=/p", Some("{}")), Some(true));
        assert_eq!(proxy("dockerd", None), None);
    }
}
