//! From Neutron's view of an instance's network to the interfaces that are plugged for it.

use std::net::IpAddr;

use ipnet::IpNet;

use super::error::Error;
use crate::{
    cloud::neutron::{NetworkInfo, Vif, VifSubnet},
    network::{Interface, Route},
};

/// Where the metadata service listens, inside every network.
const METADATA: &str = "169.254.169.254/32";

/// The interfaces of an instance, `eth0` first.
///
/// # Errors
/// A port is not bound as a plain Open vSwitch port, or its addresses cannot be read.
pub(crate) fn interfaces(network: &NetworkInfo) -> Result<Vec<Interface>, Error> {
    network.0.iter().enumerate().map(|(index, vif)| interface(index, vif)).collect()
}

fn interface(index: usize, vif: &Vif) -> Result<Interface, Error> {
    check_type(vif)?;
    let mut interface = Interface {
        port_id: vif.id,
        devname: vif.devname.clone().unwrap_or_else(|| Interface::devname_of(&vif.id)),
        name: format!("eth{index}"),
        mac: vif.address.clone(),
        mtu: vif.network.meta.mtu,
        bridge: bridge(vif)?,
        addresses: Vec::new(),
        gateways: Vec::new(),
        routes: Vec::new(),
        dns: Vec::new(),
    };
    for subnet in &vif.network.subnets {
        add_subnet(&mut interface, subnet).map_err(|problem| {
            Error::Unsupported(format!("subnet {} of port {} cannot be used: {problem}", subnet.cidr, vif.id))
        })?;
    }
    Ok(interface)
}

fn check_type(vif: &Vif) -> Result<(), Error> {
    let hybrid = vif.details.as_ref().and_then(|details| details.get("ovs_hybrid_plug")) == Some(&true.into());
    match vif.vif_type.as_deref() {
        Some("ovs") if hybrid => Err(Error::Unsupported(format!(
            "port {} asks for the hybrid plug of the iptables firewall; set firewall_driver = openvswitch for this host's \
             Open vSwitch agent",
            vif.id
        ))),
        Some("ovs") => Ok(()),
        other => Err(Error::Unsupported(format!(
            "port {} is bound as {:?}; containers are plugged into Open vSwitch (vif type ovs) only",
            vif.id,
            other.unwrap_or("nothing")
        ))),
    }
}

fn bridge(vif: &Vif) -> Result<String, Error> {
    vif.network
        .bridge
        .clone()
        .ok_or_else(|| Error::Unsupported(format!("port {} names no bridge to be plugged into", vif.id)))
}

fn add_subnet(interface: &mut Interface, subnet: &VifSubnet) -> Result<(), String> {
    let network: IpNet = subnet.cidr.parse().map_err(|_| "its prefix is not an address range".to_owned())?;
    let gateway = subnet.gateway.address.as_deref().map(address).transpose()?;
    let dhcp_server = subnet.meta.dhcp_server.as_deref().map(address).transpose()?;
    for fixed in &subnet.ips {
        let ip = address(&fixed.address)?;
        interface.addresses.push(IpNet::new(ip, network.prefix_len()).map_err(|error| error.to_string())?);
    }
    for route in &subnet.routes {
        let destination = route.cidr.parse().map_err(|_| format!("route {:?} is not an address range", route.cidr))?;
        interface.routes.push(Route { destination, via: address(&route.gateway.address)? });
    }
    // On a network without a router Neutron's DHCP agent answers for the metadata service, and says so by DHCP option 121.
    if let (None, Some(server @ IpAddr::V4(_))) = (gateway, dhcp_server) {
        let destination: IpNet = METADATA.parse().map_err(|_| "the metadata address".to_owned())?;
        if interface.routes.iter().all(|route| route.destination != destination) {
            interface.routes.push(Route { destination, via: server });
        }
    }
    interface.gateways.extend(gateway);
    let servers: Vec<IpAddr> = subnet.dns.iter().map(|dns| address(&dns.address)).collect::<Result<_, _>>()?;
    // Without name servers of its own, a subnet has Neutron's: the DHCP agent knows the names of the ports.
    let servers = if servers.is_empty() { dhcp_server.into_iter().collect() } else { servers };
    for server in servers {
        if !interface.dns.contains(&server) {
            interface.dns.push(server);
        }
    }
    Ok(())
}

fn address(text: &str) -> Result<IpAddr, String> {
    text.parse().map_err(|_| format!("{text:?} is not an IP address"))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn vif(subnet: Value) -> Value {
        json!({
            "id": "ed1b6eff-a11f-4712-9f82-433985507b9b", "address": "fa:16:3e:be:a0:c7", "type": "ovs",
            "devname": "taped1b6eff-a1", "details": {"ovs_hybrid_plug": false},
            "network": {"id": "9e25f37b-91f4-4438-b681-7c14f776f1e8", "bridge": "br-int", "label": "private",
                        "meta": {"mtu": 1450}, "subnets": [subnet]}
        })
    }

    fn subnet() -> Value {
        json!({
            "cidr": "10.77.0.0/24", "version": 4,
            "gateway": {"address": "10.77.0.1", "type": "gateway", "version": 4},
            "dns": [], "routes": [{"cidr": "192.0.2.0/24", "gateway": {"address": "10.77.0.9", "type": "gateway", "version": 4}}],
            "ips": [{"address": "10.77.0.148", "type": "fixed", "version": 4}],
            "meta": {"enable_dhcp": true, "dhcp_server": "10.77.0.2"}
        })
    }

    fn convert(vif: Value) -> Result<Vec<Interface>, Error> {
        interfaces(&serde_json::from_value(json!([vif])).unwrap())
    }

    #[test]
    fn a_port_becomes_eth0_with_its_addresses_gateway_routes_and_name_servers() {
        let found = convert(vif(subnet())).unwrap();
        let eth0 = &found[0];
        assert_eq!(
            (eth0.name.as_str(), eth0.devname.as_str(), eth0.bridge.as_str()),
            ("eth0", "taped1b6eff-a1", "br-int")
        );
        assert_eq!(eth0.mtu, Some(1450));
        assert_eq!(eth0.addresses, ["10.77.0.148/24".parse::<IpNet>().unwrap()]);
        assert_eq!(eth0.gateways, ["10.77.0.1".parse::<IpAddr>().unwrap()]);
        assert_eq!(eth0.routes.len(), 1);
        assert_eq!(
            eth0.dns,
            ["10.77.0.2".parse::<IpAddr>().unwrap()],
            "the DHCP agent serves names when nobody else does"
        );
    }

    #[test]
    fn a_network_without_a_router_reaches_metadata_through_its_dhcp_server() {
        let mut subnet = subnet();
        subnet["gateway"]["address"] = Value::Null;
        let found = convert(vif(subnet)).unwrap();
        assert!(found[0].gateways.is_empty());
        assert!(
            found[0]
                .routes
                .iter()
                .any(|route| route.destination.to_string() == METADATA && route.via.to_string() == "10.77.0.2")
        );
    }

    #[test]
    fn the_hybrid_plug_is_refused_with_advice() {
        let mut vif = vif(subnet());
        vif["details"]["ovs_hybrid_plug"] = true.into();
        assert!(convert(vif).unwrap_err().to_string().contains("firewall_driver = openvswitch"));
    }

    #[test]
    fn an_unbound_port_is_refused_by_its_id() {
        let mut vif = vif(subnet());
        vif["type"] = "binding_failed".into();
        let error = convert(vif).unwrap_err().to_string();
        assert!(error.contains("ed1b6eff") && error.contains("binding_failed"), "{error}");
    }
}
