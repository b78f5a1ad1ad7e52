//! The HTTP client under every service.

use std::time::Duration;

use url::Url;

use super::auth::AuthConfig;
use super::tls::TlsConfig;

/// How to find one service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointConfig {
    /// `placement`, `network`, `image`.
    pub service_type: String,
    pub service_name: Option<String>,
    pub region_name: Option<String>,
    /// Tried in this order: `internal`, `public`, `admin`.
    pub valid_interfaces: Vec<String>,
    /// Wins over the catalog.
    pub endpoint_override: Option<Url>,
}

/// How to find and talk to one service.
#[derive(Clone, Debug)]
pub struct ServiceConfig {
    /// The section's own identity; none means `[service_user]`.
    pub auth: Option<AuthConfig>,
    pub endpoint: EndpointConfig,
    pub tls: TlsConfig,
    /// Limit of one attempt; none means 60 s (transfers of image data have no limit of their own, but stall limits).
    pub timeout: Option<Duration>,
    /// Repetitions after failed connections, of requests that may be repeated.
    pub connect_retries: u32,
    /// Repetitions after 502, 503 and 504, of requests that may be repeated.
    pub status_code_retries: u32,
}
