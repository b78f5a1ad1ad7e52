use std::time::Duration;

use tokio::sync::Semaphore;

use super::*;
use crate::testing::{self, Memory};

/// Far more than any step takes; only a failure waits so long.
const LONG: Duration = Duration::from_secs(120);

/// A blob of 100 bytes, read when there are permits at `gate`.
fn blob(seed: u8, circle: &str, gate: &Arc<Semaphore>) -> (Digest, Stored, Arc<Memory>) {
    let content = testing::layer(seed, 100);
    let digest = Digest::of(&content);
    let source = Arc::new(Memory { gate: Some((0, gate.clone())), ..Memory::new(content) });
    let sharing = Sharing::Circle(circle.into());
    let (image, label) = (Uuid::new_v4(), "image".to_owned());
    (
        digest,
        Stored { image, lease: u64::from(seed), label, source: source.clone(), range: 0..100, packing: None, sharing },
        source,
    )
}

fn coming(place: Place) -> Arc<Fetch> {
    match place {
        Place::Coming(fetch) => fetch,
        Place::Cached(_) => panic!("it is in the cache"),
    }
}

async fn ends(fetch: &Fetch) -> Result<(), Error> {
    tokio::time::timeout(LONG, fetch.available(99, fetch.image)).await.unwrap().map(drop)
}

#[tokio::test]
async fn one_circle_cannot_take_all_reads_and_what_nobody_waits_for_is_not_begun() {
    let directory = tempfile::tempdir().unwrap();
    let fetcher = Fetcher::new(Cache::open(directory.path(), 1 << 20).unwrap());
    let (closed, open) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(1000)));
    let greedy: Vec<_> = (0..20).map(|seed| blob(seed, "greedy", &closed)).collect();
    let mut fetches: Vec<_> =
        greedy.iter().map(|(digest, stored, _)| coming(fetcher.locate(*digest, stored))).collect();
    let (digest, stored, _) = blob(100, "modest", &open);
    ends(&coming(fetcher.locate(digest, &stored))).await.unwrap();
    // The last one waits for its turn, and then its client goes away.
    let last = fetches.pop();
    drop(last);
    closed.add_permits(1000);
    for fetch in &fetches {
        ends(fetch).await.unwrap();
    }
    fetcher.shutdown().await;
    assert_eq!(greedy[19].2.reads(), 0);
}

#[tokio::test]
async fn another_circle_reads_for_itself_what_is_cached() {
    let directory = tempfile::tempdir().unwrap();
    let fetcher = Fetcher::new(Cache::open(directory.path(), 1 << 20).unwrap());
    let open = Arc::new(Semaphore::new(1000));
    for circle in ["one", "two"] {
        let (digest, stored, source) = blob(1, circle, &open);
        ends(&coming(fetcher.locate(digest, &stored))).await.unwrap();
        assert_eq!(source.reads(), 1, "{circle}");
    }
}

#[tokio::test]
async fn a_long_layer_lets_others_read_in_the_middle_of_it() {
    let content = vec![0; 65 << 20];
    let stored = Stored {
        range: 0..content.len() as u64,
        source: Arc::new(Memory::new(content)),
        ..blob(1, "", &Arc::new(Semaphore::new(0))).1
    };
    let turns = Turns::new(1, 1);
    let turn = turns.take(Some("long")).await.unwrap();
    let other = tokio::spawn(async move { turns.take(Some("other")).await.map(drop) });
    tokio::task::yield_now().await;
    let tally = Tally::default();
    let mut layer = Transfer::new(&tally, &stored, turn);
    while layer.next().await.unwrap().is_some() {}
    // It has had its turn: nothing else here has waited for anything.
    assert!(other.is_finished());
}

#[test]
fn who_keeps_up_reads_from_memory_and_who_lags_from_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let cache = Cache::open(directory.path(), 1 << 20).unwrap();
    let blob = cache.begin(100).unwrap().blob();
    let mut progress = Progress::default();
    progress.add(Bytes::from_static(b"first"));
    progress.add(Bytes::from_static(b"second"));
    let memory = |range| match progress.piece(&blob, range) {
        Piece::Memory(bytes) => bytes,
        Piece::File(..) => panic!("it is in memory"),
    };
    assert_eq!(memory(5..11), "second");
    assert_eq!(memory(7..10), "con");
    assert!(matches!(progress.piece(&blob, 4..11), Piece::File(_, 11)));
}
