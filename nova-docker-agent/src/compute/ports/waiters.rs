//! Waiting for Neutron to say that a port is wired: the `network-vif-plugged` external event.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::sync::watch;
use uuid::Uuid;

/// What became of one awaited port.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Outcome {
    Pending,
    Plugged,
    /// The event's status when it was not `completed`, or why nobody will send one any more.
    Failed(String),
}

/// Why not every port was plugged.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum PlugError {
    #[error("Neutron did not report port {port} as plugged within {} s", .after.as_secs())]
    Timeout { port: String, after: Duration },
    #[error("Neutron reported port {port} as {status}")]
    Failed { port: String, status: String },
}

impl PlugError {
    /// As after a wait of `all`, of which this was the last part.
    pub fn after(self, all: Duration) -> Self {
        match self {
            Self::Timeout { port, .. } => Self::Timeout { port, after: all },
            failed @ Self::Failed { .. } => failed,
        }
    }
}

type Key = (Uuid, String);

/// Ports that operations wait for, by instance and port. Register before plugging: the answer may come within milliseconds.
#[derive(Default, Clone)]
pub(crate) struct PlugWaiters {
    pending: Arc<Mutex<HashMap<Key, watch::Sender<Outcome>>>>,
}

impl PlugWaiters {
    /// Starts to listen for the events of `ports`. A second registration of a port shares the first one's wait.
    pub fn register(&self, instance: Uuid, ports: impl IntoIterator<Item = String>) -> PlugWait {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        let ports = ports
            .into_iter()
            .map(|port| {
                let sender =
                    pending.entry((instance, port.clone())).or_insert_with(|| watch::Sender::new(Outcome::Pending));
                (port, sender.subscribe())
            })
            .collect();
        PlugWait { instance, ports, waiters: self.clone() }
    }

    /// Delivers an event; false if nobody waits for it.
    pub fn deliver(&self, instance: Uuid, port: &str, status: &str) -> bool {
        let outcome = match status {
            "completed" => Outcome::Plugged,
            other => Outcome::Failed(other.to_owned()),
        };
        self.take(&(instance, port.to_owned())).is_some_and(|sender| sender.send(outcome).is_ok())
    }

    /// Ends every wait of `instance`: it is being deleted, or the agent stops.
    pub fn cancel(&self, instance: Uuid, reason: &str) {
        self.cancel_where(|(waiting, _)| *waiting == instance, reason);
    }

    /// Ends every wait.
    pub fn cancel_all(&self, reason: &str) {
        self.cancel_where(|_| true, reason);
    }

    fn cancel_where(&self, concerned: impl Fn(&Key) -> bool, reason: &str) {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        pending.retain(|key, sender| {
            let ends = concerned(key);
            if ends {
                sender.send_replace(Outcome::Failed(reason.to_owned()));
            }
            !ends
        });
    }

    fn take(&self, key: &Key) -> Option<watch::Sender<Outcome>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner).remove(key)
    }
}

/// A registered wait. Dropping it stops listening.
pub(crate) struct PlugWait {
    instance: Uuid,
    ports: Vec<(String, watch::Receiver<Outcome>)>,
    waiters: PlugWaiters,
}

impl PlugWait {
    /// The ports of which nothing has been heard.
    pub fn pending(&self) -> Vec<String> {
        let pending = self.ports.iter().filter(|(_, outcome)| *outcome.borrow() == Outcome::Pending);
        pending.map(|(port, _)| port.clone()).collect()
    }

    /// Returns when every port is plugged. May be called again.
    ///
    /// # Errors
    /// The first port that failed, or that was still pending when `within` had passed; zero means do not wait at all.
    pub async fn wait(&mut self, within: Duration) -> Result<(), PlugError> {
        if within.is_zero() {
            return Ok(());
        }
        let deadline = tokio::time::Instant::now() + within;
        for (port, outcome) in &mut self.ports {
            let settled = tokio::time::timeout_at(deadline, outcome.wait_for(|o| *o != Outcome::Pending)).await;
            match settled {
                Err(_) => return Err(PlugError::Timeout { port: port.clone(), after: within }),
                Ok(Ok(outcome)) => {
                    if let Outcome::Failed(status) = &*outcome {
                        return Err(PlugError::Failed { port: port.clone(), status: status.clone() });
                    }
                }
                // The sender was dropped after it had spoken to another receiver, or with the table at shutdown.
                Ok(Err(_)) => return Err(PlugError::Failed { port: port.clone(), status: "cancelled".to_owned() }),
            }
        }
        Ok(())
    }
}

