//! oslo.messaging over RabbitMQ. Knows nothing of Nova.
//!
//! A [`Transport`] is one process's place on the message bus: it calls ([`Rpc::call`]), casts ([`Rpc::cast`]) and
//! serves ([`Transport::serve`]) in the wire format of oslo.messaging's RabbitMQ driver (envelope 2.0), with its queue
//! and exchange names, so that it talks to unmodified Python services.
//!
//! ```text
//! transport   the handle: serve, call, cast, close
//!   server      a consumed queue: acknowledge, drop duplicates, dispatch, run the handler, reply, heartbeat
//!     backlog     which of the waiting requests begins next: a limit, an order for each subject, slots kept for quick work
//!     dispatch    which endpoint a request is for, and how a request for none is answered
//!     replies     the way back to the caller: retries while its queue is missing, memory of dead reply queues
//!   calls       the reply queue, and who waits for which reply
//!   publisher   publishing with confirms, again on the next connection when one is lost
//!     topology    exchanges and queues, and what to do when they exist with other flags
//!     link        a connection that comes back: back-off, fail-over between hosts, TLS
//!       socket      the TCP connection below it: how soon silence is noticed
//! backoff     pauses before something is tried again
//! wire        envelope, request, reply and failure, as JSON
//! compression bodies that their senders compressed
//! context     the request context that travels with each message
//! failure     a serialised exception
//! url, config what the operator says
//! ```
//!
//! What is promised while the broker goes away and comes back: consumers and the reply queue are declared again, a call
//! waits for its reply until its own deadline, a publish under way is repeated until its own deadline, and a handler
//! under way goes on and replies over the next connection.

mod backlog;
mod backoff;
mod calls;
mod compression;
mod config;
mod context;
mod dispatch;
mod failure;
mod link;
mod publisher;
#[cfg(test)]
pub(crate) mod recorded;
mod replies;
mod rpc;
mod server;
mod socket;
mod tls;
mod topology;
mod transport;
mod url;
mod wire;
#[cfg(test)]
mod wire_tests;

pub use backlog::{Admission, Pace};
pub use config::{Login, TlsConfig, TransportConfig};
pub use context::Context;
pub use failure::Failure;
pub use rpc::{CallError, Endpoint, Handler, Request, Rpc, Target};
pub use server::Server;
pub use transport::Transport;
pub use url::{HostAddress, TransportUrl, UrlError};

/// Directives that a log filter needs whatever else it says: the AMQP library logs messages that came back with all
/// that is in them (tokens, passwords), and whole frames at its lower levels.
pub const LOG_DIRECTIVES: [&str; 2] = ["lapin=warn", "lapin::returned_messages=off"];

/// Why the message bus cannot be used.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// A TLS file cannot be read or does not hold what it should.
    #[error("TLS for the message broker: {path}: {reason}")]
    Tls { path: String, reason: String },
    /// A message could not be handed to the broker before its deadline.
    #[error("the message for {destination} could not be delivered to the broker within {seconds} s: {last}")]
    NotPublished { destination: String, seconds: u64, last: String },
    /// The transport was closed.
    #[error("the message bus was closed by this process")]
    Closed,
}
