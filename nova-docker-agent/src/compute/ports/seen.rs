//! Which ports Neutron has for an instance, and whether its answer can be believed.
//!
//! A Neutron that starts takes everybody for a user for a moment, and so it does with an agent that has lost its role: then none of the
//! ports is shown, and Neutron says nothing of that. Each answer may come from another process of Neutron, and speaks for itself alone:
//! who shows the binding of any port sees all of them.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use uuid::Uuid;

use super::services::owners;
use super::{NetworkInfo, Ports, Vif};
use crate::cloud::neutron::Port;
use crate::cloud::{Caller, Error};

/// What is enough to choose a witness by. The others are those that no port is without.
const FIELDS: [&str; 6] = ["id", "network_id", "mac_address", "status", "device_id", "binding:vif_type"];
/// Of so many devices not all vanish between two questions.
const DEVICES: usize = 8;

/// Devices of ports of Neutron's own, of which every list shows one that is asked for them and to be believed. None are known at first.
#[derive(Clone, Default)]
pub(super) struct Witnesses(Arc<Mutex<Vec<String>>>);

impl Witnesses {
    fn devices(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, devices: Vec<String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = devices;
    }
}

/// The devices to ask for, each in another network. Tenants may make ports that look like Neutron's own, and remove them; but no agent
/// binds those, so they come last.
fn witnesses(mut own: Vec<Port>) -> Vec<String> {
    own.retain(|port| port.vif_type.is_some() && !port.device_id.is_empty());
    own.sort_by_key(|port| port.vif_type.as_deref() == Some("unbound"));
    let (mut networks, mut devices) = (HashSet::new(), Vec::new());
    for port in own {
        if devices.len() < DEVICES && networks.insert(port.network_id) && !devices.contains(&port.device_id) {
            devices.push(port.device_id);
        }
    }
    devices
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
        if let Some(ports) = self.ports_beside_witnesses(&service, &device).await? {
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
    async fn ports_beside_witnesses(&self, service: &Caller, device: &str) -> Result<Option<Vec<Port>>, Error> {
        let known = self.witnesses.devices();
        if !known.is_empty() {
            let ports = self.ports_of_devices(service, device, &known).await?;
            if shows_bindings(&ports) {
                return Ok(Some(ports));
            }
            // They may be no devices any more.
            self.witnesses.set(Vec::new());
        }
        let of_owners = owners().map(|owner| ("device_owner", owner));
        // Not the first ones alone: those may be tenants', without a device.
        let filters: Vec<(&str, &str)> = of_owners.chain(FIELDS.map(|field| ("fields", field))).collect();
        let devices = witnesses(self.neutron.ports(service, &filters).await?);
        if devices.is_empty() {
            return Ok(None);
        }
        let ports = self.ports_of_devices(service, device, &devices).await?;
        self.witnesses.set(devices);
        if shows_bindings(&ports) { Ok(Some(ports)) } else { Err(blind()) }
    }

    async fn ports_of_devices(&self, service: &Caller, device: &str, witnesses: &[String]) -> Result<Vec<Port>, Error> {
        let devices = std::iter::once(device).chain(witnesses.iter().map(String::as_str));
        let filters: Vec<(&str, &str)> = devices.map(|device| ("device_id", device)).collect();
        self.neutron.ports(service, &filters).await
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
