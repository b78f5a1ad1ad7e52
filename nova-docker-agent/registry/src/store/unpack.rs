//! Unpacks a layer from the network to the disk, digested on both sides, on a thread of its own.

use std::io::{self, Cursor, Read};

use bytes::{Buf, Bytes};

use super::holes::{self, Holes};
use super::spool::{Chunks, Writer};
use super::{Partial, packing};
use crate::{Algorithm, Digest, Error, Hasher, Problem};

/// How much is unpacked at once.
const PIECE: usize = 256 * 1024;
/// How much room on the disk is made at once: how large the result will be, nobody knows.
const ROOM: u64 = 16 * 1024 * 1024;

/// A layer that was unpacked.
pub struct Unpacked {
    pub partial: Partial,
    /// The digest of it as it was stored, by SHA-256.
    pub packed: Digest,
    /// The digest of it as it is now.
    pub content: Digest,
}

/// Writes to `partial`, digests by the algorithms of the packed and the unpacked layer, and tells `progress` of each piece that
/// was written.
pub fn start(
    partial: Partial,
    [packed, content]: [Algorithm; 2],
    progress: impl Fn(u64) + Send + 'static,
) -> Writer<Unpacked> {
    Writer::run(move |chunks| {
        // Few bytes may become very many: whether somebody still wants them is asked meanwhile.
        let writer = chunks.writer.clone();
        let feed = Feed { chunks, current: Bytes::new(), hasher: packed.hasher() };
        unpack(feed, partial, content.hasher(), || writer.upgrade().is_none(), progress)
    })
}

fn unpack(
    mut feed: Feed,
    mut partial: Partial,
    mut hasher: Hasher,
    is_abandoned: impl Fn() -> bool,
    progress: impl Fn(u64),
) -> Result<Unpacked, Error> {
    let bad = |error: io::Error| Error::from(Problem::Undecodable { reason: error.to_string() });
    let mut layer = packing::unpacked(&mut feed).map_err(bad)?;
    let mut magic = vec![];
    layer.by_ref().take(packing::MAGIC as u64).read_to_end(&mut magic).map_err(bad)?;
    // Docker would unpack it once more, without a bound.
    if packing::Compression::of(&magic) != packing::Compression::None {
        return Err(Problem::Undecodable { reason: "it is compressed twice".to_owned() }.into());
    }
    let mut layer = Read::chain(Cursor::new(magic), layer);
    let mut piece = vec![0; PIECE];
    let (mut room, mut holes) = (0, Holes::default());
    loop {
        let length = layer.read(&mut piece).map_err(bad)?;
        if is_abandoned() {
            return Err(Error::ShuttingDown);
        }
        if length == 0 {
            break;
        }
        if room < length as u64 {
            partial.extend(ROOM)?;
            room = ROOM;
        }
        partial.write(&piece[..length])?;
        room -= length as u64;
        hasher.update(&piece[..length]);
        holes.feed(&piece[..length]);
        if holes.found() {
            return Err(Problem::Undecodable { reason: holes::REASON.to_owned() }.into());
        }
        progress(length as u64);
    }
    drop(layer);
    // Decoders do not look at what comes after the end.
    io::copy(&mut feed, &mut io::sink()).map_err(bad)?;
    Ok(Unpacked { partial, packed: feed.hasher.finish(), content: hasher.finish() })
}

/// The chunks as they come.
struct Feed {
    chunks: Chunks,
    current: Bytes,
    hasher: Hasher,
}

impl Read for Feed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            let Some(chunk) = self.chunks.next() else { return Ok(0) };
            self.hasher.update(&chunk);
            self.current = chunk;
        }
        let length = buffer.len().min(self.current.len());
        self.current.copy_to_slice(&mut buffer[..length]);
        Ok(length)
    }
}
