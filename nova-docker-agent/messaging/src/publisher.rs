//! Publishing with confirms, and again on the next connection when one is lost.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Confirmation};
use tokio::time::Instant;

use super::backoff::Backoff;
use super::link::{Link, Session};
use super::{Error, TransportConfig, topology};

/// The first and the longest pause before a message is offered again.
const RETRY_PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(2));

/// How many channels are kept for the next messages.
const IDLE_CHANNELS: usize = 8;

/// Hands messages to the broker, each over a channel that has nothing else under way.
///
/// What the broker returns, because there is no such queue, does not say which message it was. lapin takes it for that of
/// the next confirm, whoever waits for that: of two messages on one channel, the one that was lost would count as taken.
pub(super) struct Publisher {
    link: Link,
    config: TransportConfig,
    last: Arc<Mutex<Last>>,
}

/// What is known of the last connection.
#[derive(Default)]
struct Last {
    session: Option<Arc<Session>>,
    /// Channels on which every message has its confirm.
    idle: Vec<Channel>,
    /// Exchanges that were there when they were last needed.
    exchanges: HashSet<String>,
}

struct PublishChannel {
    session: Arc<Session>,
    channel: Channel,
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
        Self { link, config, last: Arc::default() }
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
        let ensured = self.ensure_exchange(session, &exchange).await;
        ensured.inspect_err(|_| session.suspect()).map_err(|error| error.to_string())?;
        let open = self.channel(session).await.map_err(|error| error.to_string())?;
        let (last, message) = (self.last.clone(), message.clone());
        // In a task, because the confirm must be awaited even when nobody wants to know any more: until then the channel
        // is not fit for another message.
        let sent = tokio::spawn(async move {
            let result = open.send(&exchange, &routing_key, true, &message).await;
            lock(&last).put(open, result.is_ok());
            result
        });
        sent.await.map_err(|error| error.to_string())?
    }

    async fn channel(&self, session: &Arc<Session>) -> lapin::Result<PublishChannel> {
        let idle = lock(&self.last).on(session).take();
        match idle {
            Some(channel) => Ok(PublishChannel { session: session.clone(), channel }),
            None => PublishChannel::open(session).await,
        }
    }

    async fn ensure_exchange(&self, session: &Arc<Session>, name: &str) -> lapin::Result<()> {
        // The default exchange is always there.
        if name.is_empty() || lock(&self.last).on(session).exchanges.contains(name) {
            return Ok(());
        }
        topology::ensure_exchange(session, &self.config, name).await?;
        lock(&self.last).on(session).exchanges.insert(name.to_owned());
        Ok(())
    }
}

impl Last {
    /// The same of this connection, of which nothing is known if it is a new one.
    fn on(&mut self, session: &Arc<Session>) -> &mut Self {
        if !self.is_on(session) {
            *self = Self { session: Some(session.clone()), ..Self::default() };
        }
        self
    }

    fn is_on(&self, session: &Arc<Session>) -> bool {
        self.session.as_ref().is_some_and(|last| Arc::ptr_eq(last, session))
    }

    fn take(&mut self) -> Option<Channel> {
        self.idle.retain(|channel| channel.status().connected());
        self.idle.pop()
    }

    /// Keeps a channel for the next message. After a failure it is closed, and so are those that are too many.
    fn put(&mut self, open: PublishChannel, is_fit: bool) {
        if !is_fit {
            open.session.suspect();
        }
        if !self.is_on(&open.session) {
            return;
        }
        if !is_fit {
            // It may be that an exchange has gone.
            self.exchanges.clear();
        } else if self.idle.len() < IDLE_CHANNELS {
            self.idle.push(open.channel);
        }
    }
}

fn lock(last: &Mutex<Last>) -> MutexGuard<'_, Last> {
    last.lock().unwrap_or_else(PoisonError::into_inner)
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
    let channel = PublishChannel::open(session).await.map_err(|error| error.to_string())?;
    let message = message.clone();
    // In a task, which sees to it that what is late never leaves.
    let sent = tokio::spawn(async move { channel.send(&exchange, "", false, &message).await });
    sent.await.map_err(|error| error.to_string())?
}

impl PublishChannel {
    async fn open(session: &Arc<Session>) -> lapin::Result<Self> {
        let channel = session.channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        Ok(Self { session: session.clone(), channel })
    }

    /// Hands a message over, and waits for the confirm, which may never come from a queue that has lost its nodes. After an
    /// error the channel is to be dropped.
    async fn send(
        &self,
        exchange: &str,
        routing_key: &str,
        mandatory: bool,
        message: &Message,
    ) -> Result<Outcome, String> {
        let options = BasicPublishOptions { mandatory, ..BasicPublishOptions::default() };
        let properties = properties(message);
        let sent = self.channel.basic_publish(exchange.into(), routing_key.into(), options, &message.body, properties);
        let Ok(sent) = tokio::time::timeout_at(message.deadline, sent).await else {
            // It waits in the library for a connection that takes nothing, and would be sent after all, minutes later,
            // as if it were new. What else waits there is offered again on the next connection.
            self.session.abort();
            return Err("the connection took nothing before the deadline".to_owned());
        };
        let confirm = tokio::time::timeout_at(message.deadline, sent.map_err(|error| error.to_string())?).await;
        match confirm.map_err(|_| "no confirm in time".to_owned())?.map_err(|error| error.to_string())? {
            Confirmation::Ack(None) | Confirmation::NotRequested => Ok(Outcome::Taken),
            Confirmation::Ack(Some(_returned)) => Ok(Outcome::Unroutable),
            Confirmation::Nack(_) => Err("the broker could not store the message".to_owned()),
        }
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
