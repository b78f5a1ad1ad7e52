//! From the network information cache to the interfaces that are plugged.

use serde_json::{Map, Value};
use tracing::warn;

use super::dhcp_words;
use crate::compute::error::Error;
use crate::compute::ports::{NetworkError, NetworkInfo, Vif, VifSubnet};
use crate::{
    driver::{self, DhcpOption, Port, Subnet},
    network::Interface,
};

/// The interfaces of an instance, `eth0` first.
///
/// # Errors
/// A port is not bound as a plain Open vSwitch port, or its addresses cannot be read.
pub(in crate::compute) fn interfaces(network: &NetworkInfo) -> Result<Vec<Interface>, Error> {
    let ports: Vec<Port> = network.0.iter().map(port).collect();
    Ok(driver::interfaces(&ports)?)
}

/// The interfaces of an instance that is there already. A port that Neutron could not bind keeps nothing but itself from being plugged:
/// the others are, under the names that they would have anyway.
///
/// # Errors
/// No port is bound; a bound one as for [`interfaces`].
pub(in crate::compute) fn usable_interfaces(network: &NetworkInfo, host: &str) -> Result<Vec<Interface>, Error> {
    let is_bound = |vif: &Vif| !matches!(vif.vif_type.as_deref(), None | Some("unbound" | "binding_failed"));
    let (bound, failed): (Vec<_>, Vec<_>) = network.0.iter().enumerate().partition(|(_, vif)| is_bound(vif));
    if let (true, Some((_, vif))) = (bound.is_empty(), failed.first()) {
        return Err(NetworkError::PortBindingFailed { port: vif.id, host: host.to_owned() }.into());
    }
    for (_, vif) in &failed {
        let state = vif.vif_type.as_deref().unwrap_or("unbound");
        warn!(port = %vif.id, state, "the instance is without this interface until Neutron can bind its port");
    }
    let ports: Vec<Port> = bound.iter().map(|(_, vif)| port(vif)).collect();
    let mut interfaces = driver::interfaces(&ports)?;
    for ((index, _), interface) in bound.iter().zip(&mut interfaces) {
        interface.name = format!("eth{index}");
    }
    Ok(interfaces)
}

fn port(vif: &Vif) -> Port {
    let nothing = Map::new();
    let meta = vif.rest.get("meta").and_then(Value::as_object).unwrap_or(&nothing);
    let options = dhcp_words::dhcp_options(meta);
    Port {
        id: vif.id,
        network: Some(vif.network.id),
        mac: vif.address.clone(),
        vif_type: vif.vif_type.clone(),
        hybrid_plug: vif.details.as_ref().and_then(|details| details.get("ovs_hybrid_plug")) == Some(&true.into()),
        devname: vif.devname.clone(),
        bridge: vif.network.bridge.clone(),
        mtu: vif.network.meta.mtu,
        subnets: vif.network.subnets.iter().map(subnet).collect(),
        search: dhcp_words::search(meta),
        dhcp_options: options.into_iter().map(|(version, name, value)| DhcpOption { version, name, value }).collect(),
    }
}

fn subnet(subnet: &VifSubnet) -> Subnet {
    Subnet {
        cidr: subnet.cidr.clone(),
        addresses: subnet.ips.iter().map(|ip| ip.address.clone()).collect(),
        gateway: subnet.gateway.address.clone(),
        dns: subnet.dns.iter().map(|dns| dns.address.clone()).collect(),
        dhcp_server: subnet.meta.dhcp_server.clone(),
        resolvers: subnet.meta.resolvers(),
        metadata_via: subnet.meta.metadata_via().map(str::to_owned),
        routes: subnet.routes.iter().map(|route| (route.cidr.clone(), route.gateway.address.clone())).collect(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

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
        assert_eq!(eth0.addresses, ["10.77.0.148/24".parse::<ipnet::IpNet>().unwrap()]);
        assert_eq!(eth0.gateways, ["10.77.0.1".parse::<std::net::IpAddr>().unwrap()]);
        assert_eq!(eth0.routes.len(), 1);
        assert_eq!(
            eth0.dns,
            ["10.77.0.2".parse::<std::net::IpAddr>().unwrap()],
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
                .any(|route| route.destination.to_string() == "169.254.169.254/32"
                    && route.via.to_string() == "10.77.0.2")
        );
    }

    #[test]
    fn what_the_cache_says_of_metadata_names_and_options_is_plugged() {
        let mut subnet = subnet();
        subnet["meta"]["metadata_via"] = "10.77.0.2".into();
        subnet["meta"]["resolvers"] = json!(["10.77.0.2", "10.77.0.3"]);
        let mut vif = vif(subnet);
        vif["meta"] =
            json!({"search": ["cloud.internal"], "dhcp_options": [{"ip_version": 4, "name": "mtu", "value": "1300"}]});
        let eth0 = convert(vif).unwrap().remove(0);
        let to_metadata =
            eth0.routes.iter().find(|route| route.destination.to_string() == "169.254.169.254/32").unwrap();
        assert_eq!((to_metadata.via.to_string().as_str(), eth0.gateways.len()), ("10.77.0.2", 1));
        assert_eq!(eth0.dns.iter().map(ToString::to_string).collect::<Vec<_>>(), ["10.77.0.2", "10.77.0.3"]);
        assert_eq!((eth0.search, eth0.mtu), (vec!["cloud.internal".to_owned()], Some(1300)));
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

    #[test]
    fn a_port_that_could_not_be_bound_is_left_out_unless_no_other_is_there() {
        let (bound, mut failed) = (vif(subnet()), vif(subnet()));
        (failed["type"], failed["id"]) = ("binding_failed".into(), "ed1b6eff-0000-4712-9f82-433985507b9b".into());
        let usable = |vifs: Value| usable_interfaces(&serde_json::from_value(vifs).unwrap(), "vm");
        let found = usable(json!([failed, bound])).unwrap();
        assert_eq!(found.iter().map(|interface| interface.name.as_str()).collect::<Vec<_>>(), ["eth1"]);
        let error = usable(json!([failed])).unwrap_err().to_string();
        assert!(error.contains("Binding failed for port ed1b6eff-0000") && error.contains("host vm"), "{error}");
        assert!(usable(json!([])).unwrap().is_empty());
    }
}
