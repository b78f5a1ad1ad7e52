//! The same bus with oslo.messaging at the other end, from the virtual environment of the one-command cloud.

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use integration_tests::patience::PATIENCE;
use integration_tests::rabbitmq::Broker;
use integration_tests::rpc::{config, serve, unique};
use nova_docker_agent::messaging::{CallError, Context, Failure, Request, Rpc, Target, Transport, TransportConfig};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::time::timeout;

/// Python with oslo.messaging and Nova in it.
fn python() -> PathBuf {
    let state = std::env::var("STATE_DIR").unwrap_or_else(|_| "/var/lib/nova-docker-mini".to_owned());
    let python = PathBuf::from(state).join("venv/bin/python");
    assert!(python.exists(), "this test needs {} of the cloud: ./devstack/mini up", python.display());
    python
}

fn peer(mode: &str, url: &str, config: &TransportConfig, topic: &str) -> Child {
    Command::new(python())
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/peer.py"))
        .args([mode, url, &config.control_exchange, topic])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

async fn line(child: &mut Child) -> String {
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    timeout(PATIENCE * 3, lines.next_line()).await.expect("Python says something").unwrap().expect("a line")
}

/// How many signs of life a caller must have got of a call that takes long, before it is answered.
const SIGNS: u32 = 3;

#[derive(Default)]
struct Memory {
    value: AtomicI64,
    signs: watch::Sender<u32>,
}

async fn answer(request: Request, memory: Arc<Memory>) -> Result<Value, Failure> {
    match request.method.as_str() {
        "echo" => Ok(json!([request.args, request.context.request_id(), request.context.get("odd")])),
        "fail" => Err(Failure::new("nova.exception", "InstanceNotFound", "no x").with("instance_id", "x")),
        "refuse" => Err(Failure::builtin("NotImplementedError", "")),
        "slow" => {
            memory.signs.subscribe().wait_for(|&signs| signs >= SIGNS).await.unwrap();
            Ok("done".into())
        }
        "alive" => {
            memory.signs.send_modify(|signs| *signs += 1);
            Ok(Value::Null)
        }
        "remember" => {
            memory.value.store(request.args["value"].as_i64().unwrap(), Ordering::SeqCst);
            Ok(Value::Null)
        }
        "recall" => Ok(memory.value.load(Ordering::SeqCst).into()),
        other => Err(Failure::no_such_method(other)),
    }
}

async fn python_calls_our_server() {
    let broker = Broker::shared().await;
    let (config, topic) = (config(&broker.url()), unique("compute"));
    let transport = Transport::connect(config.clone()).await.unwrap();
    let memory = Arc::new(Memory::default());
    let _server = serve(&transport, &topic, move |request| answer(request, memory.clone())).await;
    let mut client = peer("client", &broker.url(), &config, &topic);
    let answers: Value = serde_json::from_str(&line(&mut client).await).unwrap();

    assert_eq!(answers["echo"]["result"], json!([{"value": [1, null, "ä"]}, "req-1", {"kept": true}]));
    let classes = answers["fail"]["raised"].as_array().unwrap();
    assert!(classes.contains(&json!("InstanceNotFound")), "an exception that Nova can catch: {classes:?}");
    assert!(answers["fail"]["text"].as_str().unwrap().starts_with("no x"), "{}", answers["fail"]);
    assert!(answers["refuse"]["raised"].as_array().unwrap().contains(&json!("NotImplementedError")));
    assert_eq!(answers["unknown"]["remote_error"], "NoSuchMethod");
    assert_eq!(answers["newer"]["remote_error"], "UnsupportedVersion");
    assert_eq!(answers["slow"]["result"], "done");
    assert_eq!(answers["remembered"]["result"], 7);
}

async fn our_client_calls_a_python_server() {
    let broker = Broker::shared().await;
    let (config, topic) = (config(&broker.url()), unique("conductor"));
    let mut server = peer("server", &broker.url(), &config, &topic);
    assert_eq!(line(&mut server).await, "ready");
    let transport = Transport::connect(config).await.unwrap();
    let mut context = Context::admin();
    context.set("odd", json!([1]));
    let call = |target: Target, method: &'static str, args: Value| {
        let (transport, context) = (transport.clone(), context.clone());
        async move { transport.call(&target, &context, method, args, PATIENCE).await }
    };

    let target = Target::topic(&topic, "3.0");
    let echoed = call(target.clone(), "echo", json!({"a": {"b": null}})).await.unwrap();
    let expected = json!({"arguments": {"a": {"b": null}}, "request_id": context.request_id(), "odd": [1]});
    assert_eq!(echoed, expected);
    let direct = call(target.clone().server("peer"), "echo", json!({})).await.unwrap();
    assert_eq!(direct["arguments"], json!({}));
    match call(target.clone(), "fail", json!({"uuid": "x"})).await {
        Err(CallError::Remote(failure)) => {
            assert_eq!((failure.class.as_str(), failure.module.as_str()), ("InstanceNotFound", "nova.exception"));
            assert_eq!(failure.kwargs["instance_id"], "x");
            assert!(!failure.traceback.is_empty());
        }
        other => panic!("{other:?}"),
    }
    let unknown = call(target.clone(), "unknown", json!({})).await.unwrap_err();
    assert_eq!(unknown.class(), Some("NoSuchMethod"));
    let newer = call(Target { version: "3.2".into(), ..target.clone() }, "echo", json!({})).await.unwrap_err();
    assert_eq!(newer.class(), Some("UnsupportedVersion"));
    transport.cast(&target.fanout(), &context, "echo", json!({})).await.unwrap();
}

tests! {
    async
    python_calls_our_server,
    our_client_calls_a_python_server,
}
