//! A consumed queue: acknowledge, drop duplicates, dispatch, run the handler, reply.
//!
//! A request waits for its turn without having been acknowledged, as in oslo.messaging: what waits when the process ends
//! is still the broker's. How many wait here is the prefetch count; the rest waits in the queue.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use lapin::Channel;
use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::FieldTable;
use serde_json::Value;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::backlog::Backlog;
use super::backoff::Backoff;
use super::compression;
use super::dispatch::{Duplicates, dispatch, is_ping};
use super::link::{Link, Session};
use super::replies::Replies;
use super::wire::{self, Caller, Incoming};
use super::{Admission, Endpoint, Error, Failure, Handler, Request, TransportConfig, topology};

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
    let (slots, ended_requests) = mpsc::unbounded_channel();
    let mut consumer = Consumer {
        backlog: Backlog::new(setup.config.executor),
        pauses: Backoff::new(setup.config.retry_interval, setup.config.retry_interval_max),
        setup,
        duplicates: Duplicates::default(),
        slots,
        ended: ended_requests,
        stopping,
        handlers,
        consuming: Some(consuming),
    };
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
    /// Before the queue is consumed again on a connection that just refused it.
    pauses: Backoff,
    backlog: Backlog<Waiting>,
    slots: UnboundedSender<Admission>,
    /// What the slots of requests that ended were taken for.
    ended: UnboundedReceiver<Admission>,
    stopping: CancellationToken,
    handlers: TaskTracker,
    /// Told when the queue is consumed for the first time.
    consuming: Option<tokio::sync::oneshot::Sender<()>>,
}

/// Why a queue is not consumed any more.
enum End {
    Stopped,
    /// The connection.
    Lost,
    /// By the broker.
    Cancelled,
}

/// A request that waits for its turn, and is the broker's until then.
struct Waiting {
    delivery: Delivery,
    incoming: Incoming,
    /// When the caller has given up.
    end: Option<Instant>,
}

/// A request's place among those that run, until it is dropped, however the request ends.
struct Slot {
    admission: Admission,
    slots: UnboundedSender<Admission>,
}

