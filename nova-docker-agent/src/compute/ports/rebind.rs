//! Bringing the ports that an instance already has to this host, and taking them off it.

use futures::future::join_all;
use serde_json::Value;
use uuid::Uuid;

use super::binding::check_binding;
use super::deallocate::free_profile;
use super::{DeallocateError, NetworkError, Ports};
use crate::cloud::Caller;
use crate::cloud::neutron::{Port, PortUpdate};

impl Ports {
    /// Binds the instance's ports to `host` where they are not (a launch that was scheduled anew, a move, a binding that failed).
    /// Returns all ports of the instance.
    ///
    /// # Errors
    /// [`NetworkError::PortBindingFailed`] among others; ports bound before the failure stay bound.
    pub async fn rebind(
        &self,
        caller: &Caller,
        instance_uuid: Uuid,
        host: &str,
        availability_zone: &str,
    ) -> Result<Vec<Port>, NetworkError> {
        let service = caller.as_service();
        let ports = self.neutron.ports(&service, &[("device_id", &instance_uuid.to_string())]).await?;
        let bound = join_all(ports.into_iter().map(|port| async {
            if is_bound_to(&port, host) {
                return Ok(port);
            }
            let mut profile = port.profile.clone().unwrap_or_default();
            profile.remove("migrating_to");
            let update = PortUpdate::new()
                .set("binding:host_id", host)
                .set("device_owner", format!("compute:{availability_zone}"))
                .set("binding:profile", Value::Object(profile));
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

fn is_bound_to(port: &Port, host: &str) -> bool {
    port.host_id.as_deref() == Some(host)
        && !matches!(port.vif_type.as_deref(), None | Some("unbound" | "binding_failed"))
}
