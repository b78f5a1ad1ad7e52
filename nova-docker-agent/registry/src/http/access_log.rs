//! The access log: one line for each request, when its answer has gone.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use axum::body::{Body, HttpBody};
use axum::http::{Method, StatusCode};
use axum::response::Response;
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};

use super::content_length;

/// Of a path, in characters.
const MAX_PATH: usize = 300;

/// What is known of a request. It is logged when this is dropped: at the end of the answer, or when the client has gone.
pub struct Entry {
    method: Method,
    path: String,
    request_id: String,
    started: Instant,
    /// Who asked, once that is known.
    pub user: Option<String>,
    status: Option<StatusCode>,
    bytes: u64,
    /// What the answer has, where its head says so: whoever sends it looks no further.
    expected: Option<u64>,
    finished: bool,
}

impl Entry {
    /// Begins with the request. The query is left out: it may hold anything.
    pub fn new(method: &Method, path: &str, request_id: &str) -> Self {
        Self {
            method: method.clone(),
            path: path.chars().take(MAX_PATH).collect(),
            request_id: request_id.to_owned(),
            started: Instant::now(),
            user: None,
            status: None,
            bytes: 0,
            expected: None,
            finished: false,
        }
    }

    /// The response, which is logged when it was sent.
    pub fn follow(mut self, response: Response) -> Response {
        self.status = Some(response.status());
        self.expected = content_length(response.headers());
        // The body of an answer to HEAD is never asked for.
        self.finished = self.method == Method::HEAD || response.body().is_end_stream();
        response.map(|inner| Body::new(Followed { inner, entry: self }))
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let Self { method, path, request_id, user, bytes, .. } = self;
        let ms = self.started.elapsed().as_millis() as u64;
        let user = user.as_deref().unwrap_or("-");
        let status = self.status.map_or(0, |status| status.as_u16());
        let is_whole = self.finished || self.expected == Some(*bytes);
        let what = if is_whole { "request" } else { "request, given up by its client or broken off" };
        tracing::info!(%method, path, status, user, bytes, ms, request_id, "{what}");
    }
}

/// A body on its way to the client.
struct Followed {
    inner: Body,
    entry: Entry,
}

impl HttpBody for Followed {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.inner).poll_frame(context);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                self.entry.bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
                self.entry.finished = self.inner.is_end_stream();
            }
            Poll::Ready(None) => self.entry.finished = true,
            _ => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
