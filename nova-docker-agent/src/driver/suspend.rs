//! Guests whose processes rest for longer than a pause.

use tracing::warn;
use uuid::Uuid;

use super::{Driver, Error};
use crate::{config::Suspend, guest::PowerState, network::Interface};

impl Driver {
    /// Suspends a guest: its processes are frozen, and stay in memory.
    ///
    /// # Errors
    /// The guest does not run; [`Error::Unsupported`] where an operator has switched this off.
    pub async fn suspend(&self, uuid: Uuid) -> Result<(), Error> {
        match self.suspend {
            Suspend::Freeze => self.pause(uuid).await,
            Suspend::Refuse => {
                let problem = "servers are not suspended on this host ([docker] suspend = refuse); pause or shelve it";
                Err(Error::Unsupported(problem.to_owned()))
            }
        }
    }

    /// Lets a suspended guest go on. One whose container ended meanwhile, with the host or with Docker, is plugged and started: its
    /// files are there, its processes are new.
    ///
    /// # Errors
    /// There is no such guest, or it does not start.
    pub async fn resume(&self, uuid: Uuid, interfaces: &[Interface]) -> Result<(), Error> {
        match self.docker.state(uuid).await? {
            Some(PowerState::Running) => Ok(()),
            Some(PowerState::Paused) => self.unpause(uuid).await,
            _ => {
                warn!(instance = %uuid, "its container ended while it was suspended; starting it afresh");
                self.power_on(uuid, interfaces).await
            }
        }
    }
}
