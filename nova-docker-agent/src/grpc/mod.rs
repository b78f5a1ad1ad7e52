//! The second door: the driver core over gRPC, for a stock nova-compute with the virt driver of `python-shim/`.
//!
//! The contract is `proto/nova_docker/v1`. This service speaks to no message bus and to no placement: its client does.
//! `listener` lets peers in, `service` has one method for each call, `create` and `snapshot` are the long ones, `convert` and
//! `status` are the two dictionaries.

mod convert;
mod create;
mod listener;
mod request;
mod service;
mod snapshot;
mod status;

use std::{sync::Arc, time::Duration};

use futures::StreamExt as _;
use nova_docker_proto::v1::driver_service_server::DriverServiceServer;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::transport::{Identity, Server, ServerTlsConfig};
use tonic_health::server::HealthReporter;
use tower::{layer::util::Identity as NoLayer, limit::GlobalConcurrencyLimitLayer};
use tracing::{info, warn};

pub use listener::ListenError;

use self::{listener::Listener, service::DriverService};
use crate::{
    cloud::{self, Cloud},
    config::{Config, GrpcTls},
    driver::Event,
    hypervisor::{self, Hypervisor},
};

/// Unused images are looked for this often.
const PRUNE_INTERVAL: Duration = Duration::from_secs(600);
/// A peer that is silent for so long is asked whether it is there.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// Why the second door did not open.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error("cannot set up the clients of the control plane: {0}")]
    Cloud(#[from] cloud::Error),
    #[error(transparent)]
    Hypervisor(#[from] hypervisor::StartError),
    #[error(transparent)]
    Listen(#[from] ListenError),
    #[error("cannot read {path}: {source}")]
    File { path: String, source: std::io::Error },
    #[error("cannot serve gRPC: {0}")]
    Transport(#[from] tonic::transport::Error),
    #[error("cannot describe the service: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
}

/// Serves until `shutdown` completes; then no new call is taken, and those under way come to their end.
///
/// # Errors
/// The service did not come up.
pub async fn serve(config: Config, shutdown: impl Future<Output = ()> + Send + 'static) -> Result<(), ServeError> {
    let mut shutdown = Box::pin(shutdown);
    let cloud = Cloud::new(&config.cloud)?;
    // Before anything is waited for: whoever starts a second agent is told at once.
    let listener = Listener::bind(&config.grpc)?;
    let hypervisor = tokio::select! {
        hypervisor = Hypervisor::start(&config, cloud.glance.clone()) => Arc::new(hypervisor?),
        () = &mut shutdown => {
            info!("stopped before Docker was there");
            return Ok(());
        }
    };
    let stopping = CancellationToken::new();
    let tasks = TaskTracker::new();
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_serving::<DriverServiceServer<DriverService>>().await;
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(nova_docker_proto::DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()?;
    let service = DriverService::new(hypervisor.clone(), tasks.clone(), stopping.clone());
    let router = router(&config)?
        .add_service(health_service)
        .add_service(reflection)
        .add_service(DriverServiceServer::new(service));
    tokio::spawn(stopping.clone().run_until_cancelled_owned(report_health(hypervisor.clone(), health)));
    tokio::spawn(stopping.clone().run_until_cancelled_owned(prune_images(hypervisor.clone())));

    info!(address = %listener.address(), "the container driver is up");
    let ended = {
        let stopping = stopping.clone();
        async move {
            shutdown.await;
            info!("stopping: no new calls; waiting for those under way");
            // Ends the streams that never end.
            stopping.cancel();
        }
    };
    let limit = config.graceful_shutdown_timeout;
    let serving = router.serve_with_incoming_shutdown(listener.connections(), ended);
    tokio::select! {
        served = serving => served?,
        () = async { stopping.cancelled().await; tokio::time::sleep(limit).await } => {
            warn!("calls are still under way; their clients are cut off");
        }
    }
    tasks.close();
    if tokio::time::timeout(limit, tasks.wait()).await.is_err() {
        warn!("gave up on operations under way");
    }
    hypervisor.shutdown().await;
    info!("stopped");
    Ok(())
}

type Layers = tower::layer::util::Stack<GlobalConcurrencyLimitLayer, NoLayer>;

fn router(config: &Config) -> Result<Server<Layers>, ServeError> {
    let mut server = Server::builder().http2_keepalive_interval(Some(KEEPALIVE));
    if let Some(tls) = &config.grpc.tls {
        server = server.tls_config(tls_config(tls)?)?;
    }
    Ok(server.layer(GlobalConcurrencyLimitLayer::new(config.grpc.max_concurrent_requests)))
}

fn tls_config(files: &GrpcTls) -> Result<ServerTlsConfig, ServeError> {
    let read = |path: &std::path::Path| {
        std::fs::read(path).map_err(|source| ServeError::File { path: path.display().to_string(), source })
    };
    let identity = Identity::from_pem(read(&files.certificate)?, read(&files.key)?);
    let authority = tonic::transport::Certificate::from_pem(read(&files.client_ca)?);
    Ok(ServerTlsConfig::new().identity(identity).client_ca_root(authority))
}

/// The health service says what Docker is.
async fn report_health(hypervisor: Arc<Hypervisor>, health: HealthReporter) {
    let mut events = std::pin::pin!(hypervisor.driver.events());
    while let Some(event) = events.next().await {
        match event {
            Event::DockerLost => health.set_not_serving::<DriverServiceServer<DriverService>>().await,
            Event::DockerBack => health.set_serving::<DriverServiceServer<DriverService>>().await,
            Event::Guest { .. } => {}
        }
    }
}

async fn prune_images(hypervisor: Arc<Hypervisor>) {
    let mut clock = tokio::time::interval_at(Instant::now() + PRUNE_INTERVAL, PRUNE_INTERVAL);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        clock.tick().await;
        if let Err(error) = hypervisor.prune_images().await {
            warn!(%error, "cannot remove images that nobody uses; it is tried again");
        }
    }
}
