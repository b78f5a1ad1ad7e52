//! Guests whose processes rest for longer than a pause.

use tracing::{info, warn};
use uuid::Uuid;

use super::{Driver, Error};
use crate::{config::Suspend, docker, guest::PowerState, network::Interface};

impl Driver {
    /// Suspends a guest: its processes go to disk, or are frozen and stay in memory.
    ///
    /// # Errors
    /// The guest does not run; [`Error::Unsupported`] where an operator has switched this off, or wants it on disk and it cannot be;
    /// [`Error::Cancelled`] once it is being deleted.
    pub async fn suspend(&self, uuid: Uuid) -> Result<(), Error> {
        match self.suspend {
            Suspend::Auto => match self.docker.checkpoint(uuid).await {
                Err(docker::Error::NotDumped { reason }) => {
                    info!(instance = %uuid, reason, "it cannot be suspended to disk; freezing it in memory");
                    self.pause(uuid).await
                }
                done => done.map_err(|error| refused(uuid, error)),
            },
            Suspend::Checkpoint => self.docker.checkpoint(uuid).await.map_err(|error| refused(uuid, error)),
            Suspend::Freeze => self.pause(uuid).await,
            Suspend::Refuse => {
                let problem = "servers are not suspended on this host ([docker] suspend = refuse); pause or shelve it";
                Err(Error::Unsupported(problem.to_owned()))
            }
        }
    }

    /// Ends the suspension of a guest that is being deleted, if it is on its way to disk: its end would wait for it. To be called
    /// by who does not yet have the guest's turn.
    pub async fn end_suspension(&self, uuid: Uuid) {
        if let Err(error) = self.docker.end_dump(uuid).await {
            warn!(instance = %uuid, %error, "cannot end its way to disk; its deletion waits for that");
        }
    }

    /// Lets a suspended guest go on. One whose container ended meanwhile, with the host or with Docker, is plugged and started: its
    /// files are there, its processes are new. One on disk is plugged, and goes on.
    ///
    /// # Errors
    /// There is no such guest, or it does not start; [`Error::Unsupported`] when it cannot be brought back from disk, where it stays.
    pub async fn resume(&self, uuid: Uuid, interfaces: &[Interface]) -> Result<(), Error> {
        match self.docker.state(uuid).await? {
            Some(PowerState::Running) => Ok(()),
            Some(PowerState::Paused) => self.unpause(uuid).await,
            Some(PowerState::Suspended) => {
                let back = async {
                    self.plug(uuid, interfaces).await?;
                    self.bring_back(uuid).await
                };
                match back.await {
                    // Its memory can still be had: whatever it was, that is no reason to give it up.
                    Err(error)
                        if !matches!(error, Error::Unsupported(_))
                            && self.docker.state(uuid).await? == Some(PowerState::Suspended) =>
                    {
                        Err(Error::Unsupported(format!("{error}; it stays suspended, and can be resumed again")))
                    }
                    done => done,
                }
            }
            _ => {
                warn!(instance = %uuid, "its container ended while it was suspended; starting it afresh");
                self.power_on(uuid, interfaces).await
            }
        }
    }

    /// Lets a guest go on that was suspended just now, whichever way.
    ///
    /// # Errors
    /// Those of [`resume`](Self::resume).
    pub async fn undo_suspend(&self, uuid: Uuid) -> Result<(), Error> {
        match self.docker.state(uuid).await? {
            Some(PowerState::Suspended) => self.bring_back(uuid).await,
            _ => self.unpause(uuid).await,
        }
    }

    async fn bring_back(&self, uuid: Uuid) -> Result<(), Error> {
        self.docker.restore(uuid).await.map_err(|error| refused(uuid, error))?;
        // Its interfaces were down, as before a start.
        self.tell_neighbours(uuid, false).await;
        Ok(())
    }
}

/// What has failed without a change is refused.
fn refused(uuid: Uuid, error: docker::Error) -> Error {
    match error {
        docker::Error::Unwanted => Error::Cancelled(uuid),
        docker::Error::NotDumped { .. } | docker::Error::NotRestored { .. } => Error::Unsupported(error.to_string()),
        other => other.into(),
    }
}
