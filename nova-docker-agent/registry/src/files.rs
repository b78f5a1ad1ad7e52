//! Files: which of them failed, those that may not be there, those that one process has, and those that are there whole or not.
//!
//! Everything here blocks.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use uuid::Uuid;

/// A file that cannot be used, for the operator.
#[derive(Clone, Debug, thiserror::Error)]
#[error("cannot {action} {}: {cause}", path.display())]
pub struct FileError {
    action: &'static str,
    path: PathBuf,
    cause: Arc<io::Error>,
}

/// Says what was done with which file.
pub trait At<T> {
    fn at(self, action: &'static str, path: impl AsRef<Path>) -> Result<T, FileError>;
}

impl<T> At<T> for io::Result<T> {
    fn at(self, action: &'static str, path: impl AsRef<Path>) -> Result<T, FileError> {
        self.map_err(|cause| FileError { action, path: path.as_ref().to_owned(), cause: Arc::new(cause) })
    }
}

/// What was done with a file; None where there is none.
pub fn if_there<T>(done: io::Result<T>) -> io::Result<Option<T>> {
    match done {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        done => done.map(Some),
    }
}

/// Makes a directory, for its owner alone.
pub fn make(path: &Path) -> Result<(), FileError> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).at("create", path)
}

pub fn make_parent(path: &Path) -> Result<(), FileError> {
    path.parent().map_or(Ok(()), make)
}

/// How a file is opened that nobody but its owner reads.
pub fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600);
    options
}

/// The paths in a directory; none where there is no directory.
pub fn entries(directory: &Path) -> Result<Vec<PathBuf>, FileError> {
    let found = if_there(fs::read_dir(directory)).at("list", directory)?;
    found.into_iter().flatten().map(|entry| entry.map(|entry| entry.path()).at("list", directory)).collect()
}

/// Size in bytes, and when it was touched last. None for what was just removed.
pub fn measure(path: &Path) -> Result<Option<(u64, SystemTime)>, FileError> {
    let measured = fs::metadata(path).and_then(|metadata| Ok((metadata.len(), metadata.modified()?)));
    if_there(measured).at("look at", path)
}

/// Bytes that are free on the file system of a directory.
pub fn available(directory: &Path) -> Result<u64, FileError> {
    let stat = nix::sys::statvfs::statvfs(directory).map_err(io::Error::from).at("measure", directory)?;
    Ok(stat.blocks_available() * stat.fragment_size())
}

/// Whether there was a file.
pub fn remove(path: &Path) -> Result<bool, FileError> {
    Ok(if_there(fs::remove_file(path)).at("remove", path)?.is_some())
}

/// Writes a file at once: nobody sees a part of it.
pub fn write(path: &Path, content: &[u8]) -> Result<(), FileError> {
    replace(path, content, |_| Ok(()))
}

/// As [`write`], on the disk when this returns: no crash leaves a file that is not whole.
pub fn write_durably(path: &Path, content: &[u8]) -> Result<(), FileError> {
    replace(path, content, File::sync_all)?;
    sync_parent(path)
}

fn replace(path: &Path, content: &[u8], sync: impl Fn(&File) -> io::Result<()>) -> Result<(), FileError> {
    let partial = path.with_extension(Uuid::new_v4().to_string());
    let written = private().create_new(true).open(&partial).and_then(|mut file| {
        file.write_all(content)?;
        sync(&file)?;
        fs::rename(&partial, path)
    });
    written.at("write", path)
}

/// Returns when the file's name is on the disk.
pub fn sync_parent(path: &Path) -> Result<(), FileError> {
    let parent = path.parent().unwrap_or(path);
    File::open(parent).and_then(|file| file.sync_all()).at("sync", parent)
}

/// The file, for as long as nobody else has it: no other process, and no other part of this one. None while somebody has.
pub fn lock(file: File, path: &Path) -> Result<Option<Flock<File>>, FileError> {
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(Some(lock)),
        Err((_, Errno::EWOULDBLOCK)) => Ok(None),
        Err((_, errno)) => Err(io::Error::from(errno)).at("lock", path),
    }
}

/// Whether a file is still the one of this path: whoever had it before may have removed it, and a third one may have made another.
pub fn is_at(file: &File, path: &Path) -> bool {
    let inode = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
    let (open, named) = (file.metadata().map(inode), fs::metadata(path).map(inode));
    matches!((open, named), (Ok(open), Ok(named)) if open == named)
}
