//! The registry's certificate. A renewed one takes effect without a restart: its files are checked once a minute.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use nova_docker_cloud::install_crypto_provider;

/// How often the files are looked at.
const INTERVAL: Duration = Duration::from_secs(60);

/// Certificate chain and its private key (PEM).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// A certificate or key that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot use {}: {reason}", path.display())]
pub struct TlsError {
    path: PathBuf,
    reason: String,
}

impl TlsError {
    fn of(path: &Path, reason: impl ToString) -> Self {
        Self { path: path.to_owned(), reason: reason.to_string() }
    }
}

/// What new connections are secured with.
pub struct Certificate {
    files: TlsFiles,
    current: RwLock<(Times, TlsAcceptor)>,
}

/// When each of the files was changed.
type Times = [Option<SystemTime>; 2];

impl Certificate {
    /// Reads the files.
    pub fn open(files: &TlsFiles) -> Result<Arc<Self>, TlsError> {
        install_crypto_provider();
        let current = RwLock::new((times(files), read(files)?));
        Ok(Arc::new(Self { files: files.clone(), current }))
    }

    pub fn acceptor(&self) -> TlsAcceptor {
        self.current.read().unwrap_or_else(PoisonError::into_inner).1.clone()
    }

    /// Reads the files again whenever they change, for ever. Logs what it cannot use, and keeps the old certificate.
    pub async fn watch(self: Arc<Self>) {
        loop {
            tokio::time::sleep(INTERVAL).await;
            let this = self.clone();
            if let Err(error) = tokio::task::spawn_blocking(move || this.renew()).await {
                tracing::error!("the certificate is no longer checked for changes: {error}");
                return;
            }
        }
    }

    fn renew(&self) {
        let times = times(&self.files);
        if times == self.current.read().unwrap_or_else(PoisonError::into_inner).0 {
            return;
        }
        match read(&self.files) {
            Ok(acceptor) => {
                tracing::info!("read the changed certificate");
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = (times, acceptor);
            }
            // Perhaps only one of the two was written yet.
            Err(error) => tracing::warn!("cannot use the changed certificate, so the old one stays: {error}"),
        }
    }
}

fn times(files: &TlsFiles) -> Times {
    [&files.certificate, &files.key].map(|path| fs::metadata(path).and_then(|metadata| metadata.modified()).ok())
}

fn read(files: &TlsFiles) -> Result<TlsAcceptor, TlsError> {
    let TlsFiles { certificate, key } = files;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(certificate).and_then(Iterator::collect);
    let chain = chain.map_err(|error| TlsError::of(certificate, error))?;
    let private = PrivateKeyDer::from_pem_file(key).map_err(|error| TlsError::of(key, error))?;
    let config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, private);
    let mut config = config.map_err(|error| TlsError::of(certificate, error))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

#[cfg(test)]
mod tests;
