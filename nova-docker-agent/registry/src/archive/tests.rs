//! What it may cost to find what is in an archive.

use std::sync::atomic::{AtomicU64, Ordering};

use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use tar::Header;

use super::*;
use crate::SourceBody;
use crate::testing::{self, Memory, Tar};

/// An archive of files that are all alike, and too long for one read to find the headers of two.
struct Scattered {
    header: Header,
    files: u64,
    reads: AtomicU64,
}

const FILE: u64 = 256 * 1024;

impl Scattered {
    fn new(files: u64) -> Arc<Self> {
        let mut header = Header::new_gnu();
        header.set_path("layer.tar").unwrap();
        header.set_size(FILE);
        header.set_cksum();
        Arc::new(Self { header, files, reads: AtomicU64::new(0) })
    }

    fn size(&self) -> u64 {
        self.files * (FILE + 512)
    }
}

impl Source for Scattered {
    fn read(&self, range: Option<Range<u64>>) -> BoxFuture<'_, Result<SourceBody, SourceError>> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        let range = range.unwrap();
        let mut bytes = vec![0; usize::try_from(range.end - range.start).unwrap()];
        let mut header = range.start - range.start % (FILE + 512);
        while header < range.end {
            for (place, byte) in (header..).zip(self.header.as_bytes()) {
                if range.contains(&place) {
                    bytes[(place - range.start) as usize] = *byte;
                }
            }
            header += FILE + 512;
        }
        let stream = futures::stream::iter([Ok(Bytes::from(bytes))]).boxed();
        async { Ok(SourceBody { ranged: true, stream }) }.boxed()
    }
}

fn cache() -> (tempfile::TempDir, Arc<Cache>) {
    let directory = tempfile::tempdir().unwrap();
    let cache = Cache::open(directory.path(), 1 << 30).unwrap();
    (directory, cache)
}

#[tokio::test]
async fn an_archive_whose_headers_are_far_apart_is_given_up_in_time() {
    let (_directory, cache) = cache();
    let possible = Scattered::new(100);
    assert!(Archive::open(possible.clone(), possible.size(), &cache, None).await.is_ok());
    assert_eq!(possible.reads.load(Ordering::SeqCst), 100);
    let hostile = Scattered::new(8000);
    let opened = Archive::open(hostile.clone(), hostile.size(), &cache, None).await;
    let failure = opened.err().unwrap().of("web").to_string();
    assert!(failure.contains("more than 2048 reads"), "{failure}");
    assert!(hostile.reads.load(Ordering::SeqCst) <= MAX_READS + 1);
}

#[tokio::test]
async fn a_compressed_layer_that_is_named_many_times_is_read_once() {
    const TIMES: usize = 100;
    let (_directory, cache) = cache();
    let layer = [&[0x1f, 0x8b, 8, 0][..], &testing::layer(1, 1_000_000)].concat();
    let config = testing::config(&vec![layer.clone(); TIMES]);
    let archive = Tar::new()
        .file("layer.tar", &layer)
        .json("config.json", &config)
        .json("manifest.json", &serde_json::json!([{"Config": "config.json", "Layers": vec!["layer.tar"; TIMES]}]))
        .finish();
    let source = Arc::new(Memory::new(archive.clone()));
    let mut opened = Archive::open(source.clone(), archive.len() as u64, &cache, None).await.ok().unwrap();
    let (image, _) = layout::legacy(&mut opened, layout::Serving::AsStored).await.ok().unwrap();
    assert_eq!(image.digests().collect::<Vec<_>>(), [Digest::of(&layer); TIMES]);
    assert!(source.bytes.load(Ordering::SeqCst) < 2 * archive.len() as u64);
}
