//! TLS of the REST clients.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::time::Duration;

use reqwest::{Certificate, Client, Identity};

use super::Error;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A peer that vanished is noticed within about this time, even during a transfer that has no deadline.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// `cafile`, `certfile`, `keyfile` and `insecure` of a section.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct TlsConfig {
    /// PEM bundle that replaces the system's trust store.
    pub cafile: Option<PathBuf>,
    /// PEM client certificate; with its key where `keyfile` is not given.
    pub certfile: Option<PathBuf>,
    pub keyfile: Option<PathBuf>,
    /// Accept any server certificate.
    pub insecure: bool,
}

/// Makes ring the process's cryptography for TLS. More calls do nothing, so every place that makes TLS clients may call it.
pub fn install_crypto_provider() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        if rustls::crypto::ring::default_provider().install_default().is_err() {
            tracing::debug!("a TLS cryptography provider was already installed");
        }
    });
}

/// An HTTP client without deadline of its own (each call brings one) that uses no proxy.
pub(super) fn http_client(service: &'static str, tls: &TlsConfig) -> Result<Client, Error> {
    install_crypto_provider();
    let fail = |reason: String| Error::Tls { service, reason };
    let mut builder = Client::builder()
        .user_agent(concat!("nova-docker-agent/", env!("CARGO_PKG_VERSION")))
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_keepalive(KEEPALIVE)
        .tcp_user_timeout(KEEPALIVE * 4);
    if let Some(path) = &tls.cafile {
        let certificates = Certificate::from_pem_bundle(&read(path).map_err(fail)?)
            .map_err(|error| fail(format!("cafile {}: {error}", path.display())))?;
        if certificates.is_empty() {
            return Err(fail(format!("cafile {} holds no certificate", path.display())));
        }
        builder = builder.tls_certs_only(certificates);
    }
    if let Some(path) = &tls.certfile {
        let mut pem = read(path).map_err(fail)?;
        if let Some(key) = &tls.keyfile {
            pem.push(b'\n');
            pem.extend(read(key).map_err(fail)?);
        }
        let identity =
            Identity::from_pem(&pem).map_err(|error| fail(format!("certfile {}: {error}", path.display())))?;
        builder = builder.identity(identity);
    }
    if tls.insecure {
        builder = builder.tls_danger_accept_invalid_certs(true);
    }
    builder.build().map_err(|error| fail(reason(&error)))
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()))
}

/// An error with its causes, which is where reqwest hides what happened ("connection refused").
pub(super) fn reason(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_cafile_is_named() {
        let tls = TlsConfig { cafile: Some("/nonexistent/ca.pem".into()), ..TlsConfig::default() };
        let error = http_client("glance", &tls).unwrap_err().to_string();
        assert!(error.contains("/nonexistent/ca.pem") && error.contains("glance"), "{error}");
    }

    #[test]
    fn a_cafile_without_certificates_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let tls = TlsConfig { cafile: Some(file.path().into()), ..TlsConfig::default() };
        let error = http_client("glance", &tls).unwrap_err().to_string();
        assert!(error.contains("no certificate"), "{error}");
    }
}
