//! `SnapshotGuest`: the container's files into an image of Glance.

use std::sync::Arc;

use futures::{SinkExt as _, channel::mpsc};
use nova_docker_proto::v1;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use uuid::Uuid;

use super::{convert, operations::Turn, status::failure};
use crate::{
    cloud::Caller,
    driver::{Driver, Error, SnapshotImage, SnapshotProgress},
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

    /// The turn ends when the guest's files are kept aside: nobody waits for an upload.
    pub(super) async fn run(
        self,
        driver: Arc<Driver>,
        mut progress: Progress,
        stop: CancellationToken,
        turn: Turn,
    ) -> Result<(), Status> {
        let owner = (!self.project.is_empty()).then_some(self.project.as_str());
        let into = SnapshotImage { caller: &self.caller, id: self.image, owner };
        // Who has not heard of its end asks again. Glance takes nothing into an image that is whole.
        if driver.has_snapshot(self.guest, &into).await {
            tell(&mut progress, v1::SnapshotStage::Captured).await;
            tell(&mut progress, v1::SnapshotStage::Uploading).await;
            return Ok(());
        }
        let mut told = Told { progress: &mut progress, turn: Some(turn) };
        let taken = driver.snapshot(self.guest, into, &mut told, &stop).await;
        // Until its files are kept aside a failure is the guest's; everything later is the image's.
        let image = told.turn.is_none().then_some(self.image);
        taken.map_err(|error| failure(&error, self.guest, image))
    }
}

/// Progress as messages to the caller.
struct Told<'a> {
    progress: &'a mut Progress,
    /// None once the guest's files are kept aside.
    turn: Option<Turn>,
}

impl SnapshotProgress for Told<'_> {
    type Error = Error;

    async fn captured(&mut self) -> Result<(), Error> {
        self.turn = None;
        tell(self.progress, v1::SnapshotStage::Captured).await;
        Ok(())
    }

    async fn uploading(&mut self) -> Result<(), Error> {
        tell(self.progress, v1::SnapshotStage::Uploading).await;
        Ok(())
    }
}

/// The token notices a caller that is gone; this does not.
pub(super) async fn tell(progress: &mut Progress, stage: v1::SnapshotStage) {
    let sent = progress.send(Ok(v1::SnapshotGuestResponse { stage: stage.into() })).await;
    if sent.is_err() {
        tracing::debug!(?stage, "nobody listens");
    }
}
