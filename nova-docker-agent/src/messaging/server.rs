//! A consumed queue: acknowledge, drop duplicates, dispatch, run the handler, reply.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::FieldTable;
use serde_json::Value;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::dispatch::{Duplicates, dispatch};
use super::link::{Link, Session};
use super::replies::Replies;
use super::wire::{self, Caller, Incoming};
use super::{Endpoint, Error, Failure, Handler, Request, TransportConfig, topology};

/// The pause before a queue is consumed again on a connection that just refused it.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// A queue that is being consumed, and the requests from it that are being handled.
///
/// Dropping it changes nothing; it serves until [`Server::stop`] or the end of its transport.
pub struct Server {
    queue: String,
    stopping: CancellationToken,
    stopped: CancellationToken,
    handlers: TaskTracker,
}

impl Server {
    /// Takes no further requests: those that were not acknowledged yet stay in the queue. Handlers under way go on.
    pub async fn stop(&self) {
        self.stopping.cancel();
        self.stopped.cancelled().await;
        self.handlers.close();
    }

    /// After [`Self::stop`]: waits until all handlers have ended and their replies are with the broker.
    pub async fn drained(&self) {
        self.handlers.wait().await;
    }

    /// The name of the queue.
    pub fn queue(&self) -> &str {
        &self.queue
    }
}

/// What a server needs.
pub(super) struct Setup {
    pub config: TransportConfig,
    pub link: Link,
    pub replies: Arc<Replies>,
    pub queue: String,
    pub endpoints: Vec<Endpoint>,
    pub handler: Arc<dyn Handler>,
}

/// Begins to consume, and returns when the queue is declared and consumed for the first time.
pub(super) async fn start(setup: Setup) -> Result<Server, Error> {
    let (stopping, stopped) = (CancellationToken::new(), CancellationToken::new());
    let handlers = TaskTracker::new();
    let server = Server {
        queue: setup.queue.clone(),
        stopping: stopping.clone(),
        stopped: stopped.clone(),
        handlers: handlers.clone(),
    };
    let (consuming, first) = tokio::sync::oneshot::channel();
    let mut consumer =
        Consumer { setup, duplicates: Duplicates::default(), stopping, handlers, consuming: Some(consuming) };
    let ended = stopped.drop_guard();
    tokio::spawn(async move {
        consumer.run().await;
        drop(ended);
    });
    first.await.map_err(|_| Error::Closed)?;
    Ok(server)
}

struct Consumer {
    setup: Setup,
    duplicates: Duplicates,
    stopping: CancellationToken,
    handlers: TaskTracker,
    /// Told when the queue is consumed for the first time.
    consuming: Option<tokio::sync::oneshot::Sender<()>>,
}

impl Consumer {
    async fn run(&mut self) {
        let (link, stopping) = (self.setup.link.clone(), self.stopping.clone());
        loop {
            let session = tokio::select! {
                session = link.session() => session,
                () = stopping.cancelled() => return,
            };
            let Ok(session) = session else { return };
            let consumed = tokio::select! {
                consumed = self.consume(&session) => consumed,
                () = session.lost() => continue,
                () = link.closing() => return,
            };
            let queue = &self.setup.queue;
            match consumed {
                Ok(()) if stopping.is_cancelled() => return,
                Ok(()) => tracing::warn!(queue, "the broker cancelled the consumer; consuming again"),
                Err(error) => tracing::warn!(queue, %error, "cannot consume; trying again"),
            }
            session.suspect();
            tokio::select! {
                () = tokio::time::sleep(RETRY_PAUSE) => {}
                () = stopping.cancelled() => return,
            }
        }
    }

