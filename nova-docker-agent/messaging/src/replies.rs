//! The way back to the caller.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Map, Value};
use tokio::time::Instant;

use super::backoff::Backoff;
use super::publisher::{Destination, Message, Outcome, Publisher};
use super::{Error, Failure, wire};

/// The first and the longest pause before a reply is offered again to a reply queue that is not there: its owner may be
/// reconnecting.
const RETRY_PAUSES: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(2));

/// How long a reply is kept while there is no broker. No caller waits longer (`long_rpc_timeout` is 1800 s).
const KEEP: Duration = Duration::from_secs(1800);

/// How many dead reply queues are remembered.
const DEAD_QUEUES: usize = 200;

/// Sends replies, each in its handler's own time: a reply queue that is missing holds up nobody else.
pub(super) struct Replies {
    publisher: Arc<Publisher>,
    /// How long a reply is offered to a queue that is not there, and then how long that queue counts as dead.
    patience: Duration,
    dead: Mutex<VecDeque<(String, Instant)>>,
}

impl Replies {
    pub(super) fn new(publisher: Arc<Publisher>, patience: Duration) -> Self {
        Self { publisher, patience, dead: Mutex::default() }
    }

    /// Sends the result, and retries while the reply queue is missing.
    pub(super) async fn send(&self, caller: &wire::Caller, result: &Result<Value, Failure>) {
        if self.is_dead(&caller.queue) {
            tracing::debug!(queue = caller.queue, message_id = caller.message_id, "no reply into a dead queue");
            return;
        }
        let message = wire::reply(&caller.message_id, result);
        let mut give_up = None;
        let mut pauses = Backoff::new(RETRY_PAUSES.0, RETRY_PAUSES.1);
        loop {
            match self.publish(caller, &message, KEEP).await {
                Ok(Outcome::Taken) => return,
                Ok(Outcome::Unroutable) => {}
                Err(error) => {
                    tracing::error!(queue = caller.queue, message_id = caller.message_id, %error, "lost a reply");
                    return;
                }
            }
            let now = Instant::now();
            if now >= *give_up.get_or_insert(now + self.patience) {
                tracing::warn!(
                    queue = caller.queue,
                    message_id = caller.message_id,
                    "dropped a reply: its queue was not there for {} s",
                    self.patience.as_secs()
                );
                self.bury(&caller.queue);
                return;
            }
            tokio::time::sleep(pauses.next()).await;
        }
    }

    /// Sends a sign of life. A lost one does no harm as long as the next one arrives.
    pub(super) async fn heartbeat(&self, caller: &wire::Caller, patience: Duration) {
        let message = wire::heartbeat(&caller.message_id);
        match self.publish(caller, &message, patience).await {
            Ok(Outcome::Taken) => {}
            Ok(Outcome::Unroutable) => {
                tracing::debug!(queue = caller.queue, "a sign of life found no reply queue");
            }
            Err(error) => tracing::debug!(queue = caller.queue, %error, "a sign of life was lost"),
        }
    }

    async fn publish(
        &self,
        caller: &wire::Caller,
        message: &Map<String, Value>,
        patience: Duration,
    ) -> Result<Outcome, Error> {
        let body = wire::envelope(message).into();
        let message = Message { body, deadline: Instant::now() + patience, expires: false };
        self.publisher.publish(&Destination::Queue(caller.queue.clone()), message).await
    }

    fn is_dead(&self, queue: &str) -> bool {
        let now = Instant::now();
        let mut dead = self.dead.lock().unwrap_or_else(PoisonError::into_inner);
        dead.retain(|(_, until)| *until > now);
        dead.iter().any(|(name, _)| name == queue)
    }

    fn bury(&self, queue: &str) {
        let mut dead = self.dead.lock().unwrap_or_else(PoisonError::into_inner);
        if dead.len() == DEAD_QUEUES {
            dead.pop_front();
        }
        dead.push_back((queue.to_owned(), Instant::now() + self.patience));
    }
}
