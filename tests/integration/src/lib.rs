//! What the integration tests share: servers of their own.

pub mod rabbitmq;
pub mod raw;
pub mod rpc;
