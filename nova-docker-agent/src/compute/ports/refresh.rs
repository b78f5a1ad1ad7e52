//! Building the network information cache from what neutron says now.

use std::net::IpAddr;

use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::network_info::{
    FixedAddress, GatewayAddress, NetworkInfo, SubnetMeta, Vif, VifAddress, VifNetwork, VifNetworkMeta, VifRoute,
    VifSubnet,
};
use super::services::{Services, owners};
use super::{Allocation, Ports, dhcp_words, distinct, filters};
use crate::cloud::neutron::{FloatingIp, HostRoute, Network, Port, Subnet};
use crate::cloud::{Caller, Error};
use crate::config::MetadataRoute;

/// Linux's limit for interface names, as Nova counts it.
const NIC_NAME_LEN: usize = 14;
const TUNNEL_TYPES: [&str; 3] = ["vxlan", "gre", "geneve"];

/// What belongs to some ports.
struct Surroundings {
    networks: Vec<Network>,
    subnets: Vec<Subnet>,
    services: Services,
    floating_ips: Vec<FloatingIp>,
    metadata_route: MetadataRoute,
}

impl Ports {
    /// Reads the instance's ports and everything around them. Order: as in the cache, then new ones. A port of the cache that neutron no
    /// longer has for the instance is not among them. `preserve_on_delete` is taken from the cache.
    ///
    /// # Errors
    /// [`Error`] of neutron.
    pub async fn build_network_info(
        &self,
        caller: &Caller,
        instance_uuid: Uuid,
        project_id: &str,
        cache: &NetworkInfo,
    ) -> Result<NetworkInfo, Error> {
        let caller = caller.as_service();
        let ports = self.ports_of(&caller, instance_uuid, Some(project_id), cache).await?;
        let port_ids: Vec<Uuid> = ports.iter().map(|port| port.id).collect();
        let surroundings = self.surroundings(&caller, &ports, &port_ids).await?;
        let mut fresh: Vec<(Uuid, Vif)> = ports
            .iter()
            .map(|port| {
                let old = cache.0.iter().find(|vif| vif.id == port.id);
                (port.id, self.vif(port, &surroundings, old, old.is_some_and(|vif| vif.preserve_on_delete)))
            })
            .collect();
        let mut vifs = Vec::with_capacity(fresh.len());
        for old in &cache.0 {
            if let Some(index) = fresh.iter().position(|(id, _)| *id == old.id) {
                vifs.push(fresh.remove(index).1);
            }
        }
        vifs.extend(fresh.into_iter().map(|(_, vif)| vif));
        Ok(NetworkInfo(vifs))
    }

    /// The same for ports that were just allocated, which need not be read again. Interfaces of the cache come first, unchanged.
    ///
    /// # Errors
    /// [`Error`] of neutron.
    pub async fn network_info_of(
        &self,
        caller: &Caller,
        allocation: &Allocation,
        cache: &NetworkInfo,
    ) -> Result<NetworkInfo, Error> {
        let ports: Vec<Port> = allocation.ports.iter().map(|allocated| allocated.port.clone()).collect();
        // Only a port that was there before can have a floating IP.
        let older = allocation.ports.iter().filter(|allocated| !allocated.created);
        let older: Vec<Uuid> = older.map(|allocated| allocated.port.id).collect();
        let surroundings = self.surroundings(&caller.as_service(), &ports, &older).await?;
        let mut vifs: Vec<Vif> =
            cache.0.iter().filter(|vif| !ports.iter().any(|port| port.id == vif.id)).cloned().collect();
        for allocated in &allocation.ports {
            vifs.push(self.vif(&allocated.port, &surroundings, None, !allocated.created));
        }
        Ok(NetworkInfo(vifs))
    }

