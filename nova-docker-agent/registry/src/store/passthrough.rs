//! Passes a layer straight from the image service to a client when the disk has no room for it.
//!
//! Each client costs a read of the whole layer then, and nothing is kept; but a pull does not fail because others have filled
//! the disk. As always, the end is held back until the layer has proved to have its digest.

use std::ops::Range;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures::Stream;
use tokio::sync::mpsc;

use super::fetch::HELD_BACK;
use super::{Fetcher, Stored};
use crate::{Digest, Error};

/// Chunks that wait for the client.
const QUEUE: usize = 2;

/// The bytes `range` of a blob.
pub fn pass(
    fetcher: Arc<Fetcher>,
    digest: Digest,
    stored: Stored,
    range: Range<u64>,
) -> impl Stream<Item = Result<Bytes, Error>> {
    let (client, pieces) = mpsc::channel(QUEUE);
    let (tasks, stop) = (fetcher.tasks.clone(), fetcher.stop.clone());
    let passing = async move {
        let passed = stop.run_until_cancelled(read(&fetcher, digest, &stored, range, &client)).await;
        if let Err(error) = passed.unwrap_or(Err(Error::ShuttingDown)) {
            let error = error.of(&stored.label);
            tracing::warn!(image = %stored.label, layer = %digest, "layer was not passed on: {error}");
            // The client may have gone.
            client.send(Err(error)).await.ok();
        }
    };
    tasks.spawn(passing);
    futures::stream::unfold(pieces, |mut pieces| async { Some((pieces.recv().await?, pieces)) })
}

async fn read(
    fetcher: &Fetcher,
    digest: Digest,
    stored: &Stored,
    range: Range<u64>,
    client: &mpsc::Sender<Result<Bytes, Error>>,
) -> Result<(), Error> {
    let mut layer = fetcher.transfer(stored).await?;
    // What of the layer is sent as it comes, and what is held until all of it has come.
    let sure = range.start..range.end.saturating_sub(HELD_BACK).max(range.start);
    let end = sure.end..range.end;
    let (mut hasher, mut held, mut position) = (digest.algorithm().hasher(), BytesMut::new(), 0);
    while let Some(chunk) = layer.next().await? {
        hasher.update(&chunk);
        held.extend_from_slice(&part(&chunk, position, &end));
        let piece = part(&chunk, position, &sure);
        position += chunk.len() as u64;
        // Clients go away without a word.
        let send = async { if piece.is_empty() { !client.is_closed() } else { client.send(Ok(piece)).await.is_ok() } };
        if !layer.turn.wait(send).await? {
            return Ok(());
        }
    }
    digest.check(hasher.finish())?;
    // Nobody waits for this client.
    drop(layer);
    client.send(Ok(held.freeze())).await.ok();
    Ok(())
}

/// What of a chunk, which begins at `position`, is within `range`.
fn part(chunk: &Bytes, position: u64, range: &Range<u64>) -> Bytes {
    let within = |at: u64| at.saturating_sub(position).min(chunk.len() as u64) as usize;
    chunk.slice(within(range.start)..within(range.end))
}

#[cfg(test)]
mod tests;
