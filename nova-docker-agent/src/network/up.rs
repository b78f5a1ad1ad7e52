//! Whether the host sides of an instance's interfaces are to be up: while a process of it runs. `nova-docker-runtime` takes them up
//! and down, since it alone is there at every start and end of a process, and its `ports` module says what is in the files.

use std::collections::BTreeSet;
use std::io::{Error as IoError, ErrorKind};
use std::path::{Path, PathBuf};

use uuid::Uuid;

use super::link::{Link, Links};
use super::{Error, PORTS_DIRECTORY, Plumber};

/// What is recorded of a container that runs, where nobody knows which one it is.
const ANY: &str = "?";

/// The record of one instance.
pub(super) struct Up {
    names: PathBuf,
}

impl Up {
    pub(super) fn of(instance: Uuid) -> Self {
        let namespace = Plumber::namespace_path(instance);
        Self { names: Path::new(PORTS_DIRECTORY).join(namespace.file_name().unwrap_or_default()) }
    }

    /// None where nobody has said: then they are up, as they were before there was a record.
    pub(super) async fn is_up(&self) -> Result<Option<bool>, Error> {
        Ok(read(&self.record()).await?.map(|who| !who.is_empty()))
    }

    /// Says whether a process runs, where nobody has said yet.
    pub(super) async fn declare(&self, runs: bool) -> Result<(), Error> {
        if self.is_up().await?.is_none() {
            self.write(&self.record(), if runs { ANY } else { "" }).await?;
        }
        Ok(())
    }

    /// Adds names of host sides; those that are there stay.
    pub(super) async fn add(&self, devnames: impl Iterator<Item = &str>) -> Result<(), Error> {
        let known = read(&self.names).await?.unwrap_or_default();
        let new: Vec<&str> = devnames.filter(|name| !known.lines().any(|line| line == *name)).collect();
        if new.is_empty() && !known.is_empty() {
            return Ok(());
        }
        let names: String = known.lines().chain(new).map(|name| format!("{name}\n")).collect();
        self.write(&self.names, &names).await
    }

    pub(super) async fn remove(&self, devname: &str) -> Result<(), Error> {
        let Some(known) = read(&self.names).await? else { return Ok(()) };
        let left: String = known.lines().filter(|line| *line != devname).map(|line| format!("{line}\n")).collect();
        self.write(&self.names, &left).await
    }

    /// Brings host sides to what they are to be. The runtime may change that meanwhile.
    pub(super) async fn settle(&self, host: &Links, sides: &[(Link, Option<u32>)]) -> Result<(), Error> {
        loop {
            let is_up = self.is_up().await?;
            for (side, mtu) in sides {
                match is_up {
                    Some(false) => host.take_down(side, *mtu).await?,
                    _ => host.bring_up(side, None, *mtu).await?,
                }
            }
            if self.is_up().await? == is_up {
                return Ok(());
            }
        }
    }

    /// What neighbours were told last of the instance's addresses.
    pub(super) async fn told(&self) -> Result<BTreeSet<String>, Error> {
        let told = read(&self.told_file()).await?.unwrap_or_default();
        Ok(told.lines().map(str::to_owned).collect())
    }

    pub(super) async fn write_told(&self, told: &BTreeSet<String>) -> Result<(), Error> {
        let text: String = told.iter().map(|line| format!("{line}\n")).collect();
        self.write(&self.told_file(), &text).await
    }

    /// An address has come: nobody may have heard of it while the host sides are down.
    pub(super) async fn forget_told(&self) -> Result<(), Error> {
        remove(&self.told_file()).await
    }

    /// Forgets the instance.
    pub(super) async fn forget(&self) -> Result<(), Error> {
        for path in [&self.names, &self.record(), &self.told_file()] {
            remove(path).await?;
        }
        Ok(())
    }

    fn record(&self) -> PathBuf {
        self.names.with_extension("up")
    }

    fn told_file(&self) -> PathBuf {
        self.names.with_extension("told")
    }

    /// At once and whole: the runtime may read it at any time.
    async fn write(&self, path: &Path, text: &str) -> Result<(), Error> {
        let fresh =
            path.with_extension(format!("{}.agent", path.extension().and_then(|e| e.to_str()).unwrap_or("names")));
        let write = async {
            tokio::fs::create_dir_all(PORTS_DIRECTORY).await?;
            tokio::fs::write(&fresh, text).await?;
            tokio::fs::rename(&fresh, path).await
        };
        write.await.map_err(|error| failed("write", path, error))
    }
}

async fn read(path: &Path) -> Result<Option<String>, Error> {
    match tokio::fs::read_to_string(path).await {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("read", path, error)),
    }
}

async fn remove(path: &Path) -> Result<(), Error> {
    match tokio::fs::remove_file(path).await {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(failed("remove", path, error)),
        _ => Ok(()),
    }
}

fn failed(verb: &str, path: &Path, error: IoError) -> Error {
    Error::system(format!("{verb} {}", path.display()), error)
}
