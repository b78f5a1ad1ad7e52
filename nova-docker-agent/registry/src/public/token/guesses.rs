//! How often an address may send a wrong password: keystone asks for no patience of those who guess, and each guess costs it a third
//! of a second.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use ipnet::IpNet;
use moka::sync::Cache;

use crate::http::{client, one_client};

/// How long a wrong password counts: from the first of several on.
pub const WINDOW: Duration = Duration::from_secs(60);
/// Wrong passwords of one user name from one address.
const OF_USER: u32 = 10;
/// Wrong passwords from one address, that speaks for one client.
const OF_ADDRESS: u32 = 60;
/// Addresses and users that are counted at one time.
const MAX_COUNTED: u64 = 65_536;

/// The wrong passwords of the last minute.
pub struct Guesses {
    /// By address, and by address and user.
    wrong: Cache<(IpAddr, Option<[u8; 32]>), Arc<AtomicU32>>,
    /// Addresses that speak for many clients.
    shared: Vec<IpNet>,
}

/// One password that keystone is asked about. Until it is dropped it counts as a wrong one: many may be sent at once.
pub struct Guess {
    counted: Vec<Arc<AtomicU32>>,
}

impl Guesses {
    pub fn new(shared: Vec<IpNet>) -> Self {
        Self { wrong: Cache::builder().max_capacity(MAX_COUNTED).time_to_live(WINDOW).build(), shared }
    }

    /// Begins one for a user, by a hash of the name; None where there were too many. Nothing is counted for a client that has no
    /// address: it is the registry itself.
    pub fn begin(&self, address: Option<IpAddr>, user: [u8; 32]) -> Option<Guess> {
        let mut guess = Guess { counted: vec![] };
        let Some(address) = address else { return Some(guess) };
        let in_all = one_client(address, &self.shared).map(|_| (None, OF_ADDRESS));
        let client = client(address);
        let bounds = [(Some(user), OF_USER)].into_iter().chain(in_all);
        for (user, most) in bounds {
            let count = self.wrong.get_with((client, user), Arc::default);
            let before = count.fetch_add(1, Ordering::Relaxed);
            guess.counted.push(count);
            if before >= most {
                return None;
            }
        }
        Some(guess)
    }
}

impl Guess {
    /// It goes on counting.
    pub fn was_wrong(mut self) {
        self.counted.clear();
    }
}

impl Drop for Guess {
    fn drop(&mut self) {
        for count in &self.counted {
            count.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests;
