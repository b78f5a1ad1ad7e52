//! How often an address may send a wrong password: keystone asks for no patience of those who guess, and each guess costs it a third
//! of a second.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use ipnet::IpNet;
use moka::sync::Cache;

use crate::http::client;

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
        let Some(address) = address.map(|address| address.to_canonical()) else { return Some(guess) };
        let is_shared = self.shared.iter().any(|network| network.contains(&address));
        let client = client(address);
        let bounds = [(Some(user), OF_USER)].into_iter().chain((!is_shared).then_some((None, OF_ADDRESS)));
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
mod tests {
    use super::*;

    const ADDRESS: [&str; 3] = ["192.0.2.1", "192.0.2.2", "198.51.100.7"];

    fn begin(guesses: &Guesses, address: &str, user: u8) -> Option<Guess> {
        guesses.begin(Some(address.parse().unwrap()), [user; 32])
    }

    fn wrong(guesses: &Guesses, address: &str, user: u8, times: u32) -> u32 {
        (0..times).filter_map(|_| begin(guesses, address, user)).map(Guess::was_wrong).count().try_into().unwrap()
    }

    #[test]
    fn an_address_guesses_at_one_user_and_at_all_so_often_and_others_are_not_hurt() {
        let guesses = Guesses::new(vec![]);
        assert_eq!(wrong(&guesses, ADDRESS[0], 1, 100), OF_USER);
        assert_eq!(wrong(&guesses, ADDRESS[1], 1, 1), 1);
        let users: u32 = (2..100).map(|user| wrong(&guesses, ADDRESS[0], user, 5)).sum();
        assert_eq!(OF_USER + users, OF_ADDRESS);
        assert!(begin(&guesses, ADDRESS[1], 2).is_some());
    }

    #[test]
    fn right_passwords_do_not_count_but_those_that_are_asked_about_do() {
        let guesses = Guesses::new(vec![]);
        for _ in 0..100 {
            assert!(begin(&guesses, ADDRESS[0], 1).is_some());
        }
        let asked: Vec<Guess> = (0..100).filter_map(|_| begin(&guesses, ADDRESS[0], 1)).collect();
        assert_eq!(asked.len(), OF_USER as usize);
        drop(asked);
        assert!(begin(&guesses, ADDRESS[0], 1).is_some());
    }

    #[test]
    fn a_shared_address_is_bounded_for_each_user_only_and_an_ipv6_client_as_its_network() {
        let guesses = Guesses::new(vec!["198.51.100.0/24".parse().unwrap()]);
        let users: u32 = (0..100).map(|user| wrong(&guesses, ADDRESS[2], user, 20)).sum();
        assert_eq!(users, 100 * OF_USER);
        assert_eq!(wrong(&guesses, "2001:db8::1", 1, 6) + wrong(&guesses, "2001:db8::2", 1, 6), OF_USER);
        assert!(guesses.begin(None, [1; 32]).is_some());
    }
}
