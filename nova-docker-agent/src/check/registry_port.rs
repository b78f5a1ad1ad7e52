//! Whether the port of the agent's own registry is free, or ours.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::finding::Finding;
use super::processes;
use crate::config::Config;

const CHECK: &str = "registry-port";
/// A listening socket, in the kernel's table.
const LISTEN: &str = "0A";

pub(super) fn look(config: &Config) -> Vec<Finding> {
    let wanted = config.docker.registry_listen;
    if wanted.port() == 0 {
        return vec![Finding::ok(CHECK, "any free port")];
    }
    let table = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let sockets = listening(&table("/proc/net/tcp")).into_iter().chain(listening(&table("/proc/net/tcp6")));
    let taken = sockets.into_iter().find(|(address, _)| in_the_way(*address, wanted));
    let holder = taken.map(|(_, inode)| processes::holder(inode).map(holder));
    vec![judge(wanted, holder)]
}

/// Who holds a port.
enum Holder {
    /// The agent of this host.
    Agent(u32),
    Other(u32, String),
}

fn holder(pid: u32) -> Holder {
    match processes::agent(pid).filter(processes::Agent::serves_nova) {
        Some(agent) => Holder::Agent(agent.pid),
        None => Holder::Other(pid, processes::name(pid).unwrap_or_default()),
    }
}

/// `holder`: none when the port is free, and none within when nobody knows who has it.
fn judge(wanted: SocketAddr, holder: Option<Option<Holder>>) -> Finding {
    let advice = "end that program, or set [docker] registry_listen to another port of loopback";
    match holder {
        None => Finding::ok(CHECK, format!("{wanted} is free")),
        Some(Some(Holder::Agent(pid))) => {
            Finding::ok(CHECK, format!("{wanted} is the running agent's (process {pid})"))
        }
        Some(Some(Holder::Other(pid, name))) => {
            Finding::failed(CHECK, format!("{wanted} is taken by {name} (process {pid})"), advice)
        }
        Some(None) => Finding::warning(CHECK, format!("{wanted} is taken, nobody can say by whom"), advice),
    }
}

fn in_the_way(taken: SocketAddr, wanted: SocketAddr) -> bool {
    taken.port() == wanted.port() && (taken.ip().is_unspecified() || taken.ip() == wanted.ip())
}

/// Addresses and inodes of listening sockets: `0: 0100007F:13B2 00000000:0000 0A ... UID TIMEOUT INODE ...`
fn listening(table: &str) -> Vec<(SocketAddr, u64)> {
    table.lines().filter_map(socket).collect()
}

fn socket(line: &str) -> Option<(SocketAddr, u64)> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let (address, state, inode) = (words.get(1)?, words.get(3)?, words.get(9)?);
    if *state != LISTEN {
        return None;
    }
    let (ip, port) = address.split_once(':')?;
    Some((SocketAddr::new(ip_of(ip)?, u16::from_str_radix(port, 16).ok()?), inode.parse().ok()?))
}

/// Words of 32 bits, each in the host's own order.
fn ip_of(hex: &str) -> Option<IpAddr> {
    let word = |at: usize| u32::from_str_radix(hex.get(at..at + 8)?, 16).ok().map(u32::to_ne_bytes);
    match hex.len() {
        8 => Some(Ipv4Addr::from(word(0)?).into()),
        32 => {
            let words = [word(0)?, word(8)?, word(16)?, word(24)?].concat();
            let address = Ipv6Addr::from(<[u8; 16]>::try_from(words).ok()?);
            Some(address.to_canonical())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::super::testing::config;
    use super::*;

    #[test]
    fn the_kernels_table_is_read() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
            0: 0100007F:13B2 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0 100 0 0 10 0\n   \
            1: 0100007F:13B2 0100007F:9999 01 00000000:00000000 00:00000000 00000000     0        0 4712 1 0 100 0 0 10 0\n";
        if cfg!(target_endian = "little") {
            assert_eq!(listening(table), [("127.0.0.1:5042".parse().unwrap(), 4711)]);
            assert_eq!(ip_of("00000000000000000000000001000000"), Some("::1".parse().unwrap()));
            assert_eq!(ip_of("0000000000000000FFFF00000100007F"), Some("127.0.0.1".parse().unwrap()));
        }
        assert_eq!(ip_of("00"), None);
    }

    #[test]
    fn an_address_is_in_the_way_of_itself_and_any_address_of_all() {
        let way = |taken: &str| in_the_way(taken.parse().unwrap(), "127.0.0.1:5042".parse().unwrap());
        assert!(way("127.0.0.1:5042") && way("0.0.0.0:5042") && way("[::]:5042"));
        assert!(!way("127.0.0.1:5043") && !way("10.0.0.1:5042"));
    }

    #[test]
    fn a_port_that_another_program_holds_fails_with_its_name() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut config = config(&[]);
        config.docker.registry_listen = listener.local_addr().unwrap();
        let findings = look(&config);
        assert_eq!(findings[0].verdict, Verdict::Failed);
        assert!(findings[0].found.contains(&format!("(process {})", std::process::id())), "{findings:?}");
        drop(listener);
        assert_eq!(look(&config)[0].verdict, Verdict::Ok);
        let wanted = config.docker.registry_listen;
        assert_eq!(judge(wanted, Some(Some(Holder::Agent(1)))).verdict, Verdict::Ok);
        assert_eq!(judge(wanted, Some(None)).verdict, Verdict::Warning);
    }
}
