//! What the agent says of a container, in a directory where only root can write: files named after the container's id.
//!
//! | name | what |
//! |---|---|
//! | `ID` | symbolic link to the network namespace of its instance |
//! | `ID.alone` | its instance has no network |
//! | `ID.hold` | the container is only held: its file system is mounted, and nothing of it runs |
//! | `ID.root` | where the file system of a held container is; written by this program |
//! | `ID.readonly` | the container's processes are to find their root file system read-only |
//! | `../files/ID/list.json` | files that the container is given: a list of `path`, `mode`, `user`, `group` |
//! | `../files/ID/N` | content of the Nth of them, from 0 on |
//! | `ID.runtime` | symbolic link to the OCI runtime that this container needs instead of the usual one |
//! | `ID.rescue` | symbolic link to the id of a held container, whose file system is to be at `/rescue` |
//! | `ID.checkpoint` | symbolic link to the directory that the container goes into when it goes to disk, and comes back from |
//! | `ID.criu` | symbolic link to the program `criu` that does it |

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::checkpoint::Checkpoint;

/// Where the agent writes, and what it wrote of one container.
#[derive(Debug)]
pub struct Links<'a> {
    directory: &'a Path,
    id: &'a OsStr,
}

/// A file of the host that the container finds at `path`.
#[derive(Debug, PartialEq)]
pub struct Given {
    pub source: PathBuf,
    pub path: String,
    pub mode: u32,
    /// Without it, the user's that the container's process runs as.
    pub user: Option<u32>,
    pub group: Option<u32>,
}

impl<'a> Links<'a> {
    /// None for an id that Docker would not give, which could lead out of the directory.
    pub fn of(directory: &'a Path, id: &'a OsStr) -> Option<Self> {
        is_plain(id).then_some(Self { directory, id })
    }

    /// The container's network namespace, where it has one. A link that leads nowhere is an error: without its network the
    /// instance must not run.
    pub fn namespace(&self) -> Result<Option<String>, String> {
        let link = self.file(self.id, "");
        let Some(target) = read_link(&link)? else { return Ok(None) };
        if !target.is_absolute() {
            return Err(format!("{} does not lead to an absolute path", link.display()));
        }
        if let Err(error) = fs::metadata(&target) {
            return Err(format!("network namespace {} of this instance is not there: {error}", target.display()));
        }
        match target.into_os_string().into_string() {
            Ok(target) => Ok(Some(target)),
            Err(_) => Err(format!("{} leads to a path that is not UTF-8", link.display())),
        }
    }

    /// The OCI runtime that this container needs, where it is not the usual one.
    pub fn runtime(&self) -> Result<Option<PathBuf>, String> {
        self.absolute(".runtime")
    }

    /// Where the container goes to disk, where the agent has said that it may.
    pub fn checkpoint(&self) -> Result<Option<Checkpoint>, String> {
        let Some(directory) = self.absolute(".checkpoint")? else { return Ok(None) };
        Ok(Some(Checkpoint { directory, criu: self.absolute(".criu")? }))
    }

    fn absolute(&self, ending: &str) -> Result<Option<PathBuf>, String> {
        let link = self.file(self.id, ending);
        match read_link(&link)? {
            Some(target) if !target.is_absolute() => {
                Err(format!("{} does not lead to an absolute path", link.display()))
            }
            target => Ok(target),
        }
    }

    /// Whether the container's instance has no network.
    pub fn is_alone(&self) -> bool {
        self.file(self.id, ".alone").exists()
    }

    /// Whether the container is only held.
    pub fn is_held(&self) -> bool {
        self.file(self.id, ".hold").exists()
    }

    /// Whether the container's processes are to find their root file system read-only.
    pub fn is_read_only(&self) -> bool {
        self.file(self.id, ".readonly").exists()
    }

