//! More requests than can be executed at a time.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use integration_tests::patience::{PATIENCE, until};
use integration_tests::rabbitmq::Broker;
use integration_tests::raw::Raw;
use integration_tests::rpc::{call, config, target, unique};
use nova_docker_agent::messaging::{
    Admission, Context, Endpoint, Failure, Handler, Pace, Request, Rpc, Server, Transport, TransportConfig,
};
use serde_json::{Value, json};
use tokio::sync::{Barrier, mpsc, watch};
use tokio::time::timeout;

/// A handler made of a function. The arguments of a request say how it is admitted.
struct Admitted<F>(F);

impl<F, R> Handler for Admitted<F>
where
    F: Fn(Request) -> R + Send + Sync + 'static,
    R: Future<Output = Result<Value, Failure>> + Send + 'static,
{
    fn admission(&self, request: &Request) -> Admission {
        Admission {
            order: request.args.get("order").and_then(Value::as_str).map(str::to_owned),
            urgent: false,
            pace: if request.args.contains_key("long") { Pace::Long } else { Pace::Quick },
        }
    }

    fn handle(&self, request: Request) -> BoxFuture<'static, Result<Value, Failure>> {
        (self.0)(request).boxed()
    }
}

async fn serve<F, R>(transport: &Transport, topic: &str, answer: F) -> Server
where
    F: Fn(Request) -> R + Send + Sync + 'static,
    R: Future<Output = Result<Value, Failure>> + Send + 'static,
{
    let endpoints = vec![Endpoint::new(None, "6.5")];
    transport.serve(topic, "host", endpoints, Arc::new(Admitted(answer))).await.expect("the queue can be served")
}

async fn bounded(broker: &Broker, executor: usize) -> (TransportConfig, Transport, Transport) {
    let mut config = config(&broker.url());
    config.executor = executor;
    let server = Transport::connect(config.clone()).await.unwrap();
    let client = Transport::connect(config.clone()).await.unwrap();
    (config, server, client)
}

async fn cast(client: &Transport, topic: &str, method: &str, args: Value) {
    client.cast(&target(topic), &Context::admin(), method, args).await.unwrap();
}

/// A queue with requests in it and nobody who serves it.
async fn backlog(server: &Transport, client: &Transport, topic: &str, count: usize) {
    serve(server, topic, |_| async { Ok(Value::Null) }).await.stop().await;
    for number in 0..count {
        cast(client, topic, "waits", json!({"number": number})).await;
    }
}

async fn what_waited_in_the_queue_does_not_run_all_at_once() {
    let broker = Broker::shared().await;
    let topic = unique("compute");
    let (_, server, client) = bounded(&broker, 8).await;
    backlog(&server, &client, &topic, 80).await;
    let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (together, (sender, mut ended)) = (Arc::new(Barrier::new(8)), mpsc::unbounded_channel());
    let seen = most.clone();
    let _server = serve(&server, &topic, move |_| {
        let (running, most, together, sender) = (running.clone(), seen.clone(), together.clone(), sender.clone());
        async move {
            most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            // Eight of them, or this never ends.
            together.wait().await;
            // Time for a ninth to begin, if there could be one.
            tokio::time::sleep(Duration::from_millis(50)).await;
            running.fetch_sub(1, Ordering::SeqCst);
            sender.send(()).unwrap();
            Ok(Value::Null)
        }
    })
    .await;
    for _ in 0..80 {
        timeout(PATIENCE, ended.recv()).await.expect("every request is executed").unwrap();
    }
    assert_eq!(most.load(Ordering::SeqCst), 8);
}

async fn requests_that_wait_for_their_turn_are_the_brokers_until_then() {
    let broker = Broker::shared().await;
    let topic = unique("compute");
    let (config, server, client) = bounded(&broker, 2).await;
    let (sender, mut begun) = mpsc::unbounded_channel();
    let _never_ends = serve(&server, &topic, move |request| {
        sender.send(request.args["number"].as_u64().unwrap()).unwrap();
        std::future::pending()
    })
    .await;
    for number in 0..6 {
        cast(&client, &topic, "waits", json!({"number": number})).await;
    }
    for expected in 0..2 {
        assert_eq!(timeout(PATIENCE, begun.recv()).await.unwrap(), Some(expected));
    }
    // As when the process is killed: nothing is given back in order.
    drop(_never_ends);
    server.close().await;

    let next = Transport::connect(config).await.unwrap();
    let (sender, mut begun) = mpsc::unbounded_channel();
    let _server = serve(&next, &topic, move |request| {
        sender.send(request.args["number"].as_u64().unwrap()).unwrap();
        async { Ok(Value::Null) }
    })
    .await;
    let mut rest = Vec::new();
    while rest.len() < 4 {
        rest.push(timeout(PATIENCE, begun.recv()).await.expect("nothing is lost").unwrap());
    }
    rest.sort_unstable();
    assert_eq!(rest, [2, 3, 4, 5]);
}

