//! Servers that have written more than their flavor's disk, where Docker does not hold them to it: they are stopped, where an
//! operator wants that, as their users would stop them, and Nova is told why.

use std::sync::Arc;

use tracing::warn;

use crate::compute::{Compute, error::Error};
use crate::{
    driver::{DiskWatch, Overuse},
    messaging::Context,
    objects::{PowerState, VmState},
};

impl Compute {
    /// Watches what servers write; runs until it is dropped.
    pub(in crate::compute) async fn watch_disks(self: Arc<Self>) {
        let mut watch = DiskWatch::new(&self.config.docker);
        loop {
            let overuse = watch.next(&self.driver).await;
            let uuid = overuse.uuid;
            match self.stop_overusing(overuse).await {
                // Told to Nova.
                Ok(()) | Err(Error::Overuse(_)) => {}
                Err(error) => {
                    warn!(instance = %uuid, %error, "cannot stop the server for what it has written; trying again later");
                }
            }
        }
    }

    /// An instance with an operation under way, or that is not active, is left for the next look.
    async fn stop_overusing(&self, overuse: Overuse) -> Result<(), Error> {
        let (context, uuid) = (Context::admin(), overuse.uuid);
        if self.locks.is_busy(uuid) || self.recovering.is_busy(uuid) {
            return Ok(());
        }
        let _lock = self.locks.lock(uuid).await;
        let instance = self.conductor.instance(&context, &uuid.to_string(), &["system_metadata"]).await?;
        if !self.is_here(&instance) || instance.task_state().is_some() || instance.vm_state() != Some(VmState::Active) {
            return Ok(());
        }
        if !self.driver.tell_overuse(&overuse).await? {
            return Ok(());
        }
        self.stop_by_itself(&context, instance, PowerState::Running, Some(overuse.into())).await
    }
}
