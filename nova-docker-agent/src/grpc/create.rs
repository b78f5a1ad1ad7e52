//! `CreateGuest`: image and network at the same time, then the container; or nothing at all.

use std::sync::Arc;

use futures::{SinkExt as _, channel::mpsc};
use nova_docker_proto::v1;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tracing::{info, warn};

use super::{
    convert, inside, links,
    status::{failure, with_cleanup},
};
use crate::{
    cloud::Caller,
    driver::{Driver, End, Error, Image, check_status},
    guest::{ConfigDrive, Guest},
    network::Interface,
    registry::ImageDescriptor,
};

/// A checked request.
pub(super) struct Creation {
    pub(super) guest: Guest,
    drive: Option<ConfigDrive>,
    image: ImageDescriptor,
    interfaces: Vec<Interface>,
    pub(super) caller: Caller,
}

/// Where progress is told. A caller that does not listen any more has cancelled.
pub(super) type Progress = mpsc::Sender<Result<v1::CreateGuestResponse, Status>>;

impl Creation {
    pub(super) fn new(request: v1::CreateGuestRequest, caller: Caller) -> Result<Self, Status> {
        let mut guest = request.guest.ok_or_else(|| super::status::invalid("guest", "is missing"))?;
        let image = request.image.ok_or_else(|| super::status::invalid("image", "is missing"))?;
        let descriptor = convert::image(&image)?;
        let (inside, drive) = inside::inside(guest.inside.take().unwrap_or_default())?;
        let were_looked_up = guest.links.is_some();
        let guest = Guest { inside, ..convert::guest(guest, &image)? };
        links::check(&guest, were_looked_up, true).map_err(|error| failure(&error, guest.uuid, None))?;
        check_status(descriptor.id, &image.status).map_err(|error| failure(&error, guest.uuid, Some(descriptor.id)))?;
        let interfaces = convert::interfaces(guest.uuid, request.interfaces)?;
        Ok(Self { guest, drive, image: descriptor, interfaces, caller })
    }

    /// Creates the guest. What was made before a failure is removed again; a guest that was there before stays.
    pub(super) async fn run(
        self,
        driver: Arc<Driver>,
        mut progress: Progress,
        stop: CancellationToken,
    ) -> Result<(), Status> {
        let (uuid, image) = (self.guest.uuid, self.image.id);
        let of_guest = |error| failure(&error, uuid, Some(image));
        let there = driver.power_state(uuid).await.map_err(|error| failure(&error, uuid, None))?;
        if there.is_some() {
            info!("the guest is there already");
            driver.plug(uuid, &self.interfaces).await.map_err(of_guest)?;
            tell(&mut progress, v1::CreateStage::NetworkPlugged).await;
            return Ok(());
        }
        let Err(error) = Box::pin(self.create(&driver, progress, &stop)).await else { return Ok(()) };
        let status = of_guest(error);
        match driver.remove(uuid, End::Replaced).await {
            Ok(()) => Err(status),
            Err(error) => {
                warn!(%error, "not everything of the guest that was not made is gone");
                Err(with_cleanup(&status, &error))
            }
        }
    }

    async fn create(&self, driver: &Driver, progress: Progress, stop: &CancellationToken) -> Result<(), Error> {
        let uuid = self.guest.uuid;
        let (mut pulled, mut plugged) = (progress.clone(), progress);
        if let Some(drive) = &self.drive {
            driver.write_config_drive(uuid, drive.clone()).await?;
        }
        let image = Image { caller: self.caller.clone(), descriptor: &self.image, is_bounded: true };
        let network = async {
            driver.plug_new(uuid, &self.interfaces).await?;
            tell(&mut plugged, v1::CreateStage::NetworkPlugged).await;
            Ok::<_, Error>((self.interfaces.clone(), ()))
        };
        let pulled = async { tell(&mut pulled, v1::CreateStage::ImagePulled).await };
        let guest = driver.with_exposed(&self.guest).await?;
        driver.spawn(&guest, image, pulled, network, stop).await
    }
}

/// The token notices a caller that is gone; this does not.
pub(super) async fn tell(progress: &mut Progress, stage: v1::CreateStage) {
    let sent = progress.send(Ok(v1::CreateGuestResponse { stage: stage.into() })).await;
    if sent.is_err() {
        tracing::debug!(?stage, "nobody listens");
    }
}
