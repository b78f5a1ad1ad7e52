//! Snapshots into Glance: the container's files, with its image's layers below them, as a new image.

use uuid::Uuid;

use super::{Driver, Error};
use crate::{
    cloud::{Caller, glance::Patch},
    docker::Snapshot,
};

impl Driver {
    /// Gives a queued image of Glance the properties of a snapshot. Without both formats Glance takes no data.
    ///
    /// # Errors
    /// Glance refuses or does not answer.
    pub async fn describe_snapshot(&self, caller: &Caller, image: Uuid, owner: Option<&str>) -> Result<(), Error> {
        let mut patch = vec![
            Patch::set("container_format", "docker"),
            Patch::set("disk_format", "raw"),
            Patch::set("img_hv_type", "docker"),
            Patch::set("image_location", "snapshot"),
            Patch::set("image_state", "available"),
        ];
        if let Some(owner) = owner {
            patch.push(Patch::set("owner_id", owner));
        }
        self.glance.update(caller, image, &patch).await?;
        Ok(())
    }

    /// Uploads a snapshot into an image that is described, and removes it from Docker, in either case.
    ///
    /// # Errors
    /// The upload's, or that of the removal.
    pub async fn upload_snapshot(&self, caller: &Caller, image: Uuid, snapshot: Snapshot) -> Result<(), Error> {
        let uploaded = self.glance.upload(caller, image, snapshot.stream()).await;
        let finished = snapshot.finish().await;
        uploaded?;
        finished?;
        Ok(())
    }
}
