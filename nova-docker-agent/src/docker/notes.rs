//! What this host knows of containers that Docker has no place for: a small file each, in a directory that is root's alone.

use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use super::Error;

/// A directory of such files.
#[derive(Clone, Debug)]
pub(super) struct Notes(PathBuf);

impl Notes {
    pub(super) fn new(directory: PathBuf) -> Self {
        Self(directory)
    }

    /// None where there is none, or it cannot be read.
    pub(super) async fn read(&self, name: &str) -> Option<Vec<u8>> {
        tokio::fs::read(self.0.join(name)).await.ok()
    }

    pub(super) async fn has(&self, name: &str) -> bool {
        tokio::fs::try_exists(self.0.join(name)).await.unwrap_or(true)
    }

    /// Takes the place of an older one. A crash leaves the one or the other.
    pub(super) async fn write(&self, name: &str, content: Vec<u8>) -> io::Result<()> {
        let (directory, path) = (self.0.clone(), self.0.join(name));
        let written = tokio::task::spawn_blocking(move || write(&directory, &path, &content));
        written.await.unwrap_or_else(|error| Err(io::Error::other(error)))
    }

    /// No failure where there is none. What fails is made up for by [`retain`](Self::retain).
    pub(super) async fn remove(&self, name: &str) {
        match tokio::fs::remove_file(self.0.join(name)).await {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                tracing::warn!(note = name, directory = %self.0.display(), %error, "cannot remove a note");
            }
            _ => {}
        }
    }

    /// Removes all whose names are not wanted.
    pub(super) async fn retain(&self, is_wanted: impl Fn(&str) -> bool) -> Result<(), Error> {
        let removed = async {
            let mut notes = match tokio::fs::read_dir(&self.0).await {
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
                notes => notes?,
            };
            while let Some(note) = notes.next_entry().await? {
                if !note.file_name().to_str().is_some_and(&is_wanted) {
                    tokio::fs::remove_file(note.path()).await?;
                }
            }
            io::Result::Ok(())
        };
        removed.await.map_err(|source| Error::System { action: format!("tidy {}", self.0.display()), source })
    }
}

fn write(directory: &Path, path: &Path, content: &[u8]) -> io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    let mut file = tempfile::NamedTempFile::new_in(directory)?;
    file.write_all(content)?;
    file.persist(path).map(drop).map_err(|error| error.error)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[tokio::test]
    async fn a_note_is_roots_alone_takes_the_place_of_the_former_one_and_goes_when_nobody_wants_it() {
        let directory = tempfile::tempdir().unwrap();
        let (place, nowhere) = (directory.path().join("new/notes"), Notes::new(directory.path().join("nowhere")));
        let notes = Notes::new(place.clone());
        assert_eq!((notes.read("one").await, notes.has("one").await), (None, false));
        for (name, content) in [("one", "old"), ("one", "new"), ("two", "other")] {
            notes.write(name, content.into()).await.unwrap();
        }
        assert_eq!((notes.read("one").await, notes.has("one").await), (Some(b"new".to_vec()), true));
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&place), mode(&place.join("one"))), (0o700, 0o600));

        std::fs::write(place.join(".tmpLEFT"), "by a crash").unwrap();
        notes.retain(|name| name == "one").await.unwrap();
        let left: Vec<_> = std::fs::read_dir(&place).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["one"]);
        notes.remove("one").await;
        notes.remove("one").await;
        assert!(!notes.has("one").await);
        nowhere.retain(|_| false).await.unwrap();
    }
}
