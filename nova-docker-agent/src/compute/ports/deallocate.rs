//! Giving an instance's ports back.

use futures::future::join_all;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::resources::reserved;
use super::{NetworkInfo, Ports, Resources};
use crate::cloud::neutron::{Port, PortUpdate};
use crate::cloud::{Caller, Error};

/// What a binding wrote into `binding:profile`, and goes with it.
const BINDING_PROFILE_KEYS: [&str; 9] = [
    "pci_vendor_info",
    "pci_slot",
    "allocation",
    "arq_uuid",
    "physical_network",
    "card_serial_number",
    "vf_num",
    "pf_mac_address",
    "device_mac_address",
];

/// What could not be given back; everything else was.
#[derive(Debug, thiserror::Error)]
pub enum DeallocateError {
    /// The instance's ports are not known.
    #[error("cannot list the ports of instance {instance}: {error}")]
    List { instance: Uuid, error: Error },
    #[error("{}", failures.iter().map(|(port, error)| format!("cannot release port {port}: {error}")).collect::<Vec<_>>().join("; "))]
    Ports { failures: Vec<(Uuid, Error)> },
}

impl DeallocateError {
    /// Neutron's list made no sense; another one may.
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::List { error: Error::Unexpected { .. }, .. })
    }
}

impl Ports {
    /// Deletes the ports that were made for an instance, and unbinds those that belong to the user: `requested_ports` (of a failed
    /// launch) and those that the cache marks `preserve_on_delete`. Ports that are gone, or in other hands by now, are left alone.
    ///
    /// # Errors
    /// [`DeallocateError`] with every port that failed; the others were released.
    pub async fn deallocate(
        &self,
        caller: &Caller,
        instance_uuid: Uuid,
        requested_ports: &[Uuid],
        cache: &NetworkInfo,
    ) -> Result<(), DeallocateError> {
        let ports = self
            .ports_of(caller, instance_uuid, None, cache)
            .await
            .map_err(|error| DeallocateError::List { instance: instance_uuid, error })?;
        let preserved = |port: &Port| {
            requested_ports.contains(&port.id) || cache.0.iter().any(|vif| vif.id == port.id && vif.preserve_on_delete)
        };
        let results = join_all(ports.iter().map(|port| async move {
            let result =
                if preserved(port) { self.unbind(caller, port).await } else { self.remove(caller, port).await };
            result.map_err(|error| (port.id, error))
        }))
        .await;
        let failures: Vec<_> = results.into_iter().filter_map(Result::err).collect();
        if failures.is_empty() { Ok(()) } else { Err(DeallocateError::Ports { failures }) }
    }

    /// Gives back one port of an instance: deletes it, or unbinds it when it is the user's. Returns what was reserved for it at
    /// placement, which only a user's port can have.
    ///
    /// # Errors
    /// [`Error`] of neutron; a port that is gone is none.
    pub async fn deallocate_port(&self, caller: &Caller, port: Uuid, preserve: bool) -> Result<Resources, Error> {
        if !preserve {
            return self.neutron.delete_port(&caller.as_service(), port).await.map(|_| Resources::new());
        }
        match self.neutron.port(&caller.as_service(), port).await {
            Ok(port) => self.unbind(caller, &port).await.map(|()| reserved(&port)),
            Err(error) if error.is_not_found() => Ok(Resources::new()),
            Err(error) => Err(error),
        }
    }

    async fn remove(&self, caller: &Caller, port: &Port) -> Result<(), Error> {
        if self.neutron.delete_port(&caller.as_service(), port.id).await? {
            tracing::debug!(port = %port.id, "deleted a port");
        }
        Ok(())
    }

    /// Makes a port the user's free port again. What is in `port` may be from before the binding.
    pub(super) async fn unbind(&self, caller: &Caller, port: &Port) -> Result<(), Error> {
        let service = caller.as_service();
        let mut update = PortUpdate::new()
            .set("device_id", "")
            .set("device_owner", "")
            .set("binding:host_id", Value::Null)
            .set("binding:profile", free_profile(port.profile.as_ref()));
        let mut external_name = false;
        if self.neutron.has_extension(&service, "dns-integration").await? {
            external_name = self.has_dns_domain(&service, port.network_id).await?;
            if !external_name {
                update = update.set("dns_name", "");
            }
        }
        match self.neutron.update_port(&service, port.id, &update).await {
            Err(error) if error.is_not_found() => return Ok(()),
            result => result.map(drop)?,
        }
        if external_name {
            // The name is in the user's zone: it goes as the user, as well as it can.
            if let Err(error) = self.neutron.update_port(caller, port.id, &PortUpdate::new().set("dns_name", "")).await
            {
                tracing::warn!(port = %port.id, %error, "cannot take a port's DNS name back");
            }
        }
        Ok(())
    }

    async fn has_dns_domain(&self, service: &Caller, network: Uuid) -> Result<bool, Error> {
        let networks = self.neutron.networks(service, &[("id", &network.to_string())]).await?;
        Ok(networks.iter().any(|network| network.dns_domain.as_deref().is_some_and(|domain| !domain.is_empty())))
    }
}

pub(super) fn free_profile(profile: Option<&Map<String, Value>>) -> Map<String, Value> {
    let mut profile = profile.cloned().unwrap_or_default();
    profile.retain(|key, _| !BINDING_PROFILE_KEYS.contains(&key.as_str()));
    profile
}
