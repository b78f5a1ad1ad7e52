//! Bringing the ports that an instance already has to this host, and taking them off it.

use futures::future::join_all;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::binding::check_binding;
use super::deallocate::free_profile;
use super::{DeallocateError, NetworkError, NetworkInfo, Ports, ProviderMapping, Vif};
use crate::cloud::Caller;
use crate::cloud::neutron::{Port, PortUpdate};

/// Which ports of an instance that is there already are to be bound again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::compute) enum Rebind {
    Nothing,
    /// Those whose binding has failed: Neutron's agent was down, or did not know a physical network yet.
    Failed,
    /// Those too that are bound to no host.
    All,
}

impl Rebind {
    fn concerns(self, vif: &Vif) -> bool {
        match vif.vif_type.as_deref() {
            Some("binding_failed") => self != Self::Nothing,
            None | Some("unbound") => self == Self::All,
            _ => false,
        }
    }
}

impl Ports {
    /// Asks Neutron to bind ports of an instance on this host once more. Whether it was asked at all; what came of it the ports tell.
    /// Neutron tells of every such attempt by an event, so it must not be made because of one.
    pub(in crate::compute) async fn bind_again(
        &self,
        caller: &Caller,
        network: &NetworkInfo,
        which: Rebind,
        host: &str,
        availability_zone: &str,
    ) -> bool {
        let service = caller.as_service();
        let concerned: Vec<&Vif> = network.0.iter().filter(|vif| which.concerns(vif)).collect();
        join_all(concerned.iter().map(|vif| async {
            let update = to_host(host, availability_zone, vif.profile.as_ref());
            if let Err(error) = self.neutron.update_port(&service, vif.id, &update).await {
                tracing::warn!(port = %vif.id, %error, "cannot bind the port again");
            }
        }))
        .await;
        !concerned.is_empty()
    }

    /// Binds the instance's ports to `host` where they are not (a launch that was scheduled anew, a move, a binding that failed).
    /// What they ask of placement is where `resources` says. Returns all ports of the instance.
    ///
    /// # Errors
    /// [`NetworkError::PortBindingFailed`] among others; ports bound before the failure stay bound.
    pub async fn rebind(
        &self,
        caller: &Caller,
        instance_uuid: Uuid,
        host: &str,
        availability_zone: &str,
        resources: &ProviderMapping,
    ) -> Result<Vec<Port>, NetworkError> {
        let service = caller.as_service();
        let ports = self.neutron.ports(&service, &[("device_id", &instance_uuid.to_string())]).await?;
        let bound = join_all(ports.into_iter().map(|port| async {
            if is_bound_to(&port, host) {
                return Ok(port);
            }
            let mut profile = port.profile.clone().unwrap_or_default();
            profile.extend(resources.allocation(&port)?.map(|allocation| ("allocation".to_owned(), allocation)));
            let update = to_host(host, availability_zone, Some(&profile));
            let port = self.neutron.update_port(&service, port.id, &update).await?;
            check_binding(&port, host)?;
            Ok(port)
        }))
        .await;
        bound.into_iter().collect()
    }

    /// Takes the instance's ports off their host. They stay the instance's, with their addresses.
    ///
    /// # Errors
    /// [`DeallocateError`] with every port that failed; the others are bound to no host.
    pub async fn unbind_from_host(&self, caller: &Caller, instance_uuid: Uuid) -> Result<(), DeallocateError> {
        let service = caller.as_service();
        let ports = self
            .neutron
            .ports(&service, &[("device_id", &instance_uuid.to_string())])
            .await
            .map_err(|error| DeallocateError::List { instance: instance_uuid, error })?;
        let results = join_all(ports.iter().map(|port| async {
            let update = PortUpdate::new()
                .set("binding:host_id", Value::Null)
                .set("binding:profile", free_profile(port.profile.as_ref()));
            match self.neutron.update_port(&service, port.id, &update).await {
                Err(error) if !error.is_not_found() => Err((port.id, error)),
                _ => Ok(()),
            }
        }))
        .await;
        let failures: Vec<_> = results.into_iter().filter_map(Result::err).collect();
        if failures.is_empty() { Ok(()) } else { Err(DeallocateError::Ports { failures }) }
    }
}

fn to_host(host: &str, availability_zone: &str, profile: Option<&Map<String, Value>>) -> PortUpdate {
    let mut profile = profile.cloned().unwrap_or_default();
    profile.remove("migrating_to");
    PortUpdate::new()
        .set("binding:host_id", host)
        .set("device_owner", format!("compute:{availability_zone}"))
        .set("binding:profile", Value::Object(profile))
}

fn is_bound_to(port: &Port, host: &str) -> bool {
    port.host_id.as_deref() == Some(host)
        && !matches!(port.vif_type.as_deref(), None | Some("unbound" | "binding_failed"))
}
