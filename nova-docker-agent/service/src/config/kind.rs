//! Types of options, by oslo.config's rules for their text.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;

use url::Url;

/// What an option's text must be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    Text,
    Bool,
    Int {
        min: i64,
        max: i64,
    },
    Float {
        min: f64,
    },
    List,
    Choice(&'static [&'static str]),
    /// http or https.
    HttpUrl,
    Ip,
    /// IP address and port.
    Address,
    /// Address and port, of a loopback interface.
    Loopback,
    /// A number with `k`, `m` or `g`, as dockerd takes it.
    Size,
    /// `unix:` and a path, `tcp:` or `http:` and an address: how dockerd is reached.
    DockerUrl,
    /// `unix:PATH`, `tcp:HOST:PORT`: how OVSDB is reached.
    OvsdbUrl,
    /// ws or wss, or http or https.
    WebSocketUrl,
    /// `FIRST:LAST`.
    PortRange,
    /// `NAME=PATH` of programs, with commas between.
    Programs,
    /// `NAME=PATH` or `NAME=PATH:ro` of directories, with commas between.
    Directories,
}

pub(super) const TRUE: [&str; 4] = ["true", "1", "on", "yes"];
pub(super) const FALSE: [&str; 4] = ["false", "0", "off", "no"];

impl Kind {
    pub const fn at_least(min: i64) -> Self {
        Self::Int { min, max: i64::MAX }
    }

    /// What is expected, when the text is not that.
    pub(super) fn check(self, text: &str) -> Result<(), String> {
        let text = text.trim();
        match self {
            Self::Text | Self::List => Ok(()),
            Self::Bool => boolean(text).map(drop).ok_or_else(|| "true or false (or on/off, yes/no, 1/0)".into()),
            Self::Int { min, max } => match text.parse::<i64>() {
                Ok(number) if (min..=max).contains(&number) => Ok(()),
                _ if max == i64::MAX && min == i64::MIN => Err("an integer".into()),
                _ if max == i64::MAX => Err(format!("an integer of at least {min}")),
                _ => Err(format!("an integer from {min} to {max}")),
            },
            Self::Float { min } => match text.parse::<f64>() {
                Ok(number) if number.is_finite() && number >= min => Ok(()),
                _ => Err(format!("a number of at least {min}")),
            },
            Self::Choice(choices) => {
                if choices.contains(&text) {
                    Ok(())
                } else {
                    Err(format!("one of {}", choices.join(", ")))
                }
            }
            Self::HttpUrl => match Url::parse(text) {
                Ok(url) if matches!(url.scheme(), "http" | "https") && url.host().is_some() => Ok(()),
                _ => Err("a URL that begins with http:// or https://".into()),
            },
            Self::Ip => text.parse::<IpAddr>().map(drop).map_err(|_| "an IP address".into()),
            Self::Address => match text.parse::<SocketAddr>() {
                Ok(_) => Ok(()),
                Err(_) => Err("an IP address with a port, such as 0.0.0.0:443 or [::]:443".into()),
            },
            Self::Loopback => match text.parse::<SocketAddr>() {
                Ok(address) if address.ip().is_loopback() => Ok(()),
                _ => Err("a loopback address with a port, such as 127.0.0.1:5999 (port 0 takes a free one)".into()),
            },
            Self::Size => {
                let number = text.trim_end_matches(['k', 'm', 'g', 'K', 'M', 'G']);
                let good = text.len() - number.len() <= 1 && number.parse::<u64>().is_ok_and(|number| number > 0);
                if good { Ok(()) } else { Err("a size such as 10m (with k, m or g)".into()) }
            }
            Self::DockerUrl => {
                let good = ["unix://", "tcp://", "http://"]
                    .iter()
                    .any(|scheme| text.len() > scheme.len() && text.starts_with(scheme));
                if good {
                    Ok(())
                } else {
                    Err("dockerd's address, such as unix:///var/run/docker.sock or tcp://127.0.0.1:2375".into())
                }
            }
            Self::WebSocketUrl => match Url::parse(text) {
                Ok(url) if matches!(url.scheme(), "ws" | "wss" | "http" | "https") && url.host().is_some() => Ok(()),
                _ => Err("a URL that begins with ws:// or wss://".into()),
            },
            Self::PortRange => match ports(text) {
                Some(_) => Ok(()),
                None => Err("two ports, as FIRST:LAST, the first one the smaller".into()),
            },
            Self::Programs => match programs(&list(text)) {
                Some(_) => Ok(()),
                None => Err("NAME=PATH with commas between, such as crun=/usr/bin/crun, no name twice".into()),
            },
            Self::Directories => match named_directories(&list(text)) {
                Some(_) => Ok(()),
                None => {
                    Err("NAME=PATH or NAME=PATH:ro with commas between, such as data=/srv/data:ro, no name twice"
                        .into())
                }
            },
            Self::OvsdbUrl => {
                let good = match text.split_once(':') {
                    Some(("unix", path)) => path.starts_with('/'),
                    Some(("tcp", address)) => address
                        .rsplit_once(':')
                        .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok()),
                    _ => false,
                };
                if good { Ok(()) } else { Err("tcp:ADDRESS:PORT or unix:/PATH of Open vSwitch's database".into()) }
            }
        }
    }
}

/// oslo.config's words for booleans, in any case.
pub(super) fn boolean(text: &str) -> Option<bool> {
    let text = text.trim().to_lowercase();
    if TRUE.contains(&text.as_str()) {
        Some(true)
    } else if FALSE.contains(&text.as_str()) {
        Some(false)
    } else {
        None
    }
}

