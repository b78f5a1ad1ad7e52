//! Images that are open to dockerd.

use std::fmt;

use oci_spec::image::ImageConfiguration;
use secrecy::SecretString;

use super::error::Error;

/// What dockerd is asked to pull, and with which credentials (`X-Registry-Auth`).
#[derive(Clone)]
pub struct Reference {
    /// `127.0.0.1:PORT/glance/IMAGE_ID@sha256:...`
    pub name: String,
    pub username: String,
    pub secret: SecretString,
}

impl fmt::Debug for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Reference").field(&self.name).finish()
    }
}

/// An open image: dockerd can pull it, its layers are not evicted, and the credentials to read it are kept, until the
/// lease is dropped.
pub struct Lease {
    /// What to pull.
    pub reference: Reference,
    /// The image's configuration: command, environment, user, exposed ports, volumes, ...
    pub config: ImageConfiguration,
    /// `sha256:...`; the same as in the reference.
    pub manifest_digest: String,
}

impl Lease {
    /// What made a pull of this image fail, when the registry knows it: the reason behind dockerd's own, poorer text.
    pub fn failure(&self) -> Option<Error> {
        None
    }

    /// Waits until a pull of this image has failed for good; never returns otherwise. Race it against the pull: dockerd
    /// itself tries again for most of a minute.
    pub async fn failed(&self) -> Error {
        std::future::pending().await
    }
}
