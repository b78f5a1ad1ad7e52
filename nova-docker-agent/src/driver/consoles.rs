//! Guests' serial consoles.

use std::time::Duration;

use uuid::Uuid;

use super::{Driver, Error};
use crate::{console::Access, docker};

impl Driver {
    /// How a guest's serial console is reached by whoever connects within `life`.
    ///
    /// # Errors
    /// There is no such guest, or it has no console now, or this host has none.
    pub async fn serial_console(&self, uuid: Uuid, life: Duration) -> Result<Access, Error> {
        let Some(consoles) = &self.consoles else {
            let reason = "they are switched off on its host ([serial_console] enabled)";
            return Err(docker::Error::NoConsole { reason }.into());
        };
        self.docker.check_console(uuid).await?;
        Ok(consoles.access(uuid, life))
    }

    /// Whether a guest's serial console can be reached at `port` now.
    ///
    /// # Errors
    /// Docker's.
    pub async fn has_console_at(&self, uuid: Uuid, port: &str) -> Result<bool, Error> {
        if self.consoles.as_ref().is_none_or(|consoles| consoles.port().to_string() != port) {
            return Ok(false);
        }
        match self.docker.check_console(uuid).await {
            Ok(()) => Ok(true),
            Err(docker::Error::NotFound { .. } | docker::Error::NoConsole { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}
