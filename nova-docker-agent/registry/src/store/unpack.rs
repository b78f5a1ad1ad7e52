//! Unpacks a layer from the network to the disk, digested on both sides, on a thread of its own.

use std::io::{self, Cursor, Read};

use bytes::{Buf, Bytes};

use super::holes::{self, Holes};
use super::spool::{Chunks, Writer, Written};
use super::{Packing, Partial, packing};
use crate::{Algorithm, Error, Hasher, Problem};

/// How much is unpacked at once.
const PIECE: usize = 256 * 1024;
/// How much room on the disk is made at once: how large the result will be, nobody knows.
const ROOM: u64 = 16 * 1024 * 1024;

/// Writes what is in a layer to `partial`, digests it by `algorithm`, and tells `progress` of each piece that was written. A
/// manifest may name the digest of the layer as it is stored: then it must have that.
pub fn start(
    partial: Partial,
    packing: Packing,
    algorithm: Algorithm,
    progress: impl Fn(u64) + Send + 'static,
) -> Writer<Written> {
    Writer::run(move |chunks| {
        // Few bytes may become very many: whether somebody still wants them is asked meanwhile.
        let writer = chunks.writer.clone();
        let stored_algorithm = packing.digest.map_or(Algorithm::Sha256, |digest| digest.algorithm());
        let mut feed = Feed { chunks, current: Bytes::new(), hasher: stored_algorithm.hasher() };
        let written = unpack(&mut feed, partial, algorithm.hasher(), || writer.upgrade().is_none(), progress)?;
        packing.digest.map_or(Ok(()), |expected| expected.check(feed.hasher.finish()))?;
        Ok(written)
    })
}

fn unpack(
    feed: &mut Feed,
    mut partial: Partial,
    mut hasher: Hasher,
    is_abandoned: impl Fn() -> bool,
    progress: impl Fn(u64),
) -> Result<Written, Error> {
    let bad = |error: io::Error| Error::from(Problem::Undecodable { reason: error.to_string() });
    let mut layer = packing::unpacked(&mut *feed).map_err(bad)?;
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
    io::copy(feed, &mut io::sink()).map_err(bad)?;
    Ok(Written { partial, digest: hasher.finish(), has_holes: false })
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
