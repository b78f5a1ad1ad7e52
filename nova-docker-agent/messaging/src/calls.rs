//! The reply queue, and who waits for which reply.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures::StreamExt;
use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, BasicConsumeOptions};
use lapin::types::FieldTable;
use serde_json::Value;
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::backoff::Backoff;
use super::compression;
use super::link::{Link, Session};
use super::{Failure, TransportConfig, topology, wire};

/// How long the end of the process waits for the end of the reply queue.
const DELETE_PATIENCE: Duration = Duration::from_secs(5);

type Waiters = Arc<Mutex<HashMap<String, oneshot::Sender<Result<Value, Failure>>>>>;

/// The calls of this process that wait for their reply. All replies come through one queue, whose name stays the same
/// over reconnections, and with a queue manager over restarts: servers look for a missing reply queue for a while.
pub(super) struct Calls {
    queue: String,
    /// It is nobody's after this process.
    temporary: bool,
    waiters: Waiters,
    ready: watch::Receiver<bool>,
    ending: CancellationToken,
}

/// One call that waits; it waits no more when this is dropped.
pub(super) struct Waiting {
    pub message_id: String,
    reply: oneshot::Receiver<Result<Value, Failure>>,
    waiters: Waiters,
}

impl Calls {
    /// Begins to consume the reply queue, and goes on until the link is closed.
    pub(super) fn start(link: Link, config: TransportConfig) -> Self {
        let temporary = config.reply_queue.is_none();
        let queue = config.reply_queue.clone().unwrap_or_else(|| format!("reply_{}", wire::new_id()));
        let waiters = Waiters::default();
        let (sender, ready) = watch::channel(false);
        let consumer = Consumer { config, queue: queue.clone(), waiters: waiters.clone(), ready: sender };
        let ending = CancellationToken::new();
        tokio::spawn({
            let ending = ending.clone();
            async move { ending.run_until_cancelled(consumer.run(&link)).await }
        });
        Self { queue, temporary, waiters, ready, ending }
    }

    /// Receives no more replies, and deletes the queue if no later process uses it: replicated ones are not for free.
    pub(super) async fn end(&self, link: &Link) {
        self.ending.cancel();
        if !self.temporary || !link.connected() {
            return;
        }
        let deleted = tokio::time::timeout(DELETE_PATIENCE, async {
            let session = link.session().await.map_err(|error| error.to_string())?;
            topology::delete_queue(&session, &self.queue).await.map_err(|error| error.to_string())
        });
        if let Err(error) = deleted.await.unwrap_or_else(|_| Err("no answer".to_owned())) {
            tracing::debug!(queue = self.queue, error, "left the reply queue to its time to live");
        }
    }

    /// The name of the reply queue.
    pub(super) fn queue(&self) -> &str {
        &self.queue
    }

    /// Waits until replies can arrive; false when they cannot at the deadline.
    pub(super) async fn ready_before(&self, deadline: Instant) -> bool {
        let mut ready = self.ready.clone();
        matches!(tokio::time::timeout_at(deadline, ready.wait_for(|ready| *ready)).await, Ok(Ok(_)))
    }

    /// Enters a new call.
    pub(super) fn enter(&self) -> Waiting {
        let message_id = wire::new_id();
        let (sender, reply) = oneshot::channel();
        lock(&self.waiters).insert(message_id.clone(), sender);
        Waiting { message_id, reply, waiters: self.waiters.clone() }
    }
}

impl Waiting {
    /// The reply, if it comes before the deadline.
    pub(super) async fn reply_before(&mut self, deadline: Instant) -> Option<Result<Value, Failure>> {
        tokio::time::timeout_at(deadline, &mut self.reply).await.ok()?.ok()
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        lock(&self.waiters).remove(&self.message_id);
    }
}

struct Consumer {
    config: TransportConfig,
    queue: String,
    waiters: Waiters,
    ready: watch::Sender<bool>,
}

impl Consumer {
    async fn run(&self, link: &Link) {
        // Before the reply queue is declared again on a connection that just refused it.
        let mut pauses = Backoff::new(self.config.retry_interval, self.config.retry_interval_max);
        while let Ok(session) = link.session().await {
            let consumed = tokio::select! {
                consumed = self.consume(&session) => consumed,
                () = session.lost() => Ok(()),
                () = link.closing() => return,
            };
            // `ready` stays true while the queue is declared again: a call that is sent meanwhile gets its reply late.
            if let Err(error) = consumed {
                tracing::warn!(queue = self.queue, %error, "the reply queue broke; declaring it again");
                session.suspect();
                tokio::time::sleep(pauses.next()).await;
            } else {
                pauses.reset();
            }
        }
    }

    async fn consume(&self, session: &Session) -> lapin::Result<()> {
        topology::ensure_reply_queue(session, &self.config, &self.queue).await?;
        let channel = session.channel().await?;
        let options = BasicConsumeOptions::default();
        let mut deliveries =
            channel.basic_consume(self.queue.as_str().into(), "".into(), options, FieldTable::default()).await?;
        self.ready.send_replace(true);
        while let Some(delivery) = deliveries.next().await {
            let delivery = delivery?;
            delivery.ack(BasicAckOptions::default()).await?;
            self.receive(&delivery);
        }
        tracing::warn!(queue = self.queue, "the broker cancelled the consumer of the reply queue");
        Ok(())
    }

    fn receive(&self, delivery: &Delivery) {
        let body = compression::body(&delivery.properties, &delivery.data);
        let reply = match body.and_then(|body| wire::open_envelope(&body)).and_then(wire::parse_reply) {
            Ok(reply) => reply,
            Err(reason) => {
                tracing::error!(queue = self.queue, reason, "dropped a malformed reply");
                return;
            }
        };
        // A sign of life needs no answer, since every call has a deadline of its own.
        if !reply.ending && reply.result == Ok(Value::Null) {
            return;
        }
        let Some(waiter) = lock(&self.waiters).remove(&reply.message_id) else {
            tracing::debug!(message_id = reply.message_id, "dropped a reply that nobody waits for");
            return;
        };
        if waiter.send(reply.result).is_err() {
            tracing::debug!(message_id = reply.message_id, "the caller gave up in this moment");
        }
    }
}

fn lock(
    waiters: &Mutex<HashMap<String, oneshot::Sender<Result<Value, Failure>>>>,
) -> MutexGuard<'_, HashMap<String, oneshot::Sender<Result<Value, Failure>>>> {
    // A map whose holder panicked is still a map.
    waiters.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
