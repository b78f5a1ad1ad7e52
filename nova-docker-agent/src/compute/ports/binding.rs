//! Whose a port is, and whether Neutron could bind it.

use super::{AllocateRequest, NetworkError};
use crate::cloud::neutron::Port;

pub(super) fn device_owner(request: &AllocateRequest) -> String {
    format!("compute:{}", request.availability_zone)
}

pub(super) fn check_binding(port: &Port, host: &str) -> Result<(), NetworkError> {
    if port.vif_type.as_deref() == Some("binding_failed") {
        return Err(NetworkError::PortBindingFailed { port: port.id, host: host.to_owned() });
    }
    Ok(())
}
