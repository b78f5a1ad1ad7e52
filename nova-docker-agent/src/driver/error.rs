//! What can go wrong with a guest, whichever door it was asked through.

use uuid::Uuid;

use crate::{cloud, console, docker, guest::configuration::Mistakes, network, registry};

/// An operation on a guest failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The container.
    #[error("{0}")]
    Docker(#[from] docker::Error),
    /// Its network.
    #[error("cannot plug the instance's network: {0}")]
    Plumbing(#[from] network::Error),
    /// The image's contents.
    #[error("{0}")]
    Image(#[from] registry::Error),
    /// The image service.
    #[error("{0}")]
    Glance(#[from] cloud::Error),
    /// What the image's author or the user says of the container.
    #[error("{0}")]
    Configuration(#[from] Mistakes),
    /// The image's record rules it out, before a byte of it is read.
    #[error("{0}")]
    UnacceptableImage(String),
    /// The instance asks for what this host does not do; another host may.
    #[error("{0}")]
    Unsupported(String),
    /// Whoever wanted the guest does not want it any more.
    #[error("guest {0} is not wanted any more")]
    Cancelled(Uuid),
    /// An operation failed, and so did cleaning up after it.
    #[error("{error}; cleaning up after it failed too: {cleanup}")]
    Cleanup {
        /// What failed first.
        error: Box<Error>,
        /// What stays.
        cleanup: String,
    },
}

/// Why the host cannot be driven at all.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Docker will not do.
    #[error("cannot use Docker: {0}")]
    Docker(#[from] docker::Error),
    /// The consoles cannot be reached.
    #[error(transparent)]
    Console(#[from] console::StartError),
    /// The embedded registry did not start.
    #[error("cannot start the image registry: {0}")]
    Registry(#[from] registry::Error),
}
