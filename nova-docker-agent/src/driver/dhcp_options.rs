//! What of a port's own DHCP options (`extra_dhcp_opts`) a container can take. There is no DHCP in it, so the agent does with them what
//! a client would do. The port's user writes them: one that makes no sense is left out, and no reason not to start.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, Ipv4Net};

use crate::network::{Interface, Route};

/// One option, as Neutron has it: `dns-server` or its number, and a value that nobody has checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DhcpOption {
    /// 4 or 6.
    pub version: u8,
    pub name: String,
    pub value: String,
}

/// The options that there are, each in place of what the port's subnets and network say.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Options {
    pub(super) dns_v4: Option<Vec<IpAddr>>,
    pub(super) dns_v6: Option<Vec<IpAddr>>,
    /// None within: no gateway at all.
    pub(super) router: Option<Option<IpAddr>>,
    /// These, and the way out among them: a client that has them looks at no router (RFC 3442).
    pub(super) routes: Option<Vec<Route>>,
    pub(super) mtu: Option<u32>,
    pub(super) domain_search: Option<Vec<String>>,
    pub(super) domain_name: Option<String>,
}

impl Options {
    /// Reads them; of several of one name the last one counts.
    pub(super) fn read(options: &[DhcpOption], port: uuid::Uuid) -> Self {
        let mut read = Self::default();
        for option in options {
            if read.take(option).is_none() {
                tracing::debug!(%port, name = ?option.name, value = ?option.value, "a DHCP option that a container cannot take");
            }
        }
        read
    }

    /// None where the option has no meaning here, or its value none.
    fn take(&mut self, option: &DhcpOption) -> Option<()> {
        let value = option.value.trim();
        match (option.version, option.name.trim().to_ascii_lowercase().as_str()) {
            (4, "dns-server" | "6") => self.dns_v4 = Some(servers(value, IpAddr::is_ipv4)?),
            (6, "dns-server" | "23") => self.dns_v6 = Some(servers(value, IpAddr::is_ipv6)?),
            (4, "router" | "3") => self.router = Some(router(value)?),
            (4, "classless-static-route" | "121") => self.routes = Some(routes(value)?),
            (4, "mtu" | "26") => self.mtu = Some(value.parse().ok().filter(|mtu| *mtu >= LEAST_MTU)?),
            (4, "domain-search" | "119") | (6, "domain-search" | "24") => {
                self.domain_search = Some(words(value).map(domain).collect::<Option<_>>()?);
            }
            (4, "domain-name" | "15") => self.domain_name = Some(domain(value)?),
            _ => return None,
        }
        Some(())
    }

    /// The domains to look names up in, as a client has them: the one that the guest is in counts where there is no list.
    pub(super) fn search(&self) -> Option<Vec<String>> {
        self.domain_search.clone().or_else(|| self.domain_name.clone().map(|name| vec![name]))
    }

    /// Brings the interface's routes and gateways of IPv4 to what the options say. Metadata stays where it is.
    pub(super) fn settle_ways(&self, interface: &mut Interface, metadata: IpNet) {
        let is_v4 = |address: &IpAddr| address.is_ipv4();
        let usable = |via: &IpAddr| {
            let usable = !interface.addresses.iter().any(|own| own.addr() == *via || is_edge(own, *via));
            if !usable {
                tracing::warn!(port = %interface.port_id, %via, "left out a DHCP option's next hop that is nobody's, or the instance's own");
            }
            usable
        };
        let asked = self.routes.as_ref().map(|routes| routes.iter().filter(|route| usable(&route.via)).cloned());
        let routes: Option<Vec<Route>> = asked.map(Iterator::collect);
        // Where none of them is left, the option says nothing.
        let says_something = |left: &Vec<Route>| !left.is_empty() || self.routes.as_ref().is_some_and(Vec::is_empty);
        if let Some(routes) = routes.filter(says_something) {
            let kept = |route: &Route| {
                let named = routes.iter().any(|other| other.destination == route.destination);
                !is_v4(&route.via) || (route.destination == metadata && !named)
            };
            interface.routes.retain(kept);
            interface.gateways.retain(|gateway| !is_v4(gateway));
            interface.routes.extend(routes.iter().filter(|route| !is_default(route)).cloned());
            interface.gateways.extend(routes.iter().filter(|route| is_default(route)).map(|route| route.via));
        } else if let Some(router) = self.router.filter(|router| router.as_ref().is_none_or(usable)) {
            interface.gateways.retain(|gateway| !is_v4(gateway));
            interface.gateways.extend(router);
        }
    }
}

