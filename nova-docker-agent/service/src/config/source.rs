//! Where options are.

use std::path::{Path, PathBuf};

/// A file, or a directory whose `*.conf` files are read in the order of their names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    File(PathBuf),
    Directory(PathBuf),
}

impl Source {
    /// Its path.
    pub fn path(&self) -> &Path {
        match self {
            Self::File(path) | Self::Directory(path) => path,
        }
    }

    /// The path of a file.
    pub fn file(&self) -> Option<&PathBuf> {
        match self {
            Self::File(path) => Some(path),
            Self::Directory(_) => None,
        }
    }
}
