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

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::timeout;

use crate::store::reader::{Forward, Reader, Window, ended};
use crate::store::spool::{begin, store};
use crate::store::{Cache, Pins, Turn, Writer, Written, holes};
use crate::{Algorithm, Digest, Error, Problem, Source, SourceError};
use walker::{Entry, Kind, Walker};

/// Files up to this size that pass through the window are kept: manifests and configurations, mostly.
const SMALL: u64 = 64 * 1024;
/// All of them together.
const SMALL_TOTAL: u64 = 4 * 1024 * 1024;
/// How many bytes tell the compression of a file.
const MAGIC: u64 = 6;
/// Reads that it may take to find what is in an archive: an image of the most layers that may be pushed takes one for each.
const MAX_READS: u64 = 2048;
/// How long that may take.
const MAX_TIME: Duration = Duration::from_secs(120);
/// Links that are followed from one name.
const MAX_LINKS: usize = 16;

/// An archive whose headers were all read.
pub struct Archive {
    files: HashMap<String, Kind>,
    contents: Contents,
    cache: Arc<Cache>,
    /// What was put into the cache on the way.
    pins: Pins,
    /// Where turns are taken: the one that this is.
    turn: Option<Turn>,
}

/// Where the files' contents are to be had.
enum Contents {
    /// In the store, by range; small ones, and the first bytes of others, were seen on the way, and some were put into the
    /// cache. By where they begin.
    Ranged { window: Window, seen: HashMap<u64, Bytes>, kept: HashMap<u64, Digest> },
    /// In the cache: the store has no ranges, so that all was kept as it streamed by. By where they begin; and
    /// those that were left out, because Docker would make more of them than they have.
    Spooled { digests: HashMap<u64, Digest>, holes: HashSet<Digest> },
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
        match Reader::open(source, size).await? {
            Reader::Ranged(window) => match timeout(MAX_TIME, Self::by_range(window, size, cache, turn)).await {
                Ok(opened) => opened,
                Err(_) => Err(SourceError::Unavailable(format!(
                    "it took more than {} seconds to find what is in the image",
                    MAX_TIME.as_secs()
                ))
                .into()),
            },
            Reader::Sequential(forward) => Self::in_one_pass(forward, size, cache, turn).await,
        }
    }

    async fn by_range(mut window: Window, size: u64, cache: &Arc<Cache>, turn: Option<Turn>) -> Result<Self, Error> {
        let mut walker = Walker::new(size);
        let mut files = HashMap::new();
        let mut seen = HashMap::new();
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
                    seen.insert(range.start, Bytes::copy_from_slice(&content));
                }
            }
            files.insert(path, kind);
        }
        let (cache, pins) = (cache.clone(), Pins::none(cache));
        Ok(Self { files, contents: Contents::Ranged { window, seen, kept: HashMap::new() }, cache, pins, turn })
    }

    async fn in_one_pass(
        mut forward: Forward,
        size: u64,
        cache: &Arc<Cache>,
        mut turn: Option<Turn>,
    ) -> Result<Self, Error> {
        let mut walker = Walker::new(size);
        let mut files = HashMap::new();
        let (mut digests, mut holes) = (HashMap::new(), HashSet::new());
        let mut pins = Pins::none(cache);
        while let Some(range) = walker.wants()? {
            let bytes = forward.read(range).await?;
            let Some(Entry { path, kind }) = walker.feed(&bytes)? else { continue };
            if let Kind::File(range) = &kind {
                let (digest, is_kept) = keep(cache, &mut pins, &mut forward, range.clone(), &mut turn).await?;
                digests.insert(range.start, digest);
                holes.extend((!is_kept).then_some(digest));
            }
            files.insert(path, kind);
        }
        Ok(Self { files, contents: Contents::Spooled { digests, holes }, cache: cache.clone(), pins, turn })
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
        match &mut self.contents {
            Contents::Ranged { window, seen, .. } => match seen.get(&range.start) {
                Some(content) if content.len() >= length => Ok(content.slice(..length)),
                _ => Ok(window.read(range).await?),
            },
            Contents::Spooled { digests, holes } => {
                let digest = digests.get(&range.start).copied();
                if digest.is_some_and(|digest| holes.contains(&digest)) {
                    return Err(Problem::Undecodable { reason: holes::REASON.to_owned() }.into());
                }
                let blob = digest.and_then(|digest| self.cache.get(&digest));
                let blob = blob.ok_or_else(|| ended(range.start))?;
                blob.read(0..length as u64).await
            }
        }
    }

    /// The digest of the file with this content, when it was kept in the cache as it streamed by.
    pub fn digest(&self, range: &Range<u64>) -> Option<Digest> {
        match &self.contents {
            Contents::Ranged { .. } => None,
            Contents::Spooled { digests, .. } => digests.get(&range.start).copied(),
        }
    }

    /// The digest of the file with this content, which is put into the cache if it is not there.
    pub async fn keep(&mut self, range: &Range<u64>) -> Result<Digest, Error> {
        match &mut self.contents {
            Contents::Ranged { window, kept, .. } => {
                // A manifest may name one file as many layers.
                if let Some(digest) = kept.get(&range.start) {
                    return Ok(*digest);
                }
                let mut stream = window.stream(range.clone()).await?;
                let (cache, pins, turn) = (&self.cache, &mut self.pins, &mut self.turn);
                let (digest, _) = keep(cache, pins, &mut stream, range.clone(), turn).await?;
                kept.insert(range.start, digest);
                Ok(digest)
            }
            Contents::Spooled { digests, .. } => {
                Ok(digests.get(&range.start).copied().ok_or_else(|| ended(range.start))?)
            }
        }
    }

    /// Keeps what was put into the cache from eviction, for as long as the result lives.
    pub fn into_pins(self) -> Pins {
        self.pins
    }

    /// How many requests to the store it took so far.
    pub fn reads(&self) -> u64 {
        match &self.contents {
            Contents::Ranged { window, .. } => window.reads,
            Contents::Spooled { .. } => 1,
        }
    }

    /// Whether the store cannot read ranges.
    pub fn is_sequential(&self) -> bool {
        matches!(self.contents, Contents::Spooled { .. })
    }

    /// Whether the archive holds a container's file system, as `docker export` writes it.
    pub fn is_file_system(&self) -> bool {
        ["etc", "usr", "bin", "dev"].iter().filter(|name| self.files.contains_key(**name)).count() >= 2
    }
}

/// Keeps the bytes `range` of a file that streams by, whatever their digest is; pins and returns it, and whether they were kept.
/// Where turns are taken, it is done in turns. Where none are, the host's Docker has what is in the cache: a layer of which it would
/// make more than it has is left out.
async fn keep(
    cache: &Arc<Cache>,
    pins: &mut Pins,
    forward: &mut Forward,
    range: Range<u64>,
    turn: &mut Option<Turn>,
) -> Result<(Digest, bool), Error> {
    let partial = begin(cache, range.end - range.start).await?;
    let writer = Writer::start(partial, Algorithm::Sha256, |_| {});
    while forward.position < range.end {
        let chunk = forward.chunk(range.end).await?;
        let length = chunk.len() as u64;
        if !writer.write(chunk).await {
            break;
        }
        if let Some(turn) = turn {
            turn.step(length).await?;
        }
    }
    let Written { partial, digest, has_holes } = writer.finish().await?;
    // What users pull is unpacked by a Docker of their own.
    let is_kept = turn.is_some() || !has_holes;
    if is_kept {
        pins.add(digest);
        store(partial, digest).await?;
    }
    Ok((digest, is_kept))
}

#[cfg(test)]
mod tests;
