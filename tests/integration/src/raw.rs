//! The bus without this project's messaging: what another implementation would see and send.

use futures::StreamExt;
use lapin::options::{
    BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions, QueueBindOptions,
    QueueDeclareOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, Consumer, ExchangeKind};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::patience::{PATIENCE, until};

/// A plain AMQP client.
pub struct Raw {
    _connection: Connection,
    pub channel: Channel,
}

/// A queue being consumed.
pub struct Messages(Consumer);

impl Raw {
    pub async fn connect(port: u16) -> Self {
        let url = format!("amqp://guest:guest@127.0.0.1:{port}/%2f");
        let connection = Connection::connect(&url, ConnectionProperties::default()).await.expect("the broker answers");
        let channel = connection.create_channel().await.expect("a channel");
        channel.confirm_select(ConfirmSelectOptions::default()).await.expect("confirms");
        Self { _connection: connection, channel }
    }

    /// Publishes a message in an envelope, and waits for the confirm.
    pub async fn publish(&self, exchange: &str, routing_key: &str, message: &Value) {
        let body = json!({"oslo.version": "2.0", "oslo.message": message.to_string()}).to_string();
        self.publish_bytes(exchange, routing_key, body.as_bytes()).await;
    }

    /// Publishes whatever it is given, and waits for the confirm.
    pub async fn publish_bytes(&self, exchange: &str, routing_key: &str, body: &[u8]) {
        let properties = BasicProperties::default().with_content_type("application/json".into());
        let options = BasicPublishOptions::default();
        let confirm = self.channel.basic_publish(exchange.into(), routing_key.into(), options, body, properties).await;
        confirm.expect("a published message").await.expect("a confirm");
    }

    /// A queue with a name of its own, as callers have it.
    pub async fn reply_queue(&self) -> (String, Messages) {
        let name = format!("reply_{}", uuid::Uuid::new_v4().simple());
        let messages = self.named_queue(&name).await;
        (name, messages)
    }

    /// A queue with this name.
    pub async fn named_queue(&self, name: &str) -> Messages {
        let options = QueueDeclareOptions { auto_delete: true, ..QueueDeclareOptions::default() };
        self.channel.queue_declare(name.into(), options, FieldTable::default()).await.expect("a queue");
        self.consume(name).await
    }

    /// A queue of a topic's fanout exchange.
    pub async fn fanout_queue(&self, topic: &str) -> Messages {
        let exchange = format!("{topic}_fanout");
        let options = ExchangeDeclareOptions { auto_delete: true, ..ExchangeDeclareOptions::default() };
        let declared = self.channel.exchange_declare(
            exchange.as_str().into(),
            ExchangeKind::Fanout,
            options,
            FieldTable::default(),
        );
        declared.await.expect("a fanout exchange");
        let queue = format!("{exchange}_queue");
        let options = QueueDeclareOptions { auto_delete: true, ..QueueDeclareOptions::default() };
        self.channel.queue_declare(queue.as_str().into(), options, FieldTable::default()).await.expect("a queue");
        let bound = self.channel.queue_bind(
            queue.as_str().into(),
            exchange.as_str().into(),
            topic.into(),
            QueueBindOptions::default(),
            FieldTable::default(),
        );
        bound.await.expect("a binding");
        self.consume(&queue).await
    }

    async fn consume(&self, queue: &str) -> Messages {
        let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
        let consumer = self.channel.basic_consume(queue.into(), "".into(), options, FieldTable::default()).await;
        Messages(consumer.expect("a consumer"))
    }

    /// Waits until a queue has no message that is ready for delivery.
    pub async fn until_empty(&self, queue: &str) {
        let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        until("the queue is empty", async || {
            let found = self.channel.queue_declare(queue.into(), passive, FieldTable::default()).await;
            found.expect("the queue exists").message_count() == 0
        })
        .await;
    }
}

impl Messages {
    /// The next message, out of its envelope, with its properties.
    pub async fn next(&mut self) -> (Value, BasicProperties) {
        let delivery = timeout(PATIENCE, self.0.next()).await.expect("a message in time");
        let delivery = delivery.expect("a consumer that goes on").expect("a delivery");
        let envelope: Value = serde_json::from_slice(&delivery.data).expect("JSON");
        assert_eq!(envelope["oslo.version"], "2.0");
        let message = envelope["oslo.message"].as_str().expect("text");
        (serde_json::from_str(message).expect("JSON within JSON"), delivery.properties)
    }
}
