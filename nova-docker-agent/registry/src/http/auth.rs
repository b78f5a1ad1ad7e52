//! Who may talk to the registry: whoever knows this process's secret.

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::{ExposeSecret, SecretString};
use subtle::ConstantTimeEq;

use super::header;

/// The user name that goes with the secret.
pub const USERNAME: &str = "nova-docker-agent";

/// The secret of one process. It never leaves the host: the agent hands it to dockerd with each pull.
pub struct Secret(SecretString);

impl Secret {
    /// A new one, of 256 random bits.
    pub fn generate() -> Self {
        Self(hex::encode(rand::random::<[u8; 32]>()).into())
    }

    pub fn value(&self) -> SecretString {
        self.0.clone()
    }

    /// Whether the request carries it, by HTTP Basic.
    pub fn admits(&self, headers: &HeaderMap) -> bool {
        credentials(headers).is_some_and(|(username, password)| {
            let username = username.as_bytes().ct_eq(USERNAME.as_bytes());
            (username & password.as_bytes().ct_eq(self.0.expose_secret().as_bytes())).into()
        })
    }
}

/// User name and password of HTTP Basic, if the request has them.
pub fn credentials(headers: &HeaderMap) -> Option<(String, String)> {
    let (scheme, encoded) = header(headers, AUTHORIZATION)?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
    let (username, password) = decoded.split_once(':')?;
    Some((username.to_owned(), password.to_owned()))
}

#[cfg(test)]
mod tests;
