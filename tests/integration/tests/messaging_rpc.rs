//! Requests and replies over a real broker.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use integration_tests::patience::PATIENCE;
use integration_tests::rabbitmq::Broker;
use integration_tests::raw::Raw;
use integration_tests::rpc::{call, config, serve, target, unique};
use nova_docker_agent::messaging::{CallError, Context, Failure, Rpc, Target, Transport};
use serde_json::{Value, json};
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, timeout};

/// Two processes' places on the bus: a server's and a client's.
async fn two(broker: &Broker) -> (Transport, Transport) {
    let config = config(&broker.url());
    let server = Transport::connect(config.clone()).await.unwrap();
    (server, Transport::connect(config).await.unwrap())
}

async fn a_call_gets_its_result_and_the_handler_its_context() {
    let broker = Broker::shared().await;
    let topic = unique("compute");
    let (server, client) = two(&broker).await;
    let _server = serve(&server, &topic, |request| async move {
        let context = &request.context;
        Ok(json!([request.method, request.args, context.request_id(), context.get("odd"), request.is_call]))
    })
    .await;
    let mut context = Context::admin();
    context.set("odd", json!({"kept": true}));
    let result = client.call(&target(&topic), &context, "echo", json!({"a": [1, null]}), PATIENCE).await.unwrap();
    assert_eq!(result, json!(["echo", {"a": [1, null]}, context.request_id(), {"kept": true}, true]));
}

async fn a_hundred_calls_at_once_each_get_their_own_result() {
    let broker = Broker::shared().await;
    let topic = unique("compute");
    let (server, client) = two(&broker).await;
    let _server = serve(&server, &topic, |request| async move { Ok(request.args["number"].clone()) }).await;
    let calls = (0..100).map(|number| {
        let (client, topic) = (client.clone(), topic.clone());
        async move { (number, call(&client, &topic, "echo", json!({"number": number})).await.unwrap()) }
    });
    for (number, result) in futures::future::join_all(calls).await {
        assert_eq!(result, json!(number));
    }
}

async fn a_failure_arrives_with_its_class_and_arguments() {
    let broker = Broker::shared().await;
    let topic = unique("compute");
    let (server, client) = two(&broker).await;
    let failure = Failure::new("nova.exception", "InstanceNotFound", "no x").with("instance_id", "x");
    let raised = failure.clone();
    let _server = serve(&server, &topic, move |_| {
        let raised = raised.clone();
        async move { Err(raised) }
    })
    .await;
    match call(&client, &topic, "any", json!({})).await {
        Err(CallError::Remote(received)) => assert_eq!(received, failure),
        other => panic!("{other:?}"),
    }
}

async fn requests_for_no_endpoint_and_broken_handlers_are_answered() {
    let broker = Broker::shared().await;
    let topic = unique("compute");
    let (server, client) = two(&broker).await;
    let _server = serve(&server, &topic, |request| async move {
        match request.method.as_str() {
            "ping" if request.namespace.as_deref() == Some("baseapi") => Ok("pong".into()),
            "break_down" => panic!("as this test wants"),
            other => Err(Failure::no_such_method(other)),
        }
    })
    .await;
    let outcome = async |target: Target, method: &str| {
        let outcome = client.call(&target, &Context::admin(), method, json!({}), PATIENCE).await;
        outcome.map_err(|error| error.class().map(str::to_owned).unwrap_or_else(|| error.to_string()))
    };
    assert_eq!(outcome(target(&topic), "unknown").await, Err("NoSuchMethod".into()));
    assert_eq!(outcome(target(&topic), "_private").await, Err("NoSuchMethod".into()));
    assert_eq!(outcome(target(&topic), "break_down").await, Err("RuntimeError".into()));
    let newer = Target { version: "6.6".into(), ..target(&topic) };
    assert_eq!(outcome(newer, "unknown").await, Err("UnsupportedVersion".into()));
    let base = Target { version: "1.0".into(), ..target(&topic) }.namespace("baseapi");
    assert_eq!(outcome(base, "ping").await, Ok("pong".into()));
}

async fn a_cast_is_executed_and_a_fanout_without_listeners_succeeds() {
    let broker = Broker::shared().await;
    let topic = unique("compute");
    let (server, client) = two(&broker).await;
    let (sender, mut received) = mpsc::unbounded_channel();
    let _server = serve(&server, &topic, move |request| {
        sender.send((request.method, request.is_call)).unwrap();
        async { Ok(Value::Null) }
    })
    .await;
    let admin = Context::admin();
    client.cast(&target(&topic), &admin, "go", json!({})).await.unwrap();
    assert_eq!(timeout(PATIENCE, received.recv()).await.unwrap(), Some(("go".into(), false)));
    let nobody = Target::topic("nobody-listens", "4.2").fanout();
    client.cast(&nobody, &admin, "go", json!({})).await.unwrap();
    client.cast(&target(&topic), &admin, "again", json!({})).await.unwrap();
    assert_eq!(timeout(PATIENCE, received.recv()).await.unwrap(), Some(("again".into(), false)));
}

