//! From what Neutron says of a guest's ports to the interfaces that are plugged for it.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, Ipv4Net};
use uuid::Uuid;

use super::Error;
use super::dhcp_options::{DhcpOption, Options, domain};
use crate::{
    limits,
    network::{Interface, Route},
};

/// What names of bridges begin with that Neutron has made for the parent ports of trunks.
const TRUNK_BRIDGE: &str = "tbr-";
/// Where the metadata service listens, inside every network.
const METADATA: IpNet = IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(169, 254, 169, 254), 32));

/// A port of Neutron, bound to this host, as a door was told of it. Addresses and prefixes are texts that nobody has checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Port {
    pub id: Uuid,
    /// Neutron's network, where it is known.
    pub network: Option<Uuid>,
    /// MAC address.
    pub mac: String,
    /// `binding:vif_type`.
    pub vif_type: Option<String>,
    /// Neutron's agent asks for a Linux bridge between guest and switch (`ovs_hybrid_plug`).
    pub hybrid_plug: bool,
    /// Name of the host side, where Neutron or Nova has chosen one.
    pub devname: Option<String>,
    /// Integration bridge.
    pub bridge: Option<String>,
    pub mtu: Option<u32>,
    pub subnets: Vec<Subnet>,
    /// Domains of Neutron's names.
    pub search: Vec<String>,
    /// The port's `extra_dhcp_opts`.
    pub dhcp_options: Vec<DhcpOption>,
}

/// What a port knows of one of its subnets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subnet {
    pub cidr: String,
    /// The port's own, without prefix length.
    pub addresses: Vec<String>,
    pub gateway: Option<String>,
    pub dns: Vec<String>,
    pub dhcp_server: Option<String>,
    /// Who answers for names where `dns` is empty.
    pub resolvers: Vec<String>,
    /// The next hop to the metadata service. None: the gateway, or else the DHCP server.
    pub metadata_via: Option<String>,
    /// Prefix and next hop.
    pub routes: Vec<(String, String)>,
}

/// The interfaces of a guest, `eth0` first.
///
/// # Errors
/// A port is not bound as a plain Open vSwitch port, or its addresses cannot be read.
pub fn interfaces(ports: &[Port]) -> Result<Vec<Interface>, Error> {
    ports.iter().enumerate().map(|(index, port)| interface(index, port)).collect()
}

fn interface(index: usize, port: &Port) -> Result<Interface, Error> {
    check_type(port)?;
    let bridge = port.bridge.clone().filter(|bridge| !bridge.is_empty());
    let options = Options::read(&port.dhcp_options, port.id);
    let of_neutron = || port.search.iter().filter_map(|name| domain(name)).collect();
    let mut interface = Interface {
        port_id: port.id,
        network_id: port.network,
        devname: port.devname.clone().unwrap_or_else(|| Interface::devname_of(&port.id)),
        name: format!("eth{index}"),
        mac: port.mac.clone(),
        mtu: mtu(port.mtu, options.mtu),
        bridge: bridge
            .ok_or_else(|| Error::Unsupported(format!("port {} names no bridge to be plugged into", port.id)))?,
        addresses: Vec::new(),
        gateways: Vec::new(),
        routes: Vec::new(),
        dns: Vec::new(),
        search: options.search().unwrap_or_else(of_neutron),
    };
    for subnet in &port.subnets {
        add_subnet(&mut interface, subnet, &options).map_err(|problem| {
            Error::Unsupported(format!("subnet {} of port {} cannot be used: {problem}", subnet.cidr, port.id))
        })?;
    }
    options.settle_ways(&mut interface, METADATA);
    Ok(interface)
}

/// What the port asks for, as far as its network carries it.
fn mtu(of_network: Option<u32>, asked: Option<u32>) -> Option<u32> {
    let of_network = limits::mtu(of_network);
    limits::mtu(asked).map(|asked| of_network.map_or(asked, |most| asked.min(most))).or(of_network)
}

