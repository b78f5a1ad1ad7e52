//! The compute node's identity file, `compute_id`.

use std::{
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use uuid::Uuid;

const FILE_NAME: &str = "compute_id";

/// Why the node's identity is not known.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    #[error("cannot {action} {}: {source}", .path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    #[error("{} holds {content:?}, which is not a UUID; restore the file, or remove it if this host is new", .path.display())]
    NotAUuid { path: PathBuf, content: String },
    #[error(
        "service {host} is registered, but its identity file {} is missing: without it the host would come back as \
         another compute node; restore the file (its content is the UUID that `openstack hypervisor list` shows)",
        .path.display()
    )]
    Lost { host: String, path: PathBuf },
}

/// Reads the identity of this node from the first of `directories` that has a `compute_id` file.
///
/// # Errors
/// The file exists but cannot be read, or holds no UUID.
pub fn read(directories: &[PathBuf]) -> Result<Option<Uuid>, IdentityError> {
    for directory in directories {
        let path = directory.join(FILE_NAME);
        match std::fs::read_to_string(&path) {
            Ok(content) => {
                let content = content.trim().to_owned();
                return Uuid::parse_str(&content).map(Some).map_err(|_| IdentityError::NotAUuid { path, content });
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(IdentityError::Io { action: "read", path, source }),
        }
    }
    Ok(None)
}

/// Makes a new identity and keeps it in `state_path`.
///
/// # Errors
/// The directory or the file cannot be written.
pub fn create(state_path: &Path) -> Result<Uuid, IdentityError> {
    let path = state_path.join(FILE_NAME);
    let id = Uuid::new_v4();
    let write = || -> io::Result<()> {
        std::fs::create_dir_all(state_path)?;
        let mut file = tempfile::NamedTempFile::new_in(state_path)?;
        writeln!(file, "{id}")?;
        file.as_file().sync_all()?;
        // Never over an existing file: another agent may be starting on the same directory.
        file.persist_noclobber(&path)?;
        Ok(())
    };
    write().map_err(|source| IdentityError::Io { action: "create", path: path.clone(), source })?;
    Ok(id)
}

/// Where `create` puts the file.
pub fn path(state_path: &Path) -> PathBuf {
    state_path.join(FILE_NAME)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_is_created_once_and_read_back() {
        let directory = tempfile::tempdir().unwrap();
        let directories = [directory.path().to_owned()];
        assert_eq!(read(&directories).unwrap(), None);
        let id = create(directory.path()).unwrap();
        assert_eq!(read(&directories).unwrap(), Some(id));
        assert!(create(directory.path()).is_err(), "an existing identity must never be replaced");
        assert_eq!(read(&directories).unwrap(), Some(id));
    }

    #[test]
    fn a_damaged_identity_file_is_an_error_that_names_it() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join(FILE_NAME), "nonsense\n").unwrap();
        let error = read(&[directory.path().to_owned()]).unwrap_err().to_string();
        assert!(error.contains("nonsense") && error.contains("compute_id"), "{error}");
    }
}
