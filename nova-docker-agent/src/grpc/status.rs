//! From our errors to gRPC's: a canonical code, a sentence, and a reason that a program can read.

use std::collections::HashMap;

use nova_docker_proto::v1::ErrorReason;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};
use uuid::Uuid;

use crate::{cloud, docker, driver::Error, registry};

const DOMAIN: &str = "nova-docker-agent";
/// Bytes of a message. grpcio refuses answers with more than 8 KiB of headers, and the message is in them twice:
/// percent-encoded, and with the last words of a guest in base64.
const MESSAGE_BYTES: usize = 1000;

/// A status of a reason of our own.
pub(super) fn status(code: Code, reason: ErrorReason, message: impl Into<String>) -> Status {
    with(code, reason, message, [])
}

fn with<const N: usize>(
    code: Code,
    reason: ErrorReason,
    message: impl Into<String>,
    metadata: [(&str, String); N],
) -> Status {
    let name = reason.as_str_name();
    let name = name.strip_prefix("ERROR_REASON_").unwrap_or(name);
    let metadata: HashMap<String, String> = metadata.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    let details = ErrorDetails::with_error_info(name, DOMAIN, metadata);
    Status::with_error_details(code, shorten(message.into()), details)
}

/// The beginning says what was tried, the end why it failed.
fn shorten(message: String) -> String {
    const HALF: usize = MESSAGE_BYTES / 2;
    let boundary = |from: usize| (from..=message.len()).find(|&at| message.is_char_boundary(at)).unwrap_or(from);
    match message.len() {
        0..=MESSAGE_BYTES => message,
        length => format!("{} ... {}", &message[..boundary(HALF)], &message[boundary(length - HALF)..]),
    }
}

/// A field of a request that has no meaning.
pub(super) fn invalid(field: &str, problem: impl std::fmt::Display) -> Status {
    status(Code::InvalidArgument, ErrorReason::InvalidArgument, format!("{field}: {problem}"))
}

/// The client and the agent have no revision in common.
pub(super) fn version_unsupported(message: String, revision: u32, oldest: u32) -> Status {
    let metadata = [("revision", revision.to_string()), ("oldest_revision", oldest.to_string())];
    with(Code::FailedPrecondition, ErrorReason::VersionUnsupported, message, metadata)
}

/// The agent is about to end.
pub(super) fn stopping() -> Status {
    status(Code::Unavailable, ErrorReason::Stopping, "the agent is stopping; repeat the call when it is back")
}

/// A defect of ours; the log has the details.
pub(super) fn panicked() -> Status {
    status(Code::Internal, ErrorReason::HostFailed, "the operation broke off; the agent's log says where")
}

/// The caller went away.
pub(super) fn cancelled() -> Status {
    status(Code::Cancelled, ErrorReason::Cancelled, "the call was cancelled; what it had begun is undone")
}

/// A failure after which cleaning up failed too: the first one's kind, with the words of both.
pub(super) fn with_cleanup(status: &Status, cleanup: &Error) -> Status {
    reworded(status, format!("{}; cleaning up after it failed too: {cleanup}", status.message()))
}

fn reworded(status: &Status, message: String) -> Status {
    Status::with_error_details(status.code(), shorten(message), status.get_error_details())
}

/// There is no such guest.
pub(super) fn guest_not_found(guest: Uuid) -> Status {
    let message = format!("guest {guest} has no container on this host");
    with(Code::NotFound, ErrorReason::GuestNotFound, message, [("guest_id", guest.to_string())])
}

/// What failed, of `guest`, made of `image` where that is known.
pub(super) fn failure(error: &Error, guest: Uuid, image: Option<Uuid>) -> Status {
    let of_image = || [("image_id", image.map(|id| id.to_string()).unwrap_or_default())];
    let message = error.to_string();
    match error {
        Error::Docker(error) => docker_failure(error, guest, image),
        Error::Plumbing(_) => status(Code::FailedPrecondition, ErrorReason::PlugFailed, message),
        Error::Configuration(_) => status(Code::InvalidArgument, ErrorReason::InvalidArgument, message),
        Error::Unsupported(_) => status(Code::FailedPrecondition, ErrorReason::Unsupported, message),
        Error::UnacceptableImage(_) => {
            with(Code::FailedPrecondition, ErrorReason::ImageUnacceptable, message, of_image())
        }
        Error::Image(error) => image_failure(error, message, of_image()),
        Error::Glance(error) => glance_failure(error, message, of_image()),
        Error::Cancelled(_) => cancelled(),
        Error::Cleanup { error: first, .. } => reworded(&failure(first, guest, image), message),
    }
}

