//! Keeps a file of an archive in the cache as the archive streams by.

use std::ops::Range;
use std::sync::Arc;

use crate::store::reader::Forward;
use crate::store::spool::{begin, store};
use crate::store::{Cache, Pins, Turn, Writer};
use crate::{Algorithm, Digest, Error};

/// Keeps the bytes `range` of a file that streams by, whatever their digest is; pins and returns it. Where turns are taken, it
/// is done in turns.
pub async fn keep(
    cache: &Arc<Cache>,
    pins: &mut Pins,
    forward: &mut Forward,
    range: Range<u64>,
    turn: &mut Option<Turn>,
) -> Result<Digest, Error> {
    let partial = begin(cache, range.end - range.start).await?;
    let writer = Writer::start(partial, Algorithm::Sha256, |_| {});
    while forward.position() < range.end {
        let chunk = forward.chunk(range.end).await?;
        let length = chunk.len() as u64;
        if !writer.write(chunk).await {
            break;
        }
        if let Some(turn) = turn {
            turn.step(length).await?;
        }
    }
    let (partial, digest) = writer.finish().await?;
    pins.add(digest);
    store(partial, digest).await?;
    Ok(digest)
}
