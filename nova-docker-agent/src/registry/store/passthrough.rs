//! Passes a layer on from the image service where the disk has no room for it.
//!
//! Each client costs a read of the whole layer then, and nothing is kept; but a pull does not fail because others have filled
//! the disk. As always, the end is held back until the layer has proved to have its digest.

use std::ops::Range;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures::Stream;
use tokio::sync::mpsc;

use super::fetch::{Fetcher, HELD_BACK, Sink, Stored, copy};
use crate::registry::digest::{Digest, Hasher};
use crate::registry::error::{Error, Problem};

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
    let mut turn = fetcher.turn(stored).await?;
    let sure = range.start..range.end.saturating_sub(HELD_BACK).max(range.start);
    let end = sure.end..range.end;
    let hasher = digest.algorithm().hasher();
    let mut passing = Passing { client, hasher, position: 0, sure, end, held: BytesMut::new() };
    if !copy(&fetcher.tally, stored, &mut turn, &mut passing).await? {
        return Ok(());
    }
    let found = passing.hasher.finish();
    if found != digest {
        let problem = Problem::DigestMismatch { expected: digest, found };
        return Err(Error::BadImage { image: stored.label.clone(), problem });
    }
    client.send(Ok(passing.held.freeze())).await.ok();
    Ok(())
}

/// A layer on its way to a client.
struct Passing<'a> {
    client: &'a mpsc::Sender<Result<Bytes, Error>>,
    hasher: Hasher,
    position: u64,
    /// What of the layer is sent as it comes, and what is held until all of it has come.
    sure: Range<u64>,
    end: Range<u64>,
    held: BytesMut,
}

impl Sink for Passing<'_> {
    async fn take(&mut self, chunk: Bytes) -> bool {
        self.hasher.update(&chunk);
        self.held.extend_from_slice(&part(&chunk, self.position, &self.end));
        let piece = part(&chunk, self.position, &self.sure);
        self.position += chunk.len() as u64;
        // Clients go away without a word.
        if piece.is_empty() { !self.client.is_closed() } else { self.client.send(Ok(piece)).await.is_ok() }
    }
}

/// What of a chunk, which begins at `position`, is within `range`.
fn part(chunk: &Bytes, position: u64, range: &Range<u64>) -> Bytes {
    let within = |at: u64| at.saturating_sub(position).min(chunk.len() as u64) as usize;
    chunk.slice(within(range.start)..within(range.end))
}

#[cfg(test)]
mod tests {
    use futures::{StreamExt, TryStreamExt};
    use uuid::Uuid;

    use super::*;
    use crate::registry::store::cache::Cache;
    use crate::registry::store::proofs::Sharing;
    use crate::registry::testing::{self, Memory};

    /// A blob of the bytes `range` of a file, and what reads it.
    fn blob(content: &[u8], range: Range<u64>) -> (Arc<Fetcher>, Stored, tempfile::TempDir) {
        let directory = tempfile::tempdir().unwrap();
        let fetcher = Fetcher::new(Cache::open(directory.path(), 1 << 20).unwrap());
        let (source, sharing) = (Arc::new(Memory::new(content.to_vec())), Sharing::Circle("project".into()));
        let (image, label) = (Uuid::new_v4(), "image".to_owned());
        (fetcher, Stored { image, lease: 1, label, source, range, sharing }, directory)
    }

    #[tokio::test]
    async fn what_is_asked_for_is_passed_and_nothing_is_kept() {
        let file = testing::layer(1, 300_000);
        let layer = &file[100..250_000];
        let (fetcher, stored, _directory) = blob(&file, 100..250_000);
        for range in [0..249_900, 0..1, 249_899..249_900, 1000..200_000, 0..0] {
            let digest = Digest::of(layer);
            let pieces: Vec<Bytes> =
                pass(fetcher.clone(), digest, stored.clone(), range.clone()).try_collect().await.unwrap();
            assert!(pieces.concat() == layer[range.start as usize..range.end as usize], "{range:?}");
        }
        assert_eq!(fetcher.cache.total(), 0);
    }

    #[tokio::test]
    async fn the_end_of_a_layer_that_has_another_digest_is_not_passed() {
        let file = testing::layer(1, 300_000);
        for range in [0..300_000_u64, 0..100, 299_000..300_000] {
            let (fetcher, stored, _directory) = blob(&file, 0..300_000);
            let passed: Vec<_> = pass(fetcher, Digest::of(b"another"), stored, range.clone()).collect().await;
            let (last, others) = passed.split_last().unwrap();
            assert!(last.as_ref().is_err_and(Error::is_bad_image), "{range:?}");
            let given: usize = others.iter().map(|piece| piece.as_ref().unwrap().len()).sum();
            assert_eq!(given as u64, (range.end - range.start).saturating_sub(HELD_BACK), "{range:?}");
        }
    }

    #[tokio::test]
    async fn nothing_is_read_any_more_when_the_client_has_gone() {
        let file = testing::layer(1, 2_000_000);
        let (fetcher, stored, _directory) = blob(&file, 0..2_000_000);
        let mut passed = Box::pin(pass(fetcher.clone(), Digest::of(&file), stored, 0..2_000_000));
        passed.next().await.unwrap().unwrap();
        drop(passed);
        fetcher.tasks.close();
        fetcher.tasks.wait().await;
        let read = fetcher.tally.read(0).layer_bytes;
        assert!(read < 1_000_000, "{read} bytes were read");
    }
}
