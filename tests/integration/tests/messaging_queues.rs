//! Exchanges and queues that exist with other flags, replicated queues, and encrypted connections.

use std::path::PathBuf;
use std::time::Duration;

use integration_tests::patience::{PATIENCE, until};
use integration_tests::proxy::Proxy;
use integration_tests::rabbitmq::Broker;
use integration_tests::raw::Raw;
use integration_tests::rpc::{call, config, serve, unique};
use lapin::ExchangeKind;
use lapin::options::{ExchangeDeclareOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use nova_docker_agent::messaging::{Error, Transport, TransportConfig};
use serde_json::json;
use tokio::time::timeout;

/// Serves and calls over this configuration.
async fn round_trip(config: TransportConfig, topic: &str) {
    let transport = Transport::connect(config).await.unwrap();
    let _server = serve(&transport, topic, |request| async move { Ok(request.method.into()) }).await;
    assert_eq!(call(&transport, topic, "there_and_back", json!({})).await.unwrap(), json!("there_and_back"));
    transport.close().await;
}

async fn an_exchange_and_a_queue_with_other_flags_are_used_as_they_are() {
    let broker = Broker::shared().await;
    for durable_here in [false, true] {
        let (mut config, topic) = (config(&broker.url()), unique("compute"));
        config.durable = durable_here;
        let raw = Raw::connect(broker.port()).await;
        let options = ExchangeDeclareOptions { durable: !durable_here, ..ExchangeDeclareOptions::default() };
        let exchange = config.control_exchange.as_str().into();
        raw.channel.exchange_declare(exchange, ExchangeKind::Topic, options, FieldTable::default()).await.unwrap();
        let queue = format!("{topic}.host");
        let options = QueueDeclareOptions { durable: !durable_here, ..QueueDeclareOptions::default() };
        let mut arguments = FieldTable::default();
        arguments.insert("x-expires".into(), AMQPValue::LongInt(600_000));
        raw.channel.queue_declare(queue.as_str().into(), options, arguments).await.unwrap();
        round_trip(config, &topic).await;
    }
}

async fn replicated_queues_are_declared_and_used() {
    let broker = Broker::shared().await;
    let topic = unique("compute");
    let mut config = config(&format!("{}?rabbit_quorum_queue=true&rabbit_transient_quorum_queue=true", broker.url()));
    config.quorum_delivery_limit = 5;
    config.apply_url_options().unwrap();
    let transport = Transport::connect(config).await.unwrap();
    let served = serve(&transport, &topic, |_| async { Ok(true.into()) }).await;
    assert_eq!(call(&transport, &topic, "any", json!({})).await.unwrap(), json!(true));
    let queues = broker.ctl(&["list_queues", "name", "type", "arguments", "durable"]).await;
    let line = queues.lines().find(|line| line.starts_with(served.queue())).unwrap();
    assert!(line.contains("quorum") && line.contains("x-delivery-limit") && line.ends_with("true"), "{line}");
    assert!(queues.lines().any(|line| line.starts_with("reply_") && line.contains("quorum")), "{queues}");
}

async fn a_reply_queue_has_the_lifetime_that_peers_expect() {
    let broker = Broker::shared().await;
    let mut config = config(&broker.url());
    config.transient_ttl = Duration::from_secs(77);
    let (transport, topic) = (Transport::connect(config).await.unwrap(), unique("compute"));
    let _server = serve(&transport, &topic, |_| async { Ok(true.into()) }).await;
    assert_eq!(call(&transport, &topic, "any", json!({})).await.unwrap(), json!(true));
    // While it is there: it goes with its process.
    let queues = broker.ctl(&["list_queues", "name", "arguments"]).await;
    assert!(queues.lines().any(|line| line.starts_with("reply_") && line.contains("77000")), "{queues}");
}

async fn a_verified_and_an_unverified_encrypted_connection_work() {
    let broker = Broker::shared().await;
    for ca_file in [Some(broker.ca_file()), None] {
        let mut config = config(&broker.tls_url());
        config.tls.enabled = true;
        config.tls.ca_file = ca_file;
        round_trip(config, &unique("compute")).await;
    }
}

async fn a_broker_that_the_authorities_do_not_know_is_refused() {
    let broker = Broker::shared().await;
    // The name counts with one host, and the authorities with any number.
    for hosts in 1..=2 {
        let wire = Proxy::start(broker.tls_port()).await;
        let host = format!("guest:guest@127.0.0.1:{}", wire.port());
        let mut config = config(&format!("rabbit://{}/", vec![host; hosts].join(",")));
        config.tls.enabled = true;
        config.tls.ca_file = Some(PathBuf::from("/etc/ssl/certs/ca-certificates.crt"));
        assert!(config.tls.ca_file.as_ref().unwrap().exists(), "this test needs: apt-get install ca-certificates");
        tokio::select! {
            connected = Transport::connect(config) => panic!("{connected:?}"),
            // A second try: the first one was refused.
            () = until("it tries again", async || wire.connections() > 1) => {}
        }
    }
}

async fn an_authority_file_that_is_missing_is_named() {
    let mut config = config("rabbit://127.0.0.1/");
    config.tls.enabled = true;
    config.tls.ca_file = Some(PathBuf::from("/does/not/exist.pem"));
    let error = timeout(PATIENCE, Transport::connect(config)).await.unwrap().unwrap_err();
    assert!(matches!(&error, Error::Tls { path, .. } if path == "/does/not/exist.pem"), "{error}");
}

tests! {
    async
    an_exchange_and_a_queue_with_other_flags_are_used_as_they_are,
    replicated_queues_are_declared_and_used,
    a_reply_queue_has_the_lifetime_that_peers_expect,
    a_verified_and_an_unverified_encrypted_connection_work,
    a_broker_that_the_authorities_do_not_know_is_refused,
    an_authority_file_that_is_missing_is_named,
}