    /// One query of each kind for all ports, all at the same time. `reachable` are the ports that may have floating IPs.
    async fn surroundings(&self, caller: &Caller, ports: &[Port], reachable: &[Uuid]) -> Result<Surroundings, Error> {
        let metadata_route = self.metadata_route;
        if ports.is_empty() {
            let (networks, subnets, services, floating_ips) = Default::default();
            return Ok(Surroundings { networks, subnets, services, floating_ips, metadata_route });
        }
        let port_ids = distinct(reachable.iter().copied());
        let network_ids = distinct(ports.iter().map(|port| port.network_id));
        let subnet_ids = distinct(ports.iter().flat_map(|port| &port.fixed_ips).map(|ip| ip.subnet_id));
        let mut service_filters = filters("network_id", &network_ids);
        service_filters.extend(owners().map(|owner| ("device_owner", owner)));
        let (network_filters, subnet_filters) = (filters("id", &network_ids), filters("id", &subnet_ids));
        let floating_filters = filters("port_id", &port_ids);
        let subnets = async {
            // Without an id the query would mean all subnets.
            if subnet_ids.is_empty() { Ok(Vec::new()) } else { self.neutron.subnets(caller, &subnet_filters).await }
        };
        let floating_ips = async {
            if port_ids.is_empty() {
                Ok(Vec::new())
            } else {
                self.neutron.floating_ips(caller, &floating_filters).await
            }
        };
        let (networks, subnets, ports, floating_ips) = tokio::try_join!(
            self.neutron.networks(caller, &network_filters),
            subnets,
            self.neutron.ports(caller, &service_filters),
            floating_ips,
        )?;
        Ok(Surroundings { networks, subnets, services: Services { ports }, floating_ips, metadata_route })
    }

    fn vif(&self, port: &Port, around: &Surroundings, old: Option<&Vif>, preserve_on_delete: bool) -> Vif {
        let is_ovs = port.vif_type.as_deref() == Some("ovs");
        let bridge = is_ovs.then(|| {
            let details = port.vif_details.as_ref();
            let bound = details.and_then(|details| details.get("bridge_name")).and_then(Value::as_str);
            bound.unwrap_or(&self.ovs_bridge).chars().take(NIC_NAME_LEN).collect()
        });
        let mut rest = old.map(|vif| vif.rest.clone()).unwrap_or_default();
        for (key, value) in [
            ("qbh_params", Value::Null),
            ("qbg_params", Value::Null),
            ("delegate_create", Value::Bool(true)),
            ("meta", Value::Object(Map::new())),
        ] {
            rest.entry(key).or_insert(value);
        }
        if let Some(Value::Object(meta)) = rest.get_mut("meta") {
            dhcp_words::write(meta, port, around.networks.iter().find(|network| network.id == port.network_id));
        }
        Vif {
            id: port.id,
            address: port.mac_address.clone(),
            network: network(port, around, bridge),
            vif_type: port.vif_type.clone(),
            details: port.vif_details.clone(),
            devname: Some(device_name(port.id)),
            ovs_interfaceid: is_ovs.then(|| port.id.to_string()),
            active: port.is_active(),
            vnic_type: Some(port.vnic_type.clone().unwrap_or_else(|| "normal".into())),
            profile: Some(port.profile.clone().unwrap_or_default()),
            preserve_on_delete,
            rest,
        }
    }
}

/// Name of the host's side of a port's interface.
fn device_name(port: Uuid) -> String {
    format!("tap{port}").chars().take(NIC_NAME_LEN).collect()
}

fn network(port: &Port, around: &Surroundings, bridge: Option<String>) -> VifNetwork {
    let network = around.networks.iter().find(|network| network.id == port.network_id);
    let (physical_network, tunneled) = network.map(segment).unwrap_or_default();
    VifNetwork {
        id: port.network_id,
        bridge,
        label: network.map(|network| network.name.clone()),
        subnets: subnets(port, around),
        meta: VifNetworkMeta {
            injected: false,
            tenant_id: Some(network.map_or(&port.tenant_id, |network| &network.tenant_id).clone()),
            mtu: network.and_then(|network| network.mtu),
            physical_network,
            tunneled,
            rest: Map::new(),
        },
        rest: Map::new(),
    }
}

