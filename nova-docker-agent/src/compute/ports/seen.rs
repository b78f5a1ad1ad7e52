//! Which ports Neutron has for an instance, and whether its answer can be believed.
//!
//! A Neutron that starts takes everybody for a user for a moment, and so it does with an agent that has lost its role: then none of the
//! ports is shown, and Neutron says nothing of that. Each answer may come from another process of Neutron, and speaks for itself alone:
//! who shows the binding of any port sees all of them.

use std::sync::{Arc, Mutex, PoisonError};

use uuid::Uuid;

use super::services::owners;
use super::{NetworkInfo, Ports, Vif};
use crate::cloud::neutron::Port;
use crate::cloud::{Caller, Error};

/// The device of a port of Neutron's own, which every list shows that is asked for it and to be believed. None is known at first.
#[derive(Clone, Default)]
pub(super) struct Witness(Arc<Mutex<Option<String>>>);

impl Witness {
    fn device(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, device: Option<String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = device;
    }
}

impl Ports {
    /// The ports that Neutron has for an instance, in one project if that is given. What is `known` of it and not among them has
    /// vanished.
    ///
    /// # Errors
    /// [`Error`] of neutron; [`Error::Unexpected`] when it shows nothing at all.
    pub(super) async fn ports_of(
        &self,
        caller: &Caller,
        instance: Uuid,
        project: Option<&str>,
        known: &NetworkInfo,
    ) -> Result<Vec<Port>, Error> {
        let (service, device) = (caller.as_service(), instance.to_string());
        let mut filters: Vec<(&str, &str)> = project.map(|project| ("tenant_id", project)).into_iter().collect();
        filters.push(("device_id", &device));
        let ports = self.neutron.ports(&service, &filters).await?;
        let is_shown = |vif: &Vif| ports.iter().any(|port| port.id == vif.id);
        if known.0.iter().all(is_shown) || shows_bindings(&ports) {
            return Ok(ports);
        }
        if let Some(ports) = self.ports_beside_a_witness(&service, &device).await? {
            let is_the_instances =
                |port: &Port| port.device_id == device && project.is_none_or(|project| project == port.tenant_id);
            return Ok(ports.into_iter().filter(is_the_instances).collect());
        }
        // A cloud without a router and a DHCP server has no such port, and still has agents.
        let agents = self.neutron.agents(&service, &[]).await;
        if agents.is_ok_and(|agents| !agents.is_empty()) {
            return self.neutron.ports(&service, &filters).await;
        }
        Err(blind())
    }

    /// The ports of a device, in a list that shows that it is to be believed; none where no port of Neutron's own is seen.
    ///
    /// # Errors
    /// [`Error`] of neutron; [`Error::Unexpected`] when it does not show again what it has just shown.
    async fn ports_beside_a_witness(&self, service: &Caller, device: &str) -> Result<Option<Vec<Port>>, Error> {
        if let Some(witness) = self.witness.device() {
            let ports = self.neutron.ports(service, &[("device_id", device), ("device_id", &witness)]).await?;
            if shows_bindings(&ports) {
                return Ok(Some(ports));
            }
            // It may be no device any more.
            self.witness.set(None);
        }
        let mut filters: Vec<(&str, &str)> = owners().map(|owner| ("device_owner", owner)).collect();
        filters.push(("limit", "1"));
        let own = self.neutron.ports(service, &filters).await?;
        let Some(witness) = own.into_iter().find(|port| port.vif_type.is_some() && !port.device_id.is_empty()) else {
            return Ok(None);
        };
        let ports = self.neutron.ports(service, &[("device_id", device), ("device_id", &witness.device_id)]).await?;
        self.witness.set(Some(witness.device_id));
        if shows_bindings(&ports) { Ok(Some(ports)) } else { Err(blind()) }
    }
}

fn blind() -> Error {
    Error::Unexpected {
        service: "neutron",
        method: "GET".to_owned(),
        path: "/v2.0/ports".to_owned(),
        reason: "it shows none of the instance's ports, and nothing of its own. Has it just been started, or has the agent's user \
                 lost its role (service or admin)?"
            .to_owned(),
    }
}

fn shows_bindings(ports: &[Port]) -> bool {
    ports.iter().any(|port| port.vif_type.is_some())
}

/// The interfaces of `before` whose ports are not in `now`, which is all that Neutron has for the instance.
pub(in crate::compute) fn vanished(before: &NetworkInfo, now: &NetworkInfo) -> Vec<Vif> {
    let is_there = |vif: &Vif| now.0.iter().any(|other| other.id == vif.id);
    before.0.iter().filter(|vif| !is_there(vif)).cloned().collect()
}
