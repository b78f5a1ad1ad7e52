//! One keystone identity: its token and its catalog.

use secrecy::SecretString;
use url::Url;

use super::client::EndpointConfig;
use super::{AuthConfig, Error};

/// A keystone identity that is logged in when needed. Cheap to clone; clones share the token.
#[derive(Clone)]
pub struct Session {
    _auth: AuthConfig,
}

impl Session {
    /// Makes a session; opens no connection.
    ///
    /// # Errors
    /// [`Error::Tls`] when a certificate or key file cannot be used.
    pub fn new(auth: AuthConfig) -> Result<Self, Error> {
        Ok(Self { _auth: auth })
    }

    /// A valid token: the cached one, or a new one shortly before its expiry.
    ///
    /// # Errors
    /// [`Error`] of keystone.
    pub async fn token(&self) -> Result<SecretString, Error> {
        todo!()
    }

    /// Base URL of a service: the override, or the first interface of the list that the catalog has in the region.
    ///
    /// # Errors
    /// [`Error::Identity`] when the catalog has none, or keystone's refusal.
    pub async fn endpoint(&self, _endpoint: &EndpointConfig) -> Result<Url, Error> {
        todo!()
    }
}
