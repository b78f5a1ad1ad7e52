//! Blobs that were uploaded, or mounted, and are in no image of the repository yet.

use std::collections::HashMap;
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};

use super::{Area, Mount, Staged, blocking};
use crate::files::At;
use crate::public::images::{Age, Blobs, Images, ReadableBlob};
use crate::public::push::Push;
use crate::public::{Grant, Name, Repository};
use crate::store::Blob;
use crate::{ApiError, Digest, Error};

impl Push {
    /// A blob that was uploaded, or mounted.
    ///
    /// # Errors
    /// The disk, or Glance where the blob is to be read from.
    pub async fn staged(&self, at: &Repository, digest: &Digest) -> Result<Option<Arc<dyn ReadableBlob>>, ApiError> {
        Ok(self.all_staged(at, vec![*digest]).await?.remove(digest))
    }

    /// Those of the blobs that were uploaded, or mounted.
    pub async fn all_staged(&self, at: &Repository, digests: Vec<Digest>) -> Result<Blobs, ApiError> {
        let grant = &at.grant;
        if !grant.sees_staged() {
            return Ok(Blobs::new());
        }
        let area = self.area(at)?;
        let find = |area: &Area| digests.into_iter().map(|digest| Ok((digest, area.find(&digest)?))).collect();
        let found: Vec<_> = self.on_disk(at, find).await?;
        let (mut blobs, mut mounts) = (Blobs::new(), HashMap::<Mount, Vec<Digest>>::new());
        for (digest, staged) in found {
            match staged {
                None => {}
                Some(Staged::Mount(mount)) => mounts.entry(mount).or_default().push(digest),
                Some(Staged::Blob { file, size }) => {
                    let (area, images, grant) = (area.clone(), self.images.clone(), grant.clone());
                    blobs.insert(digest, Arc::new(StagedBlob { digest, file, size, area, images, grant }));
                }
            }
        }
        for (mount, mut digests) in mounts {
            blobs.extend(mounted(&self.images, grant, &mount, digests.clone()).await?);
            digests.retain(|digest| !blobs.contains_key(digest));
            // The image has gone: it need not be looked for again.
            let unmount = move |area: &Area| digests.iter().try_for_each(|digest| area.unmount(digest, &mount));
            self.on_disk(at, unmount).await?;
        }
        Ok(blobs)
    }
}

/// Those of the blobs that the images of another repository have.
async fn mounted(images: &Images, grant: &Grant, mount: &Mount, mut digests: Vec<Digest>) -> Result<Blobs, ApiError> {
    let Ok(from) = mount.from.parse::<Name>() else { return Ok(Blobs::new()) };
    let at = Repository { name: from, grant: Grant { owner: mount.owner.clone(), ..grant.clone() } };
    let mut found = images.blobs(&at, digests.iter().copied(), Age::Seconds).await?;
    digests.retain(|digest| !found.contains_key(digest));
    if !digests.is_empty() {
        // The image may have been made just now, by another process.
        found.extend(images.blobs(&at, digests, Age::now()).await?);
    }
    Ok(found)
}

/// A blob that was on the disk when it was looked for. The file is opened when it is read: a manifest may name more blobs
/// than a process can have files.
struct StagedBlob {
    digest: Digest,
    file: PathBuf,
    size: u64,
    area: Area,
    images: Arc<Images>,
    grant: Grant,
}

impl ReadableBlob for StagedBlob {
    fn size(&self) -> u64 {
        self.size
    }

    fn read(self: Arc<Self>, range: Range<u64>) -> BoxStream<'static, Result<Bytes, Error>> {
        futures::stream::once(self.open(range)).try_flatten().boxed()
    }
}

impl StagedBlob {
    async fn open(self: Arc<Self>, range: Range<u64>) -> Result<BoxStream<'static, Result<Bytes, Error>>, Error> {
        let path = self.file.clone();
        let opened = tokio::task::spawn_blocking(move || Blob::open(path)).await.map_err(|_| Error::ShuttingDown)?;
        match opened {
            Ok(blob) => Ok(blob.stream(range).boxed()),
            // Another push has made an image of it meanwhile.
            Err(missing) => match self.moved().await {
                Some(blob) if missing.kind() == io::ErrorKind::NotFound => Ok(blob.read(range)),
                _ => Ok(Err(missing).at("read", &self.file)?),
            },
        }
    }

    async fn moved(&self) -> Option<Arc<dyn ReadableBlob>> {
        let (area, digest) = (self.area.clone(), self.digest);
        let found = blocking(move || area.find(&digest)).await.ok()?;
        let Some(Staged::Mount(mount)) = found else { return None };
        mounted(&self.images, &self.grant, &mount, vec![digest]).await.ok()?.remove(&digest)
    }
}
