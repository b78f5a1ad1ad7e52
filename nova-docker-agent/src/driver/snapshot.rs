//! Snapshots into Glance: the container's files, with its image's layers below them, as a new image.

use tokio_util::sync::CancellationToken;
use tracing::info;
use uuid::Uuid;

use super::{Driver, Error};
use crate::{
    cloud::{Caller, glance::Patch},
    docker::Snapshot,
};

/// The image of Glance that a snapshot goes into, written with the rights of its caller.
pub struct SnapshotImage<'a> {
    pub caller: &'a Caller,
    pub id: Uuid,
    /// The project that it belongs to, where that is known.
    pub owner: Option<&'a str>,
}

/// What a door does while a snapshot is taken.
pub trait SnapshotProgress {
    type Error: From<Error>;

    /// The container's files are kept aside; it may change again.
    fn captured(&mut self) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Glance is about to be sent the data.
    fn uploading(&mut self) -> impl Future<Output = Result<(), Self::Error>> + Send;
}

impl Driver {
    /// Fills a queued image of Glance with a guest's files, for the project `owner`.
    ///
    /// # Errors
    /// Docker's, Glance's, or those of `progress`; [`Error::Cancelled`] once `stop` is. Nothing stays in Docker.
    pub async fn snapshot<P: SnapshotProgress>(
        &self,
        uuid: Uuid,
        into: SnapshotImage<'_>,
        progress: &mut P,
        stop: &CancellationToken,
    ) -> Result<(), P::Error> {
        let snapshot = self.docker.snapshot(uuid).await.map_err(Error::from)?;
        progress.captured().await?;
        let upload = async {
            self.describe_snapshot(&into).await?;
            progress.uploading().await?;
            self.upload_snapshot(&into, snapshot).await?;
            Ok::<_, P::Error>(())
        };
        tokio::select! {
            // Dropped in the middle, the upload ends, and the temporary image goes with it.
            () = stop.cancelled() => return Err(Error::Cancelled(uuid).into()),
            uploaded = upload => uploaded?,
        }
        info!(image = %into.id, "the snapshot is in Glance");
        Ok(())
    }

    /// Gives a queued image of Glance the properties of a snapshot. Without both formats Glance takes no data.
    ///
    /// # Errors
    /// Glance refuses or does not answer.
    async fn describe_snapshot(&self, into: &SnapshotImage<'_>) -> Result<(), Error> {
        let mut patch = vec![
            Patch::set("container_format", "docker"),
            Patch::set("disk_format", "raw"),
            Patch::set("img_hv_type", "docker"),
            Patch::set("image_location", "snapshot"),
            Patch::set("image_state", "available"),
        ];
        if let Some(owner) = into.owner {
            patch.push(Patch::set("owner_id", owner));
        }
        self.glance.update(into.caller, into.id, &patch).await?;
        Ok(())
    }

    /// Uploads a snapshot into an image that is described, and removes it from Docker, in either case.
    ///
    /// # Errors
    /// The upload's, or that of the removal.
    async fn upload_snapshot(&self, into: &SnapshotImage<'_>, snapshot: Snapshot) -> Result<(), Error> {
        let uploaded = self.glance.upload(into.caller, into.id, snapshot.stream()).await;
        let finished = snapshot.finish().await;
        uploaded?;
        finished?;
        Ok(())
    }
}
