//! What the schedulers' affinity filters know of this host's instances.

use tracing::debug;

use crate::compute::{Compute, error::Error};
use crate::{messaging::Context, objects::Instance};

impl Compute {
    /// The scheduler's affinity filters look at the instances that it knows of each host.
    pub(in crate::compute) async fn tell_schedulers(&self, instance: &Instance) {
        if !self.config.track_instance_changes {
            return;
        }
        let told =
            self.conductor.update_instance_info(&Context::admin(), &self.host, std::slice::from_ref(instance)).await;
        if let Err(error) = told {
            // They are told all instances every two minutes.
            debug!(%error, "cannot tell the schedulers");
        }
    }

    /// An instance that is deleted.
    pub(in crate::compute) async fn forget_in_schedulers(&self, uuid: &str) {
        if !self.config.track_instance_changes {
            return;
        }
        if let Err(error) = self.conductor.delete_instance_info(&Context::admin(), &self.host, uuid).await {
            debug!(%error, "cannot tell the schedulers");
        }
    }

    /// All of them, for what they were not told.
    ///
    /// # Errors
    /// Conductor did not answer, or a message could not be sent.
    pub(in crate::compute) async fn sync_schedulers(&self) -> Result<(), Error> {
        if !self.config.track_instance_changes {
            return Ok(());
        }
        let context = Context::admin();
        let instances = self.conductor.instances_by_host(&context, &self.host, &[]).await?;
        let uuids: Vec<&str> = instances.iter().map(|instance| instance.uuid()).collect();
        self.conductor.sync_instance_info(&context, &self.host, &uuids).await?;
        Ok(())
    }
}
