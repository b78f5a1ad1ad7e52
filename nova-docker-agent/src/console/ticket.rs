//! Tickets: secret paths that say which instance's console may be connected to, and until when.
//!
//! A ticket carries a signature instead of being remembered, so that there may be any number of them: Nova makes one for each
//! question about a console. The key lives as long as the process.

use std::time::{Duration, Instant};

use ring::hmac;
use uuid::Uuid;

/// Nova counts a token's life from a moment after ours, and its proxy takes a moment to connect.
const LEEWAY: Duration = Duration::from_secs(10);
/// Whatever is asked for.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

pub(super) struct Tickets {
    key: hmac::Key,
    /// What their ends are counted from: no clock that somebody sets.
    epoch: Instant,
}

impl Default for Tickets {
    fn default() -> Self {
        let secret: [u8; 32] = rand::random();
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, &secret), epoch: Instant::now() }
    }
}

impl Tickets {
    /// `/INSTANCE/END/SIGNATURE`, where END is in seconds since the agent's start.
    pub(super) fn issue(&self, instance: Uuid, life: Duration) -> String {
        let end = (self.epoch.elapsed() + life.min(LONGEST) + LEEWAY).as_secs();
        let signed = format!("/{instance}/{end}");
        let signature = hex::encode(hmac::sign(&self.key, signed.as_bytes()));
        format!("{signed}/{signature}")
    }

    /// The instance that a ticket is for; none when it is not one of ours, or too old. Takes as long for a wrong one, whatever
    /// is wrong with its signature.
    pub(super) fn redeem(&self, ticket: &str) -> Option<Uuid> {
        let (signed, signature) = ticket.rsplit_once('/')?;
        let signature = hex::decode(signature).ok()?;
        hmac::verify(&self.key, signed.as_bytes(), &signature).ok()?;
        let (instance, end) = signed.strip_prefix('/')?.split_once('/')?;
        let end = Duration::from_secs(end.parse().ok()?);
        (self.epoch.elapsed() < end).then_some(Uuid::parse_str(instance).ok()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_opens_the_console_that_it_was_made_for_and_fits_into_novas_column() {
        let (tickets, instance) = (Tickets::default(), Uuid::new_v4());
        let ticket = tickets.issue(instance, Duration::from_secs(600));
        assert_eq!(tickets.redeem(&ticket), Some(instance));
        assert!(ticket.len() <= 255, "{ticket}");
    }

    #[test]
    fn a_changed_ticket_and_one_of_another_agent_open_nothing() {
        let (tickets, instance) = (Tickets::default(), Uuid::new_v4());
        let ticket = tickets.issue(instance, Duration::from_secs(600));
        let other = Uuid::new_v4();
        let changed = [
            ticket.replace(&instance.to_string(), &other.to_string()),
            ticket.replacen(&format!("{instance}/"), &format!("{instance}/9"), 1),
            ticket[..ticket.len() - 2].to_owned(),
            format!("{ticket}00"),
            format!("{ticket}/"),
            ticket.to_uppercase(),
            Tickets::default().issue(instance, Duration::from_secs(600)),
            String::new(),
            "///".to_owned(),
        ];
        for ticket in changed {
            assert_eq!(tickets.redeem(&ticket), None, "{ticket}");
        }
    }

    #[test]
    fn a_ticket_ends_with_its_life_and_no_life_is_endless() {
        let mut tickets = Tickets::default();
        let short = tickets.issue(Uuid::nil(), Duration::from_secs(60));
        let long = tickets.issue(Uuid::nil(), Duration::MAX);
        assert_eq!((tickets.redeem(&short), tickets.redeem(&long)), (Some(Uuid::nil()), Some(Uuid::nil())));
        tickets.epoch = tickets.epoch.checked_sub(Duration::from_secs(75)).unwrap();
        assert_eq!((tickets.redeem(&short), tickets.redeem(&long)), (None, Some(Uuid::nil())));
        tickets.epoch = tickets.epoch.checked_sub(LONGEST).unwrap();
        assert_eq!(tickets.redeem(&long), None);
    }
}
