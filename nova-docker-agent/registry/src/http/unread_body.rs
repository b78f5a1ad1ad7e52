//! Reads what a client still sends after its request was refused.
//!
//! Many clients send everything before they read the answer. If the server closed the connection earlier they would
//! never see the answer. So the registry reads the rest, unless it is long.

use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use axum::http::Request;
use axum::http::header::EXPECT;
use bytes::Bytes;
use futures::StreamExt;

use super::content_length;
use super::pace::{Clock, Pace};

/// Limits of that: bytes, and time.
const MOST: u64 = 32 * 1024 * 1024;
pub const LONGEST: Duration = Duration::from_secs(10);

/// The body of a request that somebody else reads.
pub struct UnreadBody {
    body: Arc<Shared>,
    /// The client waits to be asked for its body, or the body is too long.
    not_worth: bool,
}

/// None after the end, or after an error.
struct Shared(Mutex<Option<(BodyDataStream, Clock)>>);

impl Shared {
    fn poll(&self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, axum::Error>>> {
        let mut body = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((stream, clock)) = body.as_mut() else { return Poll::Ready(None) };
        let piece = stream.poll_next_unpin(context);
        let length = |piece: &Option<Result<Bytes, _>>| piece.iter().flatten().map(Bytes::len).sum::<usize>();
        let piece =
            ready!(clock.judge(context, piece, length)).unwrap_or_else(|slow| Some(Err(axum::Error::new(slow))));
        if !matches!(piece, Some(Ok(_))) {
            *body = None;
        }
        Poll::Ready(piece)
    }
}

/// Keeps hold of a request's body. It ends with an error when its client is slower than `pace`.
pub fn share(request: Request<Body>, pace: Pace) -> (Request<Body>, UnreadBody) {
    let announced = content_length(request.headers());
    let not_worth = request.headers().contains_key(EXPECT) || announced.is_some_and(|length| length > MOST);
    let (head, body) = request.into_parts();
    let body = Arc::new(Shared(Mutex::new(Some((body.into_data_stream(), Clock::new(pace))))));
    let shared = body.clone();
    let pieces = futures::stream::poll_fn(move |context| shared.poll(context));
    (Request::from_parts(head, Body::from_stream(pieces)), UnreadBody { body, not_worth })
}

impl UnreadBody {
    /// Reads and discards the rest, for at most `longest`.
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
            tracing::debug!("a refused client takes long to send the rest of its request");
        }
    }
}

#[cfg(test)]
mod tests;
