//! Network namespaces, interfaces and Open vSwitch ports of instances.
//!
//! Each instance has a named namespace, `nova-<uuid>`, that `ip netns` shows too. It is made and plugged before the
//! container exists and outlives its process, so that stop, start and a crash leave the network alone. For each
//! [`Interface`] there is a veth pair: the host side (`tap` + the first 11 characters of the port's id) is a port of the
//! integration bridge, the guest side is `eth0`, `eth1`, ... in the namespace. The host side is up only while a process of the instance
//! runs, so that nobody answers for one that does not. A name belongs to its port for as long as that is
//! plugged. Plugging again brings addresses, routes and MTU to what Neutron says now, and touches nothing that is right.
//! Nothing here is done by forking but `ovs-vsctl` and `ethtool`, and no worker thread of the runtime ever changes its namespace.
//!
//! | file | what |
//! |---|---|
//! | `plumber` | an instance is plugged: all of what follows |
//! | `namespace`, `guest_side`, `routes`, `names` | the inside: addresses, routes, names of interfaces |
//! | `ovs`, `link`, `offload`, `up` | the host's side: ports of the switch, veth pairs, when they are up |
//! | `interface`, `counters`, `survey`, `error` | what an interface looks like and has counted; the switch; what can go wrong |

mod counters;
mod error;
mod guest_side;
mod interface;
mod link;
mod names;
mod namespace;
mod offload;
mod ovs;
mod plumber;
mod routes;
mod survey;
mod up;

pub use counters::{Counters, Traffic};
pub use error::Error;
#[cfg(test)]
pub(crate) use interface::tests::interface as an_interface;
pub use interface::{Interface, Route};
pub use plumber::{NetworkConfig, Plumber};
pub use survey::{SwitchSurvey, survey};

/// Where the file of a named network namespace lives, as for `ip netns`.
pub const NAMESPACE_DIRECTORY: &str = "/run/netns";

/// Where `nova-docker-runtime` looks for the namespace of a container: a symbolic link named after the container's id.
pub const LINK_DIRECTORY: &str = "/run/nova-docker-agent/netns";

/// Where `nova-docker-runtime` looks for the host sides of an instance's interfaces.
pub const PORTS_DIRECTORY: &str = "/run/nova-docker-agent/ports";
