//! Ports that Neutron no longer has for an instance.

use super::services::owners;
use super::{NetworkInfo, Ports, Vif, distinct, filters};
use crate::cloud::Caller;

impl Ports {
    /// The interfaces of the cache `before` whose ports are not in `now`, which is all that Neutron has for the instance. They can be
    /// unplugged.
    ///
    /// An agent that has lost its role sees no ports either, and Neutron says nothing of that: then none has vanished. Who sees the
    /// binding of any port, or Neutron's agents, has the role.
    pub(in crate::compute) async fn vanished(
        &self,
        caller: &Caller,
        before: &NetworkInfo,
        now: &NetworkInfo,
    ) -> Vec<Vif> {
        let is_there = |vif: &Vif| now.0.iter().any(|other| other.id == vif.id);
        let vanished: Vec<Vif> = before.0.iter().filter(|vif| !is_there(vif)).cloned().collect();
        let sees_all = now.0.iter().any(|vif| vif.vif_type.is_some());
        if vanished.is_empty() || sees_all || self.sees_others(caller, &vanished).await {
            return vanished;
        }
        tracing::warn!(
            ports = ?vanished.iter().map(|vif| vif.id).collect::<Vec<_>>(),
            "Neutron shows none of the instance's ports, and nothing of its own: nothing is unplugged. Has the agent's user lost its \
             role (service or admin)?"
        );
        Vec::new()
    }

    async fn sees_others(&self, caller: &Caller, vifs: &[Vif]) -> bool {
        let caller = caller.as_service();
        let networks = distinct(vifs.iter().map(|vif| vif.network.id));
        let mut of_networks = filters("network_id", &networks);
        of_networks.extend(owners().map(|owner| ("device_owner", owner)));
        let ports = self.neutron.ports(&caller, &of_networks).await;
        if ports.is_ok_and(|ports| ports.iter().any(|port| port.vif_type.is_some())) {
            return true;
        }
        let agents = self.neutron.agents(&caller, &[]).await;
        agents.is_ok_and(|agents| !agents.is_empty())
    }
}