    /// The files that the container is given.
    pub fn given(&self) -> Result<Vec<Given>, String> {
        let directory = self.directory.with_file_name("files").join(self.id);
        let list = directory.join("list.json");
        let failed = |verb: &str, error: &dyn std::fmt::Display| format!("cannot {verb} {}: {error}", list.display());
        let text = match fs::read(&list) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(vec![]),
            text => text.map_err(|error| failed("read", &error))?,
        };
        let entries: Vec<Value> = serde_json::from_slice(&text).map_err(|error| failed("parse", &error))?;
        let given = |(number, entry): (usize, &Value)| {
            let id = |name: &str| entry[name].as_u64().and_then(|id| u32::try_from(id).ok());
            Some(Given {
                source: directory.join(number.to_string()),
                path: entry["path"].as_str()?.to_owned(),
                mode: id("mode")?,
                user: id("user"),
                group: id("group"),
            })
        };
        let all: Option<Vec<Given>> = entries.iter().enumerate().map(given).collect();
        all.ok_or_else(|| failed("use", &"an entry of it is not whole"))
    }

    /// Takes down where the file system of a held container is.
    pub fn record_root(&self, root: &Path) -> Result<(), String> {
        let file = self.file(self.id, ".root");
        let fresh = self.file(self.id, ".root.new");
        fs::write(&fresh, root.as_os_str().as_bytes())
            .and_then(|()| fs::rename(&fresh, &file))
            .map_err(|error| format!("cannot write {}: {error}", file.display()))
    }

    /// Where the file system is that this container rescues; none when it rescues none.
    pub fn rescued_root(&self) -> Result<Option<PathBuf>, String> {
        let link = self.file(self.id, ".rescue");
        let Some(held) = read_link(&link)? else { return Ok(None) };
        if !is_plain(held.as_os_str()) {
            return Err(format!("{} does not lead to a container", link.display()));
        }
        let file = self.file(held.as_os_str(), ".root");
        let root = fs::read(&file).map_err(|error| format!("cannot read {}: {error}", file.display()))?;
        Ok(Some(PathBuf::from(OsStr::from_bytes(&root))))
    }

    fn file(&self, id: &OsStr, ending: &str) -> PathBuf {
        let mut name = OsString::from(id);
        name.push(ending);
        self.directory.join(name)
    }
}

fn is_plain(id: &OsStr) -> bool {
    let plain = |&byte: &u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
    !id.is_empty() && id.as_bytes().iter().all(plain)
}

fn read_link(link: &Path) -> Result<Option<PathBuf>, String> {
    match fs::read_link(link) {
        Ok(target) => Ok(Some(target)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(format!("cannot read {}: {error}", link.display())),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn links(directory: &Path) -> Links<'_> {
        Links::of(directory, OsStr::new("abc")).unwrap()
    }

    #[test]
    fn a_container_without_a_link_has_no_namespace_and_a_dangling_link_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(links(directory.path()).namespace(), Ok(None));
        symlink(directory.path().join("gone"), directory.path().join("abc")).unwrap();
        assert!(links(directory.path()).namespace().unwrap_err().contains("is not there"));
    }

    #[test]
    fn an_id_cannot_lead_out_of_the_directory() {
        let directory = tempfile::tempdir().unwrap();
        for id in ["../abc", "", "/", "a.hold"] {
            assert!(Links::of(directory.path(), OsStr::new(id)).is_none(), "{id:?}");
        }
        symlink("../../etc", directory.path().join("abc.rescue")).unwrap();
        assert!(links(directory.path()).rescued_root().unwrap_err().contains("does not lead to a container"));
    }

    #[test]
    fn files_are_found_in_the_order_of_their_list_and_a_broken_list_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let netns = directory.path().join("netns");
        assert_eq!(links(&netns).given(), Ok(vec![]));
        let files = directory.path().join("files/abc");
        fs::create_dir_all(&files).unwrap();
        fs::write(files.join("list.json"), r#"[{"path":"/a","mode":256,"user":null,"group":7}]"#).unwrap();
        let expected =
            Given { source: files.join("0"), path: "/a".to_owned(), mode: 0o400, user: None, group: Some(7) };
        assert_eq!(links(&netns).given(), Ok(vec![expected]));
        for broken in ["", "{}", r#"[{"path":"/a"}]"#, r#"[{"mode":256}]"#] {
            fs::write(files.join("list.json"), broken).unwrap();
            assert!(links(&netns).given().is_err(), "{broken}");
        }
    }

    #[test]
    fn a_rescue_finds_the_file_system_of_the_container_that_is_held_for_it() {
        let directory = tempfile::tempdir().unwrap();
        let rescue = links(directory.path());
        assert_eq!(rescue.rescued_root(), Ok(None));
        symlink("held", directory.path().join("abc.rescue")).unwrap();
        assert!(rescue.rescued_root().unwrap_err().contains("cannot read"), "nothing is held");
        Links::of(directory.path(), OsStr::new("held")).unwrap().record_root(Path::new("/merged")).unwrap();
        assert_eq!(rescue.rescued_root(), Ok(Some("/merged".into())));
    }
}
