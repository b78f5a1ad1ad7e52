//! How many connections there are, in all and from each address.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use ipnet::IpNet;

use super::listener::Limits;
use crate::turns::{Turn, Turns};

/// The connections that there may be.
pub struct Seats {
    turns: Arc<Turns>,
    shared: Vec<IpNet>,
}

impl Seats {
    pub fn new(limits: &Limits) -> Self {
        let (all, each) = (limits.connections, limits.connections_of_address);
        Self { turns: Turns::new(all, each.unwrap_or(all)), shared: limits.shared_addresses.clone() }
    }

    /// One for a connection from this address, if it may have one more.
    pub fn take(&self, address: IpAddr) -> Option<Turn> {
        let client = one_client(address, &self.shared).map(|client| client.to_string());
        self.turns.try_take(client.as_deref())
    }
}

/// The client at an address; None where it speaks for many.
pub fn one_client(address: IpAddr, shared: &[IpNet]) -> Option<IpAddr> {
    let address = address.to_canonical();
    (!shared.iter().any(|network| network.contains(&address))).then(|| client(address))
}

/// With IPv6, one client has a whole /64.
pub fn client(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
    }
}

#[cfg(test)]
mod tests;