/// Whether the address is that of the subnet itself, or its broadcast address: the kernel takes neither as a next hop.
fn is_edge(own: &IpNet, via: IpAddr) -> bool {
    matches!(own, IpNet::V4(net) if net.prefix_len() < 31) && (own.network() == via || own.broadcast() == via)
}

/// Linux takes IPv6 from an interface with less.
const LEAST_MTU: u32 = 1280;

fn is_default(route: &Route) -> bool {
    route.destination == IpNet::V4(Ipv4Net::default()) && !route.via.is_unspecified()
}

fn words(value: &str) -> impl Iterator<Item = &str> {
    value.split(',').map(str::trim).filter(|word| !word.is_empty())
}

/// Brackets are how dnsmasq wants IPv6.
fn address(word: &str) -> Option<IpAddr> {
    word.strip_prefix('[').and_then(|word| word.strip_suffix(']')).unwrap_or(word).parse().ok()
}

/// None within the list: the unspecified address asks for no server.
fn servers(value: &str, of_family: impl Fn(&IpAddr) -> bool) -> Option<Vec<IpAddr>> {
    words(value).map(|word| address(word).filter(&of_family)).collect()
}

/// The first of the list; none for an empty one.
fn router(value: &str) -> Option<Option<IpAddr>> {
    match words(value).next() {
        None => Some(None),
        Some(word) => {
            let router = hop(word)?;
            Some(Some(router).filter(|router| !router.is_unspecified()))
        }
    }
}

/// Pairs of a destination and a next hop.
fn routes(value: &str) -> Option<Vec<Route>> {
    let words: Vec<&str> = words(value).collect();
    let (pairs, rest) = words.as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    let route = |[destination, via]: &[&str; 2]| {
        let destination: Ipv4Net = destination.parse().ok()?;
        Some(Route { destination: IpNet::V4(destination.trunc()), via: hop(via)? })
    };
    pairs.iter().map(route).collect()
}

/// An address that the kernel takes as a next hop, or the unspecified one.
fn hop(word: &str) -> Option<IpAddr> {
    let via: Ipv4Addr = word.parse().ok()?;
    let reserved = via.octets()[0] == 0 && !via.is_unspecified();
    let odd = via.is_loopback() || via.is_multicast() || via.is_broadcast() || reserved || via.octets()[0] >= 240;
    (!odd).then_some(via.into())
}

