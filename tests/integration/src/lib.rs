//! What the integration tests share: servers of their own.

pub mod certificates;
pub mod criu;
mod disk;
pub mod docker;
pub mod door;
pub mod glance;
mod host;
pub mod images;
pub mod instance;
mod inventory;
pub mod log;
pub mod ovs;
pub mod patience;
pub mod process;
pub mod programs;
pub mod proxy;
pub mod rabbitmq;
pub mod raw;
pub mod record;
pub mod release;
pub mod rpc;
pub mod watchdog;

pub use host::{Host, end_all as end_hosts, on_host};
