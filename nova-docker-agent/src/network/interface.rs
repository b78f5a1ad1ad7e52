//! What one interface of an instance looks like.

use std::net::IpAddr;

use ipnet::IpNet;
use uuid::Uuid;

/// One interface of an instance, ready to be plugged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Neutron's port; becomes `iface-id` of the Open vSwitch interface.
    pub port_id: Uuid,
    /// Name of the host side of the veth pair: `tap` and the first 11 characters of the port's id.
    pub devname: String,
    /// Name inside the instance: `eth0`, `eth1`, ... in the order of the ports.
    pub name: String,
    /// MAC address of the guest side, as Neutron writes it (`fa:16:3e:...`).
    pub mac: String,
    /// MTU of both sides in bytes; the kernel's default where Neutron gives none.
    pub mtu: Option<u32>,
    /// Integration bridge that the host side is plugged into.
    pub bridge: String,
    /// Every fixed IP, of both families, with the prefix length of its subnet.
    pub addresses: Vec<IpNet>,
    /// Gateways of the port's subnets; the first of each family becomes that family's default route.
    pub gateways: Vec<IpAddr>,
    /// Host routes of the port's subnets.
    pub routes: Vec<Route>,
    /// Name servers of the port's subnets, in their order.
    pub dns: Vec<IpAddr>,
}

/// One host route of a subnet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Where to.
    pub destination: IpNet,
    /// The next hop; the unspecified address (`0.0.0.0`, `::`) means that the destination is on the link.
    pub via: IpAddr,
}

impl Interface {
    /// Host-side name of a port's interface, the name that Nova and Neutron's agents expect.
    pub fn devname_of(port_id: &Uuid) -> String {
        let mut name = port_id.hyphenated().to_string();
        name.truncate(11);
        format!("tap{name}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_side_is_named_by_the_first_eleven_characters_of_the_port() {
        let port = Uuid::parse_str("5a3d9a1e-4ff5-4e4c-8a6b-6f1a2d8b9c0d").unwrap();
        assert_eq!(Interface::devname_of(&port), "tap5a3d9a1e-4f");
    }
}
