//! What the integration tests share: servers of their own.

pub mod proxy;
pub mod rabbitmq;
pub mod raw;
pub mod rpc;