fn check_type(port: &Port) -> Result<(), Error> {
    match port.vif_type.as_deref() {
        Some("ovs") if port.hybrid_plug => Err(Error::Unsupported(format!(
            "port {} asks for the hybrid plug of the iptables firewall; set firewall_driver = openvswitch for this host's \
             Open vSwitch agent",
            port.id
        ))),
        Some("ovs") if port.bridge.as_deref().is_some_and(|bridge| bridge.starts_with(TRUNK_BRIDGE)) => {
            Err(Error::Unsupported(format!(
                "port {} is the parent of a trunk; containers have no VLANs: attach each network by a port of its own",
                port.id
            )))
        }
        Some("ovs") => Ok(()),
        other => Err(Error::Unsupported(format!(
            "port {} is bound as {:?}; containers are plugged into Open vSwitch (vif type ovs) only",
            port.id,
            other.unwrap_or("nothing")
        ))),
    }
}

fn add_subnet(interface: &mut Interface, subnet: &Subnet, options: &Options) -> Result<(), String> {
    let network: IpNet = subnet.cidr.parse().map_err(|_| "its prefix is not an address range".to_owned())?;
    let gateway = subnet.gateway.as_deref().map(address).transpose()?;
    let dhcp_server = subnet.dhcp_server.as_deref().map(address).transpose()?;
    for text in &subnet.addresses {
        let ip = address(text)?;
        interface.addresses.push(IpNet::new(ip, network.prefix_len()).map_err(|error| error.to_string())?);
    }
    for (destination, via) in &subnet.routes {
        let prefix = destination.parse().map_err(|_| format!("route {destination:?} is not an address range"))?;
        interface.routes.push(Route { destination: prefix, via: address(via)? });
    }
    // Where nobody has looked for routers, a gateway is one. Without any, Neutron's DHCP server answers for the metadata service,
    // and says so by DHCP option 121.
    let by_dhcp = if gateway.is_none() { dhcp_server } else { None };
    let metadata = subnet.metadata_via.as_deref().map(address).transpose()?.or(by_dhcp);
    if let Some(via @ IpAddr::V4(_)) = metadata
        && interface.routes.iter().all(|route| route.destination != METADATA)
    {
        interface.routes.push(Route { destination: METADATA, via });
    }
    interface.gateways.extend(gateway);
    let asked = if network.addr().is_ipv4() { &options.dns_v4 } else { &options.dns_v6 };
    let servers = match asked {
        Some(asked) => asked.clone(),
        None => {
            // Without name servers of its own, a subnet has Neutron's: the DHCP servers know the names of the ports.
            let servers = if subnet.dns.is_empty() { &subnet.resolvers } else { &subnet.dns };
            servers.iter().map(|server| address(server)).collect::<Result<_, _>>()?
        }
    };
    // The unspecified address is how a user asks Neutron for no name server at all.
    for server in servers.into_iter().filter(|server| !server.is_unspecified()) {
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
    use super::*;

    #[test]
    fn addresses_that_cannot_be_read_are_quoted_with_their_subnet_and_port() {
        let port = Port { vif_type: Some("ovs".into()), bridge: Some("br-int".into()), ..Port::default() };
        let with = |subnet| interfaces(&[Port { subnets: vec![subnet], ..port.clone() }]).unwrap_err().to_string();
        let subnet = Subnet { cidr: "10.0.0.0/24".into(), addresses: vec!["10.0.0.x".into()], ..Subnet::default() };
        let message = with(subnet.clone());
        assert!(message.contains("10.0.0.0/24") && message.contains("\"10.0.0.x\""), "{message}");
        assert!(with(Subnet { cidr: "ten".into(), ..subnet }).contains("not an address range"));
    }

    #[test]
    fn the_unspecified_address_means_no_name_server() {
        let with = |dns: &[&str]| {
            let subnet = Subnet {
                cidr: "10.0.0.0/24".into(),
                dns: dns.iter().map(|&server| server.to_owned()).collect(),
                resolvers: vec!["10.0.0.2".into()],
                ..Subnet::default()
            };
            let bridge = Some("br-int".into());
            let port = Port { vif_type: Some("ovs".into()), bridge, subnets: vec![subnet], ..Port::default() };
            interfaces(&[port]).unwrap().remove(0).dns
        };
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        assert_eq!(with(&[]), [address("10.0.0.2")]);
        assert!(with(&["0.0.0.0"]).is_empty() && with(&["::"]).is_empty());
        assert_eq!(with(&["0.0.0.0", "192.0.2.1"]), [address("192.0.2.1")]);
    }

    fn plugged(subnet: Subnet, port: Port) -> Interface {
        let subnet = Subnet { cidr: "10.0.0.0/24".into(), addresses: vec!["10.0.0.5".into()], ..subnet };
        let port = Port { vif_type: Some("ovs".into()), bridge: Some("br-int".into()), subnets: vec![subnet], ..port };
        interfaces(&[port]).unwrap().remove(0)
    }

    #[test]
    fn metadata_goes_where_it_is_served_and_the_rest_through_the_gateway() {
        let subnet = Subnet {
            gateway: Some("10.0.0.1".into()),
            dhcp_server: Some("10.0.0.2".into()),
            metadata_via: Some("10.0.0.3".into()),
            ..Subnet::default()
        };
        let ways = |subnet: &Subnet| {
            let interface = plugged(subnet.clone(), Port::default());
            let route = |route: &Route| format!("{} {}", route.destination, route.via);
            (interface.routes.iter().map(route).collect::<Vec<_>>(), interface.gateways)
        };
        let gateway = vec![address("10.0.0.1").unwrap()];
        assert_eq!(ways(&subnet), (vec!["169.254.169.254/32 10.0.0.3".to_owned()], gateway.clone()));
        let routes = vec![("169.254.169.254/32".to_owned(), "10.0.0.9".to_owned())];
        let own = Subnet { routes, ..subnet.clone() };
        assert_eq!(ways(&own).0, ["169.254.169.254/32 10.0.0.9"], "the subnet's own route counts");
        assert_eq!(ways(&Subnet { metadata_via: None, ..subnet }), (vec![], gateway));
    }

    #[test]
    fn options_of_the_port_take_the_place_of_what_its_subnets_and_network_say() {
        let option = |name: &str, value: &str| DhcpOption { version: 4, name: name.into(), value: value.into() };
        let subnet = Subnet { gateway: Some("10.0.0.1".into()), dns: vec!["192.0.2.1".into()], ..Subnet::default() };
        let dhcp_options = vec![
            option("dns-server", "192.0.2.9"),
            option("router", "10.0.0.9"),
            option("mtu", "1300"),
            option("domain-search", "a.example"),
        ];
        let port = Port { mtu: Some(1450), search: vec!["cloud.internal".into()], dhcp_options, ..Port::default() };
        let found = plugged(subnet.clone(), port.clone());
        assert_eq!(
            (found.dns, found.gateways),
            (vec![address("192.0.2.9").unwrap()], vec![address("10.0.0.9").unwrap()])
        );
        assert_eq!((found.mtu, found.search), (Some(1300), vec!["a.example".to_owned()]));
        let found = plugged(subnet, Port { dhcp_options: vec![option("mtu", "9000")], ..port });
        assert_eq!(
            (found.mtu, found.search),
            (Some(1450), vec!["cloud.internal".to_owned()]),
            "no more than the network's"
        );
    }

    #[test]
    fn the_parent_of_a_trunk_is_refused_with_what_to_do_instead() {
        let port = Port { vif_type: Some("ovs".into()), bridge: Some("tbr-0a1b2c3d".into()), ..Port::default() };
        let error = interfaces(&[port]).unwrap_err().to_string();
        assert!(error.contains("trunk") && error.contains(&Uuid::nil().to_string()), "{error}");
    }

    #[test]
    fn a_port_without_a_bridge_is_refused_by_its_id() {
        let port = Port { vif_type: Some("ovs".into()), ..Port::default() };
        assert!(interfaces(&[port]).unwrap_err().to_string().contains(&Uuid::nil().to_string()));
    }
}
