//! What a guest has used: processor, memory, disk and network.

use uuid::Uuid;

use super::{Driver, Error};
use crate::{docker::Used, network::Counters};

/// What a guest that runs has used since its start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diagnostics {
    /// Its container.
    pub used: Used,
    /// Its interfaces since they were plugged, `eth0` first.
    pub interfaces: Vec<Counters>,
}

impl Driver {
    /// What a guest has used.
    ///
    /// # Errors
    /// There is no such guest; Docker's; the kernel's.
    pub async fn diagnostics(&self, uuid: Uuid) -> Result<Diagnostics, Error> {
        let used = async { Ok::<_, Error>(self.docker.used(uuid).await?) };
        let interfaces = async { Ok(self.plumber.counters(uuid).await?) };
        let (used, interfaces) = tokio::try_join!(used, interfaces)?;
        Ok(Diagnostics { used, interfaces })
    }
}
