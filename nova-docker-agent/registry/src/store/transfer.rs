//! A layer on its way from the image service, in turns with others.

use backon::{BackoffBuilder, ExponentialBackoff};
use bytes::Bytes;
use futures::StreamExt;

use super::reader::{self, Chunks};
use super::{Stored, Tally, Turn};
use crate::{Error, SourceError};

/// The bytes of a layer, as they come.
pub struct Transfer<'a> {
    tally: &'a Tally,
    stored: &'a Stored,
    /// Whoever has a chunk waits with it for the one who takes the chunk.
    pub turn: Turn,
    position: u64,
    /// None before a read begins, and after it was interrupted.
    stream: Option<Chunks>,
    delays: ExponentialBackoff,
}

impl<'a> Transfer<'a> {
    /// Nothing is read before it is asked for.
    pub fn new(tally: &'a Tally, stored: &'a Stored, turn: Turn) -> Self {
        Self { tally, stored, turn, position: stored.range.start, stream: None, delays: fresh_delays() }
    }

    /// The next bytes, at least one; None after the end. After an interruption they go on where they were.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        while self.position < self.stored.range.end {
            match self.read().await {
                Ok(chunk) if chunk.is_empty() => {}
                Ok(chunk) => {
                    self.delays = fresh_delays();
                    // The image service may not wait for so long: then it is asked for the rest.
                    self.turn.step(chunk.len() as u64).await?;
                    return Ok(Some(chunk));
                }
                Err(cause) => {
                    self.stream = None;
                    match self.delays.next().filter(|_| cause.is_temporary()) {
                        Some(delay) => tokio::time::sleep(delay).await,
                        None => return Err(cause.into()),
                    }
                }
            }
        }
        Ok(None)
    }

    async fn read(&mut self) -> Result<Bytes, SourceError> {
        let left = self.position..self.stored.range.end;
        let stream = match &mut self.stream {
            Some(stream) => stream,
            none => {
                self.tally.lock().layer_reads += 1;
                none.insert(reader::read_range(&*self.stored.source, left.clone()).await?)
            }
        };
        let mut chunk = stream.next().await.unwrap_or_else(|| Err(reader::ended(left.start)))?;
        // A store may send more than it was asked for.
        chunk.truncate(usize::try_from(left.end - left.start).unwrap_or(usize::MAX));
        self.position += chunk.len() as u64;
        self.tally.lock().layer_bytes += chunk.len() as u64;
        Ok(chunk)
    }
}

fn fresh_delays() -> ExponentialBackoff {
    reader::patience().build()
}
