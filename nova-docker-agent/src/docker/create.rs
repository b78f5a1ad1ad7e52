//! Creating a container, and the way to its network.

use std::io::ErrorKind;
use std::path::PathBuf;

use bollard::query_parameters::CreateContainerOptionsBuilder;
use uuid::Uuid;

use super::{Docker, Error, container, image::image_name, labels};
use crate::guest::Guest;
use crate::network::{Interface, Plumber};

impl Docker {
    /// Creates the container of an instance from a local image; `image` is a reference or an ID. On failure nothing stays,
    /// and of its volumes those that were there before.
    /// The instance's network is to be plugged before the start, not necessarily before this.
    pub async fn create(&self, guest: &Guest, image: &str, interfaces: &[Interface]) -> Result<(), Error> {
        let volumes = self.inner.volumes.hold(guest).await?;
        let created = self.create_container(guest, image, interfaces).await;
        if created.is_err() {
            volumes.discard().await;
        }
        created
    }

    async fn create_container(&self, guest: &Guest, image: &str, interfaces: &[Interface]) -> Result<(), Error> {
        let name = labels::container_name(guest.uuid);
        let hostname = container::hostname(&guest.hostname)?;
        let body =
            container::body(guest, &hostname, image, interfaces.len(), &self.inner.config, self.inner.quota_enforced);
        let options = CreateContainerOptionsBuilder::default().name(&name).build();
        let created = self.engine().docker.create_container(Some(options), body).await;
        let created =
            created.map_err(|error| create_error(image, self.engine().error("create container", &name, error)))?;
        let prepared = self.put_files(&created.id, guest, &hostname, interfaces).await;
        if prepared.is_err()
            && let Err(error) = self.remove(guest.uuid).await
        {
            tracing::warn!(instance = %guest.uuid, %error, "a half-made container stays");
        }
        prepared
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
        Error::NotFound { .. } => Error::NotFound { what: format!("image {}", image_name(image)) },
        Error::Docker { message, .. } if message.to_lowercase().contains("no command specified") => {
            let reason = "it has no command, and the instance gives none".to_owned();
            Error::ImageUnacceptable { image: image_name(image).to_owned(), reason }
        }
        // What we ask for ourselves is in order, so that it is the image's configuration, or the flavor: `Minimum memory
        // limit allowed is 6MB`.
        Error::Docker { status: 400, message, .. } => wanted_wrong(message),
        // Its working directory, or a volume, is a file.
        Error::Docker { message, .. }
            if ["Cannot mkdir:", "cannot mount volume over"].iter().any(|words| message.contains(words)) =>
        {
            wanted_wrong(message)
        }
        other => other,
    }
}

/// Docker's refusal of something that the image or the flavor asks for; no Docker would take it.
pub(super) fn wanted_wrong(reason: String) -> Error {
    Error::Invalid { what: "what the image or the flavor asks for".to_owned(), reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_without_a_command_is_called_that() {
        let refused = Error::Docker { action: String::new(), status: 400, message: "No command specified".to_owned() };
        assert!(create_error("i", refused).to_string().contains("has no command"));
    }

    #[test]
    fn what_docker_finds_wrong_with_a_configuration_is_the_users_to_mend_and_a_failure_of_its_own_is_not() {
        let refused = |status, message: &str| {
            create_error("i", Error::Docker { action: String::new(), status, message: message.to_owned() })
        };
        for (status, message) in
            [(400, "Minimum memory limit allowed is 6MB"), (500, "Cannot mkdir: /bin/sh is not a directory")]
        {
            let error = refused(status, message);
            assert!(matches!(&error, Error::Invalid { reason, .. } if reason == message), "{error}");
        }
        assert!(matches!(refused(500, "failed to mount overlay"), Error::Docker { .. }));
        assert!(matches!(refused(409, "the name is in use"), Error::Docker { .. }));
    }
}
