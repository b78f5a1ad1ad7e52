//! The servers that a server is linked to: what they add to its `/etc/hosts` and to its environment.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write};
use std::net::IpAddr;

use uuid::Uuid;

use super::configuration::Mistakes;
use super::configuration::link::{self, Links, MOST, Target, is_host_name};

/// Ports of a server that variables tell of.
const MOST_PORTS: usize = 16;

/// A server of the project that a link leads to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peer {
    /// Nova's instance.
    pub uuid: Uuid,
    /// Display name; nobody has checked it.
    pub name: String,
    /// Host name; nobody has checked it.
    pub hostname: String,
    /// Fixed addresses, each with Neutron's network where that is known.
    pub addresses: Vec<(Option<Uuid>, IpAddr)>,
    /// What its image exposes, as far as that is known here.
    pub ports: Vec<Exposed>,
}

/// A port that an image exposes. The first one of an image is the one that a client means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Exposed {
    /// How it is spoken to.
    pub protocol: Protocol,
    /// The number.
    pub port: u16,
}

/// What ports are of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    /// `tcp`
    Tcp,
    /// `udp`
    Udp,
    /// `sctp`
    Sctp,
}

/// The servers that each target names, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peers(pub BTreeMap<Target, Vec<Peer>>);

impl Exposed {
    /// `3306/tcp`; without a protocol, TCP.
    pub fn parse(text: &str) -> Option<Self> {
        let (port, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        let protocol = match protocol {
            "tcp" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            "sctp" => Protocol::Sctp,
            _ => return None,
        };
        Some(Self { protocol, port: port.parse().ok()? })
    }

    /// Those of a list that can be read, the first ones of all.
    pub fn all<'a>(texts: impl IntoIterator<Item = &'a str>) -> Vec<Self> {
        let all: BTreeSet<Self> = texts.into_iter().filter_map(Self::parse).collect();
        all.into_iter().take(MOST_PORTS).collect()
    }
}

impl fmt::Display for Exposed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.port, self.protocol.name())
    }
}

impl Protocol {
    fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }
}

impl Peer {
    /// The addresses that the owner of `networks` reaches: those in one of them, or else all. IPv4 comes first.
    fn reached_from(&self, networks: &[Uuid]) -> Vec<IpAddr> {
        let is_shared = |network: &Option<Uuid>| network.is_some_and(|network| networks.contains(&network));
        let shares = self.addresses.iter().any(|(network, _)| is_shared(network));
        let reached = self.addresses.iter().filter(|(network, _)| !shares || is_shared(network));
        let mut all: Vec<IpAddr> = reached.map(|(_, address)| *address).collect();
        all.sort_by_key(IpAddr::is_ipv6);
        all
    }
}

impl Peers {
    fn of(&self, target: &Target) -> &[Peer] {
        self.0.get(target).map_or(&[], Vec::as_slice)
    }

    /// Checks that every link leads to a server that has an address.
    ///
    /// # Errors
    /// Those that do not.
    pub fn check(&self, links: &Links) -> Result<(), Mistakes> {
        let mut found = vec![];
        for (alias, target) in links {
            let peers = self.of(target);
            let without = peers.iter().find(|peer| peer.addresses.is_empty());
            match (target, without) {
                (Target::Id(id), _) if peers.is_empty() => {
                    found.push((alias.clone(), format!("the project has no server with the id {id}")));
                }
                (Target::Name(name), _) if peers.is_empty() => {
                    found.push((alias.clone(), format!("the project has no other server with the name {name:?}")));
                }
                (Target::Tag(tag), _) if peers.is_empty() => {
                    found.push((alias.clone(), format!("the project has no other server with the tag {tag:?}")));
                }
                (target, Some(peer)) => {
                    let problem = format!("server {} of {:?} has no address", peer.uuid, target.to_string());
                    found.push((alias.clone(), problem));
                }
                _ => {}
            }
        }
        if found.is_empty() { Ok(()) } else { Err(link::mistakes(found)) }
    }

    /// Checks that the links lead to no more servers than are written.
    ///
    /// # Errors
    /// The link that leads to too many.
    pub fn check_number(&self, links: &Links) -> Result<(), Mistakes> {
        let mut count = 0;
        for (alias, target) in links {
            count += self.of(target).len();
            if count > MOST {
                let problem = format!("with the servers of {:?} there are more than {MOST}", target.to_string());
                return Err(link::mistakes(vec![(alias.clone(), problem)]));
            }
        }
        Ok(())
    }