/// Physical network, and whether the traffic is tunnelled. Of several segments the first with a physical network counts.
fn segment(network: &Network) -> (Option<String>, bool) {
    let text = |segment: &Map<String, Value>, key| segment.get(key).and_then(Value::as_str).map(str::to_owned);
    let is_tunnel = |kind: Option<&str>| kind.is_some_and(|kind| TUNNEL_TYPES.contains(&kind));
    if let Some(first) = network.segments.first() {
        let physical = network.segments.iter().find_map(|segment| text(segment, "provider:physical_network"));
        let tunneled = physical.is_none() && is_tunnel(text(first, "provider:network_type").as_deref());
        return (physical, tunneled);
    }
    (network.physical_network.clone(), is_tunnel(network.network_type.as_deref()))
}

fn subnets(port: &Port, around: &Surroundings) -> Vec<VifSubnet> {
    let of_port = |subnet: &&Subnet| port.fixed_ips.iter().any(|ip| ip.subnet_id == subnet.id);
    around.subnets.iter().filter(of_port).map(|subnet| vif_subnet(port, subnet, around)).collect()
}

fn vif_subnet(port: &Port, subnet: &Subnet, around: &Surroundings) -> VifSubnet {
    let route = |route: &HostRoute| VifRoute {
        cidr: route.destination.clone(),
        gateway: address(&route.nexthop, "gateway"),
        interface: None,
        meta: Map::new(),
        rest: Map::new(),
    };
    let ips = port.fixed_ips.iter().filter(|ip| ip.subnet_id == subnet.id);
    let dhcp_servers = around.services.dhcp_servers(subnet);
    let dhcp_server = dhcp_servers.first().map(ToString::to_string);
    let mut rest = Map::new();
    // What Nova's own cache has no place for.
    let resolvers = around.services.resolvers(subnet);
    if resolvers.len() > 1 || resolvers != dhcp_servers {
        rest.insert(SubnetMeta::RESOLVERS.to_owned(), json!(resolvers));
    }
    if let Some(via) = around.services.metadata_via(subnet, around.metadata_route) {
        rest.insert(SubnetMeta::METADATA_VIA.to_owned(), json!(via));
    }
    VifSubnet {
        cidr: subnet.cidr.clone(),
        version: version(&subnet.cidr),
        gateway: GatewayAddress {
            address: subnet.gateway_ip.clone(),
            kind: "gateway".into(),
            version: subnet.gateway_ip.as_deref().map(version),
            meta: Map::new(),
            rest: Map::new(),
        },
        dns: subnet.dns_nameservers.iter().map(|server| address(server, "dns")).collect(),
        routes: subnet.host_routes.iter().map(route).collect(),
        ips: ips.map(|ip| fixed_address(port, &ip.ip_address, around)).collect(),
        meta: SubnetMeta {
            enable_dhcp: subnet.enable_dhcp,
            dhcp_server,
            ipv6_address_mode: subnet.ipv6_address_mode.clone(),
            rest,
        },
        rest: Map::new(),
    }
}

fn fixed_address(port: &Port, ip: &str, around: &Surroundings) -> FixedAddress {
    let floating = around
        .floating_ips
        .iter()
        .filter(|floating| floating.port_id == Some(port.id) && floating.fixed_ip_address.as_deref() == Some(ip));
    FixedAddress {
        address: ip.to_owned(),
        kind: "fixed".into(),
        version: version(ip),
        floating_ips: floating.map(|floating| address(&floating.floating_ip_address, "floating")).collect(),
        meta: Map::new(),
        rest: Map::new(),
    }
}

fn address(address: &str, kind: &str) -> VifAddress {
    VifAddress {
        address: address.to_owned(),
        kind: kind.to_owned(),
        version: version(address),
        meta: Map::new(),
        rest: Map::new(),
    }
}

/// 4 or 6, of an address or a CIDR.
fn version(address: &str) -> u8 {
    let address = address.split('/').next().unwrap_or_default();
    match address.parse::<IpAddr>() {
        Ok(IpAddr::V6(_)) => 6,
        _ => 4,
    }
}
