//! What the two sides of a message look like to the rest of the program.

use std::fmt;
use std::time::Duration;

use futures::future::BoxFuture;
use serde_json::{Map, Value};

use super::{Admission, Context, Error, Failure};

/// Where a request goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The exchange, or none for the transport's control exchange.
    pub exchange: Option<String>,
    pub topic: String,
    /// One certain server of the topic, or none for any of them.
    pub server: Option<String>,
    /// To every server of the topic. Only for casts.
    pub fanout: bool,
    pub namespace: Option<String>,
    /// The version of the interface that the method belongs to, such as `3.0`.
    pub version: String,
}

impl Target {
    /// Any one server of a topic.
    pub fn topic(topic: &str, version: &str) -> Self {
        Self {
            exchange: None,
            topic: topic.to_owned(),
            server: None,
            fanout: false,
            namespace: None,
            version: version.to_owned(),
        }
    }

    /// One certain server of the topic.
    pub fn server(self, server: &str) -> Self {
        Self { server: Some(server.to_owned()), ..self }
    }

    /// Another interface of the same servers.
    pub fn namespace(self, namespace: &str) -> Self {
        Self { namespace: Some(namespace.to_owned()), ..self }
    }

    /// Every server of the topic.
    pub fn fanout(self) -> Self {
        Self { fanout: true, ..self }
    }
}

/// Why a call has no result.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CallError {
    /// The other side raised an exception.
    #[error(transparent)]
    Remote(Failure),
    /// No reply came in time. The call may have been executed.
    #[error("no reply from {target} to {method} within {} s", timeout.as_secs_f64())]
    Timeout { target: String, method: String, timeout: Duration },
    /// The reply is not what the method returns.
    #[error("the reply to {method} cannot be used: {reason}")]
    Malformed { method: String, reason: String },
    /// The message bus failed.
    #[error(transparent)]
    Transport(#[from] Error),
}

impl CallError {
    /// The class of the exception that the other side raised.
    pub fn class(&self) -> Option<&str> {
        match self {
            Self::Remote(failure) => Some(&failure.class),
            Self::Timeout { .. } | Self::Malformed { .. } | Self::Transport(_) => None,
        }
    }
}

/// Sends requests. A trait, so that clients can be tested against recorded traffic.
pub trait Rpc: Send + Sync {
    /// Sends a request and waits for its result. `args` is a JSON object. The deadline holds over reconnections.
    fn call(
        &self,
        target: &Target,
        context: &Context,
        method: &str,
        args: Value,
        timeout: Duration,
    ) -> BoxFuture<'_, Result<Value, CallError>>;

    /// Sends a request that has no result, and waits until the broker has it. A fanout without listeners succeeds.
    fn cast(
        &self,
        target: &Target,
        context: &Context,
        method: &str,
        args: Value,
    ) -> BoxFuture<'_, Result<(), CallError>>;
}

/// An interface that a server offers: requests of its namespace, its major version and at most its minor version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    pub namespace: Option<String>,
    pub version: String,
}

impl Endpoint {
    pub fn new(namespace: Option<&str>, version: &str) -> Self {
        Self { namespace: namespace.map(str::to_owned), version: version.to_owned() }
    }
}

/// A request that arrived, for an endpoint that is served. `Debug` does not show the arguments: passwords and files are
/// among them.
#[derive(Clone)]
pub struct Request {
    pub context: Context,
    pub method: String,
    pub args: Map<String, Value>,
    pub version: String,
    pub namespace: Option<String>,
    /// The sender's id of this message (32 hex digits).
    pub unique_id: String,
    /// Somebody waits for the result.
    pub is_call: bool,
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("method", &self.method)
            .field("version", &self.version)
            .field("request_id", &self.context.request_id())
            .field("unique_id", &self.unique_id)
            .field("is_call", &self.is_call)
            .finish_non_exhaustive()
    }
}

/// Executes requests.
pub trait Handler: Send + Sync + 'static {
    /// How the request shares the server with others. Called when the request arrives, which may be long before it is
    /// executed.
    fn admission(&self, _request: &Request) -> Admission {
        Admission::default()
    }

    /// Starts to execute one request. The future runs in a task of its own. A method that does not exist is answered
    /// with [`Failure::no_such_method`]. The result of a cast goes nowhere; its failure is logged.
    fn handle(&self, request: Request) -> BoxFuture<'static, Result<Value, Failure>>;
}