impl Drop for Slot {
    fn drop(&mut self) {
        if self.slots.send(std::mem::take(&mut self.admission)).is_err() {
            tracing::trace!("a request outlived its server");
        }
    }
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
            let begun = tokio::select! {
                begun = self.begin_to_consume(&session) => begun,
                () = session.lost() => continue,
                () = link.closing() => return,
            };
            // Not to be dropped half-way: a request that is acknowledged must be executed.
            let consumed = match begun {
                Ok((channel, deliveries)) => self.consume(&session, &channel, deliveries).await,
                Err(error) => Err(error),
            };
            let queue = &self.setup.queue;
            match consumed {
                Ok(End::Stopped) => return,
                Ok(End::Lost) => continue,
                Ok(End::Cancelled) => tracing::warn!(queue, "the broker cancelled the consumer; consuming again"),
                Err(error) => tracing::warn!(queue, %error, "cannot consume; trying again"),
            }
            session.suspect();
            tokio::select! {
                () = tokio::time::sleep(self.pauses.next()) => {}
                () = stopping.cancelled() => return,
            }
        }
    }

    async fn begin_to_consume(&mut self, session: &Session) -> lapin::Result<(Channel, lapin::Consumer)> {
        let Setup { config, queue, .. } = &self.setup;
        topology::ensure_exchange(session, config, &config.control_exchange).await?;
        topology::ensure_request_queue(session, config, queue).await?;
        let channel = session.channel().await?;
        channel.basic_qos(config.look_ahead(), BasicQosOptions::default()).await?;
        let options = BasicConsumeOptions::default();
        let deliveries =
            channel.basic_consume(queue.as_str().into(), "".into(), options, FieldTable::default()).await?;
        tracing::debug!(queue, "consuming");
        self.pauses.reset();
        if let Some(consuming) = self.consuming.take()
            && consuming.send(()).is_err()
        {
            tracing::debug!(queue, "nobody waits for the start of this server any more");
        }
        // The broker delivers again what waited on the last connection.
        self.backlog.clear();
        Ok((channel, deliveries))
    }

    /// Consumes until the server is stopped, the connection is lost or the broker ends it.
    async fn consume(
        &mut self,
        session: &Session,
        channel: &Channel,
        mut deliveries: lapin::Consumer,
    ) -> lapin::Result<End> {
        let (link, stopping) = (self.setup.link.clone(), self.stopping.clone());
        loop {
            let delivery = tokio::select! {
                biased;
                () = stopping.cancelled() => {
                    // What was delivered and not acknowledged goes back to the queue with the channel.
                    tokio::select! {
                        left = leave(channel, &deliveries) => left?,
                        () = session.lost() => {}
                        () = link.closing() => {}
                    }
                    return Ok(End::Stopped);
                }
                () = link.closing() => return Ok(End::Stopped),
                () = session.lost() => return Ok(End::Lost),
                Some(admission) = self.ended.recv() => {
                    self.backlog.ended(&admission);
                    self.begin().await;
                    continue;
                }
                delivery = deliveries.next() => delivery,
            };
            match delivery {
                Some(delivery) => self.receive(delivery?).await,
                None => return Ok(End::Cancelled),
            }
            self.begin().await;
        }
    }

    /// Lets a request wait for its turn; one that cannot be read has none.
    async fn receive(&mut self, delivery: Delivery) {
        let queue = &self.setup.queue;
        let body = compression::body(&delivery.properties, &delivery.data);
        let (caller, reason) = match body.and_then(|body| wire::open_envelope(&body)) {
            Ok(message) => {
                let caller = wire::caller(&message);
                match wire::parse_request(message) {
                    Ok(incoming) => {
                        let admission = self.setup.handler.admission(&incoming.request);
                        let end = lifetime(&delivery).and_then(|life| Instant::now().checked_add(life));
                        self.backlog.push(admission, Waiting { delivery, incoming, end });
                        return;
                    }
                    Err(reason) => (caller, reason),
                }
            }
            Err(reason) => (None, reason),
        };
        if acknowledge(queue, &delivery).await {
            tracing::error!(queue, reason, "refused a malformed request");
            self.answer(caller, Err(Failure::builtin("ValueError", format!("malformed request: {reason}"))));
        }
    }

    /// Begins as many requests as there is room for.
    async fn begin(&mut self) {
        while let Some((admission, waiting)) = self.backlog.begin() {
            let slot = Slot { admission, slots: self.slots.clone() };
            self.begin_one(waiting, slot).await;
        }
    }

    /// Acknowledges, then executes: a request is executed at most once.
    async fn begin_one(&mut self, waiting: Waiting, slot: Slot) {
        let queue = &self.setup.queue;
        let Waiting { delivery, incoming, end } = waiting;
        if !acknowledge(queue, &delivery).await {
            return;
        }
        let request = &incoming.request;
        let method = request.method.as_str();
        if self.duplicates.check(&request.unique_id) {
            tracing::warn!(queue, method, unique_id = request.unique_id, "dropped a duplicate request");
            return;
        }
        if end.is_some_and(|end| end <= Instant::now()) {
            tracing::warn!(queue, method, "dropped a request whose caller has given up; there are too many requests");
            return;
        }
        if self.setup.config.ping && is_ping(request) {
            self.answer(incoming.caller, Ok("pong".into()));
            return;
        }
        if let Err(failure) = dispatch(&self.setup.endpoints, request) {
            tracing::warn!(queue, method, version = request.version, %failure, "refused a request");
            self.answer(incoming.caller, Err(failure));
            return;
        }
        tracing::debug!(queue, method, request_id = request.context.request_id(), "request");
        self.execute(incoming, slot);
    }

    fn answer(&self, caller: Option<Caller>, result: Result<Value, Failure>) {
        if let Some(caller) = caller {
            let replies = self.setup.replies.clone();
            self.handlers.spawn(async move { replies.send(&caller, &result).await });
        }
    }

    fn execute(&self, incoming: Incoming, slot: Slot) {
        let Incoming { request, caller } = incoming;
        let (handler, replies) = (self.setup.handler.clone(), self.setup.replies.clone());
        self.handlers.spawn(async move {
            let method = request.method.clone();
            let Some(caller) = caller else {
                if let Err(failure) = run(handler, request).await {
                    tracing::error!(method, %failure, "a cast failed");
                }
                drop(slot);
                return;
            };
            let result = match caller.monitor {
                None => run(handler, request).await,
                Some(timeout) => run_with_signs_of_life(handler, request, &replies, &caller, timeout / 2).await,
            };
            // A reply may wait for its queue; the next request need not.
            drop(slot);
            replies.send(&caller, &result).await;
        });
    }
}

async fn leave(channel: &Channel, deliveries: &lapin::Consumer) -> lapin::Result<()> {
    channel.basic_cancel(deliveries.tag(), BasicCancelOptions::default()).await?;
    channel.close(200, "the server stops".into()).await
}

async fn acknowledge(queue: &str, delivery: &Delivery) -> bool {
    let acknowledged = delivery.ack(BasicAckOptions::default()).await;
    match acknowledged {
        Ok(true) => true,
        // The channel is known to have ended.
        Ok(false) => {
            tracing::warn!(queue, "left a request to the broker: its channel has ended");
            false
        }
        Err(error) => {
            tracing::warn!(queue, %error, "left a request to the broker: it could not be acknowledged");
            false
        }
    }
}

/// How long the sender of a message wants it to live, of which the broker stops to keep account when it delivers it.
fn lifetime(delivery: &Delivery) -> Option<Duration> {
    let expiration = delivery.properties.expiration().as_ref()?;
    expiration.as_str().parse().ok().map(Duration::from_millis)
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
