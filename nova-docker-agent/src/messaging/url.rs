//! Transport URLs, by oslo.messaging's rules.

use std::fmt;

use secrecy::SecretString;

/// `rabbit://user:password@host:port,user:password@host:port/vhost?option=value`. `Debug` and `Display` hide passwords.
#[derive(Clone, Debug)]
pub struct TransportUrl {
    /// The brokers of one cluster; at least one.
    pub hosts: Vec<HostAddress>,
    pub virtual_host: String,
    /// The options of the query, in order of first appearance; the values of a repeated key are joined by commas.
    pub options: Vec<(String, String)>,
}

/// One broker and how to log in there.
#[derive(Clone, Debug)]
pub struct HostAddress {
    pub host: String,
    pub port: u16,
    pub username: String,
    pub password: SecretString,
}

/// What is wrong with a transport URL. Never shows the URL's passwords.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    #[error("a transport URL begins with rabbit://")]
    Scheme,
    #[error("the transport URL names no host")]
    NoHost,
    #[error("the port {0:?} of the transport URL is not a number from 1 to 65535")]
    Port(String),
    #[error("the {0} of the transport URL is not UTF-8 after decoding of its %XX")]
    Encoding(&'static str),
}

impl TransportUrl {
    /// Parses a URL.
    pub fn parse(url: &str) -> Result<Self, UrlError> {
        let _ = url;
        Err(UrlError::Scheme)
    }
}

impl fmt::Display for TransportUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hosts: Vec<String> = self.hosts.iter().map(ToString::to_string).collect();
        write!(f, "rabbit://{}/{}", hosts.join(","), self.virtual_host.trim_start_matches('/'))
    }
}

impl fmt::Display for HostAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.username.is_empty() {
            write!(f, "{}:***@", self.username)?;
        }
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}
