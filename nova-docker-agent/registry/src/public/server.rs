//! The registry as a process.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::api::{self, Api};
use super::images::{FRESH, Images};
use super::push::{Push, PushConfig, StagingError};
use super::tls::{Certificate, TlsError, TlsFiles};
use super::token::{Key, KeyError, TokenConfig, Tokens};
use crate::files::{FileError, make};
use crate::http::listener::{self, Limits, Tls};
use nova_docker_cloud::{self as cloud, Caller, Glance, Keystone, KeystoneConfig, ServiceConfig, Session};

/// How often old uploads are looked for, and how often images without tags.
const EXPIRY_INTERVAL: Duration = Duration::from_secs(600);
const RETIREMENT_INTERVAL: Duration = Duration::from_secs(3600);

/// How to run the registry.
#[derive(Clone, Debug)]
pub struct Config {
    /// Port 0 takes any free one.
    pub listen: SocketAddr,
    /// None on loopback only.
    pub tls: Option<TlsFiles>,
    /// The cache of blobs is below it.
    pub state_directory: PathBuf,
    /// Bytes of blobs kept on disk.
    pub cache_size: u64,
    pub limits: Limits,
    pub tokens: TokenConfig,
    pub push: PushConfig,
    pub keystone: KeystoneConfig,
    pub glance: ServiceConfig,
}

/// Why the registry could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("cannot listen on {address}: {cause}")]
    Listen { address: SocketAddr, cause: io::Error },
    #[error(transparent)]
    Directory(#[from] FileError),
    #[error(transparent)]
    Certificate(#[from] TlsError),
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error(transparent)]
    Cloud(#[from] cloud::Error),
    #[error(transparent)]
    Cache(#[from] crate::Error),
    #[error(transparent)]
    Staging(#[from] StagingError),
    #[error("the registry ended before it had started")]
    Ended,
}

/// A registry that serves.
pub struct Server {
    address: SocketAddr,
    images: Arc<Images>,
    push: Arc<Push>,
    stop: CancellationToken,
    serving: tokio::task::JoinHandle<()>,
}

impl Server {
    /// Opens what is on the disk, listens and serves. Neither keystone nor Glance need be up.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        Self::start_with(config, FRESH).await
    }

    /// The same, with listings of images that may be as old as `fresh`.
    pub(super) async fn start_with(config: Config, fresh: Duration) -> Result<Self, StartError> {
        let tls = config.tls.as_ref().map(Certificate::open).transpose()?;
        let session = config.glance.auth.clone().map(Session::new).transpose()?;
        let glance = Glance::new(session, None, &config.glance)?;
        let keystone = Keystone::new(&config.keystone)?;
        let (directory, size) = (config.state_directory.clone(), config.cache_size);
        let (key_file, public_url) = (config.tokens.key_file.clone(), config.tokens.public_url.clone());
        let for_images = glance.clone();
        let opened = tokio::task::spawn_blocking(move || {
            make(&directory)?;
            let key = Key::load(&key_file)?;
            Ok::<_, StartError>((key, Images::open(for_images, &directory, size, fresh)?))
        });
        let (key, images) = opened.await.map_err(|_| StartError::Ended)??;
        let push = Push::open(config.push.clone(), glance, images.clone(), key.clone()).await?;
        let tokens = Tokens::new(config.tokens, keystone, key);
        let address = config.listen;
        let failed = |cause| StartError::Listen { address, cause };
        let socket = TcpListener::bind(address).await.map_err(failed)?;
        let address = socket.local_addr().map_err(failed)?;
        let api = Arc::new(Api { tokens, images: images.clone(), push: push.clone(), limits: config.limits.clone() });
        let stop = CancellationToken::new();
        tokio::spawn(stop.clone().run_until_cancelled_owned(expire(push.clone())));
        if config.push.retires() {
            tokio::spawn(stop.clone().run_until_cancelled_owned(retire(api.clone())));
        }
        let router = api::router(api);
        let is_tls = tls.is_some();
        let tls = tls.map(|certificate| -> Tls {
            tokio::spawn(stop.clone().run_until_cancelled_owned(certificate.clone().watch()));
            Arc::new(move || certificate.acceptor())
        });
        let serving = tokio::spawn(listener::serve(socket, tls, config.limits, router, stop.clone()));
        tracing::info!(%address, tls = is_tls, %public_url, "the registry is ready");
        Ok(Self { address, images, push, stop, serving })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes no more requests, waits a short time for those under way, and abandons background work.
    pub async fn stop(self) {
        self.stop.cancel();
        if let Err(error) = self.serving.await {
            tracing::warn!("the registry's listener has failed: {error}");
        }
        self.push.shutdown().await;
        self.images.fetcher.shutdown().await;
        tracing::info!(counters = ?self.images.counters(), "the registry has stopped");
    }
}

/// Runs the registry until `shutdown`.
pub async fn run(config: Config, shutdown: impl Future<Output = ()>) -> Result<(), StartError> {
    allow_open_files();
    let server = Server::start(config).await?;
    shutdown.await;
    server.stop().await;
    Ok(())
}

/// Each connection is an open file, and a process begins with room for 1024 of them where nobody says otherwise.
pub(super) fn allow_open_files() {
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }) {
        tracing::warn!("the registry may open only {:?} files: {error}", limit.current);
    }
}

/// Removes abandoned uploads from time to time.
async fn expire(push: Arc<Push>) {
    loop {
        if let Err(error) = push.expire().await {
            tracing::warn!("cannot remove old uploads: {error}");
        }
        tokio::time::sleep(EXPIRY_INTERVAL).await;
    }
}

/// Deletes images without tags from time to time, with the rights that the registry itself has: also in projects that nobody
/// pushes to any more.
async fn retire(api: Arc<Api>) {
    loop {
        match api.tokens.own(&Caller::own().request_id).await {
            Ok(grants) => {
                for grant in grants {
                    api.push.retire(&grant).await;
                }
            }
            Err(error) => tracing::warn!("images without tags are not looked for: {}", error.message),
        }
        tokio::time::sleep(RETIREMENT_INTERVAL).await;
    }
}
