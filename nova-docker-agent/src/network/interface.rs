//! What one interface of an instance looks like.

use std::net::IpAddr;

use ipnet::IpNet;
use uuid::Uuid;

/// One interface of an instance, ready to be plugged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Neutron's port; becomes `iface-id` of the Open vSwitch interface.
    pub port_id: Uuid,
    /// Neutron's network, where it is known: servers of one network reach one another by these addresses.
    pub network_id: Option<Uuid>,
    /// Name of the host side of the veth pair: `tap` and the first 11 characters of the port's id.
    pub devname: String,
    /// Name inside the instance that a new interface asks for: `eth0`, `eth1`, ... in the order of the ports. One that was
    /// plugged before keeps the name that it has.
    pub name: String,
    /// MAC address of the guest side, as Neutron writes it (`fa:16:3e:...`).
    pub mac: String,
    /// MTU of both sides in bytes; the kernel's default where Neutron gives none.
    pub mtu: Option<u32>,
    /// Integration bridge that the host side is plugged into.
    pub bridge: String,
    /// Every fixed IP, of both families, with the prefix length of its subnet.
    pub addresses: Vec<IpNet>,
    /// Gateways of the port's subnets; the first of each family becomes that family's default route, unless there is one.
    pub gateways: Vec<IpAddr>,
    /// Host routes of the port's subnets.
    pub routes: Vec<Route>,
    /// Name servers of the port's subnets, in their order.
    pub dns: Vec<IpAddr>,
    /// Domains in which names without one are looked up, in their order.
    pub search: Vec<String>,
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

/// Whether the kernel and `ovs-vsctl` take the name as that of one device: 1 to 15 of letters, digits, `.`, `_` and `-`, and
/// no `-` or `.` in front.
pub(super) fn is_device_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=15).contains(&name.len()) && name.bytes().all(plain) && !name.starts_with(['-', '.'])
}

/// The six octets of a MAC address written with colons.
pub(super) fn parse_mac(text: &str) -> Option<[u8; 6]> {
    let mut octets = [0; 6];
    let mut parts = text.split(':');
    for octet in &mut octets {
        let part = parts.next().filter(|part| part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
        *octet = u8::from_str_radix(part, 16).ok()?;
    }
    parts.next().is_none().then_some(octets)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn interface() -> Interface {
        Interface {
            port_id: Uuid::nil(),
            network_id: None,
            devname: "tap0".to_owned(),
            name: "eth0".to_owned(),
            mac: "fa:16:3e:00:00:01".to_owned(),
            mtu: None,
            bridge: "br-int".to_owned(),
            addresses: vec!["10.0.0.5/24".parse().unwrap()],
            gateways: vec![],
            routes: vec![],
            dns: vec![],
            search: vec![],
        }
    }

    #[test]
    fn a_mac_address_has_six_octets() {
        assert_eq!(parse_mac("fa:16:3e:00:0A:ff"), Some([0xfa, 0x16, 0x3e, 0, 10, 255]));
        for bad in ["", "fa:16:3e:00:01", "fa:16:3e:00:01:02:03", "fa:16:3e:00:01:0x", "fa:16:3e:00:01:+1"] {
            assert_eq!(parse_mac(bad), None, "{bad:?} was taken");
        }
    }

    #[test]
    fn the_host_side_is_named_by_the_first_eleven_characters_of_the_port() {
        let port = Uuid::parse_str("5a3d9a1e-4ff5-4e4c-8a6b-6f1a2d8b9c0d").unwrap();
        assert_eq!(Interface::devname_of(&port), "tap5a3d9a1e-4f");
    }
}
