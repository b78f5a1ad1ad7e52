//! Brokers that fall silent or take nothing, senders with habits of their own, and what is left behind.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use integration_tests::patience::{PATIENCE, until};
use integration_tests::rabbitmq::Broker;
use integration_tests::raw::Raw;
use integration_tests::rpc::{call, config, serve, target, unique};
use lapin::BasicProperties;
use lapin::options::{BasicPublishOptions, ExchangeDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use nova_docker_agent::messaging::{CallError, Context, Rpc, Target, Transport, TransportConfig};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::timeout;

/// Both sides of a call, over this configuration.
async fn round_trip(config: TransportConfig) {
    let (transport, topic) = (Transport::connect(config).await.unwrap(), unique("compute"));
    let _server = serve(&transport, &topic, |request| async move { Ok(request.method.into()) }).await;
    assert_eq!(call(&transport, &topic, "there_and_back", json!({})).await.unwrap(), json!("there_and_back"));
    transport.close().await;
}

async fn what_a_caller_gave_up_while_the_broker_took_nothing_is_never_executed() {
    let broker = Broker::start().await;
    let config = config(&broker.url());
    let server = Transport::connect(config.clone()).await.unwrap();
    let client = Transport::connect(config).await.unwrap();
    let (sender, mut received) = mpsc::unbounded_channel();
    let _server = serve(&server, "compute", move |request| {
        sender.send(request.method).unwrap();
        async { Ok(Value::Null) }
    })
    .await;
    call(&client, "compute", "before", json!({})).await.unwrap();
    broker.ctl(&["set_vm_memory_high_watermark", "absolute", "1"]).await;
    // The broker takes the first message of a connection before it says that it takes none; of the others, none may leave.
    for method in ["given_up"; 3] {
        let patience = Duration::from_secs(3);
        let outcome = client.call(&target("compute"), &Context::admin(), method, json!({}), patience).await;
        assert!(matches!(outcome, Err(CallError::Timeout { .. } | CallError::Transport(_)) | Ok(_)), "{outcome:?}");
    }
    broker.ctl(&["set_vm_memory_high_watermark", "absolute", "512MiB"]).await;
    call(&client, "compute", "after", json!({})).await.unwrap();
    let mut methods = Vec::new();
    while let Ok(method) = received.try_recv() {
        methods.push(method);
    }
    // The first was in the broker's socket before anybody was told that nothing is taken.
    let given_up = methods.iter().filter(|&method| method == "given_up").count();
    assert!(given_up <= 1, "{methods:?}");
    assert_eq!((methods.first(), methods.last()), (Some(&"before".to_owned()), Some(&"after".to_owned())));
}

async fn a_fanout_that_is_refused_disturbs_no_other_message() {
    let broker = Broker::shared().await;
    let mut config = config(&broker.url());
    config.publish_timeout = Duration::from_secs(3);
    let client = Transport::connect(config.clone()).await.unwrap();
    let (raw, topic) = (Raw::connect(broker.port()).await, unique("compute"));
    // An exchange that is there, and that closes the channel of everybody who publishes to it.
    let closed = format!("{topic}_fanout");
    let options = ExchangeDeclareOptions { internal: true, auto_delete: true, ..ExchangeDeclareOptions::default() };
    let declared = raw.channel.exchange_declare(
        closed.as_str().into(),
        lapin::ExchangeKind::Fanout,
        options,
        FieldTable::default(),
    );
    declared.await.unwrap();
    let served = Transport::connect(config).await.unwrap();
    let count = Arc::new(AtomicUsize::new(0));
    let counted = count.clone();
    let _server = serve(&served, &topic, move |_| {
        counted.fetch_add(1, Ordering::SeqCst);
        async { Ok(Value::Null) }
    })
    .await;
    let fanouts: Vec<_> = (0..5)
        .map(|_| {
            let (client, target) = (client.clone(), Target::topic(&topic, "6.0").fanout());
            tokio::spawn(async move { client.cast(&target, &Context::admin(), "refused", json!({})).await })
        })
        .collect();
    for _ in 0..100 {
        client.cast(&target(&topic), &Context::admin(), "taken", json!({})).await.unwrap();
    }
    for fanout in fanouts {
        fanout.await.unwrap().unwrap_err();
    }
    until("every cast is executed", async || count.load(Ordering::SeqCst) == 100).await;
}

async fn a_compressed_request_is_executed() {
    let broker = Broker::shared().await;
    let topic = unique("compute");
    let server = Transport::connect(config(&broker.url())).await.unwrap();
    let (sender, mut received) = mpsc::unbounded_channel();
    let served = serve(&server, &topic, move |request| {
        sender.send(request.method).unwrap();
        async { Ok(Value::Null) }
    })
    .await;
    let raw = Raw::connect(broker.port()).await;
    // {"method": "go", "version": "6.0"}, as kombu's method gzip compresses it.
    let mut headers = FieldTable::default();
    headers.insert("compression".into(), AMQPValue::LongString("application/x-gzip".into()));
    let properties = BasicProperties::default().with_content_type("application/json".into()).with_headers(headers);
    let options = BasicPublishOptions::default();
    let sent = raw.channel.basic_publish("".into(), served.queue().into(), options, ZLIB, properties).await;
    sent.unwrap().await.unwrap();
    assert_eq!(timeout(PATIENCE, received.recv()).await.unwrap().as_deref(), Some("go"));
}

const ZLIB: &[u8] = &[
    0x78, 0x9c, 0xab, 0x56, 0xca, 0x2f, 0xce, 0xc9, 0xd7, 0x2b, 0x4b, 0x2d, 0x2a, 0xce, 0xcc, 0xcf, 0x53, 0xb2, 0x52,
    0x50, 0x32, 0xd2, 0x33, 0x50, 0xd2, 0x51, 0x80, 0x08, 0xe7, 0xa6, 0x16, 0x17, 0x27, 0xa6, 0xa7, 0x82, 0x84, 0xab,
    0x63, 0x94, 0x72, 0x53, 0x4b, 0x32, 0xf2, 0x53, 0x62, 0x80, 0xbc, 0x18, 0xa5, 0xf4, 0xfc, 0x18, 0xa0, 0xaa, 0x18,
    0x25, 0xa8, 0x46, 0x88, 0xa0, 0x99, 0x9e, 0x01, 0x44, 0x34, 0xb1, 0x28, 0xbd, 0x18, 0x24, 0x54, 0x5d, 0x5b, 0xab,
    0x54, 0x0b, 0x00, 0x0f, 0xe9, 0x1e, 0x7a,
];

async fn a_ping_is_answered_where_the_operator_wants_it() {
    let broker = Broker::shared().await;
    for wanted in [true, false] {
        let (mut config, topic) = (config(&broker.url()), unique("compute"));
        config.ping = wanted;
        let transport = Transport::connect(config).await.unwrap();
        let _server = serve(&transport, &topic, |_| async { Ok(Value::Null) }).await;
        let target = Target::topic(&topic, "1.0").server("host");
        let method = "oslo_rpc_server_ping";
        let answer = transport.call(&target, &Context::admin(), method, json!({}), PATIENCE).await;
        match wanted {
            true => assert_eq!(answer.unwrap(), json!("pong")),
            false => assert_eq!(answer.unwrap_err().class(), Some("UnsupportedVersion")),
        }
    }
}

async fn a_reply_queue_ends_with_its_process_or_keeps_its_name() {
    let broker = Broker::shared().await;
    let raw = Raw::connect(broker.port()).await;
    for kept in [None, Some(unique("reply_host:agent"))] {
        let (mut config, topic) = (config(&broker.url()), unique("compute"));
        config.reply_queue = kept.clone();
        let (exchange, queue) = (config.control_exchange.clone(), format!("{topic}.host"));
        let mut requests = raw.named_queue(&queue).await;
        let transport = Transport::connect(config.clone()).await.unwrap();
        let caller = transport.clone();
        let waiting = tokio::spawn(async move { call(&caller, &topic, "never_answered", json!({})).await });
        until("the exchange is there", async || {
            // Its absence closes the channel.
            let raw = Raw::connect(broker.port()).await;
            let (queue, exchange) = (queue.as_str(), exchange.as_str());
            let bound = raw.channel.queue_bind(
                queue.into(),
                exchange.into(),
                queue.into(),
                Default::default(),
                FieldTable::default(),
            );
            bound.await.is_ok()
        })
        .await;
        let reply_queue = requests.next().await.0["_reply_q"].as_str().unwrap().to_owned();
        transport.close().await;
        waiting.await.unwrap().unwrap_err();
        let queues = broker.ctl(&["list_queues", "name"]).await;
        assert_eq!(queues.contains(&reply_queue), kept.is_some());
        if let Some(name) = kept {
            assert_eq!(reply_queue, name);
            // The next process finds it.
            round_trip(config).await;
            raw.channel.queue_delete(name.as_str().into(), Default::default()).await.unwrap();
        }
    }
}

async fn the_name_in_a_certificate_counts_when_the_url_has_one_host() {
    let broker = Broker::shared().await;
    // The certificate is for localhost and 127.0.0.1, and the broker does not listen at 127.0.0.2: a relay does.
    let port: u16 = broker.tls_url().trim_end_matches('/').rsplit(':').next().unwrap().parse().unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.2:0").await.unwrap();
    let relay = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut server = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                tokio::io::copy_bidirectional(&mut client, &mut server).await.unwrap_or_default();
            });
        }
    });
    let one = format!("rabbit://guest:guest@127.0.0.2:{relay}/");
    let two = format!("rabbit://guest:guest@127.0.0.2:{relay},guest:guest@127.0.0.2:{relay}/");
    for (url, works) in [(one, false), (two, true)] {
        let mut config = config(&url);
        config.tls.enabled = true;
        config.tls.ca_file = Some(broker.ca_file());
        if works {
            round_trip(config).await;
        } else {
            let connecting = timeout(Duration::from_secs(2), Transport::connect(config)).await;
            assert!(connecting.is_err(), "it goes on trying: {connecting:?}");
        }
    }
}

async fn an_authority_that_cannot_be_read_is_left_out() {
    let broker = Broker::shared().await;
    let good = std::fs::read_to_string(broker.ca_file()).unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    std::fs::write(file.path(), format!("{broken}{good}")).unwrap();
    let mut config = config(&broker.tls_url());
    config.tls.enabled = true;
    config.tls.ca_file = Some(file.path().to_owned());
    round_trip(config).await;
}

tests! {
    async
    what_a_caller_gave_up_while_the_broker_took_nothing_is_never_executed,
    a_fanout_that_is_refused_disturbs_no_other_message,
    a_compressed_request_is_executed,
    a_ping_is_answered_where_the_operator_wants_it,
    a_reply_queue_ends_with_its_process_or_keeps_its_name,
    the_name_in_a_certificate_counts_when_the_url_has_one_host,
    an_authority_that_cannot_be_read_is_left_out,
}
