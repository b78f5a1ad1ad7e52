//! How slowly a client may send a body, or take what it is sent.
//!
//! A client has some time. Waiting for it takes from that; every byte gives some back, never more than the client had at first. So
//! one that stands still is left, and so is one that sends a byte now and then; one that keeps the least rate never is.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

/// What is asked of a client.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// The time that it has.
    pub patience: Duration,
    /// Bytes that give it a second.
    pub rate: u64,
}

/// The client has no time left.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the client is too slow")]
pub struct TooSlow;

/// The time of one client.
pub struct Clock {
    pace: Pace,
    left: Duration,
    /// Since when it is waited for.
    since: Option<Instant>,
    deadline: Pin<Box<Sleep>>,
}

impl Clock {
    pub fn new(pace: Pace) -> Self {
        Self { pace, left: pace.patience, since: None, deadline: Box::pin(tokio::time::sleep(pace.patience)) }
    }

    /// Passes on what the client was found to do, which moved so many bytes.
    pub fn judge<T>(
        &mut self,
        context: &mut Context<'_>,
        found: Poll<T>,
        bytes: impl FnOnce(&T) -> usize,
    ) -> Poll<Result<T, TooSlow>> {
        if let Poll::Ready(value) = found {
            let waited = self.since.take().map_or(Duration::ZERO, |since| since.elapsed());
            let given = Duration::from_secs_f64(bytes(&value) as f64 / self.pace.rate as f64);
            self.left = (self.left.saturating_sub(waited) + given).min(self.pace.patience);
            return Poll::Ready(Ok(value));
        }
        if self.since.is_none() {
            let now = Instant::now();
            self.since = Some(now);
            self.deadline.as_mut().reset(now + self.left);
        }
        ready!(self.deadline.as_mut().poll(context));
        Poll::Ready(Err(TooSlow))
    }
}

/// A connection whose client must take what it is sent.
pub struct Paced<S> {
    inner: S,
    clock: Clock,
}

impl<S> Paced<S> {
    pub fn new(inner: S, pace: Pace) -> Self {
        Self { inner, clock: Clock::new(pace) }
    }

    fn judge<T>(
        &mut self,
        context: &mut Context<'_>,
        found: Poll<io::Result<T>>,
        bytes: impl FnOnce(&T) -> usize,
    ) -> Poll<io::Result<T>> {
        let judged = self.clock.judge(context, found, |found| found.as_ref().map_or(0, bytes));
        judged.map(|judged| judged.unwrap_or_else(|slow| Err(io::Error::new(io::ErrorKind::TimedOut, slow))))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Paced<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Paced<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let found = Pin::new(&mut self.inner).poll_write(context, bytes);
        self.judge(context, found, |length| *length)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let found = Pin::new(&mut self.inner).poll_write_vectored(context, slices);
        self.judge(context, found, |length| *length)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let found = Pin::new(&mut self.inner).poll_flush(context);
        self.judge(context, found, |()| 0)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let found = Pin::new(&mut self.inner).poll_shutdown(context);
        self.judge(context, found, |()| 0)
    }
}

#[cfg(test)]
mod tests;
