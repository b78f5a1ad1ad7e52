//! An instance's network after a restart of the agent or of the host.

use std::time::Duration;

use backon::{ExponentialBuilder, Retryable as _};
use tracing::{info, warn};
use uuid::Uuid;

use crate::compute::{Compute, arguments::instance_uuid, error::Error, ports::interfaces::usable_interfaces};
use crate::{
    messaging::Context,
    objects::{Instance, PowerState},
};

impl Compute {
    /// Plugging what is plugged already changes nothing, so this is done for every instance that has a container.
    pub(in crate::compute) async fn replug(
        &self,
        context: &Context,
        instance: Instance,
        actual: PowerState,
    ) -> Result<(), Error> {
        let uuid = instance_uuid(&instance)?;
        if actual == PowerState::NoState {
            warn!("the instance has no container on this host");
            return Ok(());
        }
        // After a reboot of the host, Neutron's agent makes the bridge a little later than we start.
        let pauses = ExponentialBuilder::default().with_max_delay(Duration::from_secs(5)).with_max_times(8);
        let is_bound = (|| self.plug_as_recorded(context, uuid))
            .retry(pauses)
            .when(|error| matches!(error, Error::Guest(_)))
            .notify(|error, pause| info!(%error, retry_in = ?pause, "cannot plug the instance yet"))
            .await?;
        if !is_bound {
            // Half-way to the shelf: offloading can be asked for again.
            return Ok(());
        }
        let was_running = instance.power_state() == Some(PowerState::Running);
        if !was_running || actual == PowerState::Running {
            return Ok(());
        }
        if self.config.resume_guests_state_on_host_boot || self.driver.is_to_restart(uuid).await? {
            info!("starting the instance that was running before the host was restarted");
            self.power_on(context, uuid).await?;
        }
        Ok(())
    }

    /// Plugs what the record says now: since the instance was listed a port of it may have been deleted, and unplugged. Whether the
    /// ports are bound.
    async fn plug_as_recorded(&self, context: &Context, uuid: Uuid) -> Result<bool, Error> {
        let _cache = self.cache_locks.lock(uuid).await;
        let network = self.load_network_info(context, uuid).await?;
        if !network.is_unbound() {
            self.driver.plug(uuid, &usable_interfaces(&network, &self.host)?).await?;
        }
        Ok(!network.is_unbound())
    }
}