    /// Lines of `/etc/hosts` for a server that is in `networks`: each address with the alias, the server's name and its host name.
    pub fn hosts(&self, links: &Links, networks: &[Uuid]) -> String {
        let mut lines = String::new();
        let all = links.iter().flat_map(|(alias, target)| self.of(target).iter().map(move |peer| (alias, peer)));
        for (alias, peer) in all.take(MOST) {
            let mut names = vec![alias.as_str()];
            for name in [peer.name.as_str(), peer.hostname.as_str()] {
                // Another user of the project has chosen them.
                if is_host_name(name) && !names.contains(&name) {
                    names.push(name);
                }
            }
            for address in peer.reached_from(networks) {
                // Writing to a string cannot fail.
                writeln!(lines, "{address}\t{}", names.join(" ")).ok();
            }
        }
        lines
    }

    /// Variables of Docker's old links, for a server with this host name in `networks`. Those of the first server have the alias
    /// alone; where there are several, each has its number besides.
    pub fn environment(&self, links: &Links, own: &str, networks: &[Uuid]) -> BTreeMap<String, String> {
        let mut variables = BTreeMap::new();
        for (alias, target) in links {
            let peers = &self.of(target)[..self.of(target).len().min(MOST)];
            for (number, peer) in peers.iter().enumerate() {
                let Some(address) = peer.reached_from(networks).into_iter().next() else { continue };
                let prefix = upper(alias);
                let mut add = |prefix: &str| {
                    variables.insert(format!("{prefix}_NAME"), format!("/{own}/{alias}"));
                    add_ports(&mut variables, prefix, address, &peer.ports);
                };
                if number == 0 {
                    add(&prefix);
                }
                if peers.len() > 1 {
                    add(&format!("{prefix}_{}", number + 1));
                }
            }
        }
        variables
    }
}

fn add_ports(variables: &mut BTreeMap<String, String>, prefix: &str, address: IpAddr, ports: &[Exposed]) {
    for (index, Exposed { port, protocol }) in ports.iter().enumerate() {
        let protocol = protocol.name();
        let host = if address.is_ipv6() { format!("[{address}]") } else { address.to_string() };
        let url = format!("{protocol}://{host}:{port}");
        if index == 0 {
            variables.insert(format!("{prefix}_PORT"), url.clone());
        }
        let name = format!("{prefix}_PORT_{port}_{}", protocol.to_ascii_uppercase());
        variables.insert(format!("{name}_ADDR"), address.to_string());
        variables.insert(format!("{name}_PORT"), port.to_string());
        variables.insert(format!("{name}_PROTO"), protocol.to_owned());
        variables.insert(name, url);
    }
}

