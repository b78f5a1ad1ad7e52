//! The key file: 256 random bits, the same for every process that serves under one address.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::files::{At, FileError, private};

/// The secret behind everything that is sealed.
#[derive(Clone)]
pub struct Key(pub(super) Arc<[u8; 32]>);

/// A key file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("key of the tokens: {0}")]
    File(#[from] FileError),
    #[error("the key file {} is not 64 hexadecimal digits; remove it to have a new one made", .0.display())]
    Form(PathBuf),
    #[error("the key file {} can be read by others; give it mode 0600", .0.display())]
    Open(PathBuf),
}

impl Key {
    /// One for tests.
    #[cfg(test)]
    pub fn of(bytes: [u8; 32]) -> Self {
        Self(Arc::new(bytes))
    }

    /// Reads the key; makes one if there is none. Of several processes that make one at the same time, one wins.
    pub fn load(path: &Path) -> Result<Self, KeyError> {
        if !path.try_exists().at("find", path)? {
            make(path).at("make", path)?;
        }
        let metadata = fs::metadata(path).at("read", path)?;
        if metadata.mode() & 0o077 != 0 {
            return Err(KeyError::Open(path.to_owned()));
        }
        let text = fs::read_to_string(path).at("read", path)?;
        let mut bytes = [0; 32];
        hex::decode_to_slice(text.trim(), &mut bytes).map_err(|_| KeyError::Form(path.to_owned()))?;
        Ok(Self(Arc::new(bytes)))
    }
}

/// Written beside its place, and then linked there, so that nobody reads half a key.
fn make(path: &Path) -> io::Result<()> {
    let mut new = path.as_os_str().to_owned();
    new.push(format!(".{}", uuid::Uuid::new_v4()));
    let new = PathBuf::from(new);
    let mut file = private().create_new(true).open(&new)?;
    let written = writeln!(file, "{}", hex::encode(rand::random::<[u8; 32]>())).and_then(|()| file.sync_all());
    let linked = written.and_then(|()| match fs::hard_link(&new, path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    });
    fs::remove_file(&new).and(linked)
}

#[cfg(test)]
mod tests;
