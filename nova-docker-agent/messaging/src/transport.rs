//! The handle of the message bus.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use serde_json::Value;
use tokio::time::Instant;
use tokio_util::sync::DropGuard;

use super::calls::Calls;
use super::link::{self, Link};
use super::publisher::{Destination, Message, Outcome, Publisher};
use super::replies::Replies;
use super::server::{self, Server};
use super::{CallError, Context, Endpoint, Error, Handler, HostAddress, Rpc, Target, TransportConfig, wire};

/// One process's place on the message bus. Clones share it; it ends with [`Transport::close`] or with the last clone.
///
/// It holds two connections, because a broker that is short of memory stops reading from those that publish: requests
/// and replies must still come in then.
#[derive(Clone)]
pub struct Transport {
    inner: Arc<Inner>,
}

struct Inner {
    config: TransportConfig,
    consuming: Link,
    publishing: Link,
    publisher: Arc<Publisher>,
    replies: Arc<Replies>,
    calls: Calls,
    _end: [DropGuard; 2],
}

impl Transport {
    /// Connects, trying until a broker answers, and keeps connected.
    ///
    /// # Errors
    /// Only when the TLS files cannot be used.
    pub async fn connect(config: TransportConfig) -> Result<Self, Error> {
        let consuming = Link::start(&config, "consume").await?;
        let publishing = Link::start(&config, "publish").await?;
        // Before the first wait, so that whoever stops waiting stops the attempts, too.
        let end = [consuming.close_on_drop(), publishing.close_on_drop()];
        consuming.session().await?;
        publishing.session().await?;
        let publisher = Arc::new(Publisher::new(publishing.clone(), config.clone()));
        let replies = Arc::new(Replies::new(publisher.clone(), config.missing_consumer_timeout));
        let calls = Calls::start(consuming.clone(), config.clone());
        let inner = Inner { config, consuming, publishing, publisher, replies, calls, _end: end };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Serves the queue `topic.server` with a handler for the given endpoints, and returns when it is being consumed.
    pub async fn serve(
        &self,
        topic: &str,
        server: &str,
        endpoints: Vec<Endpoint>,
        handler: Arc<dyn Handler>,
    ) -> Result<Server, Error> {
        let setup = server::Setup {
            config: self.inner.config.clone(),
            link: self.inner.consuming.clone(),
            replies: self.inner.replies.clone(),
            queue: format!("{topic}.{server}"),
            endpoints,
            handler,
        };
        server::start(setup).await
    }

    /// Connects once to each broker of the URL and hangs up: why it could not.
    ///
    /// # Errors
    /// Only when the TLS files cannot be used.
    pub async fn try_each(config: &TransportConfig) -> Result<Vec<(HostAddress, Result<(), String>)>, Error> {
        link::try_each(config, "check").await
    }

    /// The broker can be reached at this moment.
    pub fn connected(&self) -> bool {
        self.inner.consuming.connected() && self.inner.publishing.connected()
    }

    /// Ends all connections. Calls, casts and replies under way fail.
    pub async fn close(&self) {
        self.inner.calls.end(&self.inner.consuming).await;
        self.inner.consuming.close().await;
        self.inner.publishing.close().await;
    }
}

impl Inner {
    fn destination(&self, target: &Target) -> Destination {
        if target.fanout {
            return Destination::Fanout(target.topic.clone());
        }
        let exchange = target.exchange.as_ref().unwrap_or(&self.config.control_exchange);
        let routing_key = match &target.server {
            Some(server) => format!("{}.{server}", target.topic),
            None => target.topic.clone(),
        };
        Destination::Exchange(exchange.clone(), routing_key)
    }

    async fn call(
        &self,
        destination: Destination,
        mut waiting: super::calls::Waiting,
        body: Vec<u8>,
        method: String,
        timeout: Duration,
    ) -> Result<Value, CallError> {
        let deadline = Instant::now() + timeout;
        let target = destination.to_string();
        let late = || CallError::Timeout { target: target.clone(), method: method.clone(), timeout };
        if !self.calls.ready_before(deadline).await {
            let last = "the reply queue could not be declared".to_owned();
            let seconds = timeout.as_secs();
            return Err(Error::NotPublished { destination: target.clone(), seconds, last }.into());
        }
        let message = Message { body: body.into(), deadline, expires: true };
        // The reply may be there before the confirm of the request.
        let mut published = std::pin::pin!(self.publisher.publish(&destination, message));
        tokio::select! {
            // First, because a request that never left is not a reply that is late.
            biased;
            outcome = &mut published => drop(outcome?),
            reply = waiting.reply_before(deadline) => return result(reply, late),
        }
        tokio::select! {
            reply = waiting.reply_before(deadline) => result(reply, late),
            () = self.publishing.closing() => Err(Error::Closed.into()),
        }
    }
}

fn result(reply: Option<Result<Value, super::Failure>>, late: impl FnOnce() -> CallError) -> Result<Value, CallError> {
    match reply {
        Some(result) => result.map_err(CallError::Remote),
        None => Err(late()),
    }
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
        let waiting = self.inner.calls.enter();
        let reply_to = Some((waiting.message_id.as_str(), self.inner.calls.queue()));
        let body = wire::envelope(&wire::request(target, context, method, args, reply_to));
        let destination = self.inner.destination(target);
        Box::pin(self.inner.call(destination, waiting, body, method.to_owned(), timeout))
    }

    fn cast(
        &self,
        target: &Target,
        context: &Context,
        method: &str,
        args: Value,
    ) -> BoxFuture<'_, Result<(), CallError>> {
        let body = wire::envelope(&wire::request(target, context, method, args, None)).into();
        let destination = self.inner.destination(target);
        let method = method.to_owned();
        Box::pin(async move {
            let deadline = Instant::now() + self.inner.config.publish_timeout;
            let message = Message { body, deadline, expires: false };
            if self.inner.publisher.publish(&destination, message).await? == Outcome::Unroutable {
                tracing::debug!(%destination, method, "a fanout has no listeners");
            }
            Ok(())
        })
    }
}

impl std::fmt::Debug for Transport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Transport").field("url", &self.inner.config.url.to_string()).finish_non_exhaustive()
    }
}
