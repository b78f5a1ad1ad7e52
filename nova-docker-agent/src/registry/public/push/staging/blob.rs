//! A staged blob, to be read.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};

use super::super::super::images::ReadableBlob;
use crate::registry::Error;

/// How much is read from the disk at once.
const PIECE: u64 = 1024 * 1024;

/// A blob whose digest was verified before it got its name. The file is opened when it is read: a manifest may name
/// more blobs than a process can have files.
pub struct StagedBlob {
    /// Where it may be by then.
    places: Vec<PathBuf>,
    size: u64,
}

impl StagedBlob {
    pub fn new(places: Vec<PathBuf>, size: u64) -> Self {
        Self { places, size }
    }

    fn open(&self) -> Result<File, Error> {
        let mut missing = io::Error::from(io::ErrorKind::NotFound);
        for path in &self.places {
            match File::open(path) {
                Ok(file) => return Ok(file),
                Err(error) => missing = error,
            }
        }
        Err(self.failed(missing))
    }

    fn failed(&self, cause: io::Error) -> Error {
        Error::cache("read", self.places.first().cloned().unwrap_or_default(), cause)
    }
}

impl ReadableBlob for StagedBlob {
    fn size(&self) -> u64 {
        self.size
    }

    fn read(self: Arc<Self>, range: Range<u64>) -> BoxStream<'static, Result<Bytes, Error>> {
        let opening = async move {
            let blob = self.clone();
            let file = blocking(move || blob.open()).await?;
            Ok(pieces(self, Arc::new(file), range))
        };
        futures::stream::once(opening).try_flatten().boxed()
    }
}

fn pieces(
    blob: Arc<StagedBlob>,
    file: Arc<File>,
    range: Range<u64>,
) -> impl futures::Stream<Item = Result<Bytes, Error>> + Send + 'static {
    futures::stream::try_unfold(range, move |left| {
        let (blob, file) = (blob.clone(), file.clone());
        async move {
            if left.is_empty() {
                return Ok(None);
            }
            let end = left.end.min(left.start + PIECE);
            let read = move || {
                let mut piece = vec![0; (end - left.start) as usize];
                file.read_exact_at(&mut piece, left.start).map_err(|cause| blob.failed(cause))?;
                Ok(Bytes::from(piece))
            };
            Ok(Some((blocking(read).await?, end..left.end)))
        }
    })
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Error> + Send + 'static) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await.unwrap_or(Err(Error::ShuttingDown))
}
