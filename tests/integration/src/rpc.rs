//! Two sides of a message bus for tests.

use std::future::Future;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use nova_docker_agent::messaging::{
    CallError, Context, Endpoint, Failure, Handler, Request, Rpc, Server, Target, Transport, TransportConfig,
    TransportUrl,
};
use serde_json::Value;

use crate::patience::PATIENCE;

/// A name that no other test uses. Topics need one: the names of queues are shared by all exchanges.
pub fn unique(name: &str) -> String {
    format!("{name}-{}", uuid::Uuid::new_v4().simple())
}

/// Settings for a broker, with an exchange that no other test uses.
pub fn config(url: &str) -> TransportConfig {
    let mut config = TransportConfig::new(TransportUrl::parse(url).expect("a transport URL"));
    config.control_exchange = unique("test");
    config
}

/// A handler made of a function.
pub struct Answer<F>(pub F);

impl<F, R> Handler for Answer<F>
where
    F: Fn(Request) -> R + Send + Sync + 'static,
    R: Future<Output = Result<Value, Failure>> + Send + 'static,
{
    fn handle(&self, request: Request) -> BoxFuture<'static, Result<Value, Failure>> {
        (self.0)(request).boxed()
    }
}

/// Serves `topic.host` with a function, interface version 6.5.
pub async fn serve<F, R>(transport: &Transport, topic: &str, answer: F) -> Server
where
    F: Fn(Request) -> R + Send + Sync + 'static,
    R: Future<Output = Result<Value, Failure>> + Send + 'static,
{
    let endpoints = vec![Endpoint::new(None, "6.5"), Endpoint::new(Some("baseapi"), "1.1")];
    transport.serve(topic, "host", endpoints, Arc::new(Answer(answer))).await.expect("the queue can be served")
}

/// The server that [`serve`] starts.
pub fn target(topic: &str) -> Target {
    Target::topic(topic, "6.0").server("host")
}

/// Calls a method of [`target`].
pub async fn call(transport: &Transport, topic: &str, method: &str, args: Value) -> Result<Value, CallError> {
    transport.call(&target(topic), &Context::admin(), method, args, PATIENCE).await
}
