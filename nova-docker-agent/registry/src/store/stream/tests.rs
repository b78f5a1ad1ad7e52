use std::path::Path;

use futures::TryStreamExt;

use super::*;
use crate::store::{Cache, Sharing};
use crate::testing::{self, Memory};

async fn read(directory: &Path, stored: &Stored, content: &[u8]) -> Result<Vec<u8>, Error> {
    let fetcher = Fetcher::new(Cache::open(directory, 1 << 20).unwrap());
    let digest = Digest::of(content);
    let read = read_blob(fetcher.clone(), digest, stored.clone(), 0..content.len() as u64);
    let read = read.try_collect::<Vec<Bytes>>().await;
    fetcher.tasks.close();
    fetcher.tasks.wait().await;
    read.map(|pieces| pieces.concat())
}

#[tokio::test]
async fn a_blob_that_was_damaged_on_the_disk_is_found_out_and_read_again_from_its_image() {
    let directory = tempfile::tempdir().unwrap();
    let content = testing::layer(1, 700_000);
    let source = Arc::new(Memory::new(content.clone()));
    let (image, label, sharing) = (Uuid::new_v4(), String::new(), Sharing::Circle("project".into()));
    let range = 0..content.len() as u64;
    let stored = Stored { image, lease: 1, label, source: source.clone(), range, packing: None, sharing };
    assert!(read(directory.path(), &stored, &content).await.unwrap() == content);
    let mut damaged = content.clone();
    damaged[350_000] ^= 1;
    std::fs::write(directory.path().join("blobs-2").join(Digest::of(&content).path()), damaged).unwrap();
    // The next process.
    assert!(matches!(read(directory.path(), &stored, &content).await, Err(Error::Cache(_))));
    assert_eq!(source.reads(), 1);
    for _ in 0..2 {
        assert!(read(directory.path(), &stored, &content).await.unwrap() == content);
    }
    assert_eq!(source.reads(), 2);
}
