//! Which routes an instance shall have, beside those that it has.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;

use super::Interface;

/// A route over one link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hop {
    /// Index of the link in the instance's namespace.
    pub(super) link: u32,
    pub(super) destination: IpNet,
    /// None: the destination is on the link.
    pub(super) via: Option<IpAddr>,
}

/// What is to be done so that the routes over some links are the wanted ones.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Changes {
    /// In the order in which they can be added: the next hops of later ones may lie in earlier ones.
    pub(super) add: Vec<Hop>,
    pub(super) remove: Vec<Hop>,
}

/// Every route that an interface asks for: its host routes and its gateways.
pub(super) fn wanted(link: u32, interface: &Interface) -> Vec<Hop> {
    let routes = interface.routes.iter().map(|route| Hop {
        link,
        destination: route.destination.trunc(),
        via: (!route.via.is_unspecified()).then_some(route.via),
    });
    routes.chain(interface.gateways.iter().map(|gateway| default_route(link, *gateway))).collect()
}

/// The default route through a gateway.
pub(super) fn default_route(link: u32, gateway: IpAddr) -> Hop {
    let destination = match gateway {
        IpAddr::V4(_) => IpNet::V4(ipnet::Ipv4Net::default()),
        IpAddr::V6(_) => IpNet::V6(ipnet::Ipv6Net::default()),
    };
    Hop { link, destination, via: Some(gateway) }
}

/// From the routes that the interfaces over `links` ask for and those that are there. A destination has one route: that which
/// it has, as long as somebody asks for it or it goes over another link, else the first that was asked for. So an interface that
/// comes takes the way out from nobody, and one that goes leaves it to the next.
pub(super) fn changes(links: &[u32], wanted: &[Hop], present: &[Hop]) -> Changes {
    let mut chosen: BTreeMap<IpNet, Option<&Hop>> = BTreeMap::new();
    for hop in present {
        if !links.contains(&hop.link) {
            chosen.entry(hop.destination).or_insert(None);
        } else if wanted.contains(hop) {
            chosen.entry(hop.destination).or_insert(Some(hop));
        }
    }
    for hop in wanted {
        chosen.entry(hop.destination).or_insert(Some(hop));
    }
    let chosen: Vec<&Hop> = chosen.into_values().flatten().collect();
    let mut add: Vec<Hop> = chosen.iter().copied().filter(|hop| !present.contains(hop)).cloned().collect();
    add.sort_by_key(|hop| hop.via.is_some());
    let obsolete = |hop: &&Hop| links.contains(&hop.link) && !chosen.contains(hop);
    Changes { add, remove: present.iter().filter(obsolete).cloned().collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::Route;
    use crate::network::interface::tests::interface;

    fn way_out(link: u32, gateway: &str) -> Hop {
        default_route(link, gateway.parse().unwrap())
    }

    #[test]
    fn the_first_gateway_of_each_family_is_the_way_out() {
        let wanted = [way_out(1, "10.0.0.1"), way_out(1, "fd00::1"), way_out(2, "10.1.0.1")];
        assert_eq!(changes(&[1, 2], &wanted, &[]).add, wanted[..2]);
    }

    #[test]
    fn the_way_out_stays_whoever_comes_and_moves_when_its_interface_goes() {
        let (first, second) = (way_out(1, "10.0.0.1"), way_out(2, "10.1.0.1"));
        let both = [first.clone(), second.clone()];
        assert_eq!(changes(&[1, 2], &both, std::slice::from_ref(&second)), Changes::default());
        assert_eq!(changes(&[1], &both[..1], std::slice::from_ref(&second)), Changes::default());
        assert_eq!(changes(&[2], &both[1..], &[]).add, [second]);
    }

    #[test]
    fn a_gateway_that_changed_replaces_the_old_one() {
        let (old, new) = (way_out(1, "10.0.0.1"), way_out(1, "10.0.0.254"));
        let found = changes(&[1], std::slice::from_ref(&new), std::slice::from_ref(&old));
        assert_eq!(found, Changes { add: vec![new], remove: vec![old] });
    }

    #[test]
    fn routes_of_links_that_were_not_told_stay() {
        let other = Hop { link: 9, destination: "192.0.2.0/24".parse().unwrap(), via: None };
        assert_eq!(changes(&[1], &[], &[other]), Changes::default());
    }

    #[test]
    fn destinations_on_the_link_come_before_those_behind_a_hop() {
        let routes = vec![
            Route { destination: "198.51.100.0/24".parse().unwrap(), via: "203.0.113.1".parse().unwrap() },
            Route { destination: "203.0.113.0/24".parse().unwrap(), via: "0.0.0.0".parse().unwrap() },
        ];
        let hops = changes(&[1], &wanted(1, &Interface { routes, ..interface() }), &[]).add;
        assert_eq!(hops[0].destination.to_string(), "203.0.113.0/24");
        assert_eq!(hops[0].via, None);
    }
}
