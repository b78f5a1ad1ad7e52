//! The one error of the REST clients.

/// A failed REST call: what was asked of whom, and what came back.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The service answered with an error status.
    #[error("{service} refused {method} {path}: {status}{}: {message}{}", code_text(.code), request_text(.request_id))]
    Refused {
        /// `neutron`, `placement`, ...
        service: &'static str,
        method: String,
        /// Path and query, without host.
        path: String,
        status: u16,
        /// The service's own word for it: neutron's `type`, placement's `code`.
        code: Option<String>,
        message: String,
        /// The other side's request id.
        request_id: Option<String>,
    },
    /// No answer: the connection failed or broke, or the deadline passed.
    #[error("{service} did not answer {method} {path}: {reason}")]
    Unreachable { service: &'static str, method: String, path: String, reason: String },
    /// An answer that cannot be understood.
    #[error("{service} answered {method} {path} with something unexpected: {reason}")]
    Unexpected { service: &'static str, method: String, path: String, reason: String },
    /// No token to be had, or no endpoint in the catalog.
    #[error("{service}: {reason}")]
    Identity { service: &'static str, reason: String },
    /// A certificate or key file that cannot be used.
    #[error("cannot set up TLS for {service}: {reason}")]
    Tls { service: &'static str, reason: String },
}

fn code_text(code: &Option<String>) -> String {
    code.as_ref().map(|code| format!(" {code}")).unwrap_or_default()
}

fn request_text(id: &Option<String>) -> String {
    id.as_ref().map(|id| format!(" (its request id: {id})")).unwrap_or_default()
}

impl Error {
    /// HTTP status, when there was an answer.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Refused { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// The service's own word for the failure: neutron's `type`, placement's `code`.
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Refused { code, .. } => code.as_deref(),
            _ => None,
        }
    }

    /// The service's message, without what was asked.
    pub fn message(&self) -> String {
        match self {
            Self::Refused { message, .. } => message.clone(),
            other => other.to_string(),
        }
    }

    /// 404.
    pub fn is_not_found(&self) -> bool {
        self.status() == Some(404)
    }

    /// 409.
    pub fn is_conflict(&self) -> bool {
        self.status() == Some(409)
    }

    /// 401 or 403.
    pub fn is_forbidden(&self) -> bool {
        matches!(self.status(), Some(401 | 403))
    }

    /// Whether the service may answer later: no answer at all, 429 or any 5xx.
    pub fn is_unavailable(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Refused { status, .. } => *status == 429 || *status >= 500,
            _ => false,
        }
    }
}
