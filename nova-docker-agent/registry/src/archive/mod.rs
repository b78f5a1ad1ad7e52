//! The index of a `docker save` archive: which file is where, and the small files in it.
//!
//! | file | what |
//! |---|---|
//! | [`walker`] | from tar header to header, by range or as the bytes stream by |
//! | [`layout`], `choice` | the two layouts, and which of an archive's manifests is the one for this host |
//! | [`image`] | what is found: manifest, configuration, and where the layers are |
//! | `configuration`, [`volumes`] | what is read of a configuration, and what is written anew |

mod choice;
mod configuration;
pub mod image;
pub mod layout;
pub mod volumes;
pub mod walker;

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::timeout;

use crate::store::reader::{Forward, Reader, Window, ended};
use crate::store::spool::{begin, store};
use crate::store::{Cache, Pins, Turn, Writer, Written, holes, packing};
use crate::{Algorithm, Digest, Error, Problem, Source, SourceError};
use walker::{Entry, Kind, Walker};

/// Files up to this size that pass through the window are kept: manifests and configurations, mostly.
const SMALL: u64 = 64 * 1024;
/// All of them together.
const SMALL_TOTAL: u64 = 4 * 1024 * 1024;
/// How many bytes tell the compression of a file.
const MAGIC: u64 = packing::MAGIC as u64;
/// Reads that it may take to find what is in an archive: an image of the most layers that may be pushed takes one for each.
const MAX_READS: u64 = 2048;
/// How long that may take.
const MAX_TIME: Duration = Duration::from_secs(120);
/// Links that are followed from one name.
const MAX_LINKS: usize = 16;

/// An archive whose headers were all read.
pub struct Archive {
    files: HashMap<String, Kind>,
    /// Reads by range; None where the store has no ranges, so that all files were kept as they streamed by.
    window: Option<Window>,
    /// Small files, and the first bytes of others, that were seen on the way, by where they begin.
    seen: HashMap<u64, Bytes>,
    /// Files that streamed by, by where they begin.
    kept: HashMap<u64, Kept>,
    cache: Arc<Cache>,
    /// What was put into the cache on the way.
    pins: Pins,
    /// Where turns are taken: the one that this is.
    turn: Option<Turn>,
}

/// A file that streamed by.
#[derive(Clone, Copy)]
struct Kept {
    digest: Digest,
    /// It was left out of the cache, because Docker would make more of it than it has.
    is_left_out: bool,
}

impl Archive {
    /// Reads the headers of the archive, `size` bytes long, in a turn that has been taken, if turns are taken: they are where
    /// users pull, and not for the host's own Docker.
    pub async fn open(
        source: Arc<dyn Source>,
        size: u64,
        cache: &Arc<Cache>,
        turn: Option<Turn>,
    ) -> Result<Self, Error> {
        if size == 0 {
            return Err(Problem::NotATar { found: "it is empty" }.into());
        }
        let (files, seen, kept) = (HashMap::new(), HashMap::new(), HashMap::new());
        let (cache, pins) = (cache.clone(), Pins::none(cache));
        let mut archive = Self { files, window: None, seen, kept, cache, pins, turn };
        match Reader::open(source, size).await? {
            Reader::Ranged(window) => {
                let late = format!("it took more than {} seconds to find what is in the image", MAX_TIME.as_secs());
                let walked = timeout(MAX_TIME, archive.by_range(window, size)).await;
                walked.map_err(|_| SourceError::Unavailable(late))??;
            }
            Reader::Sequential(forward) => archive.in_one_pass(forward, size).await?,
        }
        Ok(archive)
    }

    async fn by_range(&mut self, mut window: Window, size: u64) -> Result<(), Error> {
        let mut walker = Walker::new(size);
        let mut room = SMALL_TOTAL;
        while let Some(range) = walker.wants()? {
            let bytes = window.read(range).await?;
            if window.reads > MAX_READS {
                let reason = format!("it takes more than {MAX_READS} reads to find what is in it");
                return Err(Problem::NotADockerArchive { reason }.into());
            }
            let Some(Entry { path, kind }) = walker.feed(&bytes)? else { continue };
            if let Kind::File(range) = &kind {
                // Of a big one, enough to tell its compression.
                let length = range.end - range.start;
                let kept = if length <= SMALL.min(room) { length } else { length.min(MAGIC) };
                if let Some(content) = window.peek(range.start..range.start + kept) {
                    room = room.saturating_sub(kept);
                    // A copy: a slice would keep the whole window in memory.
                    self.seen.insert(range.start, Bytes::copy_from_slice(&content));
                }
            }
            self.files.insert(path, kind);
        }
        self.window = Some(window);
        Ok(())
    }

    async fn in_one_pass(&mut self, mut forward: Forward, size: u64) -> Result<(), Error> {
        let mut walker = Walker::new(size);
        while let Some(range) = walker.wants()? {
            let bytes = forward.read(range).await?;
            let Some(Entry { path, kind }) = walker.feed(&bytes)? else { continue };
            if let Kind::File(range) = &kind {
                self.spool(&mut forward, range).await?;
            }
            self.files.insert(path, kind);
        }
        Ok(())
    }