async fn a_fanout_reaches_a_queue_of_the_fanout_exchange() {
    let broker = Broker::shared().await;
    let (_server, client) = two(&broker).await;
    let raw = Raw::connect(broker.port()).await;
    let topic = unique("scheduler");
    let mut queue = raw.fanout_queue(&topic).await;
    let fanout = Target::topic(&topic, "4.2").fanout();
    client.cast(&fanout, &Context::admin(), "sync", json!({"host_name": "h"})).await.unwrap();
    let (message, properties) = queue.next().await;
    assert_eq!(message["method"], "sync");
    assert_eq!(message["args"], json!({"host_name": "h"}));
    assert!(properties.expiration().is_none());
}

async fn a_call_that_nobody_takes_times_out_and_is_not_executed_later() {
    let broker = Broker::shared().await;
    let topic = unique("compute");
    let (server, client) = two(&broker).await;
    let calls = Arc::new(AtomicUsize::new(0));
    let count = {
        let calls = calls.clone();
        move |_| {
            calls.fetch_add(1, Ordering::SeqCst);
            async { Ok(Value::Null) }
        }
    };
    let served = serve(&server, &topic, count.clone()).await;
    // Everything that a call needs is there from now on.
    call(&client, &topic, "first", json!({})).await.unwrap();
    // The queue exists, and nobody consumes it.
    served.stop().await;
    let patience = Duration::from_secs(5);
    let started = Instant::now();
    let outcome = client.call(&target(&topic), &Context::admin(), "late", json!({}), patience).await;
    assert!(matches!(outcome, Err(CallError::Timeout { .. })), "{outcome:?}");
    assert!(started.elapsed() >= patience);
    // The broker drops the request: its time runs from when it came into the queue.
    Raw::connect(broker.port()).await.until_empty(served.queue()).await;
    let _server = serve(&server, &topic, count).await;
    call(&client, &topic, "in_time", json!({})).await.unwrap();
    assert_eq!(calls.load(Ordering::SeqCst), 2, "the first and the last");
}

async fn a_request_that_is_delivered_twice_is_executed_once() {
    let broker = Broker::shared().await;
    let topic = unique("compute");
    let (server, client) = two(&broker).await;
    let calls = Arc::new(AtomicUsize::new(0));
    let count = calls.clone();
    let served = serve(&server, &topic, move |_| {
        count.fetch_add(1, Ordering::SeqCst);
        async { Ok(Value::Null) }
    })
    .await;
    let raw = Raw::connect(broker.port()).await;
    let request = json!({"method": "go", "args": {}, "version": "6.0", "_unique_id": "0123456789abcdef"});
    for _ in 0..3 {
        raw.publish("", served.queue(), &request).await;
    }
    call(&client, &topic, "after", json!({})).await.unwrap();
    served.stop().await;
    timeout(PATIENCE, served.drained()).await.expect("every handler ends");
    assert_eq!(calls.load(Ordering::SeqCst), 2, "one of the three, and the call");
}

async fn malformed_messages_do_not_stop_the_server() {
    let broker = Broker::shared().await;
    let topic = unique("compute");
    let (server, client) = two(&broker).await;
    let served = serve(&server, &topic, |_| async { Ok("alive".into()) }).await;
    let raw = Raw::connect(broker.port()).await;
    for body in [&b"\xff\xfe"[..], b"", b"[1]", br#"{"oslo.version": "9", "oslo.message": ""}"#] {
        raw.publish_bytes("", served.queue(), body).await;
    }
    raw.publish("", served.queue(), &json!({"method": 7})).await;
    assert_eq!(call(&client, &topic, "any", json!({})).await.unwrap(), json!("alive"));
}

async fn a_malformed_call_is_answered() {
    let broker = Broker::shared().await;
    let topic = unique("compute");
    let (server, _client) = two(&broker).await;
    let served = serve(&server, &topic, |_| async { Ok(Value::Null) }).await;
    let raw = Raw::connect(broker.port()).await;
    let (name, mut replies) = raw.reply_queue().await;
    let request = json!({"method": "go", "args": [], "_msg_id": "m1", "_reply_q": name});
    raw.publish("", served.queue(), &request).await;
    let (reply, _) = replies.next().await;
    assert!(reply["failure"].as_str().unwrap().contains("args is no JSON object"), "{reply}");
}

