//! Bringing the ports that an instance already has to this host.

use futures::future::join_all;
use serde_json::Value;
use uuid::Uuid;

use super::binding::check_binding;
use super::{NetworkError, Ports};
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
}

fn is_bound_to(port: &Port, host: &str) -> bool {
    port.host_id.as_deref() == Some(host)
        && !matches!(port.vif_type.as_deref(), None | Some("unbound" | "binding_failed"))
}
