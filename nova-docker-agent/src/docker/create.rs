//! Creating a container.

use bollard::models::ContainerCreateBody;
use bollard::query_parameters::CreateContainerOptionsBuilder;

use super::{Docker, Error, container, image::image_name, image_volumes, labels, made_as};
use crate::guest::Guest;
use crate::network::Interface;

/// Whose files an image holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Files {
    OfTheImage,
    /// They are as its user has left them. Of the agent's own, it needs those that Docker empties in each new container.
    OfTheInstance {
        /// Whether the first start, with its script, is over.
        ran: bool,
    },
}

impl Docker {
    /// Creates the container of an instance from a local image; `image` is a reference or an ID. On failure nothing stays,
    /// and of its volumes those that were there before.
    /// The instance's network is to be plugged before the start, not necessarily before this.
    pub async fn create(&self, guest: &Guest, image: &str, interfaces: &[Interface]) -> Result<(), Error> {
        self.create_configured(guest, image, interfaces, Files::OfTheImage, |_| {}).await
    }

    /// As [`create`](Self::create), with what `configure` changes.
    pub(super) async fn create_configured(
        &self,
        guest: &Guest,
        image: &str,
        interfaces: &[Interface],
        files: Files,
        configure: impl FnOnce(&mut ContainerCreateBody),
    ) -> Result<(), Error> {
        let volumes = self.inner.volumes.hold(guest).await?;
        let created = self.create_container(guest, image, interfaces, files, configure).await;
        if created.is_err() {
            volumes.discard().await;
        }
        created
    }

    async fn create_container(
        &self,
        guest: &Guest,
        image: &str,
        interfaces: &[Interface],
        files: Files,
        configure: impl FnOnce(&mut ContainerCreateBody),
    ) -> Result<(), Error> {
        let name = labels::container_name(guest.uuid);
        let hostname = container::hostname(guest.configuration.hostname.as_ref().unwrap_or(&guest.hostname))?;
        let mut body = container::body(guest, &hostname, image, interfaces, &self.inner.config, self.quota_enforced());
        let image_volumes = self.image_volumes(image).await.map_err(|error| create_error(image, error))?;
        image_volumes::add(&mut body, guest, &image_volumes);
        if guest.rescues {
            self.add_rescued_volumes(guest.uuid, &mut body).await?;
        }
        let made_of = made_as::made_of(guest, &self.inner.config, self.quota_enforced());
        made_as::note(&mut body, made_of, guest.root_gb);
        configure(&mut body);
        let options = CreateContainerOptionsBuilder::default().name(&name).build();
        let created = self.engine().docker.create_container(Some(options), body).await;
        let created =
            created.map_err(|error| create_error(image, self.engine().error("create container", &name, error)))?;
        let prepared = async {
            match files {
                Files::OfTheInstance { ran: true } => self.put_given(&created.id, &guest.configuration.given).await?,
                _ => self.put_given_at_first(&created.id, &guest.configuration).await?,
            }
            if files == Files::OfTheImage {
                self.make_directories(guest.uuid, &created.id, &image_volumes).await?;
            }
            self.put_files(&created.id, guest, &hostname, interfaces, files).await
        };
        let prepared = prepared.await;
        if prepared.is_err()
            && let Err(error) = self.remove(guest.uuid).await
        {
            tracing::warn!(instance = %guest.uuid, %error, "a half-made container stays");
        }
        prepared
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
        // The containerd image store reads an image's configuration when it is asked for it, or here, and not when it pulls.
        Error::Docker { message, .. } if message.contains("could not deserialize image config") => {
            Error::ImageUnacceptable { image: image_name(image).to_owned(), reason: message }
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
    fn a_configuration_that_is_read_first_when_a_container_is_made_is_the_images_fault() {
        let message = "could not deserialize image config: json: cannot unmarshal string into Go struct field \
            DockerOCIImage.config.Entrypoint of type []string";
        let refused = Error::Docker { action: String::new(), status: 500, message: message.to_owned() };
        assert!(matches!(create_error("i", refused), Error::ImageUnacceptable { reason, .. } if reason == message));
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
