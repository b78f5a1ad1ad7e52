//! The bytes of a blob for one client.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::Stream;
use uuid::Uuid;

use super::fetch::{Piece, Place};
use super::{Blob, Fetcher, Stored};
use crate::files::At;
use crate::{Digest, Error, Hasher};

/// How much is read from the disk at once.
const CHUNK: u64 = 256 * 1024;
/// Reads that fail before a client's request does: with the credentials of other leases, or after another image's.
const MAX_ATTEMPTS: usize = 8;

/// Who can read the blob, for as long as a request for it lasts.
pub trait Readers: Send + Sync {
    /// The image that the request is for, and what it is called in messages.
    fn image(&self) -> (Uuid, &str);
    /// Where the blob is, and with which credentials of its image it can be read: those that last longest first.
    fn candidates(&self) -> Vec<Stored>;
    /// Is told why none of them could.
    fn failed(&self, error: &Error);
}

/// The one user whose request it is.
impl Readers for Stored {
    fn image(&self) -> (Uuid, &str) {
        (self.image, &self.label)
    }

    fn candidates(&self) -> Vec<Stored> {
        vec![self.clone()]
    }

    fn failed(&self, error: &Error) {
        tracing::debug!(image = %self.image, "a blob was not read: {error}");
    }
}

/// The bytes `range` of a blob that somebody asked for.
pub fn read_blob(
    fetcher: Arc<Fetcher>,
    digest: Digest,
    readers: impl Readers + 'static,
    range: Range<u64>,
) -> impl Stream<Item = Result<Bytes, Error>> + Send + 'static {
    let (position, end) = (range.start, range.end);
    let reading = Reading { fetcher, digest, readers, position, end, place: None, check: None, failed: vec![] };
    futures::stream::try_unfold(reading, |mut reading| async move {
        let chunk = reading.next().await.inspect_err(|error| reading.readers.failed(error))?;
        Ok(chunk.map(|chunk| (chunk, reading)))
    })
}

struct Reading<R> {
    fetcher: Arc<Fetcher>,
    digest: Digest,
    readers: R,
    position: u64,
    end: u64,
    place: Option<Place>,
    /// Of a blob that is here, and whose content is looked at while all of it is read.
    check: Option<Hasher>,
    /// The leases for which a read failed, one for each attempt, and how.
    failed: Vec<(Option<u64>, Error)>,
}

impl<R: Readers> Reading<R> {
    async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            if self.position >= self.end {
                return Ok(None);
            }
            let (id, _) = self.readers.image();
            let (fetch, found) = match &self.place {
                None => {
                    self.place = Some(self.locate()?);
                    self.check = self.begin_check();
                    continue;
                }
                Some(Place::Cached(blob)) => return self.read(&blob.clone(), blob.size).await,
                Some(Place::Coming(fetch)) => (fetch.clone(), fetch.available(self.position, id).await),
            };
            match found {
                Ok(Piece::Memory(bytes)) => return Ok(Some(self.pass(bytes))),
                Ok(Piece::File(blob, until)) => return self.read(&blob, until).await,
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
        let candidates = self.readers.candidates();
        let untried = candidates.iter().find(|stored| !tried(stored.lease));
        match (untried, self.failed.last()) {
            (Some(stored), _) if self.failed.len() < MAX_ATTEMPTS => Ok(self.fetcher.locate(self.digest, stored)),
            (_, Some((_, error))) => Err(error.clone()),
            (_, None) => Err(Error::Closed { image: self.readers.image().1.to_owned() }),
        }
    }

    async fn read(&mut self, blob: &Blob, until: u64) -> Result<Option<Bytes>, Error> {
        let end = until.min(self.end).min(self.position + CHUNK);
        let bytes = self.pass(blob.read(self.position..end).await?);
        if let Some(hasher) = &mut self.check {
            hasher.update(&bytes);
        }
        self.end_check()?;
        Ok(Some(bytes))
    }

    /// What is on the disk was right when it was written; disks forget.
    fn begin_check(&self) -> Option<Hasher> {
        let digest = &self.digest;
        let is_whole = matches!(&self.place, Some(Place::Cached(blob)) if self.position == 0 && self.end == blob.size);
        (is_whole && self.fetcher.cache.is_due(digest)).then(|| digest.algorithm().hasher())
    }

    /// Withholds the end of a blob that is damaged: the client tries again, and has it from its image.
    fn end_check(&mut self) -> Result<(), Error> {
        if self.position < self.end {
            return Ok(());
        }
        let Some(found) = self.check.take().map(Hasher::finish) else { return Ok(()) };
        let expected = self.digest;
        self.fetcher.cache.check(&expected, found == expected);
        if found == expected {
            return Ok(());
        }
        let problem = std::io::Error::other(format!("it has the digest {found}"));
        Ok(Err(problem).at("read", expected.path())?)
    }

    /// The bytes at the position, or those of them that were asked for.
    fn pass(&mut self, mut bytes: Bytes) -> Bytes {
        bytes.truncate(usize::try_from(self.end - self.position).unwrap_or(usize::MAX));
        self.position += bytes.len() as u64;
        self.fetcher.tally.lock().served_bytes += bytes.len() as u64;
        bytes
    }
}

#[cfg(test)]
mod tests;
