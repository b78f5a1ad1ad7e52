//! Run containers from the Nova API.
//!
//! `nova-docker-agent` turns a Linux host with Docker into an OpenStack compute host: it takes the place of `nova-compute`,
//! for containers. The rooms of this library, and who may call whom (downwards only):
//!
//! ```text
//! check      whether a host and its cloud are fit: what an operator asks before and after the first start
//! compute    the compute service: operations on instances, their ports, this node, reconciliation, refusals
//!   conductor   typed calls to nova-conductor
//!     messaging   * oslo.messaging over RabbitMQ; knows nothing of Nova
//!     objects     * Nova's versioned objects, typed, and the states of an instance
//!   cloud       * REST: keystone session, placement, neutron, glance
//! grpc       the second door: the driver core for a stock nova-compute
//!   driver      what both doors drive: a container with its network and its image
//!     console     serial consoles: what nova-serialproxy connects to
//!     docker      what an instance means in Docker: create, lifecycle, events, files, snapshot, console log, terminals
//!     network     network namespaces, interfaces, Open vSwitch
//!     registry    * the Glance-backed OCI registry: of a host, for its dockerd, and of a cloud, for its users
//! guest      what an instance is on this host: the model that all of them share, and how its user configures it
//! limits     bounds of the numbers that tenants, flavors and other services set
//! locks      one operation at a time on an instance or an image
//! config     nova.conf to a typed, validated configuration
//! service    * what the agent and the registry have in common: how files of options are read, logs, start and stop
//! ```
//!
//! What has a `*` is a crate of its own, beside this one's `src`; the compiler sees to it that none knows of what is above it.
//! `runtime/` beside this crate is the OCI runtime that dockerd starts for each container; it depends on nothing here.
//!
//! The way of one message: `messaging` takes `build_and_run_instance` off the queue `compute.HOST`, acknowledges it and
//! hands it to `compute`, which walks Nova's state machine (every step is a call to `conductor`) while `cloud` makes the
//! ports, `network` plugs them into the instance's namespace, `registry` opens the Glance image and `driver` has
//! Docker pull it, create the container and start it.

pub mod check;
pub mod compute;
pub mod conductor;
pub mod config;
pub mod console;
pub mod docker;
pub mod driver;
pub mod grpc;
pub mod guest;
pub mod limits;
mod locks;
pub mod network;

pub use nova_docker_cloud as cloud;
pub use nova_docker_messaging as messaging;
pub use nova_docker_objects as objects;
pub use nova_docker_registry as registry;
