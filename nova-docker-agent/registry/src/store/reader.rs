//! Reads an image's file: by range where the store can, in one pass from the start where it cannot.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use futures::stream::BoxStream;

use crate::{Source, SourceBody, SourceError};

/// The body of a read.
pub type Chunks = BoxStream<'static, Result<Bytes, SourceError>>;

/// How much is read at once to find headers: the small files between two layers fit several times.
const WINDOW: u64 = 128 * 1024;

/// The first answer of a store tells which it is.
pub enum Reader {
    Ranged(Window),
    Sequential(Forward),
}

impl Reader {
    /// Asks for the first bytes of the file, `size` bytes long.
    pub async fn open(source: Arc<dyn Source>, size: u64) -> Result<Self, SourceError> {
        let first = 0..WINDOW.min(size);
        let attempt = || async {
            let SourceBody { ranged, stream } = source.read(Some(first.clone())).await?;
            if !ranged {
                return Ok(Self::Sequential(Forward::new(stream)));
            }
            let buffer = collect(stream, first.end).await?;
            Ok(Self::Ranged(Window { source: source.clone(), size, start: 0, buffer, reads: 1 }))
        };
        attempt.retry(patience()).when(SourceError::is_temporary).await
    }
}

/// The delays between attempts at one read: about four seconds in all.
pub fn patience() -> ExponentialBuilder {
    ExponentialBuilder::default().with_min_delay(Duration::from_millis(250)).with_max_times(4).with_jitter()
}

/// Reads `range` of `source` as a stream that begins at its start, whether or not the store can read ranges.
pub async fn read_range(source: &dyn Source, range: Range<u64>) -> Result<Chunks, SourceError> {
    let body = source.read(Some(range.clone())).await?;
    if body.ranged {
        return Ok(body.stream);
    }
    let mut whole = Forward::new(body.stream);
    whole.skip_to(range.start).await?;
    Ok(whole.rest())
}

/// The part of the file that was read last.
pub struct Window {
    source: Arc<dyn Source>,
    size: u64,
    start: u64,
    buffer: Bytes,
    /// How many reads it took so far.
    pub reads: u64,
}

impl Window {
    /// The bytes of `range`, which must be within the file.
    pub async fn read(&mut self, range: Range<u64>) -> Result<Bytes, SourceError> {
        if let Some(bytes) = self.peek(range.clone()) {
            return Ok(bytes);
        }
        let wider = range.start..range.end.max(range.start + WINDOW).min(self.size);
        let attempt = || async {
            let stream = read_range(&*self.source, wider.clone()).await?;
            collect(stream, wider.end - wider.start).await
        };
        let buffer = attempt.retry(patience()).when(SourceError::is_temporary).await?;
        self.buffer = buffer;
        self.start = wider.start;
        self.reads += 1;
        Ok(self.buffer.slice(..(range.end - range.start) as usize))
    }

    /// The bytes of `range` if they were just read.
    pub fn peek(&self, range: Range<u64>) -> Option<Bytes> {
        let start = usize::try_from(range.start.checked_sub(self.start)?).ok()?;
        let end = usize::try_from(range.end.checked_sub(self.start)?).ok()?;
        (end <= self.buffer.len()).then(|| self.buffer.slice(start..end))
    }

    /// The bytes of `range` as they come.
    pub async fn stream(&mut self, range: Range<u64>) -> Result<Forward, SourceError> {
        self.reads += 1;
        let stream = read_range(&*self.source, range.clone()).await?;
        Ok(Forward { stream, position: range.start, pending: Bytes::new() })
    }
}

/// A file that streams by.
pub struct Forward {
    stream: Chunks,
    /// The offset of the next byte.
    pub position: u64,
    pending: Bytes,
}

impl Forward {
    fn new(stream: Chunks) -> Self {
        Self { stream, position: 0, pending: Bytes::new() }
    }

    /// The bytes of `range`, which must not begin before what was already read.
    pub async fn read(&mut self, range: Range<u64>) -> Result<Bytes, SourceError> {
        self.skip_to(range.start).await?;
        let mut bytes = BytesMut::with_capacity((range.end - range.start) as usize);
        while self.position < range.end {
            bytes.extend_from_slice(&self.chunk(range.end).await?);
        }
        Ok(bytes.freeze())
    }

    /// The next bytes, at least one, up to the offset `end`, before which the file must not end.
    pub async fn chunk(&mut self, end: u64) -> Result<Bytes, SourceError> {
        while self.pending.is_empty() {
            self.pending = self.stream.next().await.unwrap_or_else(|| Err(ended(self.position)))?;
        }
        let length = usize::try_from(end - self.position).unwrap_or(usize::MAX).min(self.pending.len());
        self.position += length as u64;
        Ok(self.pending.split_to(length))
    }

    async fn skip_to(&mut self, offset: u64) -> Result<(), SourceError> {
        while self.position < offset {
            self.chunk(offset).await?;
        }
        Ok(())
    }

    fn rest(self) -> Chunks {
        futures::stream::iter([Ok(self.pending)]).chain(self.stream).boxed()
    }
}

/// The first `length` bytes of a stream.
async fn collect(stream: Chunks, length: u64) -> Result<Bytes, SourceError> {
    Forward::new(stream).read(0..length).await
}

/// A stream that is shorter than the image service said.
pub fn ended(position: u64) -> SourceError {
    SourceError::Unavailable(format!(
        "the image service ended the transfer after {position} bytes, before all were sent"
    ))
}
