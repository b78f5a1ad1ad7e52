//! Configs and secrets: files that containers are given in memory, where the runtime finds them at each start.
//!
//! They are beside the directory of links, in a directory that only root can enter, of a file system in memory: no disk of the host has
//! them, and neither image, snapshot nor Docker. They go with the container, and with the host's memory: then they are read from
//! Nova again.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use nix::mount::{MsFlags, mount};
use nix::sys::statfs::{TMPFS_MAGIC, statfs};
use serde_json::json;
use uuid::Uuid;

use super::{Docker, Error};
use crate::guest::Configuration;
use crate::guest::configuration::{Given, GivenFile, SCRIPT_PATH};

/// Beside the directory of links.
const DIRECTORY: &str = "files";
/// In the directory of a container: what is what, for the runtime.
const LIST: &str = "list.json";
/// The same: the exit code of the script, when it has ended.
const ENDED: &str = "script-ended";
const SCRIPT_MODE: u32 = 0o500;
/// What the name of a directory ends with that is being written.
const UNFINISHED: &str = ".new";

impl Docker {
    /// Whether the instance's container was given files that are not in memory any more.
    pub async fn lacks_given(&self, uuid: Uuid) -> Result<bool, Error> {
        Ok(self.find(uuid).await?.is_some_and(|found| found.has_given && !self.has_given(&found.id)))
    }

    /// Gives the files to the instance's container once more.
    pub async fn give_again(&self, uuid: Uuid, given: &Given) -> Result<(), Error> {
        let found = self.get(uuid).await?;
        self.put_given(&found.id, given).await
    }

    pub(super) fn has_given(&self, id: &str) -> bool {
        self.given_directory().join(id).join(LIST).exists()
    }

    /// Puts the files where the runtime finds them when it creates the container.
    pub(super) async fn put_given(&self, id: &str, given: &Given) -> Result<(), Error> {
        if given.is_empty() {
            return Ok(());
        }
        let (id, given) = (id.to_owned(), given.clone());
        self.with_given("write the configs and secrets of a container", move |directory| {
            prepare(directory)?;
            write(directory, &id, &given)
        })
        .await
    }

    /// The same with the script for the first start, which is there like a config and is lost with the host's memory.
    pub(super) async fn put_given_at_first(&self, id: &str, asked: &Configuration) -> Result<(), Error> {
        let script = asked.script.as_ref().map(|script| GivenFile {
            path: SCRIPT_PATH.to_owned(),
            mode: SCRIPT_MODE,
            user: Some(0),
            group: Some(0),
            content: script.content.clone(),
        });
        let mut given = asked.given.clone();
        given.extend(script.map(|file| (SCRIPT_PATH.to_owned(), file)));
        self.put_given(id, &given).await
    }

    /// Takes down how the script has ended, for as long as the host's memory lasts.
    pub(super) async fn put_script_exit_code(&self, id: &str, code: i64) -> Result<(), Error> {
        let id = id.to_owned();
        self.with_given("note how a script has ended", move |directory| {
            fs::write(directory.join(id).join(ENDED), code.to_string())
        })
        .await
    }

    /// How the script has ended, where it has and the host's memory knows it.
    pub(super) fn script_exit_code(&self, id: &str) -> Option<i64> {
        fs::read_to_string(self.given_directory().join(id).join(ENDED)).ok()?.parse().ok()
    }

    /// Removes the files of a container that has gone.
    pub(super) async fn forget_given(&self, id: &str) -> Result<(), Error> {
        let id = id.to_owned();
        self.with_given("remove the configs and secrets of a container", move |directory| remove(&directory.join(id)))
            .await
    }

    /// Removes the files that a crash has left without a container. To be called before any container is made.
    pub(super) async fn remove_stray_given(&self) -> Result<(), Error> {
        let used: Vec<String> = self.list_all().await?.into_iter().filter_map(|(_, container)| container.id).collect();
        self.with_given("look for configs and secrets without a container", move |directory| {
            let found = match fs::read_dir(directory) {
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
                found => found?,
            };
            for entry in found {
                let entry = entry?;
                if !used.iter().any(|id| entry.file_name() == id.as_str()) {
                    remove(&entry.path())?;
                }
            }
            Ok(())
        })
        .await
    }

    fn given_directory(&self) -> PathBuf {
        self.inner.config.link_directory.with_file_name(DIRECTORY)
    }

    async fn with_given(
        &self,
        action: &str,
        work: impl FnOnce(&Path) -> io::Result<()> + Send + 'static,
    ) -> Result<(), Error> {
        let directory = self.given_directory();
        let done = tokio::task::spawn_blocking(move || work(&directory)).await;
        let done = done.unwrap_or_else(|error| Err(io::Error::other(error)));
        done.map_err(|source| Error::System { action: action.to_owned(), source })
    }
}

/// Makes the directory, in memory. `/run` is not, on every host.
fn prepare(directory: &Path) -> io::Result<()> {
    // A second file system would hide the first.
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    private_directory(directory)?;
    if statfs(directory)?.filesystem_type() == TMPFS_MAGIC {
        return Ok(());
    }
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    Ok(mount(Some("tmpfs"), directory, Some("tmpfs"), flags, Some("mode=0700"))?)
}

/// Under another name first: the runtime finds all of them, or none.
fn write(directory: &Path, id: &str, given: &Given) -> io::Result<()> {
    let (unfinished, finished) = (directory.join(format!("{id}{UNFINISHED}")), directory.join(id));
    remove(&unfinished)?;
    private_directory(&unfinished)?;
    let mut list = vec![];
    for (number, file) in given.values().enumerate() {
        write_file(&unfinished.join(number.to_string()), file.content.as_bytes())?;
        list.push(json!({"path": file.path, "mode": file.mode, "user": file.user, "group": file.group}));
    }
    write_file(&unfinished.join(LIST), json!(list).to_string().as_bytes())?;
    remove(&finished)?;
    fs::rename(unfinished, finished)
}

fn private_directory(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

fn write_file(path: &Path, content: &[u8]) -> io::Result<()> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?.write_all(content)
}

fn remove(directory: &Path) -> io::Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
