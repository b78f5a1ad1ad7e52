//! Creating a container, and what must be in place before it starts: the key pair, and the way to its network.

use std::io::ErrorKind;
use std::path::PathBuf;

use bollard::query_parameters::{
    ContainerArchiveInfoOptionsBuilder, CreateContainerOptionsBuilder, UploadToContainerOptionsBuilder,
};
use bytes::Bytes;
use uuid::Uuid;

use super::{Driver, Error, Guest, PublicKey, container, labels};
use crate::network::{Interface, Plumber};

impl Driver {
    /// Creates the container of an instance from a local image; `image` is a reference or an ID. On failure nothing stays.
    /// The instance's network is to be plugged before the start, not necessarily before this.
    pub async fn create(&self, guest: &Guest, image: &str, interfaces: &[Interface]) -> Result<(), Error> {
        let name = labels::container_name(guest.uuid);
        let body = container::body(guest, image, interfaces, &self.inner.config, self.inner.quota_enforced)?;
        let options = CreateContainerOptionsBuilder::default().name(&name).build();
        let created = self.engine().docker.create_container(Some(options), body).await;
        let created =
            created.map_err(|error| create_error(image, self.engine().error("create container", &name, error)))?;
        let prepared = self.prepare(guest, &created.id).await;
        if prepared.is_err()
            && let Err(error) = self.remove(guest.uuid).await
        {
            tracing::warn!(instance = %guest.uuid, %error, "a half-made container stays");
        }
        prepared
    }

    async fn prepare(&self, guest: &Guest, id: &str) -> Result<(), Error> {
        if let Some(key) = guest.key.as_ref().filter(|_| self.inner.config.inject_key) {
            self.put_key(id, key).await?;
        }
        Ok(())
    }

    /// Puts the key into root's `authorized_keys` as the only one: who launches decides who may enter.
    async fn put_key(&self, id: &str, key: &PublicKey) -> Result<(), Error> {
        let home_exists = self.path_exists(id, "/root").await?;
        let archive = key_archive(key, home_exists)
            .map_err(|source| Error::System { action: "pack the key pair".to_owned(), source })?;
        let options = UploadToContainerOptionsBuilder::default().path("/").build();
        let uploaded =
            self.engine().docker.upload_to_container(id, Some(options), bollard::body_full(Bytes::from(archive))).await;
        uploaded.map_err(|error| self.engine().error("put the key pair into container", id, error))
    }

    async fn path_exists(&self, id: &str, path: &str) -> Result<bool, Error> {
        let options = ContainerArchiveInfoOptionsBuilder::default().path(path).build();
        match self.engine().docker.get_container_archive_info(id, Some(options)).await {
            Ok(_) => Ok(true),
            Err(error) => match self.engine().error("look into container", id, error) {
                Error::NotFound { .. } => Ok(false),
                other => Err(other),
            },
        }
    }

    /// Links the container to its instance's network namespace, for the runtime to find. Written before every start: the
    /// directory does not outlive a reboot of the host.
    pub(super) async fn link_network(&self, uuid: Uuid, id: &str, interfaces: usize) -> Result<(), Error> {
        let namespace = Plumber::namespace_path(uuid);
        if !tokio::fs::try_exists(&namespace).await.unwrap_or(false) {
            if interfaces == 0 {
                return Ok(());
            }
            return Err(Error::NetworkMissing { uuid, namespace });
        }
        let link = self.link(id);
        let failed = |verb: &str, source| Error::System { action: format!("{verb} {}", link.display()), source };
        let directory = &self.inner.config.link_directory;
        tokio::fs::create_dir_all(directory).await.map_err(|source| failed("make the directory of", source))?;
        match tokio::fs::read_link(&link).await {
            Ok(target) if target == namespace => return Ok(()),
            Ok(_) => tokio::fs::remove_file(&link).await.map_err(|source| failed("replace", source))?,
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(source) => return Err(failed("read", source)),
        }
        tokio::fs::symlink(&namespace, &link).await.map_err(|source| failed("make", source))
    }

    /// Removes the link of a container that has gone.
    pub(super) async fn unlink_network(&self, id: &str) -> Result<(), Error> {
        let link = self.link(id);
        match tokio::fs::remove_file(&link).await {
            Err(source) if source.kind() != ErrorKind::NotFound => {
                Err(Error::System { action: format!("remove {}", link.display()), source })
            }
            _ => Ok(()),
        }
    }

    fn link(&self, id: &str) -> PathBuf {
        self.inner.config.link_directory.join(id)
    }
}

/// What a refused creation says of the image.
fn create_error(image: &str, error: Error) -> Error {
    match error {
        Error::NotFound { .. } => Error::NotFound { what: format!("image {image}") },
        Error::Docker { message, .. } if message.to_lowercase().contains("no command specified") => {
            let reason = "it has no command, and the instance gives none".to_owned();
            Error::ImageUnacceptable { image: image.to_owned(), reason }
        }
        other => other,
    }
}

/// A tar archive of `/root/.ssh/authorized_keys`, with the modes that sshd insists on. An absent /root comes with it: Docker
/// would make one that anybody can write to.
fn key_archive(key: &PublicKey, home_exists: bool) -> std::io::Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    let mtime = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |now| now.as_secs());
    let mut append = |path: &str, kind: tar::EntryType, mode: u32, content: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(mtime);
        header.set_size(content.len() as u64);
        archive.append_data(&mut header, path, content)
    };
    if !home_exists {
        append("root/", tar::EntryType::Directory, 0o700, &[])?;
    }
    append("root/.ssh/", tar::EntryType::Directory, 0o700, &[])?;
    append("root/.ssh/authorized_keys", tar::EntryType::Regular, 0o600, format!("{}\n", key.data.trim()).as_bytes())?;
    archive.into_inner()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_packed_for_root_alone() {
        let key = PublicKey { name: "k".to_owned(), data: "ssh-ed25519 AAAA me\n".to_owned() };
        let packed = key_archive(&key, true).unwrap();
        let mut archive = tar::Archive::new(packed.as_slice());
        let entries: Vec<(String, u32)> = archive
            .entries()
            .unwrap()
            .map(|entry| entry.unwrap())
            .map(|entry| (entry.path().unwrap().display().to_string(), entry.header().mode().unwrap()))
            .collect();
        assert_eq!(entries, [("root/.ssh/".to_owned(), 0o700), ("root/.ssh/authorized_keys".to_owned(), 0o600)]);
    }

    #[test]
    fn an_image_without_a_command_is_called_that() {
        let refused = Error::Docker { action: String::new(), status: 400, message: "No command specified".to_owned() };
        assert!(create_error("i", refused).to_string().contains("has no command"));
    }
}
