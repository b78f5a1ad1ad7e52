//! Nova's network API: the ports of an instance, from the request to the interface that is plugged.
//!
//! | file | what |
//! |---|---|
//! | `request`, `plan`, `allocate`, `binding` | ports for an instance: what is asked, what will be done, what is done |
//! | `refresh`, `network_info`, `cache` | the network information cache: made of what Neutron says, read, written |
//! | `resources` | what ports ask of placement |
//! | `services`, `dhcp_words` | what Neutron's DHCP servers, routers and OVN are for a guest, and tell it |
//! | `deallocate`, `rebind`, `seen` | ports given back, ports brought to this host or taken off it, ports that have gone |
//! | `groups` | the names of an instance's security groups |
//! | `user_ports` | which ports the user brought: they outlive the instance |
//! | `interfaces`, `replug` | from the cache to what is plugged; the same after a restart |
//! | `attach` | `attach_interface`, `detach_interface` |
//! | `external_events`, `waiters` | what Neutron tells, and waiting for it |

mod allocate;
mod allocate_again;
pub(in crate::compute) mod attach;
mod binding;
pub(in crate::compute) mod cache;
mod deallocate;
mod dhcp_words;
mod error;
pub(in crate::compute) mod external_events;
mod groups;
pub(in crate::compute) mod interfaces;
mod network_info;
mod plan;
mod rebind;
mod refresh;
mod replug;
mod request;
mod resources;
mod seen;
mod services;
pub(in crate::compute) mod user_ports;
pub(in crate::compute) mod waiters;

use std::{collections::HashSet, sync::Arc};

use uuid::Uuid;

pub use allocate::{AllocatedPort, Allocation};
pub use deallocate::DeallocateError;
pub use error::NetworkError;
pub use network_info::{
    FixedAddress, GatewayAddress, NetworkInfo, SubnetMeta, Vif, VifAddress, VifNetwork, VifNetworkMeta, VifRoute,
    VifSubnet,
};
pub(in crate::compute) use rebind::Rebind;
pub use request::{AllocateRequest, Networks, RequestedNetwork};
pub use resources::{ProviderMapping, Resources};

use self::seen::Witnesses;
use crate::cloud::Neutron;
use crate::config::MetadataRoute;

/// What the compute service does with the ports of its instances.
#[derive(Clone)]
pub struct Ports {
    neutron: Neutron,
    /// `[neutron] ovs_bridge`: the bridge of ports whose binding names none.
    ovs_bridge: Arc<str>,
    metadata_route: MetadataRoute,
    witnesses: Witnesses,
}

impl Ports {
    pub fn new(neutron: Neutron, ovs_bridge: &str) -> Self {
        let (metadata_route, witnesses) = Default::default();
        Self { neutron, ovs_bridge: Arc::from(ovs_bridge), metadata_route, witnesses }
    }

    /// `[docker] metadata_route`: isolated if never set.
    #[must_use]
    pub fn with_metadata_route(self, metadata_route: MetadataRoute) -> Self {
        Self { metadata_route, ..self }
    }
}

/// A filter for each value.
fn filters<'a>(name: &'a str, values: impl IntoIterator<Item = &'a String>) -> Vec<(&'a str, &'a str)> {
    values.into_iter().map(|value| (name, value.as_str())).collect()
}

/// Every id once, in their first order.
fn distinct(ids: impl IntoIterator<Item = Uuid>) -> Vec<String> {
    let mut seen = HashSet::new();
    ids.into_iter().filter(|id| seen.insert(*id)).map(|id| id.to_string()).collect()
}

#[cfg(test)]
pub(in crate::compute) mod tests;
