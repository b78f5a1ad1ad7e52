//! What is asked of Neutron for an instance.

use std::net::IpAddr;

use uuid::Uuid;

use super::ProviderMapping;

/// What [`Ports::allocate`](super::Ports::allocate) shall make.
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
    /// Where the scheduler has reserved what ports ask of placement.
    pub resources: ProviderMapping,
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
    /// A single element without any field set means: the project's only network, and there must be one (interface attach).
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
