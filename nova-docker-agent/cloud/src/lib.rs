//! REST clients of the control plane, over keystone sessions.
//!
//! One [`Session`] is one keystone identity (a section of nova.conf with `auth_type`): it holds the token and the catalog.
//! [`Placement`], [`Neutron`] and [`Glance`] each send their calls as a [`Caller`]: the agent itself, or a user whose token came
//! with the RPC request (then with the agent's own token as `X-Service-Token` where `[service_user] send_service_user_token` says so).
//!
//! Proxies of the environment (`HTTP_PROXY` and the like) are not read: these services belong to the operator's own control plane,
//! and a variable left in a unit file must not carry its tokens elsewhere.
//!
//! | file | what |
//! |---|---|
//! | [`neutron`], [`placement`], [`glance`] | the services, and what their resources look like here |
//! | `session`, `auth`, `catalog` | one identity: what it consists of, its token, where the services are |
//! | `keystone` | logins of users who bring their own credentials |
//! | `client`, `retry`, `answer`, `error` | one call: sent, made again, read, failed |
//! | `caller`, `tls`, `greeting` | who asks; whom it trusts; what a service says of itself to anybody |

// What tests of several crates share names this crate.
#[cfg(test)]
extern crate self as nova_docker_cloud;

mod answer;
mod auth;
mod caller;
mod catalog;
mod client;
mod error;
pub mod glance;
mod greeting;
mod keystone;
pub mod neutron;
pub mod placement;
mod retry;
mod session;
#[cfg(test)]
pub(crate) mod testing;
mod tls;

pub use auth::{AuthConfig, Credentials, Named, Scope};
pub use caller::{Caller, Identity};
pub use client::{EndpointConfig, ServiceConfig};
pub use error::Error;
pub use glance::Glance;
pub use greeting::Greeting;
pub use keystone::{Keystone, KeystoneConfig, Project, UserLogin};
pub use neutron::Neutron;
pub use placement::Placement;
pub use session::Session;
pub use tls::{TlsConfig, install_crypto_provider};

/// The clients of one agent, sharing sessions where sections share an identity.
#[derive(Clone)]
pub struct Cloud {
    pub placement: Placement,
    pub neutron: Neutron,
    pub glance: Glance,
    sessions: Vec<Session>,
}

/// Everything that [`Cloud::new`] needs from the configuration.
#[derive(Clone, Debug)]
pub struct CloudConfig {
    /// `[service_user]`: the identity behind `X-Service-Token`, and glance's where `[glance]` has none of its own.
    pub service_user: Option<AuthConfig>,
    /// `[service_user] send_service_user_token`.
    pub send_service_user_token: bool,
    pub placement: ServiceConfig,
    pub neutron: ServiceConfig,
    pub glance: ServiceConfig,
    /// `[neutron] ovs_bridge`, for ports whose binding names no bridge.
    pub ovs_bridge: String,
    /// `[neutron] extension_sync_interval`.
    pub extension_sync_interval: std::time::Duration,
}

impl Cloud {
    /// Makes the clients; opens no connection. `[glance]`, which in Nova has no identity of its own, may have one; otherwise it uses
    /// that of `[service_user]`, or without that of `[neutron]`.
    ///
    /// # Errors
    /// [`Error`] when a certificate or key file cannot be used.
    pub fn new(config: &CloudConfig) -> Result<Self, Error> {
        let mut sessions = Vec::new();
        let service_user = session(&mut sessions, config.service_user.as_ref())?;
        let service_token = service_user.clone().filter(|_| config.send_service_user_token);
        let neutron = session(&mut sessions, config.neutron.auth.as_ref())?.or_else(|| service_user.clone());
        let placement = session(&mut sessions, config.placement.auth.as_ref())?.or_else(|| service_user.clone());
        let glance = session(&mut sessions, config.glance.auth.as_ref())?.or(service_user).or_else(|| neutron.clone());
        Ok(Self {
            placement: Placement::new(placement, service_token.clone(), &config.placement)?,
            neutron: Neutron::new(neutron, service_token.clone(), &config.neutron)?
                .with_extension_sync_interval(config.extension_sync_interval),
            glance: Glance::new(glance, service_token, &config.glance)?,
            sessions,
        })
    }

    /// The identities, each of them once.
    pub fn sessions(&self) -> &[Session] {
        &self.sessions
    }

    /// Logs all identities in, so that the first request need not wait for that. What fails is logged, and tried again when it is needed.
    pub async fn log_in(&self) {
        let logins = self.sessions.iter().map(Session::token);
        for error in futures::future::join_all(logins).await.into_iter().filter_map(Result::err) {
            tracing::warn!(%error, "cannot log in to keystone yet");
        }
    }
}

/// The session of an identity: the same one for the same identity.
fn session(sessions: &mut Vec<Session>, auth: Option<&AuthConfig>) -> Result<Option<Session>, Error> {
    let Some(auth) = auth else { return Ok(None) };
    if let Some(session) = sessions.iter().find(|session| session.is_for(auth)) {
        return Ok(Some(session.clone()));
    }
    let session = Session::new(auth.clone())?;
    sessions.push(session.clone());
    Ok(Some(session))
}

#[cfg(test)]
mod tests {
    use super::testing::{control_plane, password_auth, requests, service};
    use super::*;

    #[tokio::test]
    async fn sections_with_the_same_identity_share_one_login() {
        let server = control_plane().await;
        let auth = password_auth(&server);
        let other = AuthConfig { scope: Scope::System, ..auth.clone() };
        let with = |kind, auth: &AuthConfig| ServiceConfig { auth: Some(auth.clone()), ..service(kind) };
        let config = CloudConfig {
            service_user: Some(auth.clone()),
            send_service_user_token: true,
            placement: with("placement", &auth),
            neutron: with("network", &other),
            glance: service("image"),
            ovs_bridge: "br-int".into(),
            extension_sync_interval: std::time::Duration::from_secs(600),
        };
        Cloud::new(&config).unwrap().log_in().await;
        assert_eq!(requests(&server, "POST /v3/auth/tokens").await.len(), 2);
    }
}
