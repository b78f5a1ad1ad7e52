//! The container of a rescue: it has the file system of the container that was set aside at `/rescue`, with its volumes.
//!
//! The runtime mounts it, wherever Docker's storage driver has it. It is mounted as long as the container is held: created, its
//! first process waiting for a start that does not come.

use bollard::models::ContainerCreateBody;
use bollard::query_parameters::StartContainerOptions;
use uuid::Uuid;

use super::{Docker, Error, labels, recreate::add_volumes, state::Found};
use crate::guest::PowerState;

/// Where the file system is in the container of a rescue.
const RESCUE: &str = "/rescue";

impl Docker {
    /// Holds the container that was set aside, for the container `rescue` to have its file system. No failure when it is held.
    pub(super) async fn hold_aside(&self, uuid: Uuid, rescue: &str) -> Result<(), Error> {
        let aside = self.get_aside(uuid).await?;
        if aside.state != PowerState::Running {
            self.tell_to_hold(&aside.id).await?;
            self.tell_runtime(&aside).await?;
            let held = self.engine().docker.start_container(&aside.id, None::<StartContainerOptions>).await;
            held.map_err(|error| self.engine().error("hold container", &aside.name, error))?;
            if !self.is_held(&aside.id).await {
                self.release(&aside).await?;
                let reason = "it is older than the agent, and cannot hold the container that is to be rescued; install the one that \
                    came with the agent"
                    .to_owned();
                return Err(Error::Invalid { what: "nova-docker-runtime".to_owned(), reason });
            }
        }
        self.tell_to_rescue(rescue, &aside.id).await
    }

    /// Ends the holding of a container that is to run again, or to go.
    pub(super) async fn release(&self, aside: &Found) -> Result<(), Error> {
        self.kill(&aside.id).await?;
        self.unlink(&aside.id).await
    }

    /// The volumes of the container that was set aside, below the place of its file system.
    pub(super) async fn add_rescued_volumes(&self, uuid: Uuid, body: &mut ContainerCreateBody) -> Result<(), Error> {
        let aside = self.get_aside(uuid).await?;
        add_volumes(body, &aside.volumes, RESCUE);
        Ok(())
    }

    async fn get_aside(&self, uuid: Uuid) -> Result<Found, Error> {
        let missing = || Error::NotFound { what: format!("container {}", labels::aside_name(uuid)) };
        self.find_aside(uuid).await?.ok_or_else(missing)
    }
}
