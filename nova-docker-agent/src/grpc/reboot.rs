//! `RebootGuest`: what the guest shall be afterwards.

use nova_docker_proto::v1;
use tonic::Status;
use uuid::Uuid;

use super::{
    convert, links,
    status::{failure, invalid},
};
use crate::{
    driver::{Driver, Error},
    guest::Guest,
    limits::StopTimeout,
    network::Interface,
};

/// What a guest shall be after a hard reboot; none when its container stays what it is.
pub(super) fn asked(
    id: Uuid,
    timeout: StopTimeout,
    guest: Option<v1::Guest>,
    image: Option<v1::Image>,
) -> Result<Option<Guest>, Status> {
    let Some(mut guest) = guest.filter(|_| timeout == StopTimeout::KILL) else { return Ok(None) };
    guest.inside = None;
    let were_looked_up = guest.links.is_some();
    let guest = convert::guest(guest, &image.unwrap_or_default())?;
    if guest.uuid != id {
        return Err(invalid("guest.guest_id", "is another guest's"));
    }
    links::check(&guest, were_looked_up, false).map_err(|error| failure(&error, id, None))?;
    Ok(Some(guest))
}

pub(super) async fn as_asked(driver: &Driver, asked: Guest, interfaces: &[Interface]) -> Result<(), Error> {
    let mut guest = driver.with_exposed(&asked).await?;
    guest.inside.has_config_drive = driver.has_config_drive(guest.uuid);
    driver.reboot_as(&guest, interfaces).await
}
