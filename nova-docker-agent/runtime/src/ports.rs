//! The host sides of an instance's interfaces. They are up while a process of the instance runs, and down otherwise: the kernel
//! would answer pings, and take connections, in the name of a process that is not there or frozen. Which they are, the agent
//! writes into a directory where only root can write:
//!
//! | name | what |
//! |---|---|
//! | `NAMESPACE` | the names of the host sides, one in each line; written by the agent |
//! | `NAMESPACE.up` | the id of the container whose process runs, or nothing; `?` where it is not known which one |
//!
//! The agent reads `.up` after it has changed the names, and this program the names after it has changed `.up`: so whoever comes
//! last brings all of them to what they shall be.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use netlink_packet_core::{NLM_F_ACK, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};

/// A container of which nobody has taken down which one it is.
const ANY: &[u8] = b"?";
const ENODEV: i32 = 19;

/// Those of one instance, for one of its containers.
#[derive(Debug)]
pub struct Ports<'a> {
    names: PathBuf,
    container: &'a OsStr,
}

impl<'a> Ports<'a> {
    /// `namespace`: the path of the instance's network namespace.
    pub fn of(directory: &Path, namespace: &str, container: &'a OsStr) -> Option<Self> {
        Some(Self { names: directory.join(Path::new(namespace).file_name()?), container })
    }

    /// Brings them up: the container's process is about to run. Without them it must not.
    pub fn open(&self) -> Result<(), String> {
        self.record(self.container.as_bytes())?;
        self.set(true)
    }

    /// Takes them down: the container's process has ended, or is about to be frozen. Not where another container of the instance
    /// runs by now.
    pub fn shut(&self) -> Result<(), String> {
        match fs::read(self.record_file()) {
            Ok(who) if who == self.container.as_bytes() || who == ANY => {}
            _ => return Ok(()),
        }
        self.record(b"")?;
        self.set(false)
    }

    fn record_file(&self) -> PathBuf {
        let mut name = OsString::from(&self.names);
        name.push(".up");
        name.into()
    }

    fn record(&self, who: &[u8]) -> Result<(), String> {
        let file = self.record_file();
        let fresh = file.with_extension("new");
        let written = fs::create_dir_all(file.parent().unwrap_or(Path::new("/")))
            .and_then(|()| fs::write(&fresh, who))
            .and_then(|()| fs::rename(&fresh, &file));
        written.map_err(|error| format!("cannot write {}: {error}", file.display()))
    }

    fn set(&self, up: bool) -> Result<(), String> {
        let names = match fs::read_to_string(&self.names) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            names => names.map_err(|error| format!("cannot read {}: {error}", self.names.display()))?,
        };
        for name in names.lines() {
            match set_link(name, up) {
                // It was detached meanwhile.
                Err(error) if error.raw_os_error() == Some(ENODEV) => {}
                set => set.map_err(|error| format!("cannot set interface {name} {}: {error}", word(up)))?,
            }
        }
        Ok(())
    }
}

fn word(up: bool) -> &'static str {
    if up { "up" } else { "down" }
}

/// `ip link set dev NAME up|down`.
fn set_link(name: &str, up: bool) -> io::Result<()> {
    let mut link = LinkMessage::default();
    link.header.change_mask = LinkFlags::Up;
    link.header.flags = if up { LinkFlags::Up } else { LinkFlags::empty() };
    link.attributes.push(LinkAttribute::IfName(name.to_owned()));
    let payload = NetlinkPayload::from(RouteNetlinkMessage::SetLink(link));
    let mut message = NetlinkMessage::new(NetlinkHeader::default(), payload);
    message.header.flags = NLM_F_REQUEST | NLM_F_ACK;
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    let socket = Socket::new(NETLINK_ROUTE)?;
    socket.connect(&SocketAddr::new(0, 0))?;
    socket.send(&bytes, 0)?;
    let (answer, _) = socket.recv_from_full()?;
    match NetlinkMessage::<RouteNetlinkMessage>::deserialize(&answer).map_err(io::Error::other)?.payload {
        NetlinkPayload::Error(error) if error.code.is_some() => Err(error.to_io()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ports<'a>(directory: &Path, container: &'a str) -> Ports<'a> {
        Ports::of(directory, "/run/netns/nova-1", OsStr::new(container)).unwrap()
    }

    #[test]
    fn what_runs_is_recorded_and_only_its_own_end_takes_the_interfaces_down() {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path().join("ports");
        let record = || fs::read_to_string(directory.join("nova-1.up")).ok();
        ports(&directory, "old").shut().unwrap();
        assert_eq!(record(), None, "nothing is known");
        ports(&directory, "old").open().unwrap();
        ports(&directory, "new").open().unwrap();
        ports(&directory, "old").shut().unwrap();
        assert_eq!(record().as_deref(), Some("new"));
        ports(&directory, "new").shut().unwrap();
        assert_eq!(record().as_deref(), Some(""));
        fs::write(directory.join("nova-1.up"), "?").unwrap();
        ports(&directory, "whichever").shut().unwrap();
        assert_eq!(record().as_deref(), Some(""));
    }

    #[test]
    fn an_interface_that_has_gone_is_no_failure() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("nova-1"), "tapgone\n").unwrap();
        ports(directory.path(), "abc").open().unwrap();
    }
}
