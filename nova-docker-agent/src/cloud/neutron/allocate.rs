//! Ports for an instance.

use std::net::IpAddr;

use uuid::Uuid;

use super::{NetworkError, Neutron, Port};
use crate::cloud::Caller;

/// What [`Neutron::allocate`] shall make.
#[derive(Clone, Debug)]
pub struct AllocateRequest {
    pub instance_uuid: Uuid,
    pub project_id: String,
    /// For `device_owner`: `compute:<availability zone>`.
    pub availability_zone: String,
    /// Name of this host in neutron: `[DEFAULT] host`.
    pub host: String,
    /// The instance's hostname, for neutron's internal DNS.
    pub hostname: Option<String>,
    pub networks: Networks,
    /// Names or ids, as the request has them.
    pub security_groups: Vec<String>,
    /// The request's roles include `admin`: external networks are allowed (Nova's default policy).
    pub is_admin: bool,
}

/// Which networks an instance shall be on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Networks {
    /// `--nic none`: no network at all.
    None,
    /// Nothing was said: the project's only network, if there is exactly one.
    Unspecified,
    /// `--nic auto`: the project's only network, or a topology that neutron makes.
    Auto,
    Requested(Vec<RequestedNetwork>),
}

/// One requested interface: a port, or a network with or without an address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestedNetwork {
    pub network_id: Option<Uuid>,
    pub port_id: Option<Uuid>,
    pub address: Option<IpAddr>,
    pub tag: Option<String>,
}

/// The bound ports, in the order of the request.
#[derive(Clone, Debug, Default)]
pub struct Allocation {
    pub ports: Vec<AllocatedPort>,
}

#[derive(Clone, Debug)]
pub struct AllocatedPort {
    pub port: Port,
    /// Made by the allocation; otherwise it is the user's, and must outlive the instance.
    pub created: bool,
    pub tag: Option<String>,
}

impl Neutron {
    /// Finds, creates and binds the ports of an instance. What the user may do is asked with the caller's identity, binding is done
    /// with the agent's.
    ///
    /// # Errors
    /// [`NetworkError`]; then no port of the request is left created or bound.
    pub async fn allocate(&self, _caller: &Caller, _request: &AllocateRequest) -> Result<Allocation, NetworkError> {
        todo!()
    }
}
