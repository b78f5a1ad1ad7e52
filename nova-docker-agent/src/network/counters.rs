//! What an instance's interfaces have counted, as the instance sees it.

use rtnetlink::packet_route::link::{LinkAttribute, LinkMessage};

/// One interface of an instance since it was plugged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Its name inside: `eth0`.
    pub name: String,
    /// `fa:16:3e:...`; empty for an interface without one.
    pub mac: String,
    pub received: Traffic,
    pub sent: Traffic,
}

/// One direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    pub bytes: u64,
    pub packets: u64,
    pub errors: u64,
    pub dropped: u64,
}

impl Counters {
    pub(super) fn of(message: &LinkMessage) -> Self {
        let mut counters = Self::default();
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => counters.name.clone_from(name),
                LinkAttribute::Address(mac) => counters.mac = mac_text(mac),
                LinkAttribute::Stats64(counted) => {
                    counters.received = Traffic {
                        bytes: counted.rx_bytes,
                        packets: counted.rx_packets,
                        errors: counted.rx_errors,
                        dropped: counted.rx_dropped,
                    };
                    counters.sent = Traffic {
                        bytes: counted.tx_bytes,
                        packets: counted.tx_packets,
                        errors: counted.tx_errors,
                        dropped: counted.tx_dropped,
                    };
                }
                _ => {}
            }
        }
        counters
    }
}

fn mac_text(mac: &[u8]) -> String {
    mac.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_has_its_name_and_address_as_neutron_writes_them() {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName("eth0".to_owned()));
        message.attributes.push(LinkAttribute::Address(vec![0xfa, 0x16, 0x3e, 0, 1, 0xc7]));
        let counters = Counters::of(&message);
        assert_eq!((counters.name.as_str(), counters.mac.as_str()), ("eth0", "fa:16:3e:00:01:c7"));
    }
}
