//! What a guest finds inside besides its image: files, a password, a config drive.

use std::fmt;

/// Bytes of all files of one guest.
const MAX_BYTES: usize = 16 << 20;
/// Linux takes no longer path.
const MAX_PATH: usize = 4095;
/// And no longer name.
const MAX_NAME: usize = 255;
/// Directories that something else is mounted on when the container runs: a file there would be hidden.
const HIDDEN: [&str; 5] = ["/proc", "/sys", "/dev", "/config-2", "/var/lib/cloud/seed/config_drive"];

/// What is put into a container before its first start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inside {
    /// Files that the user wants.
    pub files: Vec<InjectedFile>,
    /// The password of [`admin_user`](Self::admin_user).
    pub password: Option<Password>,
    /// Whose password it is.
    pub admin_user: String,
    /// Whether the container sees its config drive, which [`Driver`](crate::driver::Driver) has been given.
    pub has_config_drive: bool,
}

impl Default for Inside {
    fn default() -> Self {
        Self { files: Vec::new(), password: None, admin_user: "root".to_owned(), has_config_drive: false }
    }
}

/// A secret that no log shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(String);

impl Password {
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("(a password)")
    }
}

/// A file that a user wants to find in a container.
#[derive(Clone, PartialEq, Eq)]
pub struct InjectedFile {
    path: String,
    asked: String,
    pub content: Vec<u8>,
}

impl fmt::Debug for InjectedFile {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:?} ({} bytes)", self.path, self.content.len())
    }
}

impl InjectedFile {
    /// A path without a slash at its beginning is below the root.
    ///
    /// # Errors
    /// What is wrong with the path.
    pub fn new(path: &str, content: Vec<u8>) -> Result<Self, String> {
        let bad = |problem: &str| Err(format!("file {path:?} cannot be put into the container: {problem}"));
        let names: Vec<&str> = path.split('/').filter(|name| !name.is_empty() && *name != ".").collect();
        if names.is_empty() || path.ends_with('/') || path.ends_with("/.") {
            return bad("its path names no file");
        }
        if names.contains(&"..") {
            return bad("its path leads upwards (..)");
        }
        if path.contains('\0') || path.len() > MAX_PATH || names.iter().any(|name| name.len() > MAX_NAME) {
            return bad("Linux has no such path");
        }
        let (path, asked) = (format!("/{}", names.join("/")), path.to_owned());
        if HIDDEN
            .iter()
            .any(|hidden| path.strip_prefix(hidden).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))
        {
            return bad("something else is mounted there");
        }
        Ok(Self { path, asked, content })
    }

    /// Where it shall be, from the container's root.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The path as its user has written it, for the instance's metadata.
    pub fn asked_path(&self) -> &str {
        &self.asked
    }
}

/// # Errors
/// The files are too large together.
pub fn check_files(files: &[InjectedFile]) -> Result<(), String> {
    let bytes = files.iter().map(|file| file.content.len()).fold(0, usize::saturating_add);
    if bytes > MAX_BYTES {
        return Err(format!("the files to put into the container have {bytes} bytes; {MAX_BYTES} are the most"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(path: &str) -> Result<String, String> {
        InjectedFile::new(path, Vec::new()).map(|file| file.path)
    }

    #[test]
    fn a_file_is_below_the_root_however_its_path_is_written() {
        for written in ["/etc/motd", "etc/motd", "//etc/./motd", "/./etc//motd"] {
            assert_eq!(path(written).as_deref(), Ok("/etc/motd"), "{written}");
        }
        assert_eq!(path("/..data").as_deref(), Ok("/..data"));
    }

    #[test]
    fn a_path_that_leads_out_or_names_no_file_is_refused_with_its_name() {
        let long = format!("/{}", "a".repeat(300));
        for bad in
            ["", "/", "/etc/", "/etc/.", "../x", "/etc/../../x", "/a\0b", &long, "/proc/1/x", "/dev", "/config-2/x"]
        {
            let problem = path(bad).unwrap_err();
            assert!(problem.contains(&format!("{bad:?}")), "{problem}");
        }
        assert!(path("/process").is_ok());
    }

    #[test]
    fn secrets_do_not_reach_a_log() {
        let file = InjectedFile::new("/x", b"hush".to_vec()).unwrap();
        let inside = Inside { files: vec![file], password: Some(Password::new("hush")), ..Inside::default() };
        let shown = format!("{inside:?}");
        assert!(!shown.contains("hush") && shown.contains("4 bytes"), "{shown}");
    }

    #[test]
    fn files_that_are_too_large_together_are_refused() {
        let file = InjectedFile::new("/x", vec![0; MAX_BYTES / 2 + 1]).unwrap();
        assert!(check_files(std::slice::from_ref(&file)).is_ok());
        assert!(check_files(&[file.clone(), file]).is_err());
    }
}
