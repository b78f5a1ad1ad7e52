//! Connections, and many clients at once.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::Digest;
use crate::http::listener;
use crate::public::server::allow_open_files;
use crate::public::testing::{DEMO, LONG, Registry};
use crate::testing as archives;

/// Sends the beginning of a request, and waits until the registry has closed the connection.
async fn until_closed(registry: &Registry, beginning: &str) -> String {
    // At once: the registry, on this thread, does not see the connection before all of it is there.
    let mut stream = std::net::TcpStream::connect(registry.address()).unwrap();
    stream.write_all(beginning.as_bytes()).unwrap();
    stream.set_nonblocking(true).unwrap();
    let mut stream = TcpStream::from_std(stream).unwrap();
    let mut answer = vec![];
    // A reset is as good as an end.
    drop(tokio::time::timeout(LONG, stream.read_to_end(&mut answer)).await.expect("it stays open"));
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn a_client_that_does_not_say_what_it_wants_is_left() {
    let options = [(("registry", "request_header_timeout_seconds"), "1")];
    let registry = Registry::with(&options).await;
    for beginning in ["", "GET /v2/ HT", "GET /v2/ HTTP/1.1\r\nhost: x\r\nx-slow: "] {
        until_closed(&registry, beginning).await;
    }
    // And one that says nothing more after an answer.
    let answer = until_closed(&registry, "GET /healthcheck HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[tokio::test]
async fn a_body_that_stands_still_ends_its_request() {
    let registry = Registry::with(&[(("registry", "idle_timeout_seconds"), "1")]).await;
    let token = registry.token("ann", &["repository:demo/web:pull,push"]).await;
    let beginning = format!(
        "POST /v2/demo/web/blobs/uploads/?digest={} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\
         content-length: 100\r\n\r\nonly this",
        Digest::of(b"")
    );
    let answer = until_closed(&registry, &beginning).await;
    assert!(!answer.starts_with("HTTP/1.1 2"), "{answer}");
}

#[tokio::test]
async fn a_body_that_trickles_ends_its_request() {
    let registry = Registry::with(&[(("registry", "idle_timeout_seconds"), "1")]).await;
    let token = registry.token("ann", &["repository:demo/web:pull,push"]).await;
    let mut stream = TcpStream::connect(registry.address()).await.unwrap();
    let head = format!(
        "POST /v2/demo/web/blobs/uploads/?digest={} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\
         content-length: 1000000\r\n\r\n",
        Digest::of(b"")
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let trickle = async {
        while stream.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(LONG, trickle).await.expect("it goes on for ever");
}

#[tokio::test]
async fn a_form_that_does_not_come_to_its_end_is_not_waited_for() {
    let registry = Registry::with(&[(("registry", "request_header_timeout_seconds"), "1")]).await;
    let answer = until_closed(&registry, "POST /token HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\ngrant").await;
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
}

/// Faster than a body must come at least, so that only the deadline of a manifest ends it.
#[tokio::test]
async fn a_manifest_that_does_not_come_to_its_end_is_not_waited_for() {
    let options = [(("registry", "idle_timeout_seconds"), "1"), (("registry", "min_kb_per_second"), "1")];
    let registry = Registry::with(&options).await;
    let token = registry.token("ann", &["repository:demo/web:pull,push"]).await;
    let mut stream = TcpStream::connect(registry.address()).await.unwrap();
    let head = format!(
        "PUT /v2/demo/web/manifests/v1 HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\
         content-length: 4000000\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let (mut answers, mut body) = stream.split();
    let mut answer = [0; 12];
    let sending = async {
        while body.write_all(&[b' '; 1024]).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        std::future::pending().await
    };
    let told = tokio::select! {
        told = answers.read_exact(&mut answer) => told,
        () = sending => unreachable!(),
        () = tokio::time::sleep(LONG) => panic!("it is waited for"),
    };
    told.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 408");
}

const GET: &str = "GET /healthcheck HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";

#[tokio::test]
async fn more_clients_than_there_may_be_are_told_to_come_back() {
    for option in ["max_connections", "max_connections_per_address"] {
        let registry = Registry::with(&[(("registry", option), "2")]).await;
        let idle = [TcpStream::connect(registry.address()).await, TcpStream::connect(registry.address()).await];
        let answer = until_closed(&registry, GET).await;
        assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("retry-after: 5"), "{option}: {answer}");
        drop(idle);
        while !until_closed(&registry, GET).await.starts_with("HTTP/1.1 200") {}
    }
}

#[tokio::test]
async fn the_connections_of_a_proxy_are_not_one_clients() {
    let options = [
        (("registry", "max_connections_per_address"), "1"),
        (("registry", "shared_addresses"), "192.0.2.1, 127.0.0.0/8"),
    ];
    let registry = Registry::with(&options).await;
    let _idle = [TcpStream::connect(registry.address()).await, TcpStream::connect(registry.address()).await];
    assert!(until_closed(&registry, GET).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn a_hundred_nodes_of_four_connections_are_served() {
    allow_open_files();
    let registry = Registry::start().await;
    let mut connections = vec![];
    for _ in 0..400 {
        connections.push(TcpStream::connect(registry.address()).await.unwrap());
    }
    for connection in &mut connections {
        connection.write_all(b"GET /healthcheck HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let mut answer = [0; 15];
        tokio::time::timeout(LONG, connection.read_exact(&mut answer)).await.expect("it waits").unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200 OK");
    }
}

#[tokio::test]
async fn fifty_clients_of_one_blob_are_one_read() {
    let registry = Registry::start().await;
    let layer = archives::layer(1, 300_000);
    registry.cloud.image(DEMO, "web:v1", &archives::oci(std::slice::from_ref(&layer)), json!({}));
    let path = format!("/v2/demo/web/blobs/{}", Digest::of(&layer));
    let bearer = format!("Bearer {}", registry.token("ann", &["repository:demo/web:pull"]).await);
    let headers = [("authorization", bearer.as_str())];
    registry.send("GET", "/v2/demo/web/manifests/v1", &headers).await;
    let before = registry.cloud.asked("GET /v2/images/");
    let clients = (0..50).map(|_| registry.send("GET", &path, &headers));
    for answer in futures::future::join_all(clients).await {
        assert!(answer.body == layer);
    }
    assert_eq!(registry.cloud.asked("GET /v2/images/") - before, 1);
}

#[tokio::test]
async fn a_stop_refuses_new_connections_while_it_waits_for_requests_under_way() {
    let (begun, go, stop) = (Arc::new(Notify::new()), Arc::new(Notify::new()), CancellationToken::new());
    let handler = {
        let (begun, go) = (begun.clone(), go.clone());
        async move || {
            begun.notify_one();
            go.notified().await;
            "to its end"
        }
    };
    let door = TcpListener::bind(archives::own_address()).await.unwrap();
    let address = door.local_addr().unwrap();
    let router = axum::Router::new().route("/", axum::routing::get(handler));
    let serving = tokio::spawn(listener::serve(door, None, listener::Limits::default(), router, stop.clone()));
    let mut client = TcpStream::connect(address).await.unwrap();
    client.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    begun.notified().await;
    stop.cancel();
    while TcpStream::connect(address).await.is_ok() {
        assert!(!serving.is_finished());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(!serving.is_finished());
    go.notify_one();
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    assert!(answer.ends_with("to its end"), "{answer}");
    serving.await.unwrap();
}

#[tokio::test]
async fn a_stop_closes_the_door_and_the_next_process_goes_on_with_tokens_and_cache() {
    let registry = Registry::with(&[(("registry", "listen"), &archives::own_address())]).await;
    let layer = archives::layer(1, 1000);
    registry.cloud.image(DEMO, "web:v1", &archives::oci(std::slice::from_ref(&layer)), json!({}));
    assert_eq!(registry.get("ann", &format!("/v2/demo/web/blobs/{}", Digest::of(&layer))).await.status, 200);
    registry.until_cached(&Digest::of(&layer)).await;
    let token = registry.token("ann", &[]).await;
    let next = Registry::beside(&registry, &[]).await;
    let address = registry.address();
    tokio::time::timeout(LONG, registry.stop()).await.unwrap();
    assert!(TcpStream::connect(address).await.is_err());
    let answer = next.send("GET", "/v2/", &[("authorization", &format!("Bearer {token}"))]).await;
    assert_eq!(answer.status, 200);
    next.cloud.image(DEMO, "web:v1", &archives::oci(std::slice::from_ref(&layer)), json!({}));
    assert!(next.get("ann", "/v2/demo/web/manifests/v1").await.status == 200);
    let before = next.cloud.asked("GET /v2/images/");
    assert!(next.get("ann", &format!("/v2/demo/web/blobs/{}", Digest::of(&layer))).await.body == layer);
    assert_eq!(next.cloud.asked("GET /v2/images/"), before);
}
