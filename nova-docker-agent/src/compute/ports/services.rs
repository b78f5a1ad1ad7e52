//! Neutron's own ports in the networks of an instance: DHCP servers, OVN's local port, and routers. What they serve a guest.

use std::net::IpAddr;

use uuid::Uuid;

use crate::cloud::neutron::{Port, Subnet};
use crate::config::MetadataRoute;

const DHCP: &str = "network:dhcp";
/// OVN's port of a network on every host. That of the metadata service has this in front of its network's id as its device.
const DISTRIBUTED: &str = "network:distributed";
const OVN_METADATA: &str = "ovnmeta-";
const ROUTERS: [&str; 3] =
    ["network:router_interface", "network:router_interface_distributed", "network:ha_router_replicated_interface"];

/// The owners of all these ports.
pub(super) fn owners() -> impl Iterator<Item = &'static str> {
    [DHCP, DISTRIBUTED].into_iter().chain(ROUTERS)
}

/// Neutron's ports in some networks.
#[derive(Default)]
pub(super) struct Services {
    pub(super) ports: Vec<Port>,
}

impl Services {
    /// The DHCP servers of a subnet, always in the same order.
    pub(super) fn dhcp_servers(&self, subnet: &Subnet) -> Vec<IpAddr> {
        self.addresses(subnet, |port| port.device_owner == DHCP)
    }

    /// Who answers for names where a subnet names no servers.
    pub(super) fn resolvers(&self, subnet: &Subnet) -> Vec<IpAddr> {
        let servers = self.dhcp_servers(subnet);
        if servers.is_empty() { self.ovn_metadata(subnet) } else { servers }
    }

    /// The next hop to the metadata service, by Neutron's own rule for DHCP's option 121; none leaves it to the gateway.
    pub(super) fn metadata_via(&self, subnet: &Subnet, choice: MetadataRoute) -> Option<IpAddr> {
        let gateway: Option<IpAddr> = subnet.gateway_ip.as_deref().and_then(|gateway| gateway.parse().ok());
        let router = gateway.filter(|gateway| {
            let routers = |port: &Port| ROUTERS.contains(&port.device_owner.as_str());
            self.addresses(subnet, routers).contains(gateway)
        });
        let local = || self.ovn_metadata(subnet).into_iter().next();
        let by_dhcp = || self.dhcp_servers(subnet).into_iter().next();
        let via = match (choice, gateway) {
            (MetadataRoute::Gateway, Some(_)) => gateway,
            (MetadataRoute::Dhcp, _) => local().or_else(by_dhcp),
            _ => local().or(router).or_else(by_dhcp),
        };
        via.filter(IpAddr::is_ipv4)
    }

    fn ovn_metadata(&self, subnet: &Subnet) -> Vec<IpAddr> {
        let is_metadata = |port: &Port| {
            // Of the network, or of a segment of a routed one.
            let whose = port.device_id.strip_prefix(OVN_METADATA).and_then(|id| Uuid::parse_str(id).ok());
            port.device_owner == DISTRIBUTED && whose.is_some()
        };
        self.addresses(subnet, is_metadata)
    }

