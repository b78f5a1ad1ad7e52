//! The registry as a process.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::api::{self, Api};
use super::images::{FRESH, Images};
use super::push::{Push, PushConfig, StagingError};
use super::tls::{Certificate, TlsError};
use super::token::seal::Sealer;
use super::token::{Key, KeyError, TokenConfig, Tokens};
use crate::cloud::{self, Glance, Keystone, Session};
use crate::config::registry::{PushLimits, RegistryConfig};
use crate::registry;
use crate::registry::http::listener::{self, Limits, Tls};

/// How often old uploads are looked for.
const EXPIRY_INTERVAL: Duration = Duration::from_secs(600);

/// Why the registry could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("cannot listen on {address}: {cause}")]
    Listen { address: SocketAddr, cause: io::Error },
    #[error("cannot make the directory {}: {cause}", path.display())]
    Directory { path: PathBuf, cause: io::Error },
    #[error(transparent)]
    Certificate(#[from] TlsError),
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error(transparent)]
    Cloud(#[from] cloud::Error),
    #[error(transparent)]
    Cache(#[from] registry::Error),
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
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn start(config: RegistryConfig) -> Result<Self, StartError> {
        Self::start_with(config, FRESH).await
    }

    /// The same, with listings of images that may be as old as `fresh`.
    pub(super) async fn start_with(config: RegistryConfig, fresh: Duration) -> Result<Self, StartError> {
        let tls = config.tls.as_ref().map(Certificate::open).transpose()?;
        let session = config.glance.auth.clone().map(Session::new).transpose()?;
        let glance = Glance::new(session, None, &config.glance)?;
        let keystone = Keystone::new(&config.keystone)?;
        let (directory, size) = (config.state_directory.clone(), config.cache_size);
        let key_file = config.token_key_file.clone();
        let for_images = glance.clone();
        let opened = tokio::task::spawn_blocking(move || {
            make(&directory)?;
            let key = Key::load(&key_file)?;
            Ok::<_, StartError>((key, Images::open(for_images, &directory.join("cache"), size, fresh)?))
        });
        let (key, images) = opened.await.map_err(|_| StartError::Ended)??;
        let sealer = Arc::new(Sealer::new(key.clone()));
        let push = Push::open(push_config(&config), glance, images.clone(), sealer).await?;
        let token_config = TokenConfig {
            public_url: config.public_url.clone(),
            lifetime: config.token_lifetime,
            domain: config.default_domain.clone(),
        };
        let tokens = Tokens::new(&token_config, keystone, key);
        let address = config.listen;
        let failed = |cause| StartError::Listen { address, cause };
        let socket = TcpListener::bind(address).await.map_err(failed)?;
        let address = socket.local_addr().map_err(failed)?;
        let limits =
            Limits { connections: config.max_connections, header: config.header_timeout, idle: config.idle_timeout };
        let (for_api, idle) = (images.clone(), config.idle_timeout);
        let api = Arc::new(Api { tokens, images: for_api, push: push.clone(), idle });
        let stop = CancellationToken::new();
        tokio::spawn(stop.clone().run_until_cancelled_owned(expire(push.clone())));
        let is_tls = tls.is_some();
        let tls = tls.map(|certificate| -> Tls {
            tokio::spawn(stop.clone().run_until_cancelled_owned(certificate.clone().watch()));
            Arc::new(move || certificate.acceptor())
        });
        let serving = tokio::spawn(listener::serve(socket, tls, limits, api::router(api), stop.clone()));
        tracing::info!(%address, tls = is_tls, public_url = %config.public_url, "the registry is ready");
        Ok(Self { address, images, push, stop, serving })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes no more requests, waits for those under way, but not for long, and gives up what nobody waits for.
    pub async fn stop(self) {
        self.stop.cancel();
        if let Err(error) = self.serving.await {
            tracing::warn!("the registry's listener has failed: {error}");
        }
        self.push.shutdown().await;
        self.images.shutdown().await;
        tracing::info!(counters = ?self.images.counters(), "the registry has stopped");
    }
}

/// Runs the registry until `shutdown`.
///
/// # Errors
/// [`StartError`].
pub async fn run(config: RegistryConfig, shutdown: impl Future<Output = ()>) -> Result<(), StartError> {
    let server = Server::start(config).await?;
    shutdown.await;
    server.stop().await;
    Ok(())
}

/// Removes now and then what nobody goes on with.
async fn expire(push: Arc<Push>) {
    loop {
        if let Err(error) = push.expire().await {
            tracing::warn!("old uploads cannot be removed: {error}");
        }
        tokio::time::sleep(EXPIRY_INTERVAL).await;
    }
}

fn push_config(config: &RegistryConfig) -> PushConfig {
    let PushLimits { max_manifest, max_blobs, max_blob, max_staged, upload_expiry } = config.push;
    let state_directory = config.state_directory.clone();
    PushConfig { state_directory, max_manifest, max_blobs, max_blob, max_staged, upload_expiry }
}

/// For its owner alone.
fn make(directory: &Path) -> Result<(), StartError> {
    use std::os::unix::fs::DirBuilderExt;
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory);
    made.map_err(|cause| StartError::Directory { path: directory.to_owned(), cause })
}
