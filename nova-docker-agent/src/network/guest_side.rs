//! The inside of an instance's network: addresses, routes and the namespace's own settings.

use std::fs;
use std::net::IpAddr;

use ipnet::IpNet;

use super::Error;
use super::interface::{Interface, is_device_name, parse_mac};
use super::link::{Link, Links};
use super::routes::{self, Hop};

/// The kernel's settings in a new namespace. Interfaces have what Neutron says and nothing else, at once: no address is
/// made of router advertisements, and none waits for duplicate address detection. `ping` and a server on a low port need no
/// privilege, as in Docker's own namespaces.
const SETTINGS: [(&str, &str); 11] = [
    // A new namespace may inherit the host's choice, or an older one may have been touched.
    ("/proc/sys/net/ipv6/conf/all/disable_ipv6", "0"),
    ("/proc/sys/net/ipv6/conf/default/disable_ipv6", "0"),
    ("/proc/sys/net/ipv6/conf/all/accept_ra", "0"),
    ("/proc/sys/net/ipv6/conf/default/accept_ra", "0"),
    ("/proc/sys/net/ipv6/conf/all/accept_dad", "0"),
    ("/proc/sys/net/ipv6/conf/default/accept_dad", "0"),
    // See `Links::announce`.
    ("/proc/sys/net/ipv4/conf/all/arp_notify", "1"),
    ("/proc/sys/net/ipv6/conf/all/ndisc_notify", "1"),
    // Else a subnet's first address takes the others with it when it goes.
    ("/proc/sys/net/ipv4/conf/all/promote_secondaries", "1"),
    ("/proc/sys/net/ipv4/ping_group_range", "0 2147483647"),
    ("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0"),
];

/// Writes the settings; to be run inside the namespace.
pub(super) fn prepare_settings() -> Result<(), Error> {
    SETTINGS.into_iter().try_for_each(|(path, value)| set(path, value))
}

fn set(path: &str, value: &str) -> Result<(), Error> {
    match fs::write(path, value) {
        // A kernel without IPv6 has no such file.
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::system(format!("write {value} to {path}"), source))
        }
        _ => Ok(()),
    }
}

/// Says of each interface whether it takes routes from router advertisements; to be run inside the namespace. Addresses it takes
/// from Neutron alone.
pub(super) fn heed_routers(interfaces: Vec<(String, bool)>) -> Result<(), Error> {
    for (name, heeds) in interfaces {
        // 2: whatever else the instance forwards.
        for (setting, value) in [("accept_ra_pinfo", "0"), ("accept_ra", if heeds { "2" } else { "0" })] {
            set(&format!("/proc/sys/net/ipv6/conf/{name}/{setting}"), value)?;
        }
    }
    Ok(())
}

/// How often addresses are compared with what they shall be. The kernel's list can miss one while others change.
const PASSES: usize = 3;

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

    /// Brings MAC, MTU and addresses to what they shall be, and the interface up. What is right already is not touched, so
    /// that connections over it go on. Whether addresses have come.
    pub(super) async fn configure(&self, guest: &Links) -> Result<(Link, bool), Error> {
        let Interface { name, mtu, addresses, .. } = self.interface;
        let link = guest.find(name).await?.ok_or_else(|| missing(name))?;
        guest.bring_up(&link, Some(&self.mac), *mtu).await?;
        let mut has_more = false;
        for _ in 0..PASSES {
            let present = guest.addresses(&link).await?;
            let added: Vec<_> = addresses.iter().filter(|address| !present.contains(address)).collect();
            let removed: Vec<_> = present.iter().filter(|address| !addresses.contains(address)).collect();
            if added.is_empty() && removed.is_empty() {
                break;
            }
            has_more |= !added.is_empty();
            for address in added {
                guest.add_address(&link, *address).await?;
            }
            for address in removed {
                guest.remove_address(&link, *address).await?;
            }
        }
        if has_more {
            guest.announce(link.index, &self.mac).await?;
        }
        Ok((link, has_more))
    }
}

/// Brings the routes over the interfaces to what they shall be.
pub(super) async fn settle_routes(guest: &Links, sides: &[(Link, &Interface)]) -> Result<(), Error> {
    let links: Vec<u32> = sides.iter().map(|(link, _)| link.index).collect();
    let wanted: Vec<Hop> = sides.iter().flat_map(|(link, interface)| routes::wanted(link.index, interface)).collect();
    let changes = routes::changes(&links, &wanted, &guest.routes().await?);
    for hop in &changes.add {
        let interface = sides.iter().find(|(link, _)| link.index == hop.link);
        let subnets = interface.map(|(_, interface)| &interface.addresses[..]).unwrap_or_default();
        guest.add_route(hop, needs_onlink(hop, subnets)).await?;
    }
    for hop in &changes.remove {
        guest.remove_route(hop).await?;
    }
    Ok(())
}

/// Gives each family that has lost its default route another one, of the gateways that the links' interfaces have.
pub(super) async fn restore_ways_out(guest: &Links, links: &[(Link, Vec<IpAddr>)]) -> Result<(), Error> {
    let ways_out = |(link, gateways): &(Link, Vec<IpAddr>)| {
        let index = link.index;
        gateways.iter().map(move |gateway| routes::default_route(index, *gateway)).collect::<Vec<_>>()
    };
    let wanted: Vec<Hop> = links.iter().flat_map(ways_out).collect();
    let changes = routes::changes(&[], &wanted, &guest.routes().await?);
    for hop in &changes.add {
        let Some((link, _)) = links.iter().find(|(link, _)| link.index == hop.link) else { continue };
        let subnets = guest.addresses(link).await?;
        guest.add_route(hop, needs_onlink(hop, &subnets)).await?;
    }
    Ok(())
}

/// Whether the kernel has to be told that the next hop is on the link: it lies in no subnet, and is not of the link itself.
fn needs_onlink(hop: &Hop, subnets: &[IpNet]) -> bool {
    let Some(via) = hop.via else { return false };
    let link_local = matches!(via, IpAddr::V6(v6) if v6.is_unicast_link_local());
    !link_local && !subnets.iter().any(|subnet| subnet.contains(&via))
}

fn missing(name: &str) -> Error {
    Error::system(format!("find link {name} in the namespace"), nix::errno::Errno::ENODEV)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::interface::tests::interface;

    #[test]
    fn names_that_could_be_options_or_paths_are_refused() {
        for bad in ["--db=tcp:evil", "", "a b", "../x", "seventeen-letters"] {
            let changed = Interface { bridge: bad.to_owned(), ..interface() };
            assert!(GuestSide::of(&changed).is_err(), "{bad:?} was taken");
        }
    }

    #[test]
    fn a_gateway_outside_of_the_subnets_is_reached_on_the_link() {
        let onlink =
            |gateway: &str| needs_onlink(&routes::default_route(1, gateway.parse().unwrap()), &interface().addresses);
        assert!(onlink("192.0.2.1"));
        assert!(!onlink("10.0.0.1"));
        assert!(!onlink("fe80::1"));
    }
}
