//! What happens to requests while the broker goes away and comes back. Each test has a broker of its own to stop.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use integration_tests::patience::{PATIENCE, until};
use integration_tests::rabbitmq::Broker;
use integration_tests::rpc::{call, config, serve, target};
use nova_docker_agent::messaging::{Context, Rpc, Transport, TransportConfig};
use serde_json::{Value, json};
use tokio::sync::{Notify, mpsc};
use tokio::time::timeout;

/// Settings that bear a long absence of the broker and find it soon afterwards.
fn patient(url: &str) -> TransportConfig {
    let mut config = config(url);
    config.retry_interval_max = Duration::from_secs(1);
    config.publish_timeout = PATIENCE * 4;
    config
}

async fn calls_handlers_and_casts_survive_a_restart_of_the_broker() {
    let broker = Broker::start().await;
    let config = patient(&broker.url());
    let server = Transport::connect(config.clone()).await.unwrap();
    let client = Transport::connect(config).await.unwrap();
    let (started, go, runs) = (Arc::new(Notify::new()), Arc::new(Notify::new()), Arc::new(AtomicUsize::new(0)));
    let (sender, mut others_received) = mpsc::unbounded_channel();
    let handler = {
        let (started, go, runs) = (started.clone(), go.clone(), runs.clone());
        move |request: nova_docker_agent::messaging::Request| {
            let (started, go, runs, sender) = (started.clone(), go.clone(), runs.clone(), sender.clone());
            async move {
                match request.method.as_str() {
                    "slow" => {
                        runs.fetch_add(1, Ordering::SeqCst);
                        started.notify_one();
                        go.notified().await;
                    }
                    method => sender.send(method.to_owned()).unwrap(),
                }
                Ok(request.method.into())
            }
        }
    };
    let _server = serve(&server, "compute", handler).await;
    let waiting = tokio::spawn({
        let client = client.clone();
        async move { client.call(&target("compute"), &Context::admin(), "slow", json!({}), PATIENCE * 4).await }
    });
    timeout(PATIENCE, started.notified()).await.unwrap();

    broker.stop_app().await;
    until("both sides notice", async || !client.connected() && !server.connected()).await;
    let sent = tokio::spawn({
        let client = client.clone();
        async move { client.cast(&target("compute"), &Context::admin(), "sent_while_away", json!({})).await }
    });
    // The handler ends while there is no broker to reply through.
    go.notify_one();
    broker.start_app().await;

    let result = timeout(PATIENCE * 2, waiting).await.expect("the reply comes").unwrap();
    assert_eq!(result.unwrap(), json!("slow"));
    assert_eq!(runs.load(Ordering::SeqCst), 1);
    timeout(PATIENCE, sent).await.unwrap().unwrap().unwrap();
    until("both sides are back", async || client.connected() && server.connected()).await;
    assert_eq!(call(&client, "compute", "after", json!({})).await.unwrap(), json!("after"));
    let mut others = Vec::new();
    while others.len() < 2 {
        others.push(timeout(PATIENCE, others_received.recv()).await.expect("cast and call arrive").unwrap());
    }
    others.sort();
    assert_eq!(others, ["after", "sent_while_away"]);
}

async fn a_durable_queue_loses_nothing_that_was_sent_while_the_broker_was_away() {
    let broker = Broker::start().await;
    let mut config = patient(&broker.url());
    config.durable = true;
    let server = Transport::connect(config.clone()).await.unwrap();
    let client = Transport::connect(config).await.unwrap();
    let (sender, mut received) = mpsc::unbounded_channel();
    let _server = serve(&server, "compute", move |request| {
        sender.send(request.method).unwrap();
        async { Ok(Value::Null) }
    })
    .await;
    call(&client, "compute", "before", json!({})).await.unwrap();
    broker.stop_app().await;
    until("the client notices", async || !client.connected()).await;
    let casts: Vec<_> = (0..5)
        .map(|number| {
            let client = client.clone();
            let method = format!("cast-{number}");
            tokio::spawn(async move { client.cast(&target("compute"), &Context::admin(), &method, json!({})).await })
        })
        .collect();
    broker.start_app().await;
    for cast in casts {
        timeout(PATIENCE, cast).await.expect("the cast leaves").unwrap().unwrap();
    }
    let mut methods = Vec::new();
    while methods.len() < 6 {
        methods.push(timeout(PATIENCE, received.recv()).await.expect("every cast arrives").unwrap());
    }
    methods.sort();
    assert_eq!(methods, ["before", "cast-0", "cast-1", "cast-2", "cast-3", "cast-4"]);
}

async fn connections_that_are_cut_come_back_and_a_full_broker_still_delivers() {
    let broker = Broker::start().await;
    // The first host of the URL is a port where nobody listens.
    let mut config = patient(&format!("rabbit://guest:guest@127.0.0.1:1,guest:guest@127.0.0.1:{}/", broker.port()));
    config.retry_interval = Duration::from_millis(200);
    let server = Transport::connect(config.clone()).await.unwrap();
    let client = Transport::connect(config).await.unwrap();
    let (sender, mut received) = mpsc::unbounded_channel();
    let _server = serve(&server, "compute", move |request| {
        sender.send(request.method).unwrap();
        async { Ok(Value::Null) }
    })
    .await;
    call(&client, "compute", "before", json!({})).await.unwrap();
    broker.ctl(&["close_all_connections", "a test"]).await;
    until("the connections come back", async || client.connected() && server.connected()).await;
    call(&client, "compute", "after", json!({})).await.unwrap();

    // The broker takes nothing from publishers now; what is in its queues must still come out, and be acknowledged.
    broker.ctl(&["set_vm_memory_high_watermark", "absolute", "1"]).await;
    let blocked = tokio::spawn({
        let client = client.clone();
        async move { client.cast(&target("compute"), &Context::admin(), "while_full", json!({})).await }
    });
    let states = async || broker.ctl(&["list_connections", "state"]).await;
    until("the broker takes no more", async || states().await.lines().any(|state| state.trim() == "blocked")).await;
    assert!(!blocked.is_finished(), "the cast waits for the broker");
    broker.ctl(&["set_vm_memory_high_watermark", "absolute", "512MiB"]).await;
    timeout(PATIENCE, blocked).await.expect("the cast leaves").unwrap().unwrap();
    let mut methods = Vec::new();
    while methods.last().map(String::as_str) != Some("while_full") {
        methods.push(timeout(PATIENCE, received.recv()).await.expect("the cast arrives").unwrap());
    }
    assert_eq!(methods, ["before", "after", "while_full"]);
}

tests! {
    async
    calls_handlers_and_casts_survive_a_restart_of_the_broker,
    a_durable_queue_loses_nothing_that_was_sent_while_the_broker_was_away,
    connections_that_are_cut_come_back_and_a_full_broker_still_delivers,
}
