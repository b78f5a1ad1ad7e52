//! The handle of the message bus.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use serde_json::Value;

use super::{CallError, Context, Endpoint, Error, Handler, Rpc, Target, TransportConfig};

/// One process's place on the message bus. Clones share it.
#[derive(Clone, Debug)]
pub struct Transport {}

/// A consumed queue.
#[derive(Debug)]
pub struct Server {}

impl Transport {
    /// Connects, and keeps connected until [`Self::close`].
    pub async fn connect(config: TransportConfig) -> Result<Self, Error> {
        drop(config);
        Err(Error::Closed)
    }

    /// Serves the queue `topic.server` with a handler for the given endpoints.
    pub async fn serve(
        &self,
        topic: &str,
        server: &str,
        endpoints: Vec<Endpoint>,
        handler: Arc<dyn Handler>,
    ) -> Result<Server, Error> {
        drop((topic, server, endpoints, handler));
        Err(Error::Closed)
    }

    /// The broker can be reached at this moment.
    pub fn connected(&self) -> bool {
        false
    }

    /// Ends all connections. Calls under way fail.
    pub async fn close(&self) {}
}

impl Server {
    /// Takes no further requests. Handlers under way go on.
    pub async fn stop(&self) {}

    /// Waits until all handlers have ended and their replies have been sent.
    pub async fn drained(&self) {}
}

impl Rpc for Transport {
    fn call(
        &self,
        target: &Target,
        context: &Context,
        method: &str,
        args: Value,
        timeout: Duration,
    ) -> BoxFuture<'_, Result<Value, CallError>> {
        drop((target.clone(), context.clone(), method.to_owned(), args, timeout));
        Box::pin(async { Err(Error::Closed.into()) })
    }

    fn cast(
        &self,
        target: &Target,
        context: &Context,
        method: &str,
        args: Value,
    ) -> BoxFuture<'_, Result<(), CallError>> {
        drop((target.clone(), context.clone(), method.to_owned(), args));
        Box::pin(async { Err(Error::Closed.into()) })
    }
}