fn docker_failure(error: &docker::Error, guest: Uuid, image: Option<Uuid>) -> Status {
    use docker::Error as E;
    let message = error.to_string();
    let of_image = || [("image_id", image.map(|id| id.to_string()).unwrap_or_default())];
    match error {
        E::NotFound { .. } if image.is_none() => guest_not_found(guest),
        E::NotFound { .. } | E::ImageUnavailable { .. } | E::ImageUnauthorised { .. } => {
            with(Code::Unavailable, ErrorReason::ImageUnavailable, message, of_image())
        }
        E::ImageUnacceptable { .. } => {
            with(Code::FailedPrecondition, ErrorReason::ImageUnacceptable, message, of_image())
        }
        E::GivenMissing { .. } | E::NotDumped { .. } | E::NotRestored { .. } => {
            status(Code::FailedPrecondition, ErrorReason::Unsupported, message)
        }
        E::Unwanted => cancelled(),
        E::NetworkMissing { .. } => status(Code::FailedPrecondition, ErrorReason::PlugFailed, message),
        E::CommandNotFound { .. } => status(Code::FailedPrecondition, ErrorReason::CommandNotFound, message),
        E::ExitedAtOnce { exit_code, log_tail, .. } => {
            let metadata = [("exit_code", exit_code.to_string()), ("log_tail", log_tail.clone())];
            with(Code::Aborted, ErrorReason::ExitedAtOnce, message, metadata)
        }
        E::NoConsole { .. } => status(Code::FailedPrecondition, ErrorReason::NoConsole, message),
        E::Invalid { .. } => status(Code::InvalidArgument, ErrorReason::InvalidArgument, message),
        E::Lacking { .. } => status(Code::FailedPrecondition, ErrorReason::Unsupported, message),
        E::Unavailable { .. } => status(Code::Unavailable, ErrorReason::DockerUnavailable, message),
        E::NoSpace { .. } => status(Code::ResourceExhausted, ErrorReason::NoSpace, message),
        E::Docker { .. } => status(Code::Internal, ErrorReason::DockerRefused, message),
        E::System { .. } => status(Code::Internal, ErrorReason::HostFailed, message),
    }
}

fn image_failure(error: &registry::Error, message: String, image: [(&str, String); 1]) -> Status {
    use registry::SourceError as S;
    match error {
        registry::Error::Source { cause: S::NotFound(_), .. } => {
            with(Code::NotFound, ErrorReason::ImageNotFound, message, image)
        }
        registry::Error::Source { cause: S::Forbidden(_), .. } => {
            with(Code::PermissionDenied, ErrorReason::ImageNotFound, message, image)
        }
        registry::Error::NoSpace { .. } => with(Code::ResourceExhausted, ErrorReason::NoSpace, message, image),
        error if error.is_final() => with(Code::FailedPrecondition, ErrorReason::ImageUnacceptable, message, image),
        _ => with(Code::Unavailable, ErrorReason::ImageUnavailable, message, image),
    }
}

fn glance_failure(error: &cloud::Error, message: String, image: [(&str, String); 1]) -> Status {
    match error.status() {
        Some(404) => with(Code::NotFound, ErrorReason::ImageNotFound, message, image),
        Some(401 | 403) => with(Code::PermissionDenied, ErrorReason::ImageNotFound, message, image),
        _ => with(Code::Unavailable, ErrorReason::ImageUnavailable, message, image),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_that_ended_at_once_tells_code_and_last_words_to_programs_and_people() {
        let error = docker::Error::ExitedAtOnce { exit_code: 3, oom: false, log_tail: "no database".to_owned() };
        let status = failure(&error.into(), Uuid::nil(), Some(Uuid::nil()));
        let info = status.get_details_error_info().unwrap();
        assert_eq!((status.code(), info.reason.as_str()), (Code::Aborted, "EXITED_AT_ONCE"));
        assert_eq!((info.metadata["exit_code"].as_str(), info.metadata["log_tail"].as_str()), ("3", "no database"));
        assert!(status.message().contains("no database"));
    }

    #[test]
    fn a_failed_cleanup_keeps_the_reason_of_what_failed_first() {
        let first = docker::Error::NoSpace { reason: "disk".to_owned() };
        let error = Error::Cleanup { error: Box::new(first.into()), cleanup: "port stays".to_owned() };
        let status = failure(&error, Uuid::nil(), None);
        assert_eq!(status.get_details_error_info().unwrap().reason, "NO_SPACE");
        assert!(status.message().contains("port stays"));
    }

    #[test]
    fn a_long_message_keeps_its_beginning_and_its_end() {
        let status = invalid("field", format!("{}why", "ä".repeat(3000)));
        let message = status.message();
        assert!(message.starts_with("field: ä") && message.ends_with("äwhy"), "{message}");
        assert!(message.len() <= MESSAGE_BYTES + 10, "{}", message.len());
        assert_eq!(shorten("short".to_owned()), "short");
    }

    #[test]
    fn a_missing_guest_is_named() {
        let error = docker::Error::NotFound { what: "container x".to_owned() };
        let status = failure(&error.into(), Uuid::nil(), None);
        assert_eq!(status.get_details_error_info().unwrap().metadata["guest_id"], Uuid::nil().to_string());
    }
}
