//! Publishing with confirms, and again on the next connection when one is lost.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Confirmation};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::backoff::Backoff;
use super::link::{Link, Session};
use super::{Error, TransportConfig, topology};

/// The first and the longest pause before a message is offered again.
const RETRY_PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(2));

/// Hands messages to the broker over one channel.
pub(super) struct Publisher {
    link: Link,
    config: TransportConfig,
    channel: Mutex<Option<Arc<PublishChannel>>>,
}

struct PublishChannel {
    session: Arc<Session>,
    channel: Channel,
    /// Exchanges that were there when they were last needed.
    exchanges: Mutex<HashSet<String>>,
}

/// Where a message goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Destination {
    /// A topic exchange, which is created if need be, with a routing key.
    Exchange(String, String),
    /// The fanout exchange of a topic.
    Fanout(String),
    /// A queue, which must exist.
    Queue(String),
}

/// What the broker did with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Taken,
    /// The queue, or the fanout exchange, is not there.
    Unroutable,
}

/// A message with its deadline.
#[derive(Clone)]
pub(super) struct Message {
    pub body: Arc<[u8]>,
    /// When it is of no use any more.
    pub deadline: Instant,
    /// The broker drops it from its queue at the deadline.
    pub expires: bool,
}

impl Publisher {
    pub(super) fn new(link: Link, config: TransportConfig) -> Self {
        Self { link, config, channel: Mutex::new(None) }
    }

    /// Offers a message to the broker until it has it or the deadline has come.
    ///
    /// A request for whose routing key there is no queue is offered again, too: after a restart of the broker its
    /// server needs a moment to declare the queue (Python drops such requests). When a connection is lost between a
    /// message and its confirm, the message is sent twice; the receiver knows it by its unique id.
    pub(super) async fn publish(&self, destination: &Destination, message: Message) -> Result<Outcome, Error> {
        let started = Instant::now();
        let mut last = "no connection".to_owned();
        let mut pauses = Backoff::new(RETRY_PAUSES.0, RETRY_PAUSES.1);
        while Instant::now() < message.deadline {
            match self.attempt(destination, &message).await {
                Ok(Outcome::Unroutable) if matches!(destination, Destination::Exchange(..)) => {
                    last = "there is no such queue".to_owned();
                }
                Ok(outcome) => return Ok(outcome),
                Err(Attempt::Final(error)) => return Err(error),
                Err(Attempt::Again(reason)) => last = reason,
            }
            tracing::debug!(%destination, reason = last, "the message was not taken by the broker; trying again");
            tokio::time::sleep_until(message.deadline.min(Instant::now() + pauses.next())).await;
        }
        let seconds = started.elapsed().as_secs();
        Err(Error::NotPublished { destination: destination.to_string(), seconds, last })
    }

    async fn attempt(&self, destination: &Destination, message: &Message) -> Result<Outcome, Attempt> {
        let session = tokio::select! {
            session = self.link.session_before(message.deadline) => session.map_err(Attempt::Again)?,
            () = self.link.closing() => return Err(Attempt::Final(Error::Closed)),
        };
        tokio::select! {
            outcome = self.attempt_on(&session, destination, message) => outcome.map_err(Attempt::Again),
            () = session.lost() => Err(Attempt::Again("the connection was lost".to_owned())),
            () = self.link.closing() => Err(Attempt::Final(Error::Closed)),
            () = tokio::time::sleep_until(message.deadline) => Err(Attempt::Again("no confirm in time".to_owned())),
        }
    }

    async fn attempt_on(
        &self,
        session: &Arc<Session>,
        destination: &Destination,
        message: &Message,
    ) -> Result<Outcome, String> {
        session.unblocked().await;
        let (exchange, routing_key) = match destination {
            Destination::Exchange(exchange, routing_key) => (exchange.clone(), routing_key.clone()),
            Destination::Queue(queue) => (String::new(), queue.clone()),
            Destination::Fanout(topic) => return fan_out(session, topic, message).await,
        };
        let open = self.channel(session).await.map_err(|error| error.to_string())?;
        let result = match open.ensure_exchange(&self.config, &exchange).await {
            Ok(()) => open.send(exchange, routing_key, true, message).await,
            Err(error) => Err(error.to_string()),
        };
        if result.is_err() {
            self.forget(&open).await;
        }
        result
    }

