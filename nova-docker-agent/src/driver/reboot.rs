//! Reboots: of a container as it is, and of one that is made again where what was asked for it has changed.

use std::time::Duration;

use tracing::{info, warn};
use uuid::Uuid;

use super::{Driver, Error};
use crate::{guest::Guest, limits::StopTimeout, network::Interface};

impl Driver {
    /// Stops a guest and starts it: its files stay, its processes do not.
    ///
    /// # Errors
    /// Those of [`stop`](Self::stop) and [`power_on`](Self::power_on).
    pub async fn reboot(&self, uuid: Uuid, timeout: StopTimeout, interfaces: &[Interface]) -> Result<(), Error> {
        self.stop(uuid, timeout).await?;
        self.power_on(uuid, interfaces).await
    }

    /// As [`reboot`](Self::reboot), at once. Where the guest is not what its container was made of, the container is made again, with its
    /// files and volumes. A new one that cannot be made, or does not start, is replaced by the one from before, which runs again.
    ///
    /// # Errors
    /// This host has not what the guest asks for, or the guest's files are larger than its disk: then nothing has changed. Those of [`reboot`](Self::reboot) and of
    /// [`recreate`](Self::recreate).
    pub async fn reboot_as(&self, guest: &Guest, interfaces: &[Interface]) -> Result<(), Error> {
        let uuid = guest.uuid;
        self.check_asked(guest)?;
        self.end_interrupted(uuid).await?;
        if self.docker.is_made_as(guest).await? {
            return self.reboot(uuid, StopTimeout::KILL, interfaces).await;
        }
        self.docker.check_disk(guest).await?;
        info!(instance = %uuid, "what was asked for the container has changed: it is made again");
        self.stop(uuid, StopTimeout::KILL).await?;
        let made = async {
            self.recreate(guest, interfaces).await?;
            self.start_guest(uuid, self.build_grace).await
        };
        let Err(error) = made.await else {
            if let Err(error) = self.settle(uuid).await {
                warn!(instance = %uuid, %error, "the container from before the reboot stays until the next operation");
            }
            return Ok(());
        };
        let back = async {
            self.restore(uuid).await?;
            self.plug(uuid, interfaces).await?;
            self.start_guest(uuid, Duration::ZERO).await
        };
        match back.await {
            Ok(()) => Err(error),
            Err(cleanup) => Err(Error::Cleanup { error: Box::new(error), cleanup: cleanup.to_string() }),
        }
    }

    /// What makes a container again, with its files, may have been cut short, and have left two: the new one never ran and may be half
    /// made. One that was rebuilt while its server was off never ran either, and is whole.
    ///
    /// # Errors
    /// Docker's.
    pub async fn end_interrupted(&self, uuid: Uuid) -> Result<(), Error> {
        if self.has_aside(uuid).await? && self.docker.is_remade(uuid).await? {
            self.restore(uuid).await?;
        }
        self.tidy(uuid).await
    }
}
