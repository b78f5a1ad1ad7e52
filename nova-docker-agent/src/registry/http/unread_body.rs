//! What a client still sends after its request was refused.
//!
//! Many clients read no answer before they have sent everything; a server that closes the connection before takes the answer
//! from them. So what is left is read, as far as it is not much.

use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use axum::http::Request;
use axum::http::header::EXPECT;
use bytes::Bytes;
use futures::StreamExt;

use super::content_length;

/// How much is read in vain, in bytes, and for how long.
const MOST: u64 = 32 * 1024 * 1024;
pub const LONGEST: Duration = Duration::from_secs(10);

/// The body of a request that somebody else reads.
pub struct Leftover {
    body: Arc<Shared>,
    /// The client waits to be asked for its body, or has more than is worth while.
    not_worth: bool,
}

/// None when it has come to its end, or broke off.
struct Shared(Mutex<Option<BodyDataStream>>);

impl Shared {
    fn poll(&self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, axum::Error>>> {
        let mut body = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(stream) = body.as_mut() else { return Poll::Ready(None) };
        let piece = ready!(stream.poll_next_unpin(context));
        if !matches!(piece, Some(Ok(_))) {
            *body = None;
        }
        Poll::Ready(piece)
    }
}

/// Keeps hold of a request's body.
pub fn share(request: Request<Body>) -> (Request<Body>, Leftover) {
    let announced = content_length(request.headers());
    let not_worth = request.headers().contains_key(EXPECT) || announced.is_some_and(|length| length > MOST);
    let (head, body) = request.into_parts();
    let body = Arc::new(Shared(Mutex::new(Some(body.into_data_stream()))));
    let shared = body.clone();
    let pieces = futures::stream::poll_fn(move |context| shared.poll(context));
    (Request::from_parts(head, Body::from_stream(pieces)), Leftover { body, not_worth })
}

impl Leftover {
    /// Reads what nobody wants, for no longer than `longest`.
    pub async fn discard(self, longest: Duration) {
        if self.not_worth {
            return;
        }
        let mut left = MOST;
        let reading = std::future::poll_fn(|context| {
            while let Some(Ok(piece)) = ready!(self.body.poll(context)) {
                match left.checked_sub(piece.len() as u64) {
                    Some(less) => left = less,
                    None => break,
                }
            }
            Poll::Ready(())
        });
        if tokio::time::timeout(longest, reading).await.is_err() {
            tracing::debug!("a client whose request was refused takes long to send it");
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::http::StatusCode;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    async fn refuse(request: Request<Body>) -> StatusCode {
        let (request, leftover) = share(request);
        let mut body = request.into_body().into_data_stream();
        assert!(body.next().await.is_some());
        drop(body);
        leftover.discard(Duration::from_secs(3600)).await;
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
}
