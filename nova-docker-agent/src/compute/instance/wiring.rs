//! Waiting until Neutron has wired what was plugged: only then does a new container start.
//!
//! Neutron makes a port ACTIVE, and says so, when its L2 agent and its DHCP agent have both told that they are done. Where both tell it
//! at the same moment, each of the two transactions still sees the other's part missing, and nobody makes the port ACTIVE
//! (`provisioning_complete` of Neutron 2026.2). It stays DOWN until the L2 agent wires it anew. And Neutron says once what it says: where
//! nova-api is away then, nobody hears it. So a wait that is long is not only a wait.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use uuid::Uuid;

use crate::compute::{
    Compute,
    error::Error,
    ports::{
        NetworkInfo,
        waiters::{PlugError, PlugWait},
    },
};
use crate::{cloud::Caller, network::Interface};

/// After so much of `vif_plugging_timeout` Neutron is asked. It usually takes seconds.
const LONG: Duration = Duration::from_secs(60);

/// Interfaces that are plugged, and the wait until they are wired.
pub(in crate::compute) struct Wiring {
    interfaces: Vec<Interface>,
    wait: PlugWait,
}

impl Compute {
    /// To be called before the interfaces are plugged: Neutron may answer within milliseconds.
    pub(in crate::compute) fn await_wiring(
        &self,
        uuid: Uuid,
        network: &NetworkInfo,
        interfaces: &[Interface],
    ) -> Wiring {
        let awaited = network.0.iter().filter(|vif| !vif.active).map(|vif| vif.id);
        Wiring { interfaces: interfaces.to_vec(), wait: self.waiters.register(uuid, awaited.map(|id| id.to_string())) }
    }

    /// Returns when everything is wired, or may be used as it is.
    ///
    /// # Errors
    /// Neutron does not wire a port, one cannot be plugged once more, or the instance is being deleted.
    pub(in crate::compute) async fn await_plugged(
        &self,
        uuid: Uuid,
        mut wiring: Wiring,
        cancelled: &CancellationToken,
    ) -> Result<(), Error> {
        let limit = self.config.vif_plugging_timeout;
        let mut plugged = unless_deleted(uuid, &mut wiring.wait, limit.min(LONG), cancelled).await?;
        if limit > LONG && matches!(plugged, Err(PlugError::Timeout { .. })) {
            self.wire_again(uuid, &mut wiring, cancelled).await?;
            plugged = unless_deleted(uuid, &mut wiring.wait, limit - LONG, cancelled).await?;
        }
        match plugged.map_err(|error| error.after(limit)) {
            Err(error) if self.config.vif_plugging_is_fatal => Err(error.into()),
            Err(error) => {
                warn!(%error, "a port is not wired; starting anyway (vif_plugging_is_fatal = false)");
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    /// Looks at the ports of which nothing was heard. One that is ACTIVE is wired; another one, if it is the only one, is plugged anew, so
    /// that it is wired anew.
    ///
    /// # Errors
    /// One may be left unplugged, or the instance is being deleted.
    async fn wire_again(&self, uuid: Uuid, wiring: &mut Wiring, cancelled: &CancellationToken) -> Result<(), Error> {
        let unwired = tokio::select! {
            biased;
            () = cancelled.cancelled() => return Err(Error::Deleting(uuid)),
            unwired = self.unwired(uuid, wiring.wait.pending()) => unwired,
        };
        let Wiring { interfaces, wait } = wiring;
        let ([only], [port]) = (&interfaces[..], &unwired[..]) else { return Ok(()) };
        warn!(%port, "Neutron has not wired the port; plugging it once more");
        // An event of the plug that ends says nothing of the next one.
        let await_afresh = || *wait = self.waiters.register(uuid, [port.to_string()]);
        // Not to be dropped: a plug that is left half-way could finish after the build is undone.
        Ok(self.driver.plug_anew(uuid, only, await_afresh).await?)
    }

    /// Those of `ports` that Neutron shows, and not as ACTIVE.
    async fn unwired(&self, uuid: Uuid, ports: Vec<String>) -> Vec<Uuid> {
        let caller = Caller::own();
        let mut unwired = Vec::new();
        for port in ports {
            let Ok(id) = Uuid::parse_str(&port) else { continue };
            match self.cloud.neutron.port(&caller, id).await {
                Ok(found) if found.is_active() => {
                    info!(port, "the port is ACTIVE, of which no event has told");
                    self.waiters.deliver(uuid, &port, "completed");
                }
                Ok(_) => unwired.push(id),
                Err(error) => warn!(port, %error, "cannot see whether the port is wired; waiting on"),
            }
        }
        unwired
    }
}

/// A deletion also ends the wait for the ports: it is a deletion before it is a failed wait.
async fn unless_deleted(
    uuid: Uuid,
    wait: &mut PlugWait,
    within: Duration,
    cancelled: &CancellationToken,
) -> Result<Result<(), PlugError>, Error> {
    tokio::select! {
        biased;
        () = cancelled.cancelled() => Err(Error::Deleting(uuid)),
        plugged = wait.wait(within) => Ok(plugged),
    }
}
