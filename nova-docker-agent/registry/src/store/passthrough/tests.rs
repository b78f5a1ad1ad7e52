use futures::{StreamExt, TryStreamExt};
use uuid::Uuid;

use super::*;
use crate::store::{Cache, Sharing};
use crate::testing::{self, Memory};

/// A blob of the bytes `range` of a file, and what reads it.
fn blob(content: &[u8], range: Range<u64>) -> (Arc<Fetcher>, Stored, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let fetcher = Fetcher::new(Cache::open(directory.path(), 1 << 20).unwrap());
    let (source, sharing) = (Arc::new(Memory::new(content.to_vec())), Sharing::Circle("project".into()));
    let (image, label) = (Uuid::new_v4(), "image".to_owned());
    (fetcher, Stored { image, lease: 1, label, source, range, packing: None, sharing }, directory)
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
    let read = fetcher.counters().layer_bytes;
    assert!(read < 1_000_000, "{read} bytes were read");
}
