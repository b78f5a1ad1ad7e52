//! Encryption of the connection to the broker.

use std::path::Path;
use std::sync::Arc;

use lapin::tcp::RustlsConnector;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use super::{Error, TlsConfig};

/// Reads the certificates and keys.
///
/// With an authority file the broker's certificate is verified, its name included (Python verifies the name only when
/// the URL has one host). Without one the connection is encrypted and the broker may be anybody, as in oslo.messaging.
pub(super) async fn connector(config: &TlsConfig) -> Result<RustlsConnector, Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| wrong("TLS versions", error))?;
    let builder = match &config.ca_file {
        Some(path) => builder.with_root_certificates(authorities(path).await?),
        None => {
            tracing::warn!("ssl is on without ssl_ca_file: the identity of the message broker is not verified");
            builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyBroker { provider }))
        }
    };
    let client = match &config.cert_file {
        None => builder.with_no_client_auth(),
        Some(cert_file) => {
            let key_file = config.key_file.as_ref().unwrap_or(cert_file);
            let chain = certificates(cert_file).await?;
            let key = PrivateKeyDer::from_pem_slice(&read(key_file).await?).map_err(|error| wrong(key_file, error))?;
            builder.with_client_auth_cert(chain, key).map_err(|error| wrong(cert_file, error))?
        }
    };
    Ok(RustlsConnector::from(client))
}

async fn authorities(path: &Path) -> Result<RootCertStore, Error> {
    let mut store = RootCertStore::empty();
    for certificate in certificates(path).await? {
        store.add(certificate).map_err(|error| wrong(path, error))?;
    }
    Ok(store)
}

async fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let pem = read(path).await?;
    let certificates = CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>();
    match certificates.map_err(|error| wrong(path, error))? {
        none if none.is_empty() => Err(wrong(path, "holds no certificate")),
        certificates => Ok(certificates),
    }
}

async fn read(path: &Path) -> Result<Vec<u8>, Error> {
    tokio::fs::read(path).await.map_err(|error| wrong(path, error))
}

fn wrong(path: impl AsRef<Path>, reason: impl ToString) -> Error {
    Error::Tls { path: path.as_ref().display().to_string(), reason: reason.to_string() }
}

/// Takes any certificate whose private key the other side proves to have.
#[derive(Debug)]
struct AnyBroker {
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for AnyBroker {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
