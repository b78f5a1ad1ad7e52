//! Who asks, and under which request id.

use secrecy::SecretString;
use uuid::Uuid;

/// Whose token goes into `X-Auth-Token`.
#[derive(Clone, Debug)]
pub enum Identity {
    /// The agent's own.
    Service,
    /// The user's whose request is being served.
    User(SecretString),
}

/// The sender of a call.
#[derive(Clone, Debug)]
pub struct Caller {
    pub identity: Identity,
    /// Sent as `X-OpenStack-Request-ID`, so that one id joins the logs of all services. Form: `req-<uuid>`.
    pub request_id: String,
}

impl Caller {
    /// The agent itself, on behalf of the request `request_id`.
    pub fn service(request_id: impl Into<String>) -> Self {
        Self { identity: Identity::Service, request_id: request_id.into() }
    }

    /// A user, with the token of the request.
    pub fn user(token: SecretString, request_id: impl Into<String>) -> Self {
        Self { identity: Identity::User(token), request_id: request_id.into() }
    }

    /// The agent itself, on its own account (periodic tasks): a fresh request id.
    pub fn own() -> Self {
        Self::service(format!("req-{}", Uuid::new_v4()))
    }

    /// The same request, asked as the agent.
    pub fn as_service(&self) -> Self {
        Self::service(self.request_id.clone())
    }
}