/// As the name of a variable.
fn upper(alias: &str) -> String {
    alias.to_ascii_uppercase().replace(['-', '.'], "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    const NETWORK: Uuid = Uuid::from_u128(1);

    fn peer(number: u8) -> Peer {
        Peer {
            uuid: Uuid::from_u128(100 + u128::from(number)),
            name: format!("db-{number}"),
            hostname: format!("host-{number}"),
            addresses: vec![(Some(NETWORK), format!("10.0.0.{number}").parse().unwrap())],
            ports: Exposed::all(["33060/tcp", "3306/tcp"]),
        }
    }

    fn linked<const N: usize>(all: [(&str, &str, Vec<Peer>); N]) -> (Links, Peers) {
        let (mut links, mut peers) = (Links::new(), Peers::default());
        for (alias, target, servers) in all {
            let target = Target::parse(target).unwrap();
            links.insert(alias.to_owned(), target.clone());
            peers.0.insert(target, servers);
        }
        (links, peers)
    }

    #[test]
    fn each_address_has_alias_name_and_host_name_once() {
        let same = Peer { name: "db".to_owned(), hostname: "db".to_owned(), ..peer(7) };
        let (links, peers) = linked([("db", "db", vec![same]), ("web", "@web", vec![peer(8), peer(9)])]);
        let lines = "10.0.0.7\tdb\n10.0.0.8\tweb db-8 host-8\n10.0.0.9\tweb db-9 host-9\n";
        assert_eq!(peers.hosts(&links, &[NETWORK]), lines);
    }

    #[test]
    fn addresses_of_a_network_that_both_are_in_hide_the_others() {
        let address = |text: &str| text.parse().unwrap();
        let other = Some(Uuid::from_u128(2));
        let addresses = vec![
            (other, address("192.0.2.1")),
            (Some(NETWORK), address("fd00::7")),
            (Some(NETWORK), address("10.0.0.7")),
        ];
        let (links, peers) = linked([("db", "db", vec![Peer { addresses, ..peer(7) }])]);
        let seen = |networks: &[Uuid]| -> Vec<String> {
            peers.hosts(&links, networks).lines().map(|line| line.split('\t').next().unwrap().to_owned()).collect()
        };
        assert_eq!(seen(&[NETWORK]), ["10.0.0.7", "fd00::7"]);
        assert_eq!(seen(&[]), ["192.0.2.1", "10.0.0.7", "fd00::7"]);
    }

    #[test]
    fn names_that_would_spoil_the_file_or_name_the_container_itself_are_left_out() {
        for name in ["a\n10.0.0.1 b", "a b", "", "bücher", "localhost", "LOCALHOST", "#x", &"a".repeat(300)] {
            let hostile = Peer { name: name.to_owned(), hostname: name.to_owned(), ..peer(7) };
            let (links, peers) = linked([("db", "db", vec![hostile])]);
            assert_eq!(peers.hosts(&links, &[]), "10.0.0.7\tdb\n", "{name:?}");
        }
    }

    #[test]
    fn the_environment_is_that_of_dockers_links() {
        let (links, peers) = linked([("my-db.x", "db", vec![peer(7)])]);
        let made = peers.environment(&links, "web", &[NETWORK]);
        let expected = [
            ("MY_DB_X_NAME", "/web/my-db.x"),
            ("MY_DB_X_PORT", "tcp://10.0.0.7:3306"),
            ("MY_DB_X_PORT_33060_TCP", "tcp://10.0.0.7:33060"),
            ("MY_DB_X_PORT_33060_TCP_ADDR", "10.0.0.7"),
            ("MY_DB_X_PORT_33060_TCP_PORT", "33060"),
            ("MY_DB_X_PORT_33060_TCP_PROTO", "tcp"),
            ("MY_DB_X_PORT_3306_TCP", "tcp://10.0.0.7:3306"),
            ("MY_DB_X_PORT_3306_TCP_ADDR", "10.0.0.7"),
            ("MY_DB_X_PORT_3306_TCP_PORT", "3306"),
            ("MY_DB_X_PORT_3306_TCP_PROTO", "tcp"),
        ];
        assert_eq!(made, expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
    }

    #[test]
    fn of_several_servers_the_first_has_the_alias_and_each_its_number() {
        let (links, peers) = linked([("db", "@db", vec![peer(7), peer(8)])]);
        let made = peers.environment(&links, "web", &[]);
        for (name, value) in [("DB_PORT", "7:3306"), ("DB_1_PORT", "7:3306"), ("DB_2_PORT", "8:3306")] {
            assert_eq!(made[name], format!("tcp://10.0.0.{value}"));
        }
        assert!(!made.contains_key("DB_3_NAME"));
    }

    #[test]
    fn a_target_that_is_not_there_or_has_no_address_is_named_with_its_key() {
        let bare = Peer { addresses: vec![], ..peer(7) };
        let (links, peers) = linked([("a", "gone", vec![]), ("b", "@tag", vec![]), ("c", "bare", vec![bare])]);
        let told = peers.check(&links).unwrap_err().to_string();
        for said in [
            "docker:link:a: the project has no other server with the name \"gone\"",
            "docker:link:b: the project has no other server with the tag \"tag\"",
            &format!("docker:link:c: server {} of \"bare\" has no address", peer(7).uuid),
        ] {
            assert!(told.contains(said), "{told}");
        }
        let (links, peers) = linked([("a", "db", vec![peer(7)])]);
        assert_eq!(peers.check(&links), Ok(()));
    }

    #[test]
    fn more_servers_than_the_bound_are_refused_and_never_written() {
        let many = vec![peer(7); 65];
        let (links, peers) = linked([("a", "@all", many)]);
        assert!(
            peers
                .check_number(&links)
                .unwrap_err()
                .to_string()
                .contains("docker:link:a: with the servers of \"@all\" there are more than 64")
        );
        assert_eq!(peers.hosts(&links, &[]).lines().count(), 64);
        assert!(!peers.environment(&links, "web", &[]).contains_key("A_65_NAME"));
    }

    #[test]
    fn ports_that_cannot_be_read_are_none_and_their_number_is_bounded() {
        assert_eq!(Exposed::all(["80", "53/udp", "x", "70000/tcp", "1/icmp", ""]).len(), 2);
        let many: Vec<String> = (1..1000).map(|port| port.to_string()).collect();
        assert_eq!(Exposed::all(many.iter().map(String::as_str)).len(), MOST_PORTS);
    }
}
