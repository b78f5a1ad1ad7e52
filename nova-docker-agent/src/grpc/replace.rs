//! `ReplaceGuest`: another container in the place of the one that a guest has.

use std::sync::Arc;

use futures::{SinkExt as _, channel::mpsc};
use nova_docker_proto::v1;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tracing::info;

use super::{
    convert, inside, links,
    status::{failure, invalid},
};
use crate::{
    cloud::Caller,
    driver::{Driver, Error, Image, Prepared, check_status},
    guest::{ConfigDrive, Guest, PowerState},
    network::Interface,
    registry::ImageDescriptor,
};

/// A checked request.
pub(super) struct Replacement {
    pub(super) guest: Guest,
    drive: Option<ConfigDrive>,
    /// Whether the drive of the launch stays, where there is one.
    keeps_drive: bool,
    /// None: the files are those of the other container.
    image: Option<ImageDescriptor>,
    interfaces: Vec<Interface>,
    pub(super) caller: Caller,
}

/// Where progress is told. A caller that does not listen any more has cancelled.
type Progress = mpsc::Sender<Result<v1::ReplaceGuestResponse, Status>>;

impl Replacement {
    pub(super) fn new(request: v1::ReplaceGuestRequest, caller: Caller) -> Result<Self, Status> {
        use v1::ReplacePurpose as Purpose;
        let purpose = request.purpose();
        let mut guest = request.guest.ok_or_else(|| invalid("guest", "is missing"))?;
        let image = request.image.ok_or_else(|| invalid("image", "is missing"))?;
        if purpose == Purpose::Unspecified {
            return Err(invalid("purpose", "is missing, or of a newer client"));
        }
        if purpose == Purpose::Rescue {
            // They are of the instance, and may be what is to be mended.
            guest.metadata.clear();
            guest.user_data.clear();
        }
        let (inside, drive) = inside::inside(guest.inside.take().unwrap_or_default())?;
        let were_looked_up = guest.links.is_some();
        let guest = Guest { rescues: purpose == Purpose::Rescue, inside, ..convert::guest(guest, &image)? };
        links::check(&guest, were_looked_up, false).map_err(|error| failure(&error, guest.uuid, None))?;
        let interfaces = convert::interfaces(guest.uuid, request.interfaces)?;
        let keeps_drive = purpose != Purpose::Rebuild;
        if purpose == Purpose::Resize {
            return Ok(Self { guest, drive, keeps_drive, image: None, interfaces, caller });
        }
        let descriptor = convert::image(&image)?;
        check_status(descriptor.id, &image.status).map_err(|error| failure(&error, guest.uuid, Some(descriptor.id)))?;
        Ok(Self { guest, drive, keeps_drive, image: Some(descriptor), interfaces, caller })
    }

    pub(super) async fn run(
        self,
        driver: Arc<Driver>,
        progress: Progress,
        stop: CancellationToken,
    ) -> Result<(), Status> {
        let (uuid, image) = (self.guest.uuid, self.image.as_ref().map(|image| image.id));
        let replaced = async {
            // A repetition begins anew: nobody knows how far the call before came. One that keeps the files has them of a container
            // that was rebuilt while its server was off, and never ran either.
            if self.image.is_none() {
                driver.end_interrupted(uuid).await?;
            } else if driver.has_aside(uuid).await? && driver.power_state(uuid).await? == Some(PowerState::Created) {
                info!("the guest is replaced once more");
                driver.restore(uuid).await?;
            }
            driver.tidy(uuid).await?;
            self.replace(&driver, progress, &stop).await
        };
        replaced.await.map_err(|error| failure(&error, uuid, image))
    }

    async fn replace(&self, driver: &Driver, progress: Progress, stop: &CancellationToken) -> Result<(), Error> {
        if let Some(drive) = &self.drive
            && !(self.keeps_drive && driver.has_config_drive(self.guest.uuid))
        {
            driver.write_config_drive(self.guest.uuid, drive.clone()).await?;
        }
        let guest = driver.with_exposed(&self.guest).await?;
        let Some(descriptor) = &self.image else { return driver.recreate(&guest, &self.interfaces).await };
        let image = Image { caller: self.caller.clone(), descriptor, is_bounded: true };
        let prepared: Prepared<'_> = tokio::select! {
            () = stop.cancelled() => return Err(Error::Cancelled(guest.uuid)),
            prepared = driver.prepare(&guest, image) => prepared?,
        };
        tell(progress, v1::CreateStage::ImagePulled).await;
        driver.replace(&guest, &prepared, &self.interfaces).await
    }
}

/// The token notices a caller that is gone; this does not.
async fn tell(mut progress: Progress, stage: v1::CreateStage) {
    let sent = progress.send(Ok(v1::ReplaceGuestResponse { stage: stage.into() })).await;
    if sent.is_err() {
        tracing::debug!(?stage, "nobody listens");
    }
}
