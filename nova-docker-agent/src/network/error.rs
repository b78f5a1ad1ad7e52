//! What can go wrong on the host side of an instance's network.

use uuid::Uuid;

/// A failure to plug or unplug an instance's interfaces; says what was tried on what.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A system call or a file operation failed.
    #[error("cannot {action}: {source}")]
    System {
        /// What was tried, on what.
        action: String,
        /// Why it failed.
        source: std::io::Error,
    },
    /// The kernel refused a change of an interface, an address or a route.
    #[error("cannot {action}: {source}")]
    Netlink {
        /// What was tried, on what.
        action: String,
        /// The kernel's answer.
        source: rtnetlink::Error,
    },
    /// Open vSwitch did not take a transaction.
    #[error("cannot {action} in Open vSwitch at {connection}: {message}")]
    OpenVSwitch {
        /// What was tried, on what.
        action: String,
        /// The database that was asked.
        connection: String,
        /// The last words of `ovs-vsctl`.
        message: String,
    },
    /// The interface cannot be plugged as it was described.
    #[error("interface {devname} is unusable: {reason}")]
    Unusable {
        /// Host-side name of the interface.
        devname: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Taking an instance's network down went on past these failures.
    #[error("network of instance {instance} is not completely gone: {}", join(.failures))]
    Incomplete {
        /// The instance.
        instance: Uuid,
        /// Each failure, in the order in which they came up.
        failures: Vec<Error>,
    },
}

fn join(failures: &[Error]) -> String {
    failures.iter().map(Error::to_string).collect::<Vec<_>>().join("; ")
}

impl Error {
    /// An operating-system error, with what was tried.
    pub(crate) fn system(action: impl Into<String>, source: impl Into<std::io::Error>) -> Self {
        Self::System { action: action.into(), source: source.into() }
    }

    /// A netlink error, with what was tried.
    pub(crate) fn netlink(action: impl Into<String>, source: rtnetlink::Error) -> Self {
        Self::Netlink { action: action.into(), source }
    }
}