/// A domain's name without the dot at its end: what resolv.conf may have without being another line of it.
pub(super) fn domain(word: &str) -> Option<String> {
    let name = word.trim().trim_end_matches('.');
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    let is_label = |label: &str| (1..=63).contains(&label.len()) && label.bytes().all(plain);
    ((1..=253).contains(&name.len()) && name.split('.').all(is_label)).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::network::an_interface;

    fn read(options: &[(u8, &str, &str)]) -> Options {
        let option = |(version, name, value): &(u8, &str, &str)| DhcpOption {
            version: *version,
            name: (*name).to_owned(),
            value: (*value).to_owned(),
        };
        Options::read(&options.iter().map(option).collect::<Vec<_>>(), Uuid::nil())
    }

    fn addresses(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn options_are_known_by_name_and_by_number() {
        let named = read(&[
            (4, "dns-server", "192.0.2.1, 192.0.2.2"),
            (6, "dns-server", "[2001:db8::1]"),
            (4, "router", "10.0.0.9"),
            (4, "classless-static-route", "198.51.100.7/24,10.0.0.8"),
            (4, "mtu", "1300"),
            (4, "domain-search", "a.example,b.example."),
            (4, "domain-name", "c.example"),
        ]);
        let numbered = read(&[
            (4, "6", "192.0.2.1,192.0.2.2"),
            (6, "23", "2001:db8::1"),
            (4, "3", "10.0.0.9"),
            (4, "121", "198.51.100.0/24,10.0.0.8"),
            (4, "26", "1300"),
            (4, "119", "a.example,b.example"),
            (4, "15", "c.example."),
        ]);
        assert_eq!(named, numbered);
        assert_eq!(named.dns_v4, Some(addresses(&["192.0.2.1", "192.0.2.2"])));
        assert_eq!(named.search().unwrap(), ["a.example", "b.example"]);
        assert_eq!(read(&[(4, "domain-name", "c.example")]).search().unwrap(), ["c.example"]);
    }

    #[test]
    fn what_has_no_meaning_in_a_container_or_none_at_all_is_left_out() {
        for (version, name, value) in [
            (4, "bootfile-name", "pxelinux.0"),
            (4, "tag:x,router", "10.0.0.1"),
            (6, "mtu", "1300"),
            (4, "mtu", "-1"),
            (4, "mtu", "67"),
            (4, "mtu", "99999999999999999999"),
            (4, "dns-server", "ns.example"),
            (4, "dns-server", "2001:db8::1"),
            (4, "router", "127.0.0.1"),
            (4, "router", "224.0.0.1"),
            (4, "router", "255.255.255.255"),
            (4, "classless-static-route", "198.51.100.0/24"),
            (4, "classless-static-route", "198.51.100.0/33,10.0.0.8"),
            (4, "domain-search", "a.example\nnameserver 192.0.2.66"),
            (4, "domain-search", "a b"),
            (4, "domain-name", ""),
            (7, "router", "10.0.0.1"),
        ] {
            assert_eq!(read(&[(version, name, value)]), Options::default(), "{name} {value:?}");
        }
    }

    fn settled(options: &[(u8, &str, &str)]) -> (Vec<String>, Vec<IpAddr>) {
        let route = |to: &str, via: &str| Route { destination: to.parse().unwrap(), via: via.parse().unwrap() };
        let metadata = "169.254.169.254/32";
        let mut interface = Interface {
            gateways: addresses(&["10.0.0.1", "fd00::1"]),
            routes: vec![route("192.0.2.0/24", "10.0.0.2"), route(metadata, "10.0.0.3"), route("fd01::/64", "fd00::2")],
            ..an_interface()
        };
        read(options).settle_ways(&mut interface, metadata.parse().unwrap());
        let routes = interface.routes.iter().map(|route| format!("{} {}", route.destination, route.via)).collect();
        (routes, interface.gateways)
    }

    #[test]
    fn a_router_takes_the_place_of_the_subnets_gateway_and_none_leaves_none() {
        assert_eq!(settled(&[(4, "router", "10.0.0.9")]).1, addresses(&["fd00::1", "10.0.0.9"]));
        assert_eq!(settled(&[(4, "router", "")]).1, addresses(&["fd00::1"]));
        assert_eq!(settled(&[(4, "router", "0.0.0.0")]).1, addresses(&["fd00::1"]));
        for nobody in ["10.0.0.5", "10.0.0.0", "10.0.0.255"] {
            assert_eq!(settled(&[(4, "router", nobody)]), settled(&[]), "{nobody} is no way out");
        }
    }

    #[test]
    fn static_routes_take_the_place_of_the_subnets_routes_and_of_its_gateway_but_not_of_metadata() {
        let (routes, gateways) = settled(&[
            (4, "classless-static-route", "198.51.100.0/24,10.0.0.8,0.0.0.0/0,10.0.0.7"),
            (4, "router", "10.0.0.9"),
        ]);
        assert_eq!(routes, ["169.254.169.254/32 10.0.0.3", "fd01::/64 fd00::2", "198.51.100.0/24 10.0.0.8"]);
        assert_eq!(gateways, addresses(&["fd00::1", "10.0.0.7"]));
        let (routes, _) = settled(&[(4, "classless-static-route", "169.254.169.254/32,10.0.0.8")]);
        assert!(routes.contains(&"169.254.169.254/32 10.0.0.8".to_owned()) && routes.len() == 2, "{routes:?}");
        for nobody in ["10.0.0.5", "10.0.0.0", "10.0.0.255"] {
            let alone = format!("192.0.2.0/24,{nobody}");
            assert_eq!(settled(&[(4, "classless-static-route", &alone)]), settled(&[]));
            let among = format!("{alone},198.51.100.0/24,10.0.0.8");
            let (routes, _) = settled(&[(4, "classless-static-route", &among)]);
            assert_eq!(routes, ["169.254.169.254/32 10.0.0.3", "fd01::/64 fd00::2", "198.51.100.0/24 10.0.0.8"]);
        }
    }
}
