//! What the runtime is told of a container, in a directory where only root can write: see `nova-docker-runtime`.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use uuid::Uuid;

use super::{Docker, Error, state::Found};
use crate::network::Plumber;

/// What a container's files there end in; the first is the link to its network.
const ENDINGS: [&str; 8] = ["", ALONE, HOLD, ROOT, RESCUE, READ_ONLY, CHECKPOINT, CRIU];
const ALONE: &str = ".alone";
const HOLD: &str = ".hold";
const ROOT: &str = ".root";
const RESCUE: &str = ".rescue";
const READ_ONLY: &str = ".readonly";
const CHECKPOINT: &str = ".checkpoint";
const CRIU: &str = ".criu";
const RUNTIME: &str = ".runtime";

impl Docker {
    /// Links the container to its instance's network namespace, for the runtime to find. Written before every start: the
    /// directory does not outlive a reboot of the host.
    pub(super) async fn link_network(&self, uuid: Uuid, id: &str, interfaces: usize) -> Result<(), Error> {
        let namespace = Plumber::namespace_path(uuid);
        if !tokio::fs::try_exists(&namespace).await.unwrap_or(false) {
            if interfaces == 0 {
                return self.mark(id, ALONE).await;
            }
            return Err(Error::NetworkMissing { uuid, namespace });
        }
        self.link(id, "", &namespace).await
    }

    /// Tells the runtime to hold the container when it is started next: its file system is mounted, and nothing of it runs.
    pub(super) async fn tell_to_hold(&self, id: &str) -> Result<(), Error> {
        self.mark(id, HOLD).await
    }

    /// Tells the runtime that the container's processes are to find their root file system read-only.
    pub(super) async fn tell_read_only(&self, id: &str) -> Result<(), Error> {
        self.mark(id, READ_ONLY).await
    }

    /// Tells the runtime what it is to become for a container that needs another OCI runtime than usual. It stays until the container is
    /// gone: whoever made it must also end it.
    pub(super) async fn tell_runtime(&self, found: &Found) -> Result<(), Error> {
        let Some(name) = &found.runtime else { return Ok(()) };
        let Some(program) = self.inner.config.runtimes.get(name) else {
            let reason = "this host has no such OCI runtime any more ([docker] runtimes)".to_owned();
            return Err(Error::Invalid { what: format!("docker:runtime {name:?}"), reason });
        };
        self.link(&found.id, RUNTIME, program).await
    }

    /// Tells the runtime where the container goes to disk, and comes back from, and by what.
    pub(super) async fn tell_checkpoint(&self, id: &str, directory: &Path, criu: &Path) -> Result<(), Error> {
        self.link(id, CRIU, criu).await?;
        self.link(id, CHECKPOINT, directory).await
    }

    /// The container neither goes to disk nor comes back.
    pub(super) async fn forget_checkpoint(&self, id: &str) -> Result<(), Error> {
        self.remove_link(id, CHECKPOINT).await?;
        self.remove_link(id, CRIU).await
    }

    /// The container is gone.
    pub(super) async fn forget_runtime(&self, id: &str) -> Result<(), Error> {
        self.remove_link(id, RUNTIME).await
    }

    /// Whether the runtime has done that: it says where the file system is.
    pub(super) async fn is_held(&self, id: &str) -> bool {
        tokio::fs::try_exists(self.file(id, ROOT)).await.unwrap_or(false)
    }

    /// Tells the runtime that a container rescues the file system of one that is held.
    pub(super) async fn tell_to_rescue(&self, id: &str, held: &str) -> Result<(), Error> {
        self.link(id, RESCUE, Path::new(held)).await
    }

    /// Removes what the runtime was told of how a container is to run: it has gone, or is to run as it is.
    pub(super) async fn unlink(&self, id: &str) -> Result<(), Error> {
        for ending in ENDINGS {
            self.remove_link(id, ending).await?;
        }
        Ok(())
    }

    async fn remove_link(&self, id: &str, ending: &str) -> Result<(), Error> {
        let file = self.file(id, ending);
        match tokio::fs::remove_file(&file).await {
            Err(source) if source.kind() != ErrorKind::NotFound => Err(failed("remove", &file, source)),
            _ => Ok(()),
        }
    }

    async fn mark(&self, id: &str, ending: &str) -> Result<(), Error> {
        self.make_directory().await?;
        let file = self.file(id, ending);
        tokio::fs::write(&file, "").await.map_err(|source| failed("write", &file, source))
    }

    async fn link(&self, id: &str, ending: &str, target: &Path) -> Result<(), Error> {
        self.make_directory().await?;
        let link = self.file(id, ending);
        match tokio::fs::read_link(&link).await {
            Ok(found) if found == target => return Ok(()),
            Ok(_) => tokio::fs::remove_file(&link).await.map_err(|source| failed("replace", &link, source))?,
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(source) => return Err(failed("read", &link, source)),
        }
        tokio::fs::symlink(target, &link).await.map_err(|source| failed("make", &link, source))
    }

    async fn make_directory(&self) -> Result<(), Error> {
        let directory = &self.inner.config.link_directory;
        tokio::fs::create_dir_all(directory).await.map_err(|source| failed("make", directory, source))
    }

    fn file(&self, id: &str, ending: &str) -> PathBuf {
        self.inner.config.link_directory.join(format!("{id}{ending}"))
    }
}

fn failed(verb: &str, file: &Path, source: std::io::Error) -> Error {
    Error::System { action: format!("{verb} {}", file.display()), source }
}
