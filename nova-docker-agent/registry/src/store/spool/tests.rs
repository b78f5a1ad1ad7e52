use std::time::Duration;

use super::*;

#[tokio::test]
async fn a_chunk_that_is_longer_than_the_queue_is_written_all_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let cache = Cache::open(directory.path(), 1 << 30).unwrap();
    let chunk = Bytes::from(vec![7; 3 * QUEUED]);
    let partial = begin(&cache, 2 * chunk.len() as u64).await.unwrap();
    let writer = Writer::start(partial, Algorithm::Sha256, |_| {});
    let written = async { writer.write(chunk.clone()).await && writer.write(chunk.clone()).await };
    assert!(tokio::time::timeout(Duration::from_secs(120), written).await.unwrap());
    let Written { digest, .. } = writer.finish().await.unwrap();
    assert_eq!(digest, Digest::of(&chunk.repeat(2)));
}
