//! Which projects' images have changed, for all processes that share a state directory: what one of them lists, another may have
//! changed a moment ago.
//!
//! Each project has a file that a change makes longer by one byte. So its size tells whether something has changed since.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;

use crate::files::{At, FileError, make};

/// Of the changes to the images of any project.
const ALL: &str = "all";

/// The changes so far.
pub struct Changes {
    directory: PathBuf,
}

impl Changes {
    /// Those that are written in `directory`. Blocks.
    pub fn open(directory: PathBuf) -> Result<Self, FileError> {
        make(&directory)?;
        Ok(Self { directory })
    }

    /// How many there were to the images of this project; None: of any project.
    pub fn count(&self, project: Option<&str>) -> u64 {
        std::fs::metadata(self.file(project)).map_or(0, |file| file.len())
    }

    /// Writes one down.
    pub fn add(&self, project: &str) {
        for project in [Some(project), None] {
            let path = self.file(project);
            let file = OpenOptions::new().append(true).create(true).open(&path);
            if let Err(error) = file.and_then(|mut file| file.write_all(b".")).at("write", &path) {
                tracing::warn!("other processes see a change of images some seconds later: {error}");
            }
        }
    }

    /// An owner that Glance tells is no path.
    fn file(&self, project: Option<&str>) -> PathBuf {
        let is_name = |project: &&str| project.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        self.directory.join(project.filter(is_name).filter(|project| !project.is_empty()).unwrap_or(ALL))
    }
}

#[cfg(test)]
mod tests;
