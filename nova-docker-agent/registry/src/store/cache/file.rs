//! Files of the cache: blobs, and those that are being written.

use std::fs::{self, File};
use std::io::{self, IoSliceMut};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures::Stream;
use rustix::io::{ReadWriteFlags, preadv2};

use super::{Digest, Error, Kept, MARGIN, touch};
use crate::files::{self, At, if_there};
use crate::store::{Cache, Compression, packing};

/// How much of a file is read at once.
const PIECE: u64 = 1024 * 1024;

/// A blob, or the beginning of one. It stays readable when its file is renamed or removed.
#[derive(Clone)]
pub struct Blob {
    pub(super) file: Arc<File>,
    pub(super) path: Arc<PathBuf>,
    pub size: u64,
}

impl Blob {
    /// A file that is complete, wherever it is. Blocks.
    pub fn open(path: PathBuf) -> io::Result<Self> {
        let file = File::open(&path)?;
        Ok(Self { size: file.metadata()?.len(), file: Arc::new(file), path: Arc::new(path) })
    }

    /// Whether it is not compressed, as its first bytes say. Blocks, for no longer than opening it does.
    pub fn is_plain(&self) -> bool {
        let mut magic = [0; packing::MAGIC];
        let read = self.file.read_at(&mut magic, 0);
        read.is_ok_and(|length| Compression::of(&magic[..length]) == Compression::None)
    }

    /// The bytes of `range`, in pieces.
    pub fn stream(self, range: Range<u64>) -> impl Stream<Item = Result<Bytes, Error>> + Send + 'static {
        futures::stream::try_unfold(range, move |left| {
            let blob = self.clone();
            async move {
                let end = left.end.min(left.start + PIECE);
                let piece = if left.is_empty() { None } else { Some(blob.read(left.start..end).await?) };
                Ok(piece.map(|piece| (piece, end..left.end)))
            }
        })
    }

    /// The bytes of `range`, which must be within what was written.
    pub async fn read(&self, range: Range<u64>) -> Result<Bytes, Error> {
        let mut bytes = vec![0; (range.end - range.start) as usize];
        let start = range.start;
        // What the kernel has in memory is not worth the way to another thread.
        let found = preadv2(&*self.file, &mut [IoSliceMut::new(&mut bytes)], start, ReadWriteFlags::NOWAIT);
        let found = found.unwrap_or(0);
        if found == bytes.len() {
            return Ok(bytes.into());
        }
        let Self { file, path, .. } = self.clone();
        let read = move || {
            file.read_exact_at(&mut bytes[found..], start + found as u64).at("read", &*path)?;
            Ok(Bytes::from(bytes))
        };
        tokio::task::spawn_blocking(read).await.unwrap_or(Err(Error::ShuttingDown))
    }
}

impl Cache {
    /// Takes a file that is verified and synced as the blob with this digest. Returns whether the blob is here; the file is left
    /// where it is when it was here already, and when it is larger than the cache, or on another file system.
    pub fn adopt(&self, digest: Digest, file: &Path) -> Result<bool, Error> {
        let found = File::open(file).and_then(|opened| Ok((opened.metadata()?.len(), touch(&opened, file))));
        let Some((size, used)) = if_there(found).at("look at", file)? else { return Ok(false) };
        if self.get(&digest).is_some_and(|blob| blob.size == size) {
            return Ok(true);
        }
        if size > self.state().limit {
            return Ok(false);
        }
        self.look()?;
        self.trim(size);
        let target = self.path(&digest);
        match fs::rename(file, &target) {
            Err(error) if [io::ErrorKind::NotFound, io::ErrorKind::CrossesDevices].contains(&error.kind()) => {
                return Ok(false);
            }
            renamed => renamed.at("rename to", &target)?,
        }
        self.state().remember(digest, Kept::new(size, used));
        self.free(|| MARGIN, || files::available(&self.blobs))?;
        Ok(true)
    }
}

/// A blob that is being written. The file is removed when this is dropped before [`Partial::store`].
pub struct Partial {
    pub(super) cache: Arc<Cache>,
    /// As large as it will be: there is room for that.
    pub(super) blob: Blob,
    pub(super) written: u64,
}

impl Partial {
    /// Reads what is being written; `size` is what it will have.
    pub fn blob(&self) -> Blob {
        self.blob.clone()
    }

    /// Makes room for `size` more bytes than were written, instead of for those that it was begun for. Blocks.
    pub fn extend(&mut self, size: u64) -> Result<(), Error> {
        self.cache.state().reserved -= std::mem::take(&mut self.blob.size);
        self.cache.make_room(size)?;
        self.cache.state().reserved += size;
        self.blob.size = size;
        Ok(())
    }

    /// What was written, when no more will be.
    pub fn whole(&self) -> Blob {
        Blob { size: self.written, ..self.blob() }
    }

    /// Appends. Blocks.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.blob.file.write_all_at(bytes, self.written).at("write", &*self.blob.path)?;
        self.written += bytes.len() as u64;
        Ok(())
    }

    /// Keeps it as the blob with this digest, which the caller has verified. Blocks until it is on the disk, so that a
    /// blob is whole even if the host stops at once.
    pub fn store(self, digest: Digest) -> Result<(), Error> {
        let Blob { file, path, .. } = &self.blob;
        let used = touch(file, path);
        file.sync_data().at("sync", &**path)?;
        let target = self.cache.path(&digest);
        fs::rename(&**path, &target).at("rename to", &target)?;
        self.cache.state().remember(digest, Kept::new(self.written, used));
        self.cache.trim(0);
        Ok(())
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        self.cache.state().reserved -= self.blob.size;
        // It may have been stored.
        if let Err(error) = files::remove(&self.blob.path) {
            tracing::warn!("layer cache: {error}");
        }
    }
}