    /// Consumes until the server is stopped or the broker ends it.
    async fn consume(&mut self, session: &Session) -> lapin::Result<()> {
        let Setup { config, queue, .. } = &self.setup;
        topology::ensure_exchange(session, config, &config.control_exchange).await?;
        topology::ensure_request_queue(session, config, queue).await?;
        let channel = session.channel().await?;
        if config.prefetch > 0 {
            channel.basic_qos(config.prefetch, BasicQosOptions::default()).await?;
        }
        let options = BasicConsumeOptions::default();
        let mut deliveries =
            channel.basic_consume(queue.as_str().into(), "".into(), options, FieldTable::default()).await?;
        tracing::debug!(queue, "consuming");
        if let Some(consuming) = self.consuming.take()
            && consuming.send(()).is_err()
        {
            tracing::debug!(queue, "nobody waits for the start of this server any more");
        }
        let stopping = self.stopping.clone();
        loop {
            let delivery = tokio::select! {
                biased;
                () = stopping.cancelled() => {
                    // What was delivered and not acknowledged goes back to the queue with the channel.
                    channel.basic_cancel(deliveries.tag(), BasicCancelOptions::default()).await?;
                    return channel.close(200, "the server stops".into()).await;
                }
                delivery = deliveries.next() => delivery,
            };
            match delivery {
                Some(delivery) => self.receive(delivery?).await,
                None => return Ok(()),
            }
        }
    }

    /// Acknowledges, then executes: a request is executed at most once.
    async fn receive(&mut self, delivery: Delivery) {
        let queue = &self.setup.queue;
        if let Err(error) = delivery.ack(BasicAckOptions::default()).await {
            tracing::warn!(queue, %error, "left a request to the broker: it could not be acknowledged");
            return;
        }
        let message = match wire::open_envelope(&delivery.data) {
            Ok(message) => message,
            Err(reason) => {
                tracing::error!(queue, reason, "dropped a malformed message");
                return;
            }
        };
        let caller = wire::caller(&message);
        let incoming = match wire::parse_request(message) {
            Ok(incoming) => incoming,
            Err(reason) => {
                tracing::error!(queue, reason, "refused a malformed request");
                self.answer(caller, Failure::builtin("ValueError", format!("malformed request: {reason}")));
                return;
            }
        };
        let request = &incoming.request;
        if self.duplicates.check(&request.unique_id) {
            tracing::warn!(
                queue,
                method = request.method,
                unique_id = request.unique_id,
                "dropped a duplicate request"
            );
            return;
        }
        if let Err(failure) = dispatch(&self.setup.endpoints, request) {
            tracing::warn!(queue, method = request.method, version = request.version, %failure, "refused a request");
            self.answer(incoming.caller, failure);
            return;
        }
        tracing::debug!(queue, method = request.method, request_id = request.context.request_id(), "request");
        self.execute(incoming);
    }

    fn answer(&self, caller: Option<Caller>, failure: Failure) {
        if let Some(caller) = caller {
            let replies = self.setup.replies.clone();
            self.handlers.spawn(async move { replies.send(&caller, &Err(failure)).await });
        }
    }

    fn execute(&self, incoming: Incoming) {
        let Incoming { request, caller } = incoming;
        let (handler, replies) = (self.setup.handler.clone(), self.setup.replies.clone());
        self.handlers.spawn(async move {
            let method = request.method.clone();
            let Some(caller) = caller else {
                if let Err(failure) = run(handler, request).await {
                    tracing::error!(method, %failure, "a cast failed");
                }
                return;
            };
            let result = match caller.monitor {
                None => run(handler, request).await,
                Some(timeout) => run_with_signs_of_life(handler, request, &replies, &caller, timeout / 2).await,
            };
            replies.send(&caller, &result).await;
        });
    }
}

/// Runs a handler in a task of its own, so that a panic in it is an answer too.
async fn run(handler: Arc<dyn Handler>, request: Request) -> Result<Value, Failure> {
    let method = request.method.clone();
    let task = tokio::spawn(async move { handler.handle(request).await });
    task.await.unwrap_or_else(|error| {
        tracing::error!(method, %error, "a handler broke down");
        Err(Failure::builtin("RuntimeError", format!("internal error in {method}")))
    })
}

async fn run_with_signs_of_life(
    handler: Arc<dyn Handler>,
    request: Request,
    replies: &Replies,
    caller: &Caller,
    period: Duration,
) -> Result<Value, Failure> {
    let mut handled = std::pin::pin!(run(handler, request));
    let mut beat = tokio::time::interval_at(Instant::now() + period, period);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            result = &mut handled => return result,
            _ = beat.tick() => replies.heartbeat(caller, period).await,
        }
    }
}
