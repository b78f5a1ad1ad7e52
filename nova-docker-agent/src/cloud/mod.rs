//! REST clients of the control plane, over keystone sessions.
//!
//! One [`Session`] is one keystone identity (a section of nova.conf with `auth_type`): it holds the token and the catalog.
//! [`Placement`], [`Neutron`] and [`Glance`] each send their calls as a [`Caller`]: the agent itself, or a user whose token came
//! with the RPC request (then with the agent's own token as `X-Service-Token` where `[service_user] send_service_user_token` says so).
//!
//! Proxies of the environment (`HTTP_PROXY` and the like) are not read: these services belong to the operator's own control plane,
//! and a variable left in a unit file must not carry its tokens elsewhere.

mod answer;
mod auth;
mod caller;
mod catalog;
mod client;
mod error;
pub mod glance;
pub mod neutron;
pub mod placement;
mod retry;
mod session;
#[cfg(test)]
mod testing;
mod tls;

pub use auth::{AuthConfig, Credentials, Named, Scope};
pub use caller::{Caller, Identity};
pub use client::{EndpointConfig, ServiceConfig};
pub use error::Error;
pub use glance::Glance;
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
        let service_user = match &config.service_user {
            Some(auth) => Some(Session::new(auth.clone())?),
            None => None,
        };
        let service_token = service_user.clone().filter(|_| config.send_service_user_token);
        let own = |service: &ServiceConfig| service.auth.clone().map(Session::new).transpose();
        let neutron = own(&config.neutron)?.or_else(|| service_user.clone());
        let placement = own(&config.placement)?.or_else(|| service_user.clone());
        let glance = own(&config.glance)?.or(service_user).or_else(|| neutron.clone());
        Ok(Self {
            placement: Placement::new(placement, service_token.clone(), &config.placement)?,
            neutron: Neutron::new(neutron, service_token.clone(), &config.neutron)?
                .with_ovs_bridge(&config.ovs_bridge)
                .with_extension_sync_interval(config.extension_sync_interval),
            glance: Glance::new(glance, service_token, &config.glance)?,
        })
    }
}
