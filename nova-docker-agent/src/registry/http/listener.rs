//! Accepts connections, and ends them.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::stall::Impatient;

/// How long requests under way are waited for at the end.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);
/// Of a request's head, in bytes. Tokens are the longest part of it.
const MAX_HEAD: usize = 64 * 1024;

/// What one client can cost.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at one time; more of them wait.
    pub connections: usize,
    /// How long a connection may take to say what it wants: TLS, and then the head of each request, the pause before it included.
    pub header: Duration,
    /// How long a client may take nothing of an answer.
    pub idle: Duration,
}

impl Default for Limits {
    /// Limits on loopback, where any user of the host can connect before the secret is checked.
    fn default() -> Self {
        Self { connections: 256, header: Duration::from_secs(10), idle: Duration::from_secs(600) }
    }
}

/// What new connections are secured with, as it is when they are made.
pub type Tls = Arc<dyn Fn() -> TlsAcceptor + Send + Sync>;

/// A connection of either kind.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// Serves until `stop` is cancelled, then waits for the requests under way.
pub async fn serve(listener: TcpListener, tls: Option<Tls>, limits: Limits, router: Router, stop: CancellationToken) {
    let connections = Arc::new(Semaphore::new(limits.connections));
    let graceful = GracefulShutdown::new();
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(limits.header).max_buf_size(MAX_HEAD);
    loop {
        let accepted = async {
            let permit = connections.clone().acquire_owned().await.map_err(io::Error::other)?;
            Ok::<_, io::Error>((accept(&listener).await?, permit))
        };
        let (stream, permit) = tokio::select! {
            () = stop.cancelled() => break,
            accepted = accepted => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Most likely there are no file descriptors left; they come back when connections end.
                    tracing::warn!("image registry cannot accept a connection: {error}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            }
        };
        let service = TowerToHyperService::new(router.clone());
        let (tls, server, watcher) = (tls.as_ref().map(|tls| tls()), server.clone(), graceful.watcher());
        tokio::spawn(async move {
            let served = async {
                let stream = Impatient::new(secure(stream, tls, limits.header).await?, limits.idle);
                let connection = watcher.watch(server.serve_connection(TokioIo::new(stream), service));
                connection.await.map_err(io::Error::other)
            };
            if let Err(error) = served.await {
                tracing::debug!("image registry: a connection broke: {error}");
            }
            drop(permit);
        });
    }
    // Refuse new connections at once: nobody would answer them.
    drop(listener);
    if timeout(DRAIN_TIMEOUT, graceful.shutdown()).await.is_err() {
        tracing::warn!("image registry: gave up requests that lasted longer than {DRAIN_TIMEOUT:?} after the stop");
    }
}

async fn accept(listener: &TcpListener) -> io::Result<TcpStream> {
    let (stream, _) = listener.accept().await?;
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!("image registry: a connection has ended already: {error}");
    }
    Ok(stream)
}

async fn secure(stream: TcpStream, tls: Option<TlsAcceptor>, patience: Duration) -> io::Result<Box<dyn Stream>> {
    let Some(tls) = tls else { return Ok(Box::new(stream)) };
    let stream = timeout(patience, tls.accept(stream)).await??;
    Ok(Box::new(stream))
}