    /// Where the content of the file `path` is; links are followed.
    pub fn find(&self, path: &str) -> Option<Range<u64>> {
        let mut path = path;
        for _ in 0..=MAX_LINKS {
            match self.files.get(path)? {
                Kind::File(range) => return Some(range.clone()),
                Kind::Link(target) => path = target,
                Kind::Other => return None,
            }
        }
        None
    }

    /// The blobs of an OCI layout: digest, and where the content is.
    pub fn blobs(&self) -> impl Iterator<Item = (Digest, Range<u64>)> + '_ {
        self.files.keys().filter_map(|path| {
            let (algorithm, hex) = path.strip_prefix("blobs/")?.split_once('/')?;
            Some((format!("{algorithm}:{hex}").parse().ok()?, self.find(path)?))
        })
    }

    /// The content of a small file; `None` if there is none of that name.
    pub async fn read(&mut self, path: &str, limit: u64) -> Result<Option<Bytes>, Error> {
        let Some(range) = self.find(path) else { return Ok(None) };
        let length = range.end - range.start;
        if length > limit {
            return Err(Problem::TooLarge { what: path.to_owned(), found: length, limit }.into());
        }
        self.content(range).await.map(Some)
    }

    /// The first bytes of a file, to tell its compression.
    pub async fn magic(&mut self, range: &Range<u64>) -> Result<Bytes, Error> {
        self.content(range.start..range.end.min(range.start + MAGIC)).await
    }

    /// The content of a small file that [`Archive::find`] or [`Archive::blobs`] found.
    pub async fn content(&mut self, range: Range<u64>) -> Result<Bytes, Error> {
        let length = (range.end - range.start) as usize;
        if length == 0 {
            return Ok(Bytes::new());
        }
        if let Some(content) = self.seen.get(&range.start).filter(|content| content.len() >= length) {
            return Ok(content.slice(..length));
        }
        if let Some(window) = &mut self.window {
            return Ok(window.read(range).await?);
        }
        let kept = self.kept.get(&range.start);
        if kept.is_some_and(|kept| kept.is_left_out) {
            return Err(Problem::Undecodable { reason: holes::REASON.to_owned() }.into());
        }
        let blob = kept.and_then(|kept| self.cache.get(&kept.digest));
        let blob = blob.ok_or_else(|| ended(range.start))?;
        blob.read(0..length as u64).await
    }

    /// Whether the file with this content has this digest, where it has streamed by.
    pub fn check_digest(&self, range: &Range<u64>, expected: Digest) -> Result<(), Problem> {
        self.kept.get(&range.start).map_or(Ok(()), |kept| expected.check(kept.digest))
    }

    /// The digest of the file with this content, which is put into the cache if it is not there.
    pub async fn keep(&mut self, range: &Range<u64>) -> Result<Digest, Error> {
        // A manifest may name one file as many layers.
        if let Some(kept) = self.kept.get(&range.start) {
            return Ok(kept.digest);
        }
        let window = self.window.as_mut().ok_or_else(|| ended(range.start))?;
        let mut stream = window.stream(range.clone()).await?;
        self.spool(&mut stream, range).await
    }

    /// Keeps the bytes `range` of a file that streams by, whatever their digest is; pins and returns it. Where turns are taken, it is
    /// done in turns. Where none are, the host's Docker has what is in the cache: a layer of which it would make more than it has is
    /// left out.
    async fn spool(&mut self, forward: &mut Forward, range: &Range<u64>) -> Result<Digest, Error> {
        let partial = begin(&self.cache, range.end - range.start).await?;
        let writer = Writer::start(partial, Algorithm::Sha256, |_| {});
        while forward.position < range.end {
            let chunk = forward.chunk(range.end).await?;
            let length = chunk.len() as u64;
            if !writer.write(chunk).await {
                break;
            }
            if let Some(turn) = &mut self.turn {
                turn.step(length).await?;
            }
        }
        let Written { partial, digest, has_holes } = writer.finish().await?;
        // What users pull is unpacked by a Docker of their own.
        let is_left_out = self.turn.is_none() && has_holes;
        if !is_left_out {
            self.pins.add(digest);
            store(partial, digest).await?;
        }
        self.kept.insert(range.start, Kept { digest, is_left_out });
        Ok(digest)
    }

    /// Keeps what was put into the cache from eviction, for as long as the result lives.
    pub fn into_pins(self) -> Pins {
        self.pins
    }

    /// How many requests to the store it took so far.
    pub fn reads(&self) -> u64 {
        self.window.as_ref().map_or(1, |window| window.reads)
    }

    /// Whether the store cannot read ranges.
    pub fn is_sequential(&self) -> bool {
        self.window.is_none()
    }

    /// Whether the archive holds a container's file system, as `docker export` writes it.
    pub fn is_file_system(&self) -> bool {
        ["etc", "usr", "bin", "dev"].iter().filter(|name| self.files.contains_key(**name)).count() >= 2
    }
}

#[cfg(test)]
mod tests;
