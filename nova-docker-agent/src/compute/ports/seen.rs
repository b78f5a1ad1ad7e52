//! Which ports Neutron has for an instance, and whether its answer can be believed.

use super::services::owners;
use super::{NetworkInfo, Ports, Vif, distinct, filters};
use crate::cloud::neutron::Port;
use crate::cloud::{Caller, Error};

impl Ports {
    /// The ports that Neutron has for an instance, by `filters`. What is `known` of it and not among them has vanished.
    ///
    /// A Neutron that starts takes everybody for a user for a moment, and so it does with an agent that has lost its role: then none of
    /// the ports is shown, and Neutron says nothing of that. Who sees the binding of any port, or Neutron's agents, is taken for what it
    /// is. It is asked again then, for it may have been blind until that moment.
    ///
    /// # Errors
    /// [`Error`] of neutron; [`Error::Unexpected`] when it shows nothing at all.
    pub(super) async fn ports_of(
        &self,
        caller: &Caller,
        filters: &[(&str, &str)],
        known: &NetworkInfo,
    ) -> Result<Vec<Port>, Error> {
        let service = caller.as_service();
        let ports = self.neutron.ports(&service, filters).await?;
        let is_shown = |vif: &Vif| ports.iter().any(|port| port.id == vif.id);
        if known.0.iter().all(is_shown) || ports.iter().any(|port| port.vif_type.is_some()) {
            return Ok(ports);
        }
        if self.sees_others(&service, known).await {
            return self.neutron.ports(&service, filters).await;
        }
        Err(Error::Unexpected {
            service: "neutron",
            method: "GET".to_owned(),
            path: "/v2.0/ports".to_owned(),
            reason: "it shows none of the instance's ports, and nothing of its own. Has it just been started, or has the agent's \
                     user lost its role (service or admin)?"
                .to_owned(),
        })
    }

    async fn sees_others(&self, caller: &Caller, known: &NetworkInfo) -> bool {
        let networks = distinct(known.0.iter().map(|vif| vif.network.id));
        let mut of_networks = filters("network_id", &networks);
        of_networks.extend(owners().map(|owner| ("device_owner", owner)));
        let ports = self.neutron.ports(caller, &of_networks).await;
        if ports.is_ok_and(|ports| ports.iter().any(|port| port.vif_type.is_some())) {
            return true;
        }
        let agents = self.neutron.agents(caller, &[]).await;
        agents.is_ok_and(|agents| !agents.is_empty())
    }
}

/// The interfaces of `before` whose ports are not in `now`, which is all that Neutron has for the instance.
pub(in crate::compute) fn vanished(before: &NetworkInfo, now: &NetworkInfo) -> Vec<Vif> {
    let is_there = |vif: &Vif| now.0.iter().any(|other| other.id == vif.id);
    before.0.iter().filter(|vif| !is_there(vif)).cloned().collect()
}
