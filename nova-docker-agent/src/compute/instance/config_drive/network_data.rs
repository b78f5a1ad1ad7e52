//! `network_data.json`: the instance's interfaces and their addresses (`nova/virt/netutils.py`, `get_network_metadata`).

use ipnet::IpNet;
use serde_json::{Value, json};

use crate::compute::ports::{NetworkInfo, Vif, VifSubnet};

/// Kinds of interfaces that Nova names; all others are `phy`.
const NAMED_TYPES: [&str; 8] = ["bridge", "dvs", "hw_veb", "hyperv", "ovs", "tap", "vhostuser", "vif"];

pub(super) fn of(network: &NetworkInfo) -> Result<Value, String> {
    if network.0.is_empty() {
        return Ok(json!({}));
    }
    let (mut links, mut networks, mut services) = (Vec::new(), Vec::new(), Vec::new());
    for vif in network.0.iter().filter(|vif| !vif.network.subnets.is_empty()) {
        let link = link(vif, links.len());
        // Only the first of each kind: nova-compute says no more.
        for version in [4, 6] {
            let Some(subnet) = vif.network.subnets.iter().find(|subnet| subnet.version == version) else { continue };
            if subnet.ips.is_empty() {
                continue;
            }
            networks.push(addresses(vif, subnet, networks.len(), &link["id"])?);
            for service in name_servers(subnet) {
                if !services.contains(&service) {
                    services.push(service);
                }
            }
        }
        links.push(link);
    }
    Ok(json!({"links": links, "networks": networks, "services": services}))
}

fn link(vif: &Vif, number: usize) -> Value {
    let kind = vif.vif_type.as_deref().filter(|kind| NAMED_TYPES.contains(kind)).unwrap_or("phy");
    let by_dhcp = vif.network.subnets.iter().any(|subnet| subnet.meta.dhcp_server.is_some());
    let id = vif.devname.clone().unwrap_or_else(|| format!("interface{number}"));
    json!({
        "id": id,
        "vif_id": vif.id,
        "type": kind,
        // With DHCP it comes by that.
        "mtu": vif.network.meta.mtu.filter(|_| !by_dhcp),
        "ethernet_mac_address": vif.address,
    })
}

fn addresses(vif: &Vif, subnet: &VifSubnet, number: usize, link: &Value) -> Result<Value, String> {
    let version = subnet.version;
    let id = format!("network{number}");
    let network_id = vif.network.id;
    let suffix = match &subnet.meta.ipv6_address_mode {
        Some(mode) => format!("_{mode}"),
        None if subnet.meta.dhcp_server.is_some() || subnet.meta.enable_dhcp => {
            return Ok(json!({"id": id, "type": format!("ipv{version}_dhcp"), "link": link, "network_id": network_id}));
        }
        None => String::new(),
    };
    let mut routes = Vec::new();
    if let Some(gateway) = &subnet.gateway.address {
        let any = if version == 4 { "0.0.0.0" } else { "::" };
        routes.push(json!({"network": any, "netmask": any, "gateway": gateway}));
    }
    for route in &subnet.routes {
        let prefix = prefix(&route.cidr)?;
        let (network, netmask) = (prefix.network(), prefix.netmask());
        routes.push(json!({"network": network, "netmask": netmask, "gateway": route.gateway.address}));
    }
    Ok(json!({
        "id": id,
        "type": format!("ipv{version}{suffix}"),
        "link": link,
        "ip_address": subnet.ips.first().map(|ip| &ip.address),
        "netmask": prefix(&subnet.cidr)?.netmask(),
        "routes": routes,
        "network_id": network_id,
        "services": name_servers(subnet),
    }))
}

fn name_servers(subnet: &VifSubnet) -> Vec<Value> {
    subnet.dns.iter().map(|server| json!({"type": "dns", "address": server.address})).collect()
}

fn prefix(cidr: &str) -> Result<IpNet, String> {
    cidr.parse().map_err(|_| format!("{cidr:?} is not an address range"))
}
