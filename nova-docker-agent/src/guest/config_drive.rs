//! The content of a config drive: files, as Nova's metadata service and its config drives name them.

use std::collections::BTreeMap;
use std::fmt;

/// Nova's own drives have 64 MiB.
const MAX_BYTES: usize = 64 << 20;
/// What Nova and cloud-init know is much shorter.
const MAX_PATH: usize = 1024;

/// Files by their paths in the drive: `openstack/latest/meta_data.json`.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ConfigDrive {
    files: BTreeMap<String, Vec<u8>>,
}

impl fmt::Debug for ConfigDrive {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "a config drive of {} files", self.files.len())
    }
}

impl ConfigDrive {
    /// Adds a file.
    ///
    /// # Errors
    /// The path leads out of the drive, or the drive is too large.
    pub fn add(&mut self, path: impl Into<String>, content: impl Into<Vec<u8>>) -> Result<(), String> {
        let (path, content) = (path.into(), content.into());
        let is_plain = |name: &str| !matches!(name, "" | "." | "..") && !name.contains('\0');
        if path.len() > MAX_PATH || !path.split('/').all(is_plain) {
            return Err(format!("a config drive has no file {path:?}"));
        }
        let bytes = self.files.values().map(Vec::len).fold(content.len(), usize::saturating_add);
        if bytes > MAX_BYTES {
            return Err(format!("the config drive has more than {MAX_BYTES} bytes"));
        }
        self.files.insert(path, content);
        Ok(())
    }

    /// The files, in the order of their paths.
    pub fn files(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.files.iter().map(|(path, content)| (path.as_str(), content.as_slice()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_leads_out_of_the_drive_is_refused() {
        let mut drive = ConfigDrive::default();
        for bad in ["", "/etc/passwd", "../x", "openstack/../../x", "openstack//x", "openstack/", "./x", "a\0b"] {
            assert!(drive.add(bad, "").is_err(), "{bad:?}");
        }
        drive.add("openstack/latest/meta_data.json", "{}").unwrap();
        assert_eq!(drive.files().count(), 1);
    }

    #[test]
    fn a_drive_does_not_grow_without_end() {
        let mut drive = ConfigDrive::default();
        drive.add("a", vec![0; MAX_BYTES]).unwrap();
        assert!(drive.add("b", "x").is_err());
    }
}
