//! What can go wrong in an operation, and how Nova is told: the one table from our errors to `nova.exception`.

use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::{
    object,
    ports::{self, waiters::PlugError},
};
use crate::{
    cloud, docker, driver,
    messaging::{CallError, Failure},
    registry,
};

/// An operation failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{0}")]
    Conductor(#[from] CallError),
    #[error("{0}")]
    Network(#[from] ports::NetworkError),
    #[error("{0}")]
    Cloud(#[from] cloud::Error),
    /// The instance on this host: its container, image or network.
    #[error("{0}")]
    Guest(driver::Error),
    #[error("{0}")]
    Plug(#[from] PlugError),
    #[error("{0}")]
    Ports(#[from] ports::DeallocateError),
    /// The user deleted the instance while the operation ran.
    #[error("instance {0} is being deleted")]
    Deleting(Uuid),
    /// A request whose arguments do not make sense.
    #[error("{method}: {problem}")]
    BadRequest { method: String, problem: String },
    /// An exception of Nova's own, to be raised at the caller as it is.
    #[error("{message}")]
    Exception { class: &'static str, message: String, kwargs: Map<String, Value> },
    /// Another instance of the server group came here first, or elsewhere.
    #[error("{0} instance group policy was violated")]
    GroupPolicy(&'static str),
    /// Somebody else has removed the instance's container.
    #[error("the container has vanished from Docker, and its files with it; rebuild the server, or delete it")]
    Vanished,
    /// The instance was stopped for what it has written.
    #[error("{0}")]
    Overuse(#[from] driver::Overuse),
    /// The work panicked.
    #[error("the agent has a defect, see its log: {0}")]
    Defect(String),
    /// An operation failed, and so did cleaning up after it.
    #[error("{error}; cleaning up after it failed too: {cleanup}")]
    Cleanup { error: Box<Error>, cleanup: String },
}

impl Error {
    /// A `nova.exception` class with its message and the keyword arguments that API handlers read.
    pub fn exception(class: &'static str, message: impl Into<String>, kwargs: Value) -> Self {
        Self::Exception { class, message: message.into(), kwargs: object(kwargs) }
    }

    fn remote_class(&self) -> Option<&str> {
        match self {
            Self::Conductor(error) => error.class(),
            Self::Cleanup { error, .. } => error.remote_class(),
            _ => None,
        }
    }

    /// The instance's row is gone, or about to go: nothing to report to anybody.
    pub fn is_gone(&self) -> bool {
        matches!(self, Self::Deleting(_))
            || matches!(self.remote_class(), Some("InstanceNotFound" | "UnexpectedDeletingTaskStateError"))
    }

    /// The instance's row does not exist any more.
    pub fn is_instance_not_found(&self) -> bool {
        self.remote_class() == Some("InstanceNotFound")
    }

    /// Somebody else changed the task state: it is theirs to reset.
    pub fn is_unexpected_task_state(&self) -> bool {
        matches!(self.remote_class(), Some("UnexpectedTaskStateError" | "UnexpectedDeletingTaskStateError"))
    }

    /// Somebody else changed the task state, or the state.
    pub fn is_unexpected_state(&self) -> bool {
        self.is_unexpected_task_state() || self.remote_class() == Some("InstanceUpdateConflict")
    }

    /// Whether another host may succeed where this one failed.
    pub fn is_reschedulable(&self) -> bool {
        match self {
            Self::Guest(error) => may_succeed_elsewhere(error),
            Self::Network(error) => error.may_pass(),
            Self::Conductor(_) | Self::Cloud(_) | Self::GroupPolicy(_) => true,
            Self::Cleanup { error, .. } => error.is_reschedulable(),
            _ => false,
        }
    }

    /// HTTP-like code of the fault: below 500 its details are shown to the user, not to operators alone.
    pub fn fault_code(&self) -> u16 {
        match self {
            Self::BadRequest { .. }
            | Self::Exception { .. }
            | Self::Network(_)
            | Self::GroupPolicy(_)
            | Self::Overuse(_) => 400,
            Self::Guest(error) if is_users_to_mend(error) => 400,
            Self::Cleanup { error, .. } => error.fault_code(),
            _ => 500,
        }
    }

    /// More than fits into a fault's message: the last lines of a container's log, for one.
    pub fn details(&self) -> String {
        match self {
            Self::Guest(error) => details_of_guest(error),
            Self::Cleanup { error, cleanup } => format!("{}\n{cleanup}", error.details()),
            _ => String::new(),
        }
    }

    /// The `nova.exception` (or builtin) that the caller of the RPC sees.
    pub fn to_failure(&self) -> Failure {
        let nova = |class: &str, kwargs: Map<String, Value>| nova_failure(class, &self.to_string(), kwargs);
        match self {
            Self::Conductor(CallError::Remote(failure)) => failure.clone(),
            Self::Exception { class: "NotImplementedError", .. } => Failure {
                class: "NotImplementedError".to_owned(),
                module: "builtins".to_owned(),
                message: String::new(),
                args: Vec::new(),
                kwargs: Map::new(),
                traceback: Vec::new(),
            },
            Self::Exception { class, kwargs, .. } => nova(class, kwargs.clone()),
            Self::Network(error) => nova(error.nova_class(), Map::new()),
            Self::Guest(error) => nova(class_of_guest(error), Map::new()),
            Self::Plug(_) => nova("VirtualInterfaceCreateException", Map::new()),
            Self::GroupPolicy(_) => nova("GroupAffinityViolation", Map::new()),
            Self::Deleting(uuid) => nova("InstanceNotFound", object(json!({"instance_id": uuid}))),
            Self::BadRequest { .. } => nova("Invalid", Map::new()),
            Self::Cleanup { error, .. } => Failure { message: self.to_string(), ..error.to_failure() },
            Self::Cloud(_)
            | Self::Conductor(_)
            | Self::Ports(_)
            | Self::Vanished
            | Self::Overuse(_)
            | Self::Defect(_) => nova("NovaException", Map::new()),
        }
    }
}

impl From<driver::Error> for Error {
    fn from(error: driver::Error) -> Self {
        match error {
            driver::Error::Cancelled(uuid) => Self::Deleting(uuid),
            error => Self::Guest(error),
        }
    }
}

impl From<docker::Error> for Error {
    fn from(error: docker::Error) -> Self {
        Self::Guest(error.into())
    }
}

fn may_succeed_elsewhere(error: &driver::Error) -> bool {
    use driver::Error as E;
    match error {
        E::Docker(error) => !is_users_fault(error),
        E::Plumbing(_) => true,
        E::Image(error) => !error.is_final(),
        E::Cleanup { error, .. } => may_succeed_elsewhere(error),
        E::Configuration(_) | E::Glance(_) | E::UnacceptableImage(_) | E::Unsupported(_) | E::Cancelled(_) => false,
    }
}

fn is_users_to_mend(error: &driver::Error) -> bool {
    use driver::Error as E;
    match error {
        E::Docker(error) => is_users_fault(error),
        E::Image(error) => error.is_final(),
        E::Configuration(_) | E::UnacceptableImage(_) | E::Unsupported(_) => true,
        E::Cleanup { error, .. } => is_users_to_mend(error),
        E::Plumbing(_) | E::Glance(_) | E::Cancelled(_) => false,
    }
}

/// The image or the request is wrong: no other host would do better, and the user can mend it.
fn is_users_fault(error: &docker::Error) -> bool {
    use docker::Error::{CommandNotFound, ExitedAtOnce, ImageUnacceptable, Invalid, Lacking};
    matches!(
        error,
        CommandNotFound { .. } | ExitedAtOnce { .. } | ImageUnacceptable { .. } | Invalid { .. } | Lacking { .. }
    )
}

fn details_of_guest(error: &driver::Error) -> String {
    match error {
        driver::Error::Docker(docker::Error::ExitedAtOnce { log_tail, .. }) => log_tail.clone(),
        // A fault's message is cut at 255 characters.
        driver::Error::Configuration(mistakes) => mistakes.to_string(),
        driver::Error::Cleanup { error, cleanup } => format!("{}\n{cleanup}", details_of_guest(error)),
        _ => String::new(),
    }
}

fn class_of_guest(error: &driver::Error) -> &'static str {
    use driver::Error as E;
    match error {
        E::Image(error) if is_too_large(error) => "FlavorDiskSmallerThanImage",
        E::Image(_) | E::UnacceptableImage(_) => "ImageUnacceptable",
        E::Plumbing(_) => "VirtualInterfacePlugException",
        E::Configuration(_) => "Invalid",
        E::Unsupported(_) => "NotSupported",
        E::Docker(_) | E::Glance(_) | E::Cancelled(_) => "NovaException",
        E::Cleanup { error, .. } => class_of_guest(error),
    }
}

fn is_too_large(error: &registry::Error) -> bool {
    matches!(error.problem(), Some(registry::Problem::LargerThanDisk { .. }))
}

/// A failure that Nova rebuilds as `nova.exception.<class>` with exactly this text.
pub(crate) fn nova_failure(class: &str, message: &str, kwargs: Map<String, Value>) -> Failure {
    Failure {
        class: class.to_owned(),
        module: "nova.exception".to_owned(),
        message: message.to_owned(),
        args: vec![Value::String(message.to_owned())],
        kwargs,
        traceback: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::SourceError;

    fn unreadable(cause: SourceError) -> Error {
        Error::Guest(registry::Error::Source { image: "app".to_owned(), cause }.into())
    }

    #[test]
    fn an_image_that_is_gone_is_told_to_the_user_instead_of_tried_on_another_host() {
        for cause in [SourceError::NotFound("404".to_owned()), SourceError::Forbidden("403".to_owned())] {
            let error = unreadable(cause);
            assert!(!error.is_reschedulable());
            assert_eq!(error.fault_code(), 400);
        }
    }

    #[test]
    fn a_network_that_cannot_be_had_on_this_host_is_tried_on_another_and_a_wrong_request_is_not() {
        let (port, network) = (Uuid::nil(), Uuid::nil());
        let failed = |error: ports::NetworkError| Error::from(error).is_reschedulable();
        assert!(failed(ports::NetworkError::PortBindingFailed { port, host: "here".to_owned() }));
        assert!(!failed(ports::NetworkError::NoMoreFixedIps { network }));
        assert!(!failed(ports::NetworkError::PortNotFound { port }));
    }

    #[test]
    fn an_image_that_is_larger_than_the_flavors_disk_is_called_that_in_novas_words_and_on_no_other_host() {
        let problem = registry::Problem::LargerThanDisk { disk: 1, image: 2 };
        let error = Error::Guest(registry::Error::BadImage { image: "app".to_owned(), problem }.into());
        let failure = error.to_failure();
        assert_eq!(failure.class, "FlavorDiskSmallerThanImage");
        assert!(failure.message.ends_with("Flavor disk is 1 bytes, image is 2 bytes."), "{}", failure.message);
        assert!(!error.is_reschedulable());
        assert_eq!(error.fault_code(), 400);
    }

    #[test]
    fn an_image_service_that_does_not_answer_is_tried_from_another_host() {
        assert!(unreadable(SourceError::Unavailable("timed out".to_owned())).is_reschedulable());
    }
}