/// `FIRST:LAST`, both of them in the range; none when it is empty or holds port 0.
pub fn ports(text: &str) -> Option<RangeInclusive<u16>> {
    let (first, last) = text.trim().split_once(':')?;
    let (first, last): (u16, u16) = (first.parse().ok()?, last.parse().ok()?);
    (1 <= first && first <= last).then_some(first..=last)
}

/// Paths by their names; none when an entry is wrong or a name is there twice.
pub fn programs(entries: &[String]) -> Option<BTreeMap<String, PathBuf>> {
    let mut all = BTreeMap::new();
    for entry in entries {
        let (name, path) = entry.split_once('=')?;
        if all.insert(short_name(name)?, absolute(path)?).is_some() {
            return None;
        }
    }
    Some(all)
}

/// The same of directories, and whether `:ro` follows.
pub fn named_directories(entries: &[String]) -> Option<BTreeMap<String, (PathBuf, bool)>> {
    let mut all = BTreeMap::new();
    for entry in entries {
        let (name, path) = entry.split_once('=')?;
        let (path, read_only) = path.strip_suffix(":ro").map_or((path, false), |path| (path, true));
        if path.contains(':') || all.insert(short_name(name)?, (absolute(path)?, read_only)).is_some() {
            return None;
        }
    }
    Some(all)
}

/// As a flavor can write it.
fn short_name(text: &str) -> Option<String> {
    let name = text.trim();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    let is_right = (1..=63).contains(&name.len())
        && name.starts_with(|first: char| first.is_ascii_alphanumeric())
        && name.bytes().all(plain);
    is_right.then(|| name.to_owned())
}

fn absolute(text: &str) -> Option<PathBuf> {
    let path = PathBuf::from(text.trim());
    path.is_absolute().then_some(path)
}

/// Parts between commas, without blanks around them.
pub(super) fn list(text: &str) -> Vec<String> {
    text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn booleans_are_oslos_words_in_any_case() {
        for text in ["true", "True", "1", "ON", "yes", " yes "] {
            assert_eq!(boolean(text), Some(true), "{text:?}");
        }
        for text in ["false", "0", "Off", "NO"] {
            assert_eq!(boolean(text), Some(false), "{text:?}");
        }
        assert_eq!(boolean("y"), None);
    }

    #[test]
    fn what_is_expected_is_said() {
        assert_eq!(Kind::at_least(1).check("0").unwrap_err(), "an integer of at least 1");
        assert_eq!(Kind::Int { min: 0, max: 9 }.check("ten").unwrap_err(), "an integer from 0 to 9");
        assert_eq!(Kind::Choice(&["reap", "log"]).check("reab").unwrap_err(), "one of reap, log");
        assert!(Kind::Float { min: 0.0 }.check("nan").is_err());
    }

    #[test]
    fn addresses_are_checked() {
        let good = [
            (Kind::Loopback, "127.0.0.1:0"),
            (Kind::Loopback, "[::1]:5999"),
            (Kind::Size, "10m"),
            (Kind::Size, "1000"),
            (Kind::DockerUrl, "unix:///run/docker.sock"),
            (Kind::OvsdbUrl, "tcp:127.0.0.1:6640"),
            (Kind::OvsdbUrl, "tcp:[::1]:6640"),
            (Kind::OvsdbUrl, "unix:/run/openvswitch/db.sock"),
            (Kind::HttpUrl, "https://keystone/identity"),
            (Kind::WebSocketUrl, "wss://cloud.example:6083/"),
            (Kind::PortRange, "10000:20000"),
            (Kind::PortRange, "6100:6100"),
            (Kind::Programs, ""),
            (Kind::Programs, "crun=/usr/bin/crun, runsc = /usr/local/bin/runsc"),
            (Kind::Directories, "data=/srv/data:ro,models=/srv/models"),
        ];
        for (kind, text) in good {
            assert_eq!(kind.check(text), Ok(()), "{text}");
        }
        let bad = [
            (Kind::Loopback, "0.0.0.0:5999"),
            (Kind::Loopback, "127.0.0.1"),
            (Kind::Size, "10mm"),
            (Kind::Size, "m"),
            (Kind::Size, "0"),
            (Kind::DockerUrl, "/run/docker.sock"),
            (Kind::OvsdbUrl, "127.0.0.1:6640"),
            (Kind::HttpUrl, "keystone:5000"),
            (Kind::WebSocketUrl, "127.0.0.1:6083"),
            (Kind::PortRange, "20000:10000"),
            (Kind::PortRange, "0:10"),
            (Kind::PortRange, "10000"),
            (Kind::PortRange, "10000:70000"),
            (Kind::Programs, "crun"),
            (Kind::Programs, "crun=bin/crun"),
            (Kind::Programs, "crun=/bin/a,crun=/bin/b"),
            (Kind::Programs, "/bin/crun=/bin/crun"),
            (Kind::Directories, "data=/srv:rw"),
            (Kind::Directories, "-data=/srv"),
        ];
        for (kind, text) in bad {
            assert!(kind.check(text).is_err(), "{text}");
        }
    }

    #[test]
    fn lists_are_split_at_commas() {
        assert_eq!(list("internal, public,\nadmin"), ["internal", "public", "admin"]);
        assert_eq!(list(""), Vec::<String>::new());
    }
}
