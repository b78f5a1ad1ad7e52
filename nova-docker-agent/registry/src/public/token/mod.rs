//! Authenticates users. They log in to keystone through `/token` and get a short-lived token for what they are about to
//! do.
//!
//! ```text
//! endpoint   GET and POST /token
//!   guesses    how many wrong passwords an address may send
//!   logins     user names and passwords -> keystone tokens
//!   scope      what a token is asked for
//!   claims     what it says
//!     seal       how it is written, so that nobody else can read it or make one
//!       key        the secret that all processes of a registry share
//! ```
//!
//! Source: distribution "Token Authentication Specification", RFC 6750.

mod claims;
mod endpoint;
mod guesses;
pub mod key;
mod logins;
pub mod scope;
mod seal;

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use axum::http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, StatusCode};
use ipnet::IpNet;
use secrecy::SecretString;
use url::Url;

pub use claims::Visitor;
pub use key::{Key, KeyError};
pub use logins::Login;

use super::{Action, Grant};
use crate::http::{header, one_client};
use crate::{ApiError, Code};
use claims::Claims;
use logins::Logins;
use nova_docker_cloud::{Keystone, Named, UserLogin};
use scope::Scopes;

/// The identity with which images are pulled by those who have not logged in. It sees more than they do: they get public images.
#[derive(Clone, Debug)]
pub struct Anonymous {
    /// As a client writes it: `USER`, `DOMAIN/USER`, or the id of an application credential.
    pub user: String,
    /// Its password, or the credential's secret.
    pub password: SecretString,
}

/// How to make [`Tokens`].
#[derive(Clone, Debug)]
pub struct TokenConfig {
    /// Where clients reach the registry, without a trailing slash or a path.
    pub public_url: Url,
    /// How long a token is good.
    pub lifetime: Duration,
    /// The domain of users who name none.
    pub domain: Named,
    /// Shared by all processes of one public URL; made if missing.
    pub key_file: PathBuf,
    /// Who may push and delete: users with one of these roles in the project, in lower case.
    pub push_roles: Vec<String>,
    /// None: everybody has to log in.
    pub anonymous: Option<Anonymous>,
    /// Addresses that speak for many clients.
    pub shared_addresses: Vec<IpNet>,
}

/// The scope of the catalog.
pub const CATALOG: &str = "registry:catalog:*";
/// Among `push_roles`: whoever has any role.
const ANY_ROLE: &str = "*";

/// Gives tokens, and checks them.
pub struct Tokens {
    config: TokenConfig,
    /// `HOST[:PORT]`: whom the tokens are for.
    service: String,
    pub logins: Logins,
    key: Key,
}

/// Why a request is not let in (RFC 6750, section 3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It has no token.
    NoToken,
    /// Its token is forged, or has ended, or is another registry's.
    InvalidToken,
    /// Its token is for something else.
    InsufficientScope,
}

impl Tokens {
    pub fn new(config: TokenConfig, keystone: Keystone, key: Key) -> Self {
        let host = config.public_url.host_str().unwrap_or_default();
        let service = config.public_url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        let logins = Logins::new(keystone, config.domain.clone(), config.shared_addresses.clone());
        Self { config, service, logins, key }
    }

