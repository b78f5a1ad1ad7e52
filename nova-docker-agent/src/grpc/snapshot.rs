//! `SnapshotGuest`: the container's files into an image of Glance.

use std::sync::Arc;

use futures::{SinkExt as _, channel::mpsc};
use nova_docker_proto::v1;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tracing::info;
use uuid::Uuid;

use super::{
    convert,
    status::{cancelled, failure},
};
use crate::{
    cloud::Caller,
    driver::{Driver, Error},
};

/// A checked request.
pub(super) struct Capture {
    pub(super) guest: Uuid,
    image: Uuid,
    project: String,
    pub(super) caller: Caller,
}

/// Where progress is told.
pub(super) type Progress = mpsc::Sender<Result<v1::SnapshotGuestResponse, Status>>;

impl Capture {
    pub(super) fn new(request: v1::SnapshotGuestRequest, caller: Caller) -> Result<Self, Status> {
        let guest = convert::uuid("guest_id", &request.guest_id)?;
        let image = convert::uuid("image_id", &request.image_id)?;
        Ok(Self { guest, image, project: request.project_id, caller })
    }

    pub(super) async fn run(
        self,
        driver: Arc<Driver>,
        mut progress: Progress,
        stop: CancellationToken,
    ) -> Result<(), Status> {
        let snapshot = driver.docker.snapshot(self.guest).await;
        let snapshot = snapshot.map_err(|error| failure(&error.into(), self.guest, None))?;
        tell(&mut progress, v1::SnapshotStage::Captured).await;
        let upload = async {
            let owner = (!self.project.is_empty()).then_some(self.project.as_str());
            driver.describe_snapshot(&self.caller, self.image, owner).await?;
            tell(&mut progress, v1::SnapshotStage::Uploading).await;
            driver.upload_snapshot(&self.caller, self.image, snapshot).await?;
            Ok::<_, Error>(())
        };
        tokio::select! {
            // Dropped in the middle, the upload ends, and the temporary image goes with it.
            () = stop.cancelled() => return Err(cancelled()),
            uploaded = upload => uploaded.map_err(|error| failure(&error, self.guest, Some(self.image)))?,
        }
        info!(image = %self.image, "the snapshot is in Glance");
        Ok(())
    }
}

/// A caller who is gone is noticed by the token, not here.
pub(super) async fn tell(progress: &mut Progress, stage: v1::SnapshotStage) {
    let sent = progress.send(Ok(v1::SnapshotGuestResponse { stage: stage.into() })).await;
    if sent.is_err() {
        tracing::debug!(?stage, "nobody listens");
    }
}
