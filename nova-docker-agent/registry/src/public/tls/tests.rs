//! Handshakes with the listener, under certificates of the tests' own.

mod certificate;

use std::io;
use std::net::SocketAddr;

use axum::Router;
use axum::routing::get;
use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ProtocolVersion, RootCertStore, SupportedProtocolVersion};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::http::listener::{self, Limits};
use certificate::SelfSigned;

/// Far more than any step takes; only a failure waits so long.
const LONG: Duration = Duration::from_secs(120);

/// A server that takes one connection at a time.
struct Service {
    address: SocketAddr,
    certificate: Arc<Certificate>,
    files: TlsFiles,
    stop: CancellationToken,
    _directory: tempfile::TempDir,
}

impl Service {
    async fn start(identity: &SelfSigned) -> Self {
        Self::patient(identity, LONG).await
    }

    /// One that waits so long for a client that says nothing.
    async fn patient(identity: &SelfSigned, patience: Duration) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let [certificate, key] = ["certificate.pem", "key.pem"].map(|name| directory.path().join(name));
        let files = TlsFiles { certificate, key };
        write(&files, identity);
        let certificate = Certificate::open(&files).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let current = certificate.clone();
        let tls: listener::Tls = Arc::new(move || current.acceptor());
        let limits = Limits { header: patience, ..Limits::default() };
        let router = Router::new().route("/", get(async || "served"));
        tokio::spawn(listener::serve(listener, Some(tls), limits, router, stop.clone()));
        Self { address, certificate, files, stop, _directory: directory }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// What a client that trusts only `identity` is answered, and by which version of TLS.
    async fn get(
        &self,
        identity: &SelfSigned,
        version: &'static SupportedProtocolVersion,
    ) -> io::Result<(String, u16)> {
        let mut roots = RootCertStore::empty();
        roots.add(identity.certificate.clone().into()).unwrap();
        let config = ClientConfig::builder_with_protocol_versions(&[version]).with_root_certificates(roots);
        let mut config = config.with_no_client_auth();
        config.resumption = Resumption::disabled();
        let name = ServerName::try_from("localhost").unwrap();
        let exchange = async {
            let mut stream = TlsConnector::from(Arc::new(config)).connect(name, self.connect().await).await?;
            stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await?;
            Ok((answer, u16::from(stream.get_ref().1.protocol_version().unwrap())))
        };
        timeout(LONG, exchange).await.unwrap()
    }

    async fn serves(&self, identity: &SelfSigned) -> bool {
        self.get(identity, &TLS13).await.is_ok_and(|(answer, _)| answer.starts_with("HTTP/1.1 200 OK"))
    }

    async fn say(&self, said: &[u8]) -> TcpStream {
        let mut stream = self.connect().await;
        stream.write_all(said).await.unwrap();
        stream
    }

    /// All that the service says until it hangs up.
    async fn told(&self, said: &[u8]) -> Vec<u8> {
        Self::rest_of(self.say(said).await).await
    }

    /// All that the service says to a client that hangs up itself.
    async fn told_at_last(&self, said: &[u8]) -> Vec<u8> {
        let mut stream = self.say(said).await;
        stream.shutdown().await.unwrap();
        Self::rest_of(stream).await
    }

    async fn rest_of(mut stream: TcpStream) -> Vec<u8> {
        let mut answer = vec![];
        match timeout(LONG, stream.read_to_end(&mut answer)).await.unwrap() {
            Ok(_) => answer,
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => answer,
            Err(error) => panic!("{error}"),
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn write(files: &TlsFiles, identity: &SelfSigned) {
    fs::write(&files.certificate, identity.certificate_pem()).unwrap();
    fs::write(&files.key, identity.key_pem()).unwrap();
}

/// What a client says first whose best version is TLS 1.1 or 1.2 (RFC 5246, 7.4.1.2; one suite, and what it needs).
fn client_hello(minor: u8) -> Vec<u8> {
    let groups = [0, 10, 0, 4, 0, 2, 0, 0x17];
    let points = [0, 11, 0, 2, 1, 0];
    let signatures = [0, 13, 0, 4, 0, 2, 4, 3];
    let extensions = [&groups[..], &points, &signatures].concat();
    let version = [3, 1 + minor];
    let suites = [0, 2, 0xc0, 0x2b];
    let hello = [&version[..], &[7; 32], &[0], &suites, &[1, 0], &[0, extensions.len() as u8], &extensions].concat();
    let message = [&[1, 0, 0, hello.len() as u8][..], &hello].concat();
    [&[22, 3, 1, 0, message.len() as u8][..], &message].concat()
}

#[test]
fn a_file_that_cannot_be_used_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let [certificate, key] = ["certificate.pem", "key.pem"].map(|name| directory.path().join(name));
    let files = TlsFiles { certificate: certificate.clone(), key: key.clone() };
    let error = || Certificate::open(&files).err().unwrap().to_string();
    assert!(error().contains("certificate.pem"), "{}", error());
    fs::write(&certificate, "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n").unwrap();
    assert!(error().contains("key.pem"), "{}", error());
}

#[tokio::test]
async fn tls_1_2_and_1_3_are_spoken_and_nothing_older() {
    let identity = SelfSigned::new();
    let service = Service::start(&identity).await;
    for (version, number) in [(&TLS12, ProtocolVersion::TLSv1_2), (&TLS13, ProtocolVersion::TLSv1_3)] {
        let (answer, spoken) = service.get(&identity, version).await.unwrap();
        assert!(answer.ends_with("served"), "{answer}");
        assert_eq!(spoken, u16::from(number));
    }
    let answer = service.told_at_last(&client_hello(2)).await;
    assert_eq!(answer.first(), Some(&22), "a handshake goes on");
    let [kind, .., level, description] = *service.told_at_last(&client_hello(1)).await else { panic!("no alert") };
    assert_eq!((kind, level, description), (21, 2, 70), "protocol_version, fatal");
}

#[tokio::test]
async fn who_speaks_no_tls_or_never_ends_the_handshake_is_left_and_others_are_served() {
    let identity = SelfSigned::new();
    let service = Service::patient(&identity, Duration::from_millis(300)).await;
    let answer = service.told(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert!(!answer.starts_with(b"HTTP"), "{}", String::from_utf8_lossy(&answer));
    // The first bytes of a handshake, and nothing at all.
    for beginning in [&[22, 3, 1, 2, 0, 1][..], &[]] {
        assert_eq!(service.told(beginning).await, b"");
    }
    // The client, too, may be slower than the service is patient, and comes again.
    let served = async { while !service.serves(&identity).await {} };
    timeout(LONG, served).await.unwrap();
}

#[tokio::test]
async fn new_connections_get_the_new_certificate_and_broken_files_change_nothing() {
    let (old, new) = (SelfSigned::new(), SelfSigned::new());
    let service = Service::start(&old).await;
    assert!(service.serves(&old).await && !service.serves(&new).await);
    write(&service.files, &new);
    service.certificate.renew();
    assert!(service.serves(&new).await && !service.serves(&old).await);
    for broken in ["", "no certificate", &old.certificate_pem()] {
        // The last is another certificate, which the key is not for.
        fs::write(&service.files.certificate, broken).unwrap();
        service.certificate.renew();
        assert!(service.serves(&new).await, "{broken}");
    }
    fs::remove_file(&service.files.key).unwrap();
    service.certificate.renew();
    assert!(service.serves(&new).await);
    write(&service.files, &old);
    service.certificate.renew();
    assert!(service.serves(&old).await);
}
