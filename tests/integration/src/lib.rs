//! What the integration tests share: servers of their own.

pub mod certificates;
pub mod docker;
pub mod door;
pub mod glance;
pub mod images;
pub mod instance;
mod isolation;
pub mod ovs;
pub mod patience;
pub mod process;
pub mod proxy;
pub mod rabbitmq;
pub mod raw;
pub mod rpc;

pub use isolation::isolated;