async fn slow_work_and_one_busy_instance_hold_up_nobody_else() {
    let broker = Broker::shared().await;
    let topic = unique("compute");
    let (_, server, client) = bounded(&broker, 4).await;
    let gate = watch::Sender::new(false);
    let (opens, (sender, mut begun)) = (gate.clone(), mpsc::unbounded_channel());
    let served = serve(&server, &topic, move |request| {
        let (mut gate, sender) = (gate.subscribe(), sender.clone());
        async move {
            if request.method == "held" {
                sender.send(request.args["number"].as_u64().unwrap()).unwrap();
                gate.wait_for(|&open| open).await.unwrap();
            }
            Ok(request.method.into())
        }
    })
    .await;
    for number in 0..5 {
        cast(&client, &topic, "held", json!({"number": number, "long": true})).await;
    }
    for number in 5..10 {
        cast(&client, &topic, "held", json!({"number": number, "order": "one"})).await;
    }
    let answered = call(&client, &topic, "stop", json!({"order": "other"})).await.unwrap();
    assert_eq!(answered, json!("stop"), "while two builds run, three wait, and one instance has five requests");
    let mut numbers = Vec::new();
    while numbers.len() < 3 {
        numbers.push(timeout(PATIENCE, begun.recv()).await.unwrap().unwrap());
    }
    assert_eq!(numbers, [0, 1, 5]);

    opens.send_replace(true);
    while numbers.len() < 10 {
        numbers.push(timeout(PATIENCE, begun.recv()).await.unwrap().unwrap());
    }
    numbers.retain(|&number| number >= 5);
    assert_eq!(numbers, [5, 6, 7, 8, 9], "an instance's requests keep their order");
    served.stop().await;
    timeout(PATIENCE, served.drained()).await.expect("every handler ends");
}

async fn a_handler_that_breaks_down_gives_its_slot_back() {
    let broker = Broker::shared().await;
    let topic = unique("compute");
    let (_, server, client) = bounded(&broker, 2).await;
    let _server = serve(&server, &topic, |request| async move {
        match request.method.as_str() {
            "break_down" => panic!("as this test wants"),
            _ => Ok("alive".into()),
        }
    })
    .await;
    for _ in 0..5 {
        cast(&client, &topic, "break_down", json!({"order": "one", "long": true})).await;
    }
    let failure = call(&client, &topic, "break_down", json!({"order": "one"})).await.unwrap_err();
    assert_eq!(failure.class(), Some("RuntimeError"));
    assert_eq!(call(&client, &topic, "any", json!({"order": "one", "long": true})).await.unwrap(), json!("alive"));
}

async fn a_request_whose_caller_gave_up_while_it_waited_is_not_executed() {
    let broker = Broker::shared().await;
    let topic = unique("compute");
    let (_, server, client) = bounded(&broker, 1).await;
    let gate = watch::Sender::new(false);
    let (opens, (sender, mut begun)) = (gate.clone(), mpsc::unbounded_channel());
    let served = serve(&server, &topic, move |request| {
        let (mut gate, sender) = (gate.subscribe(), sender.clone());
        async move {
            sender.send(request.method.clone()).unwrap();
            gate.wait_for(|&open| open).await.unwrap();
            Ok(Value::Null)
        }
    })
    .await;
    cast(&client, &topic, "first", json!({})).await;
    let patience = Duration::from_secs(1);
    let waited = client.call(&target(&topic), &Context::admin(), "given_up", json!({}), patience).await;
    waited.unwrap_err();
    // What is malformed waits for no turn. Its answer says that the request before it has come to the server, which counts
    // its time from there.
    call(&client, &topic, "malformed", json!([])).await.unwrap_err();
    tokio::time::sleep(patience).await;
    opens.send_replace(true);
    call(&client, &topic, "last", json!({})).await.unwrap();
    served.stop().await;
    timeout(PATIENCE, served.drained()).await.expect("every handler ends");
    let mut methods = Vec::new();
    while let Ok(method) = begun.try_recv() {
        methods.push(method);
    }
    assert_eq!(methods, ["first", "last"]);
    let raw = Raw::connect(broker.port()).await;
    until("it is gone from the queue, too", async || {
        raw.until_empty(served.queue()).await;
        true
    })
    .await;
}

tests! {
    async
    what_waited_in_the_queue_does_not_run_all_at_once,
    requests_that_wait_for_their_turn_are_the_brokers_until_then,
    slow_work_and_one_busy_instance_hold_up_nobody_else,
    a_handler_that_breaks_down_gives_its_slot_back,
    a_request_whose_caller_gave_up_while_it_waited_is_not_executed,
}
