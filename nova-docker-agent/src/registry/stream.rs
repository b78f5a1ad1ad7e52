//! The bytes of a layer for one client.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::Stream;
use uuid::Uuid;

use super::cache::Blob;
use super::counters::count;
use super::digest::Digest;
use super::error::Error;
use super::fetch::{Fetcher, Place};
use super::lease::{Leases, OpenImage};

/// How much is read from the disk at once.
const CHUNK: u64 = 256 * 1024;
/// Reads that fail before a client's request does: with the credentials of other leases, or after another image's.
const MAX_ATTEMPTS: usize = 8;

/// A layer of an open image.
pub struct LayerRequest {
    fetcher: Arc<Fetcher>,
    leases: Arc<Leases>,
    /// Keeps the image open while the request lasts.
    open: Arc<OpenImage>,
    digest: Digest,
}

impl LayerRequest {
    pub fn new(fetcher: Arc<Fetcher>, leases: Arc<Leases>, open: Arc<OpenImage>, digest: Digest) -> Self {
        Self { fetcher, leases, open, digest }
    }

    /// The bytes `range` of the layer.
    pub fn stream(self, range: Range<u64>) -> impl Stream<Item = Result<Bytes, Error>> + Send + 'static {
        let reading = Reading { request: self, position: range.start, end: range.end, place: None, failed: vec![] };
        futures::stream::try_unfold(reading, |mut reading| async move {
            let chunk = reading.next().await.inspect_err(|error| reading.give_up(error))?;
            Ok(chunk.map(|chunk| (chunk, reading)))
        })
    }

    fn id(&self) -> Uuid {
        self.open.id
    }

    /// The leases whose credentials can read the layer: the newest first, and the request's own, even if it was dropped.
    fn candidates(&self) -> Vec<Arc<OpenImage>> {
        let mut candidates = self.leases.with_layer(self.id(), &self.digest);
        if !candidates.iter().any(|open| open.lease == self.open.lease) {
            candidates.push(self.open.clone());
        }
        candidates
    }
}

struct Reading {
    request: LayerRequest,
    position: u64,
    end: u64,
    place: Option<Place>,
    /// The leases for which a read failed, one for each attempt, and how.
    failed: Vec<(Option<u64>, Error)>,
}

impl Reading {
    async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            if self.position >= self.end {
                return Ok(None);
            }
            let id = self.request.id();
            let (fetch, found) = match &self.place {
                None => {
                    self.place = Some(self.locate()?);
                    continue;
                }
                Some(Place::Cached(blob)) => return self.read(&blob.clone(), blob.size).await.map(Some),
                Some(Place::Coming(fetch)) => (fetch.clone(), fetch.available(self.position, id).await),
            };
            match found {
                Ok((blob, until)) => return self.read(&blob, until).await.map(Some),
                // What is wrong with another image says nothing of this one.
                Err(error) if fetch.image != id => self.failed.push((None, error)),
                Err(error) if error.is_bad_image() => return Err(error),
                Err(error) => self.failed.push((Some(fetch.lease), error)),
            }
            self.place = None;
        }
    }

    fn locate(&self) -> Result<Place, Error> {
        let tried = |lease: u64| self.failed.iter().any(|(failed, _)| *failed == Some(lease));
        let candidates = self.request.candidates();
        let untried = candidates.iter().find(|open| !tried(open.lease));
        let layer = untried.and_then(|open| Some((open, open.image.layers.get(&self.request.digest)?)));
        match (layer, self.failed.last()) {
            (Some((open, layer)), _) if self.failed.len() < MAX_ATTEMPTS => {
                Ok(self.request.fetcher.locate(self.request.digest, layer, open))
            }
            (_, Some((_, error))) => Err(error.clone()),
            (_, None) => Err(Error::Closed { image: self.request.open.label.clone() }),
        }
    }

    async fn read(&mut self, blob: &Blob, until: u64) -> Result<Bytes, Error> {
        let end = until.min(self.end).min(self.position + CHUNK);
        let bytes = blob.read(self.position..end).await?;
        self.position = end;
        count(&self.request.fetcher.tally.served_bytes, bytes.len() as u64);
        Ok(bytes)
    }

    /// Tells whoever opened the image why it cannot be pulled.
    fn give_up(&self, error: &Error) {
        self.request.candidates().iter().for_each(|open| open.fail(error.clone()));
    }
}
