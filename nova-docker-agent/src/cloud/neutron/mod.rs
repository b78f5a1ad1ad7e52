//! Neutron: ports, networks, and what an instance's networks need of them.
//!
//! The plain calls are in this module and `types`; the operations of the compute service are [`Neutron::allocate`],
//! [`Neutron::build_network_info`] and [`Neutron::deallocate`].

mod allocate;
mod deallocate;
mod error;
mod network_info;
mod types;

use std::time::Duration;

use uuid::Uuid;

pub use allocate::{AllocateRequest, AllocatedPort, Allocation, Networks, RequestedNetwork};
pub use deallocate::DeallocateError;
pub use error::NetworkError;
pub use network_info::{
    FixedAddress, GatewayAddress, NetworkInfo, SubnetMeta, Vif, VifAddress, VifNetwork, VifNetworkMeta, VifRoute,
    VifSubnet,
};
pub use types::{FixedIp, FloatingIp, HostRoute, Network, NewPort, Port, PortUpdate, SecurityGroup, Subnet};

use super::{Caller, Error, ServiceConfig, Session};

/// Client of neutron.
#[derive(Clone)]
pub struct Neutron {}

impl Neutron {
    pub fn new(_session: Option<Session>, _service: Option<Session>, _config: &ServiceConfig) -> Result<Self, Error> {
        todo!()
    }

    /// `[neutron] ovs_bridge`: the bridge of ports whose binding names none. `br-int` if never set.
    #[must_use]
    pub fn with_ovs_bridge(self, _bridge: &str) -> Self {
        self
    }

    /// `[neutron] extension_sync_interval`: how long the list of extensions is kept. 10 minutes if never set.
    #[must_use]
    pub fn with_extension_sync_interval(self, _interval: Duration) -> Self {
        self
    }

    pub async fn port(&self, _caller: &Caller, _id: Uuid) -> Result<Port, Error> {
        todo!()
    }

    /// Ports that match all filters; a name given twice matches either value.
    pub async fn ports(&self, _caller: &Caller, _filters: &[(&str, &str)]) -> Result<Vec<Port>, Error> {
        todo!()
    }

    pub async fn create_port(&self, _caller: &Caller, _port: &NewPort) -> Result<Port, Error> {
        todo!()
    }

    pub async fn update_port(&self, _caller: &Caller, _id: Uuid, _update: &PortUpdate) -> Result<Port, Error> {
        todo!()
    }

    /// Deletes a port; whether there was one.
    pub async fn delete_port(&self, _caller: &Caller, _id: Uuid) -> Result<bool, Error> {
        todo!()
    }

    pub async fn networks(&self, _caller: &Caller, _filters: &[(&str, &str)]) -> Result<Vec<Network>, Error> {
        todo!()
    }

    pub async fn subnets(&self, _caller: &Caller, _filters: &[(&str, &str)]) -> Result<Vec<Subnet>, Error> {
        todo!()
    }

    pub async fn floating_ips(&self, _caller: &Caller, _filters: &[(&str, &str)]) -> Result<Vec<FloatingIp>, Error> {
        todo!()
    }

    /// Id and name only.
    pub async fn security_groups(
        &self,
        _caller: &Caller,
        _filters: &[(&str, &str)],
    ) -> Result<Vec<SecurityGroup>, Error> {
        todo!()
    }

    /// Whether neutron has an extension, by alias; the list is kept for `extension_sync_interval`.
    pub async fn has_extension(&self, _caller: &Caller, _alias: &str) -> Result<bool, Error> {
        todo!()
    }
}
