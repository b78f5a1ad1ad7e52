use axum::Router;
use axum::http::StatusCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;

async fn refuse(request: Request<Body>) -> StatusCode {
    let (request, unread) = share(request, Pace { patience: Duration::from_secs(3600), rate: 1 });
    let mut body = request.into_body().into_data_stream();
    assert!(body.next().await.is_some());
    drop(body);
    unread.discard(Duration::from_secs(3600)).await;
    StatusCode::PAYLOAD_TOO_LARGE
}

/// What a client reads that first sends everything.
async fn answer(head: &str, body: &[u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(refuse)).await });
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(format!("PUT / HTTP/1.1\r\nhost: a\r\n{head}\r\n\r\n").as_bytes()).await.unwrap();
    stream.write_all(body).await.unwrap();
    let mut answer = vec![0; 64];
    let length = stream.read(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer[..length]).into_owned()
}

#[tokio::test]
async fn a_client_that_sends_everything_first_reads_why_it_was_refused() {
    let body = vec![0; 20 * 1024 * 1024];
    let answer = answer(&format!("content-length: {}", body.len()), &body).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
}

#[tokio::test]
async fn a_client_with_very_much_to_send_is_not_waited_for() {
    let answer = answer(&format!("content-length: {}", 1_u64 << 40), b"a beginning").await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
}