impl Drop for PlugWait {
    fn drop(&mut self) {
        let mut pending = self.waiters.pending.lock().unwrap_or_else(PoisonError::into_inner);
        for (port, outcome) in &self.ports {
            let key = (self.instance, port.clone());
            // Our own receiver still counts here; another one means that somebody else waits for the same port. What was registered
            // after our port was heard of is not ours.
            let is_ours_alone = |sender: &watch::Sender<Outcome>| {
                sender.receiver_count() <= 1 && sender.subscribe().same_channel(outcome)
            };
            if pending.get(&key).is_some_and(is_ours_alone) {
                pending.remove(&key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(5);

    #[tokio::test]
    async fn an_event_that_comes_before_the_wait_begins_is_not_lost() {
        let waiters = PlugWaiters::default();
        let instance = Uuid::new_v4();
        let mut wait = waiters.register(instance, ["a".to_owned(), "b".to_owned()]);
        assert!(waiters.deliver(instance, "b", "completed"));
        assert!(waiters.deliver(instance, "a", "completed"));
        assert_eq!(wait.wait(SOON).await, Ok(()));
    }

    #[tokio::test]
    async fn a_failed_event_ends_the_wait_with_its_status() {
        let waiters = PlugWaiters::default();
        let instance = Uuid::new_v4();
        let mut wait = waiters.register(instance, ["a".to_owned()]);
        waiters.deliver(instance, "a", "failed");
        assert_eq!(wait.wait(SOON).await, Err(PlugError::Failed { port: "a".to_owned(), status: "failed".to_owned() }));
    }

    #[tokio::test(start_paused = true)]
    async fn the_wait_ends_at_its_deadline_and_names_the_port() {
        let waiters = PlugWaiters::default();
        let mut wait = waiters.register(Uuid::new_v4(), ["a".to_owned()]);
        let error = wait.wait(Duration::from_secs(300)).await.unwrap_err();
        assert_eq!(error.to_string(), "Neutron did not report port a as plugged within 300 s");
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_goes_on_after_its_deadline_and_says_how_long_all_of_it_was() {
        let waiters = PlugWaiters::default();
        let (instance, minute) = (Uuid::new_v4(), Duration::from_secs(60));
        let mut wait = waiters.register(instance, ["a".to_owned(), "b".to_owned()]);
        waiters.deliver(instance, "b", "completed");
        let error = wait.wait(minute).await.unwrap_err().after(5 * minute);
        assert_eq!(error.to_string(), "Neutron did not report port a as plugged within 300 s");
        assert_eq!(wait.pending(), ["a"]);
        assert!(waiters.deliver(instance, "a", "completed"));
        assert_eq!(wait.wait(minute).await, Ok(()));
        assert!(wait.pending().is_empty());
    }

    #[tokio::test]
    async fn cancelling_ends_the_waits_of_that_instance_only() {
        let waiters = PlugWaiters::default();
        let (one, other) = (Uuid::new_v4(), Uuid::new_v4());
        let mut first = waiters.register(one, ["a".to_owned()]);
        let mut second = waiters.register(other, ["a".to_owned()]);
        waiters.cancel(one, "cancelled: the instance is being deleted");
        assert!(first.wait(SOON).await.is_err());
        assert!(waiters.deliver(other, "a", "completed"));
        assert_eq!(second.wait(SOON).await, Ok(()));
    }

    #[tokio::test]
    async fn an_event_nobody_waits_for_is_reported_as_such() {
        let waiters = PlugWaiters::default();
        let instance = Uuid::new_v4();
        drop(waiters.register(instance, ["a".to_owned()]));
        assert!(!waiters.deliver(instance, "a", "completed"));
    }

    #[tokio::test]
    async fn a_port_that_was_heard_of_can_be_waited_for_afresh() {
        let waiters = PlugWaiters::default();
        let instance = Uuid::new_v4();
        let old = waiters.register(instance, ["a".to_owned()]);
        assert!(waiters.deliver(instance, "a", "completed"));
        let mut fresh = waiters.register(instance, ["a".to_owned()]);
        drop(old);
        assert_eq!(fresh.pending(), ["a"]);
        assert!(waiters.deliver(instance, "a", "completed"));
        assert_eq!(fresh.wait(SOON).await, Ok(()));
    }

    #[tokio::test]
    async fn a_wait_goes_on_in_one_that_is_registered_before_it_ends() {
        let waiters = PlugWaiters::default();
        let instance = Uuid::new_v4();
        let old = waiters.register(instance, ["a".to_owned()]);
        let mut fresh = waiters.register(instance, old.pending());
        drop(old);
        assert!(waiters.deliver(instance, "a", "completed"));
        assert_eq!(fresh.wait(SOON).await, Ok(()));
    }

    #[tokio::test]
    async fn a_deadline_of_zero_does_not_wait() {
        let waiters = PlugWaiters::default();
        assert_eq!(waiters.register(Uuid::new_v4(), ["a".to_owned()]).wait(Duration::ZERO).await, Ok(()));
    }
}
