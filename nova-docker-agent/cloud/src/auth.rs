//! What an identity consists of, as keystoneauth's configuration sections have it.

use std::fmt;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use url::Url;

use super::tls::TlsConfig;

/// One section with `auth_type`: who logs in, where, and how the connection is made.
#[derive(Clone, Debug)]
pub struct AuthConfig {
    /// Base of keystone, with or without `/v3`.
    pub auth_url: Url,
    pub credentials: Credentials,
    pub scope: Scope,
    pub tls: TlsConfig,
    /// Limit of one call to keystone; none means the client's own default.
    pub timeout: Option<Duration>,
}

impl AuthConfig {
    /// Whether both are the same identity, so that one login serves both.
    pub(super) fn same_as(&self, other: &Self) -> bool {
        self.auth_url == other.auth_url
            && self.scope == other.scope
            && self.tls == other.tls
            && self.timeout == other.timeout
            && self.credentials.same_as(&other.credentials)
    }
}

/// A user, project or domain by id or by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Named {
    Id(String),
    Name(String),
}

/// How the identity proves itself. `Debug` shows no secret.
#[derive(Clone)]
pub enum Credentials {
    /// `auth_type = password` or `v3password`. A user given by id needs no domain.
    Password { user: Named, user_domain: Option<Named>, password: SecretString },
    /// `auth_type = v3applicationcredential`. Given by id it needs no user.
    ApplicationCredential { id: Named, user: Option<Named>, user_domain: Option<Named>, secret: SecretString },
}

impl Credentials {
    fn same_as(&self, other: &Self) -> bool {
        let same = |a: &SecretString, b: &SecretString| a.expose_secret() == b.expose_secret();
        match (self, other) {
            (
                Self::Password { user, user_domain, password },
                Self::Password { user: other_user, user_domain: other_domain, password: other_password },
            ) => user == other_user && user_domain == other_domain && same(password, other_password),
            (
                Self::ApplicationCredential { id, user, user_domain, secret },
                Self::ApplicationCredential {
                    id: other_id,
                    user: other_user,
                    user_domain: other_domain,
                    secret: other_secret,
                },
            ) => id == other_id && user == other_user && user_domain == other_domain && same(secret, other_secret),
            _ => false,
        }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Password { user, user_domain, .. } => {
                f.debug_struct("Password").field("user", user).field("user_domain", user_domain).finish_non_exhaustive()
            }
            Self::ApplicationCredential { id, user, .. } => {
                f.debug_struct("ApplicationCredential").field("id", id).field("user", user).finish_non_exhaustive()
            }
        }
    }
}

/// What the token is good for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Application credentials carry their project; a password login without any scope gets an unscoped token.
    Unscoped,
    Project {
        project: Named,
        domain: Option<Named>,
    },
    Domain(Named),
    /// `system_scope = all`.
    System,
}