    /// Who sends a request with these headers, from this address.
    pub fn check(&self, headers: &HeaderMap, from: Option<IpAddr>, request_id: &str) -> Result<Visitor, Refused> {
        let header = header(headers, AUTHORIZATION).ok_or(Refused::NoToken)?;
        let (scheme, token) = header.split_once(' ').ok_or(Refused::InvalidToken)?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(Refused::NoToken);
        }
        let content = self.key.open(&self.purpose(), token.trim()).ok_or(Refused::InvalidToken)?;
        let claims: Claims = serde_json::from_slice(&content).map_err(|_| Refused::InvalidToken)?;
        let now = now();
        if claims.end <= now {
            return Err(Refused::InvalidToken);
        }
        let client = from.and_then(|address| one_client(address, &self.config.shared_addresses));
        Ok(claims.visitor(request_id, client, now))
    }

    /// The answer to a request that is not let in; `scope` is what it needs, as far as that is known.
    pub fn challenge(&self, refused: Refused, scope: &str) -> ApiError {
        let (url, service) = (self.config.public_url.as_str().trim_end_matches('/'), &self.service);
        let mut challenge = format!("Bearer realm=\"{url}/token\",service=\"{service}\"");
        if !scope.is_empty() {
            challenge.push_str(&format!(",scope=\"{scope}\""));
        }
        let (error, code, message) = match refused {
            Refused::NoToken => (None, Code::Unauthorized, "authentication required"),
            Refused::InvalidToken => (Some("invalid_token"), Code::Unauthorized, "the token is not valid any more"),
            Refused::InsufficientScope => {
                (Some("insufficient_scope"), Code::Denied, "you have no role that allows this in the project")
            }
        };
        if let Some(error) = error {
            challenge.push_str(&format!(",error=\"{error}\",error_description=\"{message}\""));
        }
        ApiError::new(code, message).with_status(StatusCode::UNAUTHORIZED).with_header(WWW_AUTHENTICATE, challenge)
    }

    /// The user of `login` in a project of the user's; None when the role there has just been taken away.
    pub async fn member(&self, login: &Login, project_id: &str, request_id: &str) -> Result<Option<Grant>, ApiError> {
        let scoped = self.logins.member(login, project_id, request_id).await?;
        Ok(scoped.map(|scoped| {
            let is_pusher = self.may_push(&scoped);
            Grant::of_member(project_id, scoped.user_id, scoped.token, request_id, is_pusher)
        }))
    }

    /// The registry's own identity, in each project where it may push; nowhere where it has none.
    pub async fn own(&self, request_id: &str) -> Result<Vec<Grant>, ApiError> {
        if self.config.anonymous.is_none() {
            return Ok(vec![]);
        }
        let login = self.anonymous(request_id).await?;
        let mut grants = vec![];
        for project in &login.projects {
            grants.extend(self.member(&login, &project.id, request_id).await?.filter(|grant| grant.is_pusher));
        }
        Ok(grants)
    }

    /// A token for what a user asks for, as far as the user may have it, and how long it lives. What Glance's policy says of an
    /// image is found out when the token is used; but whoever may make none has nothing to upload either.
    async fn issue(
        &self,
        login: &Login,
        is_anonymous: bool,
        scopes: Scopes,
        request_id: &str,
    ) -> Result<(String, Duration), ApiError> {
        let (now_here, now) = (Instant::now(), now());
        let mut life = self.config.lifetime.min(login.user.end.saturating_duration_since(now_here));
        let mut claims = Claims::new(&login.user, is_anonymous);
        for (name, mut actions) in scopes.repositories {
            let place = self.logins.place(login, &name, request_id).await?;
            life = life.min(place.login.end.saturating_duration_since(now_here));
            let is_pusher = !is_anonymous && place.is_member() && self.may_push(&place.login);
            if !is_pusher {
                actions.retain(|action| *action == Action::Pull);
            }
            claims.grant(&name, actions, &place.owner, is_pusher, &place.login);
        }
        // The identity's projects are nobody else's business.
        if scopes.catalog && !is_anonymous {
            claims.list(&login.user);
        }
        claims.end = now + life.as_secs();
        let sealed = serde_json::to_vec(&claims).ok().and_then(|claims| self.key.seal(&self.purpose(), &claims));
        let token = sealed.ok_or_else(|| ApiError::new(Code::Unavailable, "no token could be made"))?;
        Ok((token, life))
    }

    /// As Glance's policy compares roles: whatever their case.
    fn may_push(&self, login: &UserLogin) -> bool {
        let has = |wanted: &String| wanted == ANY_ROLE || login.roles.iter().any(|role| role.to_lowercase() == *wanted);
        self.config.push_roles.iter().any(has)
    }

    /// Another registry's tokens, even with the same key, are not for this one.
    fn purpose(&self) -> String {
        format!("token for {}", self.service)
    }
}

/// Seconds since 1970.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