async fn a_monitored_caller_gets_signs_of_life_and_others_do_not() {
    let broker = Broker::shared().await;
    let topic = unique("compute");
    let (server, _client) = two(&broker).await;
    let go = watch::Sender::new(false);
    let gate = go.clone();
    let served = serve(&server, &topic, move |_| {
        let mut gate = gate.subscribe();
        async move {
            gate.wait_for(|&open| open).await.unwrap();
            Ok("done".into())
        }
    })
    .await;
    let raw = Raw::connect(broker.port()).await;
    let (name, mut replies) = raw.reply_queue().await;
    let started = Instant::now();
    // The other one first: it is under way as long as the monitored one.
    for (id, monitor) in [("other", Value::Null), ("monitored", json!(2))] {
        let request = json!({
            "method": "slow", "args": {}, "version": "6.0", "_unique_id": id, "_msg_id": id, "_reply_q": name,
            "_timeout": monitor,
        });
        raw.publish("", served.queue(), &request).await;
    }
    let (mut beats, mut ended) = (0, Vec::new());
    while ended.len() < 2 {
        let (reply, properties) = replies.next().await;
        assert_eq!(properties.content_type().as_ref().map(|kind| kind.as_str()), Some("application/json"));
        let id = reply["_msg_id"].as_str().unwrap().to_owned();
        if reply["ending"] == json!(true) {
            assert_eq!((&reply["result"], &reply["failure"]), (&json!("done"), &Value::Null));
            ended.push(id);
        } else {
            assert_eq!(id, "monitored");
            assert_eq!((&reply["result"], &reply["failure"]), (&Value::Null, &Value::Null));
            beats += 1;
            if beats == 3 {
                assert!(started.elapsed() >= Duration::from_secs(3), "more than one in a second");
                go.send_replace(true);
            }
        }
    }
}

async fn a_reply_waits_for_its_queue_and_holds_up_no_other_reply() {
    let broker = Broker::shared().await;
    let topic = unique("compute");
    let (server, client) = two(&broker).await;
    let served = serve(&server, &topic, |request| async move { Ok(request.args["n"].clone()) }).await;
    let raw = Raw::connect(broker.port()).await;
    let missing = unique("reply");
    let request = json!({"method": "m", "args": {"n": 1}, "version": "6.0", "_msg_id": "m1", "_reply_q": missing});
    raw.publish("", served.queue(), &request).await;
    assert_eq!(call(&client, &topic, "m", json!({"n": 2})).await.unwrap(), json!(2));
    // Longer than one interval of the retries, so that this shows that there is more than one.
    tokio::time::sleep(Duration::from_millis(600)).await;
    let mut replies = raw.named_queue(&missing).await;
    assert_eq!(replies.next().await.0["result"], json!(1));
}

async fn replies_that_wait_for_their_queue_all_arrive_whatever_else_is_sent_meanwhile() {
    let broker = Broker::shared().await;
    let topic = unique("compute");
    let mut config = config(&broker.url());
    config.missing_consumer_timeout = PATIENCE * 2;
    let server = Transport::connect(config.clone()).await.unwrap();
    let client = Transport::connect(config).await.unwrap();
    let served = serve(&server, &topic, |request| async move { Ok(request.args["n"].clone()) }).await;
    let raw = Raw::connect(broker.port()).await;
    let (missing, count) = (unique("reply"), 200);
    let calls: Vec<_> = (0..count)
        .map(|n| {
            let (client, topic) = (client.clone(), topic.clone());
            tokio::spawn(async move { call(&client, &topic, "m", json!({"n": n})).await })
        })
        .collect();
    for n in 0..count {
        let message = json!({
            "method": "m", "args": {"n": n}, "version": "6.0", "_msg_id": format!("m{n}"), "_reply_q": missing,
        });
        raw.publish("", served.queue(), &message).await;
    }
    for (n, call) in calls.into_iter().enumerate() {
        assert_eq!(call.await.unwrap().unwrap(), json!(n));
    }
    let mut replies = raw.named_queue(&missing).await;
    let mut left: HashSet<u64> = (0..count).collect();
    while !left.is_empty() {
        left.remove(&replies.next().await.0["result"].as_u64().unwrap());
    }
}

async fn a_reply_queue_that_never_comes_is_given_up() {
    let broker = Broker::shared().await;
    let topic = unique("compute");
    let mut config = config(&broker.url());
    config.missing_consumer_timeout = Duration::from_secs(1);
    let server = Transport::connect(config).await.unwrap();
    let handled = Arc::new(Notify::new());
    let notify = handled.clone();
    let served = serve(&server, &topic, move |_| {
        notify.notify_one();
        async { Ok(Value::Null) }
    })
    .await;
    let raw = Raw::connect(broker.port()).await;
    let started = Instant::now();
    raw.publish(
        "",
        served.queue(),
        &json!({"method": "m", "args": {}, "version": "6.0", "_msg_id": "m1", "_reply_q": "reply_that_never_was"}),
    )
    .await;
    timeout(PATIENCE, handled.notified()).await.expect("the request is handled");
    served.stop().await;
    timeout(PATIENCE, served.drained()).await.expect("the reply is given up");
    assert!(started.elapsed() >= Duration::from_secs(1));
}

