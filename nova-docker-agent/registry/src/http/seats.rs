//! How many connections there are, in all and from each address.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ipnet::IpNet;

use super::listener::Limits;

/// The connections that there may be.
pub struct Seats {
    all: usize,
    each: Option<usize>,
    shared: Vec<IpNet>,
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    all: usize,
    each: HashMap<IpAddr, usize>,
}

/// A connection that is counted until this is dropped.
pub struct Seat {
    seats: Arc<Seats>,
    /// Whose bound it counts against.
    whose: Option<IpAddr>,
}

impl Seats {
    pub fn new(limits: &Limits) -> Arc<Self> {
        let (all, each) = (limits.connections, limits.connections_of_address);
        Arc::new(Self { all, each, shared: limits.shared_addresses.clone(), taken: Mutex::default() })
    }

    /// One for a connection from this address, if it may have one more.
    pub fn take(self: &Arc<Self>, address: IpAddr) -> Option<Seat> {
        let whose = self.each.and_then(|_| one_client(address, &self.shared));
        let mut taken = self.taken();
        let own = whose.and_then(|whose| taken.each.get(&whose)).copied().unwrap_or_default();
        if taken.all >= self.all || self.each.is_some_and(|each| own >= each) {
            return None;
        }
        taken.all += 1;
        if let Some(whose) = whose {
            taken.each.insert(whose, own + 1);
        }
        Some(Seat { seats: self.clone(), whose })
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.seats.taken();
        taken.all -= 1;
        let Some(whose) = self.whose else { return };
        if let Some(own) = taken.each.get_mut(&whose) {
            *own -= 1;
            if *own == 0 {
                taken.each.remove(&whose);
            }
        }
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
