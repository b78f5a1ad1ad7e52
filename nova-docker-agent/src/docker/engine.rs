//! The connection to Docker, and what its failures mean.

use bollard::Docker;
use bollard::errors::Error as DockerError;

use super::Error;

/// Docker's socket, with the address for messages.
#[derive(Clone, Debug)]
pub(super) struct Engine {
    /// Bounded by the configured timeout for one answer.
    pub(super) docker: Docker,
    /// Address as it was configured.
    pub(super) host: String,
}

impl Engine {
    /// Opens the connection and agrees on the newest API version that both know.
    pub(super) async fn connect(host: &str, timeout: std::time::Duration) -> Result<Self, Error> {
        let unavailable = |error: DockerError| Error::Unavailable { host: host.to_owned(), reason: error.to_string() };
        let docker = Docker::connect_with_host(host).map_err(unavailable)?.with_timeout(timeout);
        let docker = docker.negotiate_version().await.map_err(unavailable)?;
        Ok(Self { docker, host: host.to_owned() })
    }

    /// The same connection for a request whose first answer may take long: stop, wait, commit, save.
    pub(super) fn patient(&self, timeout: std::time::Duration) -> Docker {
        self.docker.clone().with_timeout(timeout)
    }

    /// What a failure of Docker means; `action` completes "Docker refused to ...", `what` is its object.
    pub(super) fn error(&self, action: &str, what: &str, error: DockerError) -> Error {
        let (status, message) = match error {
            DockerError::DockerResponseServerError { status_code, message } => (status_code, message),
            DockerError::DockerStreamError { error } => (0, error),
            DockerError::JsonDataError { message, .. } => (0, format!("its answer is not understood: {message}")),
            DockerError::DockerContainerWaitError { error, .. } => (0, error),
            // Everything else is the transport: no socket, connection refused or lost, no answer in time.
            other => return Error::Unavailable { host: self.host.clone(), reason: root_cause(&other) },
        };
        if message.contains("no space left on device") {
            return Error::NoSpace { reason: message };
        }
        if status == 404 {
            return Error::NotFound { what: what.to_owned() };
        }
        Error::Docker { action: format!("{action} {what}"), status, message }
    }
}

/// The innermost words: hyper wraps "connection refused" in "client error (Connect)".
fn root_cause(error: &DockerError) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
