//! Encryption of the connection to the broker.

use std::path::Path;
use std::sync::Arc;

use lapin::tcp::RustlsConnector;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use super::{Error, TlsConfig};

/// Reads the certificates and keys.
///
/// As in oslo.messaging: with an authority file the broker's certificate is verified, its name only when the transport URL
/// has one host (`one_host`). Without such a file the connection is encrypted and the broker may be anybody.
pub(super) async fn connector(config: &TlsConfig, one_host: bool) -> Result<RustlsConnector, Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| wrong("TLS versions", error))?;
    let builder = match &config.ca_file {
        Some(path) if one_host => builder.with_root_certificates(authorities(path).await?),
        Some(path) => {
            let authorities = Arc::new(authorities(path).await?);
            let signed = WebPkiServerVerifier::builder_with_provider(authorities, provider.clone()).build();
            let signed = Some(signed.map_err(|error| wrong(path, error))?);
            builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyName { provider, signed }))
        }
        None => {
            tracing::warn!("ssl is on without ssl_ca_file: the identity of the message broker is not verified");
            builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyName { provider, signed: None }))
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

/// The authorities that can be used: one that cannot be read is no reason to do without the others.
async fn authorities(path: &Path) -> Result<RootCertStore, Error> {
    let pem = read(path).await?;
    let mut store = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let added = certificate.map_err(|error| error.to_string());
        let added = added.and_then(|certificate| store.add(certificate).map_err(|error| error.to_string()));
        if let Err(error) = added {
            tracing::warn!(path = %path.display(), error, "left out an authority that cannot be read");
        }
    }
    if store.is_empty() { Err(wrong(path, "holds no certificate that can be read")) } else { Ok(store) }
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

/// Takes certificates whatever their name. The other side proves in any case that it has the private key.
#[derive(Debug)]
struct AnyName {
    provider: Arc<CryptoProvider>,
    /// Verifies that one of the authorities has signed it; without it the broker may be anybody.
    signed: Option<Arc<WebPkiServerVerifier>>,
}

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Some(signed) = &self.signed else { return Ok(ServerCertVerified::assertion()) };
        match signed.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            // The name is looked at last, when all else is right.
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            verified => verified,
        }
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
