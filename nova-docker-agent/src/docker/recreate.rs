//! A container made anew for its instance, with other limits: its files stay, as an image without a name, and so do its volumes.
//!
//! The image goes with the last container that needs it. What a crash leaves of them is removed at the next start.

use std::collections::HashMap;

use bollard::models::{ContainerCreateBody, Mount, MountPoint, MountType};
use bollard::query_parameters::{
    CommitContainerOptionsBuilder, InspectContainerOptionsBuilder, ListImagesOptionsBuilder, RemoveImageOptionsBuilder,
};
use uuid::Uuid;

use super::create::Files;
use super::snapshot::{COMMIT, neutral_config};
use super::{Docker, Error, labels, scrub, state::Found, volumes};
use crate::guest::{Guest, PowerState};
use crate::network::Interface;

impl Docker {
    /// Makes a container of the guest from the files of the one that it has, which is to be stopped and is set aside. On failure
    /// it is there again, and nothing else.
    pub async fn recreate(&self, guest: &Guest, interfaces: &[Interface]) -> Result<(), Error> {
        let uuid = guest.uuid;
        let found = self.get(uuid).await?;
        let image = self.commit_files(&found).await?;
        let made = async {
            self.set_aside(uuid).await?;
            self.create_from(guest, &image, &found, interfaces).await
        };
        let Err(error) = made.await else { return Ok(()) };
        let cleaned = async {
            self.bring_back(uuid).await?;
            self.remove_files(&image).await
        };
        if let Err(cleanup) = cleaned.await {
            tracing::warn!(instance = %uuid, error = %cleanup, "not everything of the container that was not made is gone");
        }
        Err(error)
    }

    /// Whether the instance's container was made anew by [`recreate`](Self::recreate), and never ran.
    pub async fn is_remade(&self, uuid: Uuid) -> Result<bool, Error> {
        let found = self.find(uuid).await?;
        Ok(found.is_some_and(|found| found.state == PowerState::Created && found.base_image.is_some()))
    }

    /// Removes the files of a container that has gone, where they were an image of their own. Those that another container
    /// was made from stay.
    pub(super) async fn remove_files(&self, image: &str) -> Result<(), Error> {
        let options = RemoveImageOptionsBuilder::default().build();
        match self.engine().docker.remove_image(image, Some(options), None).await {
            Ok(_) => Ok(()),
            Err(error) => match self.engine().error("remove", &format!("image {image}"), error) {
                Error::NotFound { .. } | Error::Docker { status: 409, .. } => Ok(()),
                other => Err(other),
            },
        }
    }

    /// Removes the files that no container has.
    pub(super) async fn remove_stale_files(&self) -> Result<(), Error> {
        let filters = HashMap::from([("dangling", vec!["true"]), ("label", vec![labels::INSTANCE])]);
        let options = ListImagesOptionsBuilder::default().filters(&filters).build();
        let images = self.engine().docker.list_images(Some(options)).await;
        for image in images.map_err(|error| self.engine().error("list", "images", error))? {
            self.remove_files(&image.id).await?;
        }
        Ok(())
    }

    /// Whether a guest's files, with those of its image, are within its disk. Each time that they are kept, what is written on top
    /// of them may have that size again.
    ///
    /// # Errors
    /// They are not.
    pub async fn check_disk(&self, guest: &Guest) -> Result<(), Error> {
        if guest.root_gb == 0 {
            return Ok(());
        }
        let found = self.get(guest.uuid).await?;
        let options = InspectContainerOptionsBuilder::default().size(true).build();
        let measured = self.engine().patient(COMMIT).inspect_container(&found.id, Some(options)).await;
        let measured = measured.map_err(|error| self.engine().error("measure container", &found.name, error))?;
        let bytes = measured.size_root_fs.and_then(|size| u64::try_from(size).ok()).unwrap_or(0);
        if bytes <= guest.root_gb.saturating_mul(1 << 30) {
            return Ok(());
        }
        let (used, disk) = (bytes >> 20, guest.root_gb);
        let reason = format!(
            "the server's files and its image take {used} MiB, and its disk has {disk} GiB: delete files, or rebuild it"
        );
        Err(Error::Lacking { reason })
    }

    async fn commit_files(&self, found: &Found) -> Result<String, Error> {
        let base = self.base_config(found).await?;
        let options = CommitContainerOptionsBuilder::default()
            .container(&found.id)
            .comment(scrub::FILES_OF_AN_INSTANCE)
            .pause(false)
            .build();
        let config = neutral_config(&base, found);
        let committed = self.engine().patient(COMMIT).commit_container(options, config).await;
        Ok(committed.map_err(|error| self.engine().error("keep the files of container", &found.name, error))?.id)
    }

    async fn create_from(
        &self,
        guest: &Guest,
        image: &str,
        found: &Found,
        interfaces: &[Interface],
    ) -> Result<(), Error> {
        // The script belongs to the first start, which one that was rebuilt while its server was off has before it. One that was made
        // anew while its server was off has no script any more.
        let ran = found.state != PowerState::Created || found.script.is_empty();
        let files = Files::OfTheInstance { ran };
        self.create_configured(guest, image, interfaces, files, |body| {
            let labels = body.labels.get_or_insert_default();
            labels.insert(labels::BASE.to_owned(), found.base().to_owned());
            if ran {
                labels.insert(labels::SCRIPT.to_owned(), String::new());
            }
            add_volumes(body, unnamed(found), "");
        })
        .await
    }
}

/// The volumes that are the container's own. Which named ones it has the guest says.
fn unnamed(of: &Found) -> impl Iterator<Item = &MountPoint> {
    of.volumes.iter().filter(|volume| !volume.name.as_deref().is_some_and(volumes::is_named))
}

/// These volumes of another container, below `directory`, where the container has none of its own.
pub(super) fn add_volumes<'a>(
    body: &mut ContainerCreateBody,
    volumes: impl IntoIterator<Item = &'a MountPoint>,
    directory: &str,
) {
    let host = body.host_config.get_or_insert_default();
    let mounts = host.mounts.get_or_insert_default();
    for volume in volumes {
        let (Some(name), Some(destination)) = (&volume.name, &volume.destination) else { continue };
        let target = format!("{directory}{destination}");
        if mounts.iter().all(|mount| mount.target.as_ref() != Some(&target)) {
            mounts.push(Mount {
                typ: Some(MountType::VOLUME),
                source: Some(name.clone()),
                target: Some(target),
                read_only: Some(!volume.rw.unwrap_or(true)),
                ..Default::default()
            });
        }
    }
}