async fn a_graceful_stop_lets_the_handler_finish_and_leaves_the_rest_in_the_queue() {
    let broker = Broker::shared().await;
    let topic = unique("compute");
    let config = config(&broker.url());
    let server = Transport::connect(config.clone()).await.unwrap();
    let client = Transport::connect(config.clone()).await.unwrap();
    let (started, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let handler = {
        let (started, go) = (started.clone(), go.clone());
        move |_| {
            let (started, go) = (started.clone(), go.clone());
            async move {
                started.notify_one();
                go.notified().await;
                Ok("finished".into())
            }
        }
    };
    let served = serve(&server, &topic, handler).await;
    let under_way = tokio::spawn({
        let (client, topic) = (client.clone(), topic.clone());
        async move { call(&client, &topic, "first", json!({})).await }
    });
    timeout(PATIENCE, started.notified()).await.unwrap();
    served.stop().await;
    client.cast(&target(&topic), &Context::admin(), "second", json!({})).await.unwrap();
    assert!(timeout(Duration::from_millis(300), served.drained()).await.is_err(), "a handler is under way");
    go.notify_one();
    timeout(PATIENCE, served.drained()).await.unwrap();
    assert_eq!(under_way.await.unwrap().unwrap(), json!("finished"));
    server.close().await;

    let next = Transport::connect(config).await.unwrap();
    let (sender, mut received) = mpsc::unbounded_channel();
    let _server = serve(&next, &topic, move |request| {
        sender.send(request.method).unwrap();
        async { Ok(Value::Null) }
    })
    .await;
    assert_eq!(timeout(PATIENCE, received.recv()).await.unwrap().as_deref(), Some("second"));
}

async fn a_closed_transport_ends_calls_at_once() {
    let broker = Broker::shared().await;
    let topic = unique("compute");
    let (server, client) = two(&broker).await;
    let started = Arc::new(Notify::new());
    let notify = started.clone();
    let _server = serve(&server, &topic, move |_| {
        notify.notify_one();
        std::future::pending::<Result<Value, Failure>>()
    })
    .await;
    let waiting = tokio::spawn({
        let (client, topic) = (client.clone(), topic.clone());
        async move { call(&client, &topic, "for_ever", json!({})).await }
    });
    timeout(PATIENCE, started.notified()).await.unwrap();
    client.close().await;
    // Long before the call's own time is over.
    let outcome = timeout(PATIENCE / 2, waiting).await.unwrap().unwrap();
    assert!(matches!(outcome, Err(CallError::Transport(_))), "{outcome:?}");
    assert!(!client.connected());
}

/// The library can meet an error of its own while it ends channels and their connection at one time; then it does not
/// answer any more. One in thirty ended so.
async fn every_transport_that_is_closed_ends() {
    let broker = Broker::shared().await;
    let topic = unique("compute");
    let config = config(&broker.url());
    let server = Transport::connect(config.clone()).await.unwrap();
    let _server = serve(&server, &topic, |_| async { Ok(Value::Null) }).await;
    let lives = (0..4).map(async |_| {
        for _ in 0..15 {
            let client = Transport::connect(config.clone()).await.unwrap();
            call(&client, &topic, "any", json!({})).await.unwrap();
            timeout(PATIENCE, client.close()).await.expect("the transport ends");
        }
    });
    futures::future::join_all(lives).await;
}

tests! {
    async
    a_call_gets_its_result_and_the_handler_its_context,
    a_hundred_calls_at_once_each_get_their_own_result,
    a_failure_arrives_with_its_class_and_arguments,
    requests_for_no_endpoint_and_broken_handlers_are_answered,
    a_cast_is_executed_and_a_fanout_without_listeners_succeeds,
    a_fanout_reaches_a_queue_of_the_fanout_exchange,
    a_call_that_nobody_takes_times_out_and_is_not_executed_later,
    a_request_that_is_delivered_twice_is_executed_once,
    malformed_messages_do_not_stop_the_server,
    a_malformed_call_is_answered,
    a_monitored_caller_gets_signs_of_life_and_others_do_not,
    a_reply_waits_for_its_queue_and_holds_up_no_other_reply,
    replies_that_wait_for_their_queue_all_arrive_whatever_else_is_sent_meanwhile,
    a_reply_queue_that_never_comes_is_given_up,
    a_graceful_stop_lets_the_handler_finish_and_leaves_the_rest_in_the_queue,
    a_closed_transport_ends_calls_at_once,
    every_transport_that_is_closed_ends,
}
