//! A blob in the file of a Glance image, or in memory.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};

use super::ReadableBlob;
use crate::store::passthrough::pass;
use crate::store::{Fetcher, Stored, read_blob};
use crate::{Digest, Error};
use nova_docker_cloud::glance::ImageMeta;

/// It is read from the cache of this host, or from Glance by way of the cache; where the disk is full, from Glance alone.
pub struct StoredBlob {
    pub fetcher: Arc<Fetcher>,
    pub digest: Digest,
    pub stored: Stored,
    /// The image that has it.
    pub record: ImageMeta,
}

impl ReadableBlob for Bytes {
    fn size(&self) -> u64 {
        self.len() as u64
    }

    fn read(self: Arc<Self>, range: Range<u64>) -> BoxStream<'static, Result<Bytes, Error>> {
        let bytes = self.slice(range.start as usize..range.end as usize);
        futures::stream::iter([Ok(bytes)]).boxed()
    }
}

impl ReadableBlob for StoredBlob {
    fn size(&self) -> u64 {
        self.stored.size()
    }

    fn image(&self) -> Option<&ImageMeta> {
        Some(&self.record)
    }

    fn read(self: Arc<Self>, range: Range<u64>) -> BoxStream<'static, Result<Bytes, Error>> {
        let reading = self.fetcher.cache.read(self.digest);
        let kept = read_blob(self.fetcher.clone(), self.digest, self.stored.clone(), range.clone());
        let begun = async move {
            let mut kept = kept.boxed();
            match kept.next().await {
                Some(Err(Error::NoSpace { .. })) => {
                    pass(self.fetcher.clone(), self.digest, self.stored.clone(), range).boxed()
                }
                first => futures::stream::iter(first).chain(kept).boxed(),
            }
        };
        begun.into_stream().flatten().inspect(move |_| _ = &reading).boxed()
    }
}