    fn addresses(&self, subnet: &Subnet, is_wanted: impl Fn(&Port) -> bool) -> Vec<IpAddr> {
        let of_port = self.ports.iter().filter(|port| is_wanted(port)).flat_map(|port| &port.fixed_ips);
        let of_subnet = of_port.filter(|ip| ip.subnet_id == subnet.id);
        let mut addresses: Vec<IpAddr> = of_subnet.filter_map(|ip| ip.ip_address.parse().ok()).collect();
        addresses.sort_unstable();
        addresses.dedup();
        addresses
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn id(n: u128) -> Uuid {
        Uuid::from_u128(n)
    }

    fn port(owner: &str, device: &str, address: &str) -> Port {
        serde_json::from_value(json!({
            "id": id(9), "network_id": id(1), "mac_address": "fa:16:3e:00:00:01", "status": "ACTIVE", "device_owner": owner,
            "device_id": device, "fixed_ips": [{"subnet_id": id(4), "ip_address": address}],
        }))
        .unwrap()
    }

    fn subnet(gateway: Value) -> Subnet {
        serde_json::from_value(
            json!({"id": id(4), "network_id": id(1), "cidr": "10.0.0.0/24", "gateway_ip": gateway, "enable_dhcp": true}),
        )
        .unwrap()
    }

    fn dhcp(address: &str) -> Port {
        port(DHCP, "dhcp", address)
    }

    fn ovn(address: &str) -> Port {
        port(DISTRIBUTED, &format!("{OVN_METADATA}{}", id(1)), address)
    }

    fn via(ports: &[Port], choice: MetadataRoute) -> Option<String> {
        let services = Services { ports: ports.to_vec() };
        services.metadata_via(&subnet(json!("10.0.0.1")), choice).map(|via| via.to_string())
    }

    #[test]
    fn metadata_is_at_the_dhcp_server_where_the_gateway_is_no_router_of_neutrons() {
        let isolated = |ports: &[Port]| via(ports, MetadataRoute::Isolated);
        assert_eq!(isolated(&[dhcp("10.0.0.3"), dhcp("10.0.0.2")]).as_deref(), Some("10.0.0.2"));
        let elsewhere = port(ROUTERS[0], "router", "10.0.0.254");
        assert_eq!(isolated(&[dhcp("10.0.0.2"), elsewhere]).as_deref(), Some("10.0.0.2"), "it is no gateway");
        let users = port("compute:nova", "server", "10.0.0.1");
        assert_eq!(isolated(&[dhcp("10.0.0.2"), users]).as_deref(), Some("10.0.0.2"), "a server is no router");
        assert_eq!(isolated(&[]), None, "nobody serves it");
    }

    #[test]
    fn metadata_is_at_the_gateway_where_that_is_a_router_of_any_kind() {
        for owner in ROUTERS {
            let ports = [dhcp("10.0.0.2"), port(owner, "router", "10.0.0.1")];
            assert_eq!(via(&ports, MetadataRoute::Isolated).as_deref(), Some("10.0.0.1"), "{owner}");
            assert_eq!(via(&ports, MetadataRoute::Dhcp).as_deref(), Some("10.0.0.2"), "{owner}");
        }
        assert_eq!(via(&[dhcp("10.0.0.2")], MetadataRoute::Gateway).as_deref(), Some("10.0.0.1"));
    }

    #[test]
    fn ovns_port_of_the_network_serves_metadata_before_anybody_else() {
        let ports = [ovn("10.0.0.9"), dhcp("10.0.0.2"), port(ROUTERS[0], "router", "10.0.0.1")];
        assert_eq!(via(&ports, MetadataRoute::Isolated).as_deref(), Some("10.0.0.9"));
        let of_segment = port(DISTRIBUTED, &format!("{OVN_METADATA}{}", id(77)), "10.0.0.7");
        assert_eq!(via(&[of_segment], MetadataRoute::Isolated).as_deref(), Some("10.0.0.7"));
        let other = port(DISTRIBUTED, "ovn-lb-vip", "10.0.0.8");
        assert_eq!(via(&[other], MetadataRoute::Isolated), None, "a load balancer's address is no metadata service");
    }

    #[test]
    fn every_dhcp_server_answers_for_names_in_one_order_and_ovns_port_where_there_is_none() {
        let resolvers = |ports: &[Port]| {
            let found = Services { ports: ports.to_vec() }.resolvers(&subnet(Value::Null));
            found.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(resolvers(&[dhcp("10.0.0.10"), ovn("10.0.0.9"), dhcp("10.0.0.2")]), ["10.0.0.2", "10.0.0.10"]);
        assert_eq!(resolvers(&[dhcp("10.0.0.2"), dhcp("10.0.0.10")]), ["10.0.0.2", "10.0.0.10"]);
        assert_eq!(resolvers(&[ovn("10.0.0.9")]), ["10.0.0.9"]);
    }
}
