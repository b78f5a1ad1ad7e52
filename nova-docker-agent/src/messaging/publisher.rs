//! Publishing with confirms, and again on the next connection when one is lost.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Confirmation};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::link::{Link, Session};
use super::{Error, TransportConfig, topology};

/// The pause before a message is offered again.
const RETRY_PAUSE: Duration = Duration::from_millis(200);

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
            tokio::time::sleep_until(message.deadline.min(Instant::now() + RETRY_PAUSE)).await;
        }
        let seconds = started.elapsed().as_secs();
        Err(Error::NotPublished { destination: destination.to_string(), seconds, last })
    }

    async fn attempt(&self, destination: &Destination, message: &Message) -> Result<Outcome, Attempt> {
        let open = self.channel(message.deadline).await?;
        let result = tokio::select! {
            result = open.publish(&self.config, destination, message.clone()) => result,
            () = open.session.lost() => Err("the connection was lost".to_owned()),
            () = self.link.closing() => return Err(Attempt::Final(Error::Closed)),
            () = tokio::time::sleep_until(message.deadline) => return Err(Attempt::Again("no confirm in time".to_owned())),
        };
        match result {
            Ok(outcome) => Ok(outcome),
            Err(reason) => {
                self.forget(&open).await;
                Err(Attempt::Again(reason))
            }
        }
    }

    /// The channel of the current session, a new one if the last one broke.
    async fn channel(&self, deadline: Instant) -> Result<Arc<PublishChannel>, Attempt> {
        let session = tokio::select! {
            session = self.link.session_before(deadline) => session.map_err(Attempt::Again)?,
            () = self.link.closing() => return Err(Attempt::Final(Error::Closed)),
        };
        let mut current = self.channel.lock().await;
        if let Some(open) = &*current
            && Arc::ptr_eq(&open.session, &session)
            && open.channel.status().connected()
        {
            return Ok(open.clone());
        }
        *current = None;
        let open = async {
            let channel = session.channel().await?;
            channel.confirm_select(ConfirmSelectOptions::default()).await?;
            Ok::<_, lapin::Error>(channel)
        };
        let channel = open.await.map_err(|error| Attempt::Again(error.to_string()))?;
        let open = Arc::new(PublishChannel { session, channel, exchanges: Mutex::default() });
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

impl PublishChannel {
    async fn publish(
        self: &Arc<Self>,
        config: &TransportConfig,
        destination: &Destination,
        message: Message,
    ) -> Result<Outcome, String> {
        let (exchange, routing_key) = match destination {
            Destination::Exchange(exchange, routing_key) => {
                self.ensure_exchange(config, exchange).await.map_err(|error| error.to_string())?;
                (exchange.clone(), routing_key.clone())
            }
            Destination::Fanout(topic) => {
                let exchange = format!("{topic}_fanout");
                // Publishing to a missing exchange would close the channel, and with it everybody's confirms.
                match topology::exchange_exists(&self.session, &exchange).await {
                    Ok(true) => (exchange, String::new()),
                    Ok(false) => return Ok(Outcome::Unroutable),
                    Err(error) => return Err(error.to_string()),
                }
            }
            Destination::Queue(queue) => (String::new(), queue.clone()),
        };
        let mandatory = !matches!(destination, Destination::Fanout(_));
        let options = BasicPublishOptions { mandatory, ..BasicPublishOptions::default() };
        let properties = properties(&message);
        let open = self.clone();
        // In a task, because the confirm must be awaited even when nobody wants to know any more: lapin keeps the ones
        // that are dropped.
        let confirm = tokio::spawn(async move {
            let (exchange, routing_key) = (exchange.as_str().into(), routing_key.as_str().into());
            open.channel.basic_publish(exchange, routing_key, options, &message.body, properties).await?.await
        });
        match confirm.await.map_err(|error| error.to_string())?.map_err(|error| error.to_string())? {
            Confirmation::Ack(None) | Confirmation::NotRequested => Ok(Outcome::Taken),
            Confirmation::Ack(Some(_returned)) => Ok(Outcome::Unroutable),
            Confirmation::Nack(_) => Err("the broker could not store the message".to_owned()),
        }
    }

    async fn ensure_exchange(&self, config: &TransportConfig, name: &str) -> lapin::Result<()> {
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
