//! The inside of an instance's network: addresses, routes and the namespace's own settings.

use std::fs;
use std::net::IpAddr;

use ipnet::IpNet;

use super::Error;
use super::interface::{Interface, is_device_name, parse_mac};
use super::link::{Hop, Links};

/// The kernel's settings in a new namespace. Interfaces have what Neutron says and nothing else, at once: no address is
/// made of router advertisements, and none waits for duplicate address detection. `ping` and a server on a low port need no
/// privilege, as in Docker's own namespaces.
const SETTINGS: [(&str, &str); 8] = [
    // A new namespace may inherit the host's choice, or an older one may have been touched.
    ("/proc/sys/net/ipv6/conf/all/disable_ipv6", "0"),
    ("/proc/sys/net/ipv6/conf/default/disable_ipv6", "0"),
    ("/proc/sys/net/ipv6/conf/all/accept_ra", "0"),
    ("/proc/sys/net/ipv6/conf/default/accept_ra", "0"),
    ("/proc/sys/net/ipv6/conf/all/accept_dad", "0"),
    ("/proc/sys/net/ipv6/conf/default/accept_dad", "0"),
    ("/proc/sys/net/ipv4/ping_group_range", "0 2147483647"),
    ("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0"),
];

/// Writes the settings; to be run inside the namespace.
pub(super) fn prepare_settings() -> Result<(), Error> {
    for (path, value) in SETTINGS {
        match fs::write(path, value) {
            // A kernel without IPv6 has no such file.
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::system(format!("write {value} to {path}"), source));
            }
            _ => {}
        }
    }
    Ok(())
}

/// The guest side of an interface, found to be usable.
pub(super) struct GuestSide<'a> {
    pub(super) interface: &'a Interface,
    pub(super) mac: [u8; 6],
}

impl<'a> GuestSide<'a> {
    /// Validates the interface, because all of it ends up in kernel calls and command lines.
    pub(super) fn of(interface: &'a Interface) -> Result<Self, Error> {
        let unusable = |reason: String| Error::Unusable { devname: interface.devname.clone(), reason };
        for name in [&interface.devname, &interface.name, &interface.bridge] {
            if !is_device_name(name) {
                return Err(unusable(format!("{name:?} is no name of a network device")));
            }
        }
        let mac =
            parse_mac(&interface.mac).ok_or_else(|| unusable(format!("{:?} is no MAC address", interface.mac)))?;
        Ok(Self { interface, mac })
    }

    /// Sets MAC and MTU, adds every address, and brings the interface up.
    pub(super) async fn configure(&self, guest: &Links) -> Result<(), Error> {
        let Interface { name, mtu, addresses, .. } = self.interface;
        let link = guest.find(name).await?.ok_or_else(|| missing(name))?;
        guest.bring_up(&link, name, Some(&self.mac), *mtu).await?;
        for address in addresses {
            guest.add_address(&link, *address).await?;
        }
        Ok(())
    }
}

/// Adds the default route of each family (through the first interface that has a gateway of it) and every host route.
pub(super) async fn add_routes(guest: &Links, sides: &[GuestSide<'_>]) -> Result<(), Error> {
    let (mut has_v4, mut has_v6) = (false, false);
    for side in sides {
        let interface = side.interface;
        let link = guest.find(&interface.name).await?.ok_or_else(|| missing(&interface.name))?;
        for hop in host_routes(interface) {
            guest.add_route(&link, &hop).await?;
        }
        for gateway in &interface.gateways {
            let taken = if gateway.is_ipv4() { &mut has_v4 } else { &mut has_v6 };
            if !std::mem::replace(taken, true) {
                guest.add_route(&link, &default_route(interface, *gateway)).await?;
            }
        }
    }
    Ok(())
}

/// On-link destinations come first: the next hops of others may lie in them.
fn host_routes(interface: &Interface) -> Vec<Hop> {
    let mut hops: Vec<Hop> = interface
        .routes
        .iter()
        .map(|route| Hop {
            destination: route.destination.trunc(),
            via: (!route.via.is_unspecified()).then_some(route.via),
            onlink: !route.via.is_unspecified() && !is_local(interface, route.via),
        })
        .collect();
    hops.sort_by_key(|hop| hop.via.is_some());
    hops
}

fn default_route(interface: &Interface, gateway: IpAddr) -> Hop {
    let everything = match gateway {
        IpAddr::V4(_) => IpNet::V4(ipnet::Ipv4Net::default()),
        IpAddr::V6(_) => IpNet::V6(ipnet::Ipv6Net::default()),
    };
    Hop { destination: everything, via: Some(gateway), onlink: !is_local(interface, gateway) }
}

/// Whether the kernel knows that `address` is on the link: it lies in a subnet, or is of the link itself.
fn is_local(interface: &Interface, address: IpAddr) -> bool {
    let link_local = matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local());
    link_local || interface.addresses.iter().any(|subnet| subnet.contains(&address))
}

fn missing(name: &str) -> Error {
    Error::system(format!("find link {name} in the namespace"), nix::errno::Errno::ENODEV)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::Route;

    fn interface() -> Interface {
        Interface {
            port_id: uuid::Uuid::nil(),
            devname: "tap0".to_owned(),
            name: "eth0".to_owned(),
            mac: "fa:16:3e:00:00:01".to_owned(),
            mtu: None,
            bridge: "br-int".to_owned(),
            addresses: vec!["10.0.0.5/24".parse().unwrap()],
            gateways: vec![],
            routes: vec![],
            dns: vec![],
        }
    }

    #[test]
    fn names_that_could_be_options_or_paths_are_refused() {
        for bad in ["--db=tcp:evil", "", "a b", "../x", "seventeen-letters"] {
            let changed = Interface { bridge: bad.to_owned(), ..interface() };
            assert!(GuestSide::of(&changed).is_err(), "{bad:?} was taken");
        }
    }

    #[test]
    fn a_gateway_outside_of_the_subnets_is_reached_on_the_link() {
        assert!(default_route(&interface(), "192.0.2.1".parse().unwrap()).onlink);
        assert!(!default_route(&interface(), "10.0.0.1".parse().unwrap()).onlink);
        assert!(!default_route(&interface(), "fe80::1".parse().unwrap()).onlink);
    }

    #[test]
    fn destinations_on_the_link_come_before_those_behind_a_hop() {
        let routes = vec![
            Route { destination: "198.51.100.0/24".parse().unwrap(), via: "203.0.113.1".parse().unwrap() },
            Route { destination: "203.0.113.0/24".parse().unwrap(), via: "0.0.0.0".parse().unwrap() },
        ];
        let hops = host_routes(&Interface { routes, ..interface() });
        assert_eq!(hops[0].destination.to_string(), "203.0.113.0/24");
        assert_eq!(hops[0].via, None);
    }
}
