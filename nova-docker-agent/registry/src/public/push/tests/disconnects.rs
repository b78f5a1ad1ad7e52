//! Clients that go away, over real connections.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{patch, put};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use uuid::Uuid;

use crate::public::push::testing::{
    Answer, Asked, LONG, alice, at, content, on_cloud, put as put_manifest, reference_of, upload_image,
};
use crate::public::push::{Push, StagingError};

const WEB: &str = "demo/web";

async fn upload(State(push): State<Arc<Push>>, request: Request) -> Response {
    let id: Uuid = request.uri().path().trim_matches('/').parse().unwrap();
    let (parts, body) = request.into_parts();
    push.patch(&at(WEB), id, &parts.headers, body).await.into_response()
}

async fn manifest(State(push): State<Arc<Push>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    push.put_manifest(&at(WEB), &reference_of("v1"), "", &parts.headers, body).await.into_response()
}

/// The end-points that tests need, at an address.
async fn serve(push: &Arc<Push>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new().route("/{id}", patch(upload)).route("/manifest", put(manifest)).with_state(push.clone());
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

async fn send(address: SocketAddr, head: &str, body: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(format!("{head}\r\nhost: registry\r\n\r\n").as_bytes()).await.unwrap();
    stream.write_all(body).await.unwrap();
    stream
}

/// Whether no request works on the upload.
fn is_idle(push: &Arc<Push>, id: Uuid) -> bool {
    !matches!(push.area(&at(WEB)).unwrap().session(id), Err(StagingError::Busy))
}

/// Waits until so many bytes of the upload are there and no request has it any more.
async fn wait_for(push: &Arc<Push>, id: Uuid, range: &str) {
    let there = async {
        loop {
            let answer = Answer::of(push.status(&at(WEB), id).await).await;
            if answer.header("range") == range && is_idle(push, id) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(LONG, there).await.unwrap();
}

#[tokio::test]
async fn the_bytes_that_came_before_a_connection_was_closed_are_kept() {
    let directory = tempfile::tempdir().unwrap();
    let (_cloud, push) = on_cloud(&directory).await;
    let address = serve(&push).await;
    let begun = push.begin(&alice(), &at(WEB), "", &Default::default(), axum::body::Body::empty()).await;
    let id = Answer::of(begun).await.upload();
    let head = format!("PATCH /{id} HTTP/1.1\r\ncontent-length: 5000");
    drop(send(address, &head, &content(1, 3000)).await);
    wait_for(&push, id, "0-2999").await;
    // Chunked: the connection ends within a chunk.
    let head = format!("PATCH /{id} HTTP/1.1\r\ntransfer-encoding: chunked");
    let chunks = [&b"64\r\n"[..], &content(2, 100), b"\r\nffff\r\n", &content(3, 50)].concat();
    drop(send(address, &head, &chunks).await);
    wait_for(&push, id, "0-3149").await;
    let whole = [content(1, 3000), content(2, 100), content(3, 50)].concat();
    let query = format!("digest={}", crate::Digest::of(&whole));
    let done = push.finish(&at(WEB), id, &query, &Default::default(), axum::body::Body::empty()).await;
    assert_eq!(Answer::of(done).await.status, 201);
}

#[tokio::test]
async fn an_upload_that_does_not_come_to_its_end_does_not_keep_the_registry_from_stopping() {
    let directory = tempfile::tempdir().unwrap();
    let (_cloud, push) = on_cloud(&directory).await;
    let address = serve(&push).await;
    let begun = push.begin(&alice(), &at(WEB), "", &Default::default(), axum::body::Body::empty()).await;
    let id = Answer::of(begun).await.upload();
    let _client = send(address, &format!("PATCH /{id} HTTP/1.1\r\ncontent-length: 5000"), &content(1, 3000)).await;
    while is_idle(&push, id) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    tokio::time::timeout(LONG, push.shutdown()).await.expect("it waits for the client");
    assert!(is_idle(&push, id));
}

#[tokio::test]
async fn a_client_that_closes_its_connection_while_glance_is_filled_leaves_nothing_there() {
    let directory = tempfile::tempdir().unwrap();
    let (cloud, push) = on_cloud(&directory).await;
    let address = serve(&push).await;
    let manifest = upload_image(&push, WEB, 1).await;
    cloud.take(Duration::from_secs(600));
    let head = format!("PUT /manifest HTTP/1.1\r\ncontent-length: {}", manifest.len());
    let client = send(address, &head, &manifest).await;
    cloud.was_asked(Asked::Upload, 1).await;
    drop(client);
    tokio::time::timeout(LONG, cloud.was_asked(Asked::Delete, 1)).await.unwrap();
    assert_eq!(cloud.images(), vec![]);
    cloud.take(Duration::ZERO);
    assert_eq!(put_manifest(&push, WEB, "v1", &manifest).await.status, 201);
}
