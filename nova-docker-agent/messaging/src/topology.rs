//! Exchanges and queues, and what to do when they exist with other flags.
//!
//! The broker answers a declaration that differs from what exists with 406, and a look-up of what does not exist with
//! 404; both close the channel. So every question here is asked on a channel of its own.

use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions};
use lapin::protocol::{AMQPErrorKind, AMQPSoftError};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{ErrorKind, ExchangeKind};

use super::TransportConfig;
use super::link::Session;

/// An exchange exists.
pub(super) async fn exchange_exists(session: &Session, name: &str) -> lapin::Result<bool> {
    let passive = ExchangeDeclareOptions { passive: true, ..ExchangeDeclareOptions::default() };
    match declare_exchange(session, name, passive).await {
        Ok(()) => Ok(true),
        Err(error) if is(&error, AMQPSoftError::NOTFOUND) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Makes sure that a topic exchange exists, with the configured flags only if this is the first to need it.
pub(super) async fn ensure_exchange(session: &Session, config: &TransportConfig, name: &str) -> lapin::Result<()> {
    // Whoever only looks is told by the publish that it is missing.
    if config.observer || exchange_exists(session, name).await? {
        return Ok(());
    }
    let flags = ExchangeDeclareOptions {
        durable: config.durable || config.quorum,
        auto_delete: config.auto_delete,
        ..ExchangeDeclareOptions::default()
    };
    match declare_exchange(session, name, flags).await {
        // Somebody else made it in the meantime, with other flags.
        Err(error) if is(&error, AMQPSoftError::PRECONDITIONFAILED) => Ok(()),
        declared => declared,
    }
}

async fn declare_exchange(session: &Session, name: &str, options: ExchangeDeclareOptions) -> lapin::Result<()> {
    let channel = session.channel().await?;
    channel.exchange_declare(name.into(), ExchangeKind::Topic, options, FieldTable::default()).await
}

/// Makes sure that a queue for requests exists and gets what the exchange has for its name.
pub(super) async fn ensure_request_queue(session: &Session, config: &TransportConfig, name: &str) -> lapin::Result<()> {
    let flags = QueueDeclareOptions {
        durable: config.durable || config.quorum,
        auto_delete: config.auto_delete,
        ..QueueDeclareOptions::default()
    };
    let mut arguments = FieldTable::default();
    if config.quorum {
        quorum_arguments(config, &mut arguments);
    } else if config.ha_queues {
        arguments.insert("x-ha-policy".into(), AMQPValue::LongString("all".into()));
    }
    ensure_queue(session, name, flags, arguments).await?;
    let channel = session.channel().await?;
    let exchange: ShortString = config.control_exchange.as_str().into();
    channel.queue_bind(name.into(), exchange, name.into(), QueueBindOptions::default(), FieldTable::default()).await
}

/// Makes sure that the reply queue exists.
pub(super) async fn ensure_reply_queue(session: &Session, config: &TransportConfig, name: &str) -> lapin::Result<()> {
    // A queue of one connection cannot be replicated.
    let replicated = config.transient_quorum && !config.observer;
    let flags =
        QueueDeclareOptions { durable: replicated, exclusive: config.observer, ..QueueDeclareOptions::default() };
    let mut arguments = FieldTable::default();
    let ttl = i32::try_from(config.transient_ttl.as_millis()).unwrap_or(i32::MAX);
    if ttl > 0 {
        arguments.insert("x-expires".into(), AMQPValue::LongInt(ttl));
    }
    if replicated {
        quorum_arguments(config, &mut arguments);
    }
    ensure_queue(session, name, flags, arguments).await
}

async fn ensure_queue(
    session: &Session,
    name: &str,
    flags: QueueDeclareOptions,
    arguments: FieldTable,
) -> lapin::Result<()> {
    match declare_queue(session, name, flags, arguments.clone()).await {
        Err(error) if is(&error, AMQPSoftError::PRECONDITIONFAILED) => {
            tracing::warn!(queue = name, %error, "the queue exists with other flags and is used as it is");
            let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
            declare_queue(session, name, passive, FieldTable::default()).await
        }
        // It exists on a node of the broker that is down, and what is in it is out of reach. Deleted, it is made again on a
        // node that is there.
        Err(error) if is(&error, AMQPSoftError::NOTFOUND) => {
            tracing::warn!(queue = name, %error, "the queue is on a node that is down; deleting it to declare it again");
            if let Err(error) = delete_queue(session, name).await {
                tracing::warn!(queue = name, %error, "cannot delete the queue");
            }
            declare_queue(session, name, flags, arguments).await
        }
        declared => declared,
    }
}

/// Deletes a queue with all that is in it; one that is not there is deleted.
pub(super) async fn delete_queue(session: &Session, name: &str) -> lapin::Result<()> {
    session.channel().await?.queue_delete(name.into(), QueueDeleteOptions::default()).await.map(drop)
}

async fn declare_queue(
    session: &Session,
    name: &str,
    options: QueueDeclareOptions,
    arguments: FieldTable,
) -> lapin::Result<()> {
    session.channel().await?.queue_declare(name.into(), options, arguments).await.map(drop)
}

fn quorum_arguments(config: &TransportConfig, arguments: &mut FieldTable) {
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    let limits = [
        ("x-delivery-limit", config.quorum_delivery_limit),
        ("x-max-in-memory-length", config.quorum_max_memory_length),
        ("x-max-in-memory-bytes", config.quorum_max_memory_bytes),
    ];
    for (name, limit) in limits.into_iter().filter(|(_, limit)| *limit > 0) {
        arguments.insert(name.into(), AMQPValue::LongLongInt(limit.into()));
    }
}

/// The broker closed the channel with this code.
pub(super) fn is(error: &lapin::Error, code: AMQPSoftError) -> bool {
    matches!(error.kind(), ErrorKind::ProtocolError(error) if *error.kind() == AMQPErrorKind::Soft(code))
}
