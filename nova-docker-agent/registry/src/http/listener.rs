//! Accepts connections, and ends them.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::response::IntoResponse;
use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use ipnet::IpNet;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::pace::{Pace, Paced};
use super::seats::Seats;
use crate::{ApiError, Code};

/// How long requests under way are waited for at the end.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);
/// Of a request's head, in bytes. Tokens are the longest part of it.
const MAX_HEAD: usize = 64 * 1024;
/// Connections at one time that are told that there are too many. Beyond that, they are closed without a word.
const MAX_REFUSED: usize = 64;

/// What one client can cost.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections at one time; more of them are refused.
    pub connections: usize,
    /// Those of one address; None where there is no bound.
    pub connections_of_address: Option<usize>,
    /// Addresses that speak for many clients, to which that bound does not apply.
    pub shared_addresses: Vec<IpNet>,
    /// How long a connection may take to say what it wants: TLS, and then the head of each request, the pause before it included.
    pub header: Duration,
    /// How slowly a client may send a body, and take an answer.
    pub pace: Pace,
}

impl Default for Limits {
    /// Limits on loopback, where any user of the host can connect before the secret is checked. dockerd may stop taking a layer
    /// while it has too much to do.
    fn default() -> Self {
        Self {
            connections: 1024,
            connections_of_address: None,
            shared_addresses: vec![],
            header: Duration::from_secs(10),
            pace: Pace { patience: Duration::from_secs(600), rate: 1024 },
        }
    }
}

/// What new connections are secured with, as it is when they are made.
pub type Tls = Arc<dyn Fn() -> TlsAcceptor + Send + Sync>;

/// Among the extensions of each request: who sends it.
#[derive(Clone, Copy, Debug)]
pub struct Client(pub IpAddr);

/// A connection of either kind.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// Serves until `stop` is cancelled, then waits for the requests under way.
pub async fn serve(listener: TcpListener, tls: Option<Tls>, limits: Limits, router: Router, stop: CancellationToken) {
    let seats = Seats::new(&limits);
    let refusals = Arc::new(Semaphore::new(MAX_REFUSED));
    let refusing = Router::new().fallback(async || too_many().into_response());
    let graceful = GracefulShutdown::new();
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(limits.header).max_buf_size(MAX_HEAD);
    loop {
        let (stream, address) = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Most likely there are no file descriptors left; they come back when connections end.
                    tracing::warn!("image registry cannot accept a connection: {error}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            }
        };
        let mut server = server.clone();
        let (seat, refusal, router) = match seats.take(address.ip()) {
            Some(seat) => (Some(seat), None, &router),
            None => match refusals.clone().try_acquire_owned() {
                Ok(refusal) => (None, Some(refusal), &refusing),
                Err(_) => continue,
            },
        };
        server.keep_alive(seat.is_some());
        let service = TowerToHyperService::new(router.clone().layer(Extension(Client(address.ip()))));
        let (tls, watcher, header, pace) =
            (tls.as_ref().map(|tls| tls()), graceful.watcher(), limits.header, limits.pace);
        tokio::spawn(async move {
            let served = async {
                let stream = Paced::new(secure(stream, tls, header).await?, pace);
                let connection = watcher.watch(server.serve_connection(TokioIo::new(stream), service));
                connection.await.map_err(io::Error::other)
            };
            if let Err(error) = served.await {
                tracing::debug!("image registry: a connection broke: {error}");
            }
            drop((seat, refusal));
        });
    }
    // Refuse new connections at once: nobody would answer them.
    drop(listener);
    if timeout(DRAIN_TIMEOUT, graceful.shutdown()).await.is_err() {
        tracing::warn!("image registry: gave up requests that lasted longer than {DRAIN_TIMEOUT:?} after the stop");
    }
}

fn too_many() -> ApiError {
    ApiError::new(Code::Unavailable, "too many connections; try again")
}

async fn secure(stream: TcpStream, tls: Option<TlsAcceptor>, patience: Duration) -> io::Result<Box<dyn Stream>> {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!("image registry: a connection has ended already: {error}");
    }
    let Some(tls) = tls else { return Ok(Box::new(stream)) };
    let stream = timeout(patience, tls.accept(stream)).await??;
    Ok(Box::new(stream))
}
