//! What can go wrong between an instance and Docker, in sentences that a user may read.

/// A failure of Docker.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such container or image.
    #[error("{what} does not exist in Docker")]
    NotFound {
        /// The container or image that was asked for.
        what: String,
    },
    /// Docker will not take this image, whenever it is tried.
    #[error("image {image} cannot be used: {reason}")]
    ImageUnacceptable {
        /// The image's reference.
        image: String,
        /// Docker's or our reason.
        reason: String,
    },
    /// Docker may not read the image from the registry.
    #[error("Docker was not allowed to read image {image}: {reason}")]
    ImageUnauthorised {
        /// The image's reference.
        image: String,
        /// The registry's words.
        reason: String,
    },
    /// The registry could not serve the image just now.
    #[error("image {image} could not be read: {reason}")]
    ImageUnavailable {
        /// The image's reference.
        image: String,
        /// Docker's words.
        reason: String,
    },
    /// The instance has interfaces, but its network namespace is not there.
    #[error("the network of instance {uuid} is not plugged: {} is missing", .namespace.display())]
    NetworkMissing {
        /// The instance.
        uuid: uuid::Uuid,
        /// Where its namespace should be.
        namespace: std::path::PathBuf,
    },
    /// The instance was given configs and secrets, and the host's memory has lost them.
    #[error(
        "the configs and secrets of instance {uuid} went with the host's memory, and whoever starts it does not give them again"
    )]
    GivenMissing {
        /// The instance.
        uuid: uuid::Uuid,
    },
    /// The image's command is not in the image, or cannot be executed.
    #[error("command {command:?} cannot be run: {reason}")]
    CommandNotFound {
        /// The command, as far as it is known.
        command: String,
        /// `not found`, `permission denied`, ...
        reason: String,
    },
    /// The container ended before it had run for as long as a new instance must.
    #[error("the container exited at once with code {exit_code}{}{}", cause_text(*.exit_code, *.oom), log_text(.log_tail))]
    ExitedAtOnce {
        /// Exit code of the first process; 128 + n for signal n.
        exit_code: i64,
        /// Whether the kernel killed it for memory.
        oom: bool,
        /// The last lines that it wrote; control characters removed.
        log_tail: String,
    },
    /// A property or extra specification of the instance cannot be honoured.
    #[error("{what} is invalid: {reason}")]
    Invalid {
        /// Which setting.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The container has nothing for it to be done with.
    #[error("{reason}")]
    Lacking {
        /// What it has not.
        reason: String,
    },
    /// The container's processes cannot be written to disk; they run as before.
    #[error("the container cannot be suspended to disk: {reason}")]
    NotDumped {
        /// Why not.
        reason: String,
    },
    /// The container is being removed, and what it was on its way to is given up.
    #[error("the container is being removed")]
    Unwanted,
    /// The container's processes are on disk, and could not be brought back; they can be tried again.
    #[error("the container cannot be brought back, and stays suspended: {reason}")]
    NotRestored {
        /// Why not.
        reason: String,
    },
    /// The instance has no serial console, now or at all.
    #[error("the server has no serial console: {reason}")]
    NoConsole {
        /// Why not.
        reason: &'static str,
    },
    /// Docker is down, or did not answer in time.
    #[error("Docker at {host} is unavailable: {reason}")]
    Unavailable {
        /// Docker's address.
        host: String,
        /// What happened.
        reason: String,
    },
    /// The host has no room.
    #[error("the host's disk is full: {reason}")]
    NoSpace {
        /// Docker's words.
        reason: String,
    },
    /// Any other refusal of Docker.
    #[error("Docker refused to {action} (status {status}): {message}")]
    Docker {
        /// What was tried, on what.
        action: String,
        /// HTTP status; 0 where the failure came in a stream that had begun well.
        status: u16,
        /// Docker's words.
        message: String,
    },
    /// A file operation on the host failed.
    #[error("cannot {action}: {source}")]
    System {
        /// What was tried, on what.
        action: String,
        /// Why it failed.
        source: std::io::Error,
    },
}

fn cause_text(exit_code: i64, oom: bool) -> &'static str {
    match (exit_code, oom) {
        (_, true) => " (out of memory)",
        (0, _) => " (its command came to its end; an instance runs for as long as its command does)",
        _ => "",
    }
}

fn log_text(tail: &str) -> String {
    if tail.is_empty() { String::from("; it wrote nothing") } else { format!("; its last words: {tail}") }
}
