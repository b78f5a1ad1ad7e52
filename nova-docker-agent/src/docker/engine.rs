//! The connection to Docker, and what its failures mean.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bollard::errors::Error as DockerError;
use bollard::{BollardRequest, Docker};
use hyper::Uri;

use super::Error;

/// Docker's socket, with the address for messages. Clones share the API version.
#[derive(Clone, Debug)]
pub(super) struct Engine {
    /// Bounded by the configured timeout for one answer.
    pub(super) docker: Docker,
    /// Address as it was configured.
    pub(super) host: String,
    agreed: Agreed,
}

impl Engine {
    /// Opens the connection and agrees on the newest API version that both know.
    pub(super) async fn connect(host: &str, timeout: std::time::Duration) -> Result<Self, Error> {
        let unavailable = |reason: String| Error::Unavailable { host: host.to_owned(), reason };
        let agreed = Agreed::default();
        let docker = Docker::connect_with_host(host).map_err(|error| unavailable(error.to_string()))?;
        let docker = docker.with_timeout(timeout).with_request_modifier({
            let agreed = agreed.clone();
            move |request| agreed.name_in(request)
        });
        let engine = Self { docker, host: host.to_owned(), agreed };
        match engine.agree().await {
            Ok(()) => Ok(engine),
            Err(error @ Error::Unavailable { .. }) => Err(error),
            Err(error) => Err(unavailable(error.to_string())),
        }
    }

    /// Agrees again: what answers may be another release of Docker than before.
    pub(super) async fn agree(&self) -> Result<(), Error> {
        let version = self.docker.version().await.map_err(|error| self.error("tell", "its version", error))?;
        let theirs = version.api_version.as_deref().and_then(Version::parse).ok_or_else(|| Error::Unavailable {
            host: self.host.clone(),
            reason: format!("it tells no API version: {:?}", version.api_version),
        })?;
        let ours = self.docker.client_version();
        let ours = Version { major: ours.major_version as u16, minor: ours.minor_version as u16 };
        let agreed = theirs.min(ours);
        if let Some(before) = self.agreed.replace(agreed).filter(|&before| before != agreed) {
            tracing::info!(%before, now = %agreed, "Docker speaks another version of its API than before");
        }
        // Docker knows best whether it still takes one so old, and says why not.
        self.docker.ping().await.map(drop).map_err(|error| self.error("answer", "a ping", error))
    }

    /// The API version in which Docker is spoken to.
    pub(super) fn api_version(&self) -> String {
        self.agreed.get().map(|version| version.to_string()).unwrap_or_default()
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
        if message.contains("disk quota exceeded") {
            let reason = "the server's disk is full: delete files in it, or resize it to a flavor with a larger disk";
            return Error::Lacking { reason: format!("cannot {action} {what}: {reason}") };
        }
        if status == 400 && refuses_version(&message) {
            return Error::Unavailable { host: self.host.clone(), reason: message };
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

/// `client version 1.41 is too old. Minimum supported API version is 1.44, ...`
fn refuses_version(message: &str) -> bool {
    let rest = message.trim_start().strip_prefix("client version ");
    rest.is_some_and(|rest| rest.contains(" is too old") || rest.contains(" is too new"))
}

/// A version of Docker's API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Version {
    major: u16,
    minor: u16,
}

impl Version {
    fn parse(text: &str) -> Option<Self> {
        let (major, minor) = text.split_once('.')?;
        Some(Self { major: major.parse().ok()?, minor: minor.parse().ok()? })
    }
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// The API version of all requests from now on; none before the first agreement.
#[derive(Clone, Debug, Default)]
struct Agreed(Arc<AtomicU32>);

impl Agreed {
    fn get(&self) -> Option<Version> {
        Self::decode(self.0.load(Ordering::Relaxed))
    }

    /// The version before.
    fn replace(&self, version: Version) -> Option<Version> {
        Self::decode(self.0.swap(u32::from(version.major) << 16 | u32::from(version.minor), Ordering::Relaxed))
    }

    fn decode(number: u32) -> Option<Version> {
        let version = Version { major: (number >> 16) as u16, minor: (number & 0xffff) as u16 };
        (number != 0).then_some(version)
    }

    /// The client library leaves the version out of its paths, which to Docker means its newest. `/version` is asked
    /// without one, so that any release answers.
    fn name_in(&self, mut request: BollardRequest) -> BollardRequest {
        let Some(version) = self.get().filter(|_| request.uri().path() != "/version") else { return request };
        let mut parts = request.uri().clone().into_parts();
        let path = parts.path_and_query.as_ref().map_or("/", |path| path.as_str());
        if let Ok(path) = format!("/v{version}{path}").parse() {
            parts.path_and_query = Some(path);
            if let Ok(uri) = Uri::from_parts(parts) {
                *request.uri_mut() = uri;
            }
        }
        request
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(agreed: &Agreed, uri: &str) -> String {
        let request = hyper::Request::builder().uri(uri).body(bollard::body_full(bytes::Bytes::new())).unwrap();
        agreed.name_in(request).uri().to_string()
    }

    #[test]
    fn every_request_names_the_version_that_was_agreed_on_last() {
        let agreed = Agreed::default();
        assert_eq!(asked(&agreed, "unix://2f/_ping"), "unix://2f/_ping");
        assert_eq!(agreed.replace(Version::parse("1.41").unwrap()), None);
        assert_eq!(
            asked(&agreed.clone(), "unix://2f/containers/json?all=true"),
            "unix://2f/v1.41/containers/json?all=true"
        );
        assert_eq!(agreed.replace(Version::parse("1.52").unwrap()), Version::parse("1.41"));
        assert_eq!(asked(&agreed, "http://127.0.0.1:2375/info"), "http://127.0.0.1:2375/v1.52/info");
        assert_eq!(asked(&agreed, "unix://2f/version"), "unix://2f/version");
    }

    #[test]
    fn versions_are_compared_as_numbers() {
        assert!(Version::parse("1.9").unwrap() < Version::parse("1.41").unwrap());
        assert_eq!(Version::parse("1.41-rc1"), None);
    }

    #[test]
    fn a_refused_version_is_told_from_other_bad_requests() {
        let old = "client version 1.41 is too old. Minimum supported API version is 1.44, please upgrade your client to a newer version";
        assert!(refuses_version(old));
        assert!(refuses_version("client version 1.53 is too new. Maximum supported API version is 1.41"));
        assert!(!refuses_version("invalid reference format"));
    }
}
