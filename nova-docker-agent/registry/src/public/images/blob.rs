//! A blob in the file of a Glance image.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};

use super::ReadableBlob;
use crate::store::passthrough::pass;
use crate::store::{BlobRequest, Fetcher, Stored};
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

impl ReadableBlob for StoredBlob {
    fn size(&self) -> u64 {
        self.stored.range.end - self.stored.range.start
    }

    fn image(&self) -> Option<&ImageMeta> {
        Some(&self.record)
    }

    fn read(self: Arc<Self>, range: Range<u64>) -> BoxStream<'static, Result<Bytes, Error>> {
        let reading = self.fetcher.cache.read(self.digest);
        let (image, stored) = ((self.stored.image, self.stored.label.clone()), self.stored.clone());
        let kept = BlobRequest::new(self.fetcher.clone(), self.digest, image, stored).stream(range.clone());
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