    /// The channel of the current session, a new one if the last one broke.
    async fn channel(&self, session: &Arc<Session>) -> lapin::Result<Arc<PublishChannel>> {
        let mut current = self.channel.lock().await;
        if let Some(open) = &*current
            && Arc::ptr_eq(&open.session, session)
            && open.channel.status().connected()
        {
            return Ok(open.clone());
        }
        *current = None;
        let open = Arc::new(PublishChannel::open(session).await?);
        *current = Some(open.clone());
        Ok(open)
    }

    async fn forget(&self, broken: &Arc<PublishChannel>) {
        broken.session.suspect();
        let mut current = self.channel.lock().await;
        if current.as_ref().is_some_and(|open| Arc::ptr_eq(open, broken) && !open.channel.status().connected()) {
            *current = None;
        }
    }
}

enum Attempt {
    Again(String),
    Final(Error),
}

/// On a channel of its own: the exchange may go after it was found, and publishing to one that is missing closes the
/// channel, with everybody's confirms.
async fn fan_out(session: &Arc<Session>, topic: &str, message: &Message) -> Result<Outcome, String> {
    let exchange = format!("{topic}_fanout");
    match topology::exchange_exists(session, &exchange).await {
        Ok(true) => {}
        Ok(false) => return Ok(Outcome::Unroutable),
        Err(error) => return Err(error.to_string()),
    }
    let channel = Arc::new(PublishChannel::open(session).await.map_err(|error| error.to_string())?);
    channel.send(exchange, String::new(), false, message).await
}

impl PublishChannel {
    async fn open(session: &Arc<Session>) -> lapin::Result<Self> {
        let channel = session.channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        Ok(Self { session: session.clone(), channel, exchanges: Mutex::default() })
    }

    /// Hands a message over, and waits for the confirm.
    async fn send(
        self: &Arc<Self>,
        exchange: String,
        routing_key: String,
        mandatory: bool,
        message: &Message,
    ) -> Result<Outcome, String> {
        let options = BasicPublishOptions { mandatory, ..BasicPublishOptions::default() };
        let (open, message) = (self.clone(), message.clone());
        // In a task, because the confirm must be awaited even when nobody wants to know any more: lapin keeps the ones
        // that are dropped.
        let confirm = tokio::spawn(async move {
            let (exchange, routing_key) = (exchange.as_str().into(), routing_key.as_str().into());
            let properties = properties(&message);
            let sent = open.channel.basic_publish(exchange, routing_key, options, &message.body, properties);
            let Ok(sent) = tokio::time::timeout_at(message.deadline, sent).await else {
                // It waits in the library for a connection that takes nothing, and would be sent after all, minutes
                // later, as if it were new. What else waits there is offered again on the next connection.
                open.session.abort();
                return Err("the connection took nothing before the deadline".to_owned());
            };
            sent.map_err(|error| error.to_string())?.await.map_err(|error| error.to_string())
        });
        match confirm.await.map_err(|error| error.to_string())?? {
            Confirmation::Ack(None) | Confirmation::NotRequested => Ok(Outcome::Taken),
            Confirmation::Ack(Some(_returned)) => Ok(Outcome::Unroutable),
            Confirmation::Nack(_) => Err("the broker could not store the message".to_owned()),
        }
    }

    async fn ensure_exchange(&self, config: &TransportConfig, name: &str) -> lapin::Result<()> {
        // The default exchange is always there.
        if name.is_empty() {
            return Ok(());
        }
        let mut known = self.exchanges.lock().await;
        if !known.contains(name) {
            topology::ensure_exchange(&self.session, config, name).await?;
            known.insert(name.to_owned());
        }
        Ok(())
    }
}

/// The properties with which the Python library sends. It decodes a message only with this content type.
fn properties(message: &Message) -> BasicProperties {
    let properties = BasicProperties::default()
        .with_content_type("application/json".into())
        .with_content_encoding("utf-8".into())
        .with_headers(FieldTable::default())
        .with_delivery_mode(2)
        .with_priority(0);
    if message.expires {
        let left = message.deadline.saturating_duration_since(Instant::now()).as_millis().max(1);
        properties.with_expiration(left.to_string().as_str().into())
    } else {
        properties
    }
}

impl std::fmt::Display for Destination {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exchange(exchange, routing_key) => write!(f, "{routing_key} (exchange {exchange})"),
            Self::Fanout(topic) => write!(f, "all servers of {topic}"),
            Self::Queue(queue) => write!(f, "queue {queue}"),
        }
    }
}
