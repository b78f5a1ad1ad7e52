//! The second door: the driver core over gRPC, for a stock nova-compute with the virt driver of `python-shim/`.
//!
//! The contract is `proto/nova_docker/v1`. This service speaks to no message bus and to no placement: its client does.
//! `listener` lets peers in, `service` has one method for each call, `operations` runs what they do, `create`, `replace`, `reboot` and `snapshot` are the long ones, `convert`,
//! `inside`, `links` and `status` are the dictionaries.

mod convert;
mod create;
mod inside;
mod links;
mod listener;
mod operations;
mod reboot;
mod replace;
mod request;
mod room;
mod service;
mod snapshot;
mod status;

use std::{collections::HashSet, sync::Arc, time::Duration};

use futures::StreamExt as _;
use nova_docker_proto::v1::driver_service_server::DriverServiceServer;
use tokio::time::{Instant, Interval, MissedTickBehavior};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{
    server::NamedService,
    transport::{Identity, Server, ServerTlsConfig},
};
use tonic_health::server::HealthReporter;
use tower::layer::util::Identity as NoLayer;
use tracing::{info, warn};

pub use listener::ListenError;

use self::{
    listener::Listener,
    operations::Operations,
    room::{Room, RoomLayer},
    service::DriverService,
};
use crate::{
    cloud::{self, Cloud},
    config::{Config, DockerConfig, GrpcTls},
    driver::{self, DiskWatch, Driver},
    guest::Event,
    limits::StopTimeout,
    locks::InstanceLocks,
};

/// Bytes of a request: a config drive may have 64 MiB.
const LARGEST_REQUEST: usize = 80 << 20;
/// Interval of the search for unused volumes.
const VOLUMES_PERIOD: Duration = Duration::from_secs(600);
/// A peer that is silent for this long is pinged. If it stays silent for as long again it counts as gone, and its
/// unfinished creations are undone.
const KEEPALIVE: Duration = Duration::from_secs(10);
/// Time to undo the operations that a stop abandons.
const UNDO_LIMIT: Duration = Duration::from_secs(30);
/// Time to send the last answers once no operation runs. Clients may hold streams open for ever.
const LAST_ANSWERS: Duration = Duration::from_secs(5);

/// Why the second door did not open.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error("cannot set up the clients of the control plane: {0}")]
    Cloud(#[from] cloud::Error),
    #[error(transparent)]
    Driver(#[from] driver::StartError),
    #[error(transparent)]
    Listen(#[from] ListenError),
    #[error("cannot read {path}: {source}")]
    File { path: String, source: std::io::Error },
    #[error("[docker_grpc] tls_certificate, tls_key and tls_client_ca cannot be used: {}", cause(.0))]
    Tls(#[source] tonic::transport::Error),
    #[error("cannot serve gRPC: {}", cause(.0))]
    Transport(#[from] tonic::transport::Error),
    #[error("cannot describe the service: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
}

/// The innermost words: tonic's own are "transport error".
fn cause(error: &tonic::transport::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

/// Serves until `shutdown` completes; then no new call is taken, and those under way come to their end.
///
/// # Errors
/// The service did not come up.
pub async fn serve(config: Config, shutdown: impl Future<Output = ()> + Send + 'static) -> Result<(), ServeError> {
    let mut shutdown = Box::pin(shutdown);
    let cloud = Cloud::new(&config.cloud)?;
    let room = Room::new(config.grpc.max_concurrent_requests);
    let mut server = server(&config, &room)?;
    // Before any wait, so that the start of a second agent fails at once.
    let listener = Listener::bind(&config.grpc)?;
    let driver = tokio::select! {
        driver = Driver::start(&config, cloud.glance.clone()) => Arc::new(driver?),
        () = &mut shutdown => {
            info!("stopped before Docker was there");
            return Ok(());
        }
    };
    let (stopping, given_up) = (CancellationToken::new(), CancellationToken::new());
    let tasks = TaskTracker::new();
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_serving::<DriverServiceServer<DriverService>>().await;
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(nova_docker_proto::DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()?;
    let locks = Arc::<InstanceLocks>::default();
    let operations = Operations {
        driver: driver.clone(),
        locks: locks.clone(),
        room,
        tasks: tasks.clone(),
        given_up: given_up.clone(),
    };
    let service = DriverService::new(operations, config.docker.state_tags, stopping.clone());
    let router = server
        .add_service(health_service)
        .add_service(reflection)
        .add_service(DriverServiceServer::new(service).max_decoding_message_size(LARGEST_REQUEST));
    tokio::spawn(stopping.clone().run_until_cancelled_owned(report_health(driver.clone(), health.clone())));
    let pruning = prune_images(driver.clone(), config.image_cache.interval);
    tokio::spawn(stopping.clone().run_until_cancelled_owned(pruning));
    tokio::spawn(stopping.clone().run_until_cancelled_owned(reap_volumes(driver.clone())));
    let watching =
        watch_disks(driver.clone(), locks, config.docker.clone(), StopTimeout::of_operator(config.shutdown_timeout));
    tokio::spawn(stopping.clone().run_until_cancelled_owned(watching));

    info!(address = %listener.address(), "the container driver is up");
    let ended = {
        let stopping = stopping.clone();
        async move {
            shutdown.await;
            info!("stopping: no new calls; waiting for those under way");
            // Ends the streams that never end.
            stopping.cancel();
            end_health(health).await;
        }
    };
    let drained = CancellationToken::new();
    let serving = async {
        let served = tokio::select! {
            served = router.serve_with_incoming_shutdown(listener.connections(), ended) => served,
            () = async { drained.cancelled().await; tokio::time::sleep(LAST_ANSWERS).await } => Ok(()),
        };
        stopping.cancel();
        served
    };
    let draining = async {
        stopping.cancelled().await;
        drain(&tasks, &given_up, config.graceful_shutdown_timeout).await;
        drained.cancel();
    };
    let (served, ()) = tokio::join!(serving, draining);
    driver.shutdown().await;
    info!("stopped");
    Ok(served?)
}

/// Waits for the operations under way. Those that take longer than `limit` are given up: what can be undone is undone.
async fn drain(tasks: &TaskTracker, given_up: &CancellationToken, limit: Duration) {
    tasks.close();
    if tokio::time::timeout(limit, tasks.wait()).await.is_ok() {
        return;
    }
    warn!(operations = tasks.len(), "operations still run; giving them up");
    given_up.cancel();
    if tokio::time::timeout(UNDO_LIMIT, tasks.wait()).await.is_err() {
        warn!(operations = tasks.len(), "operations do not end; cutting them off");
    }
}

type Layers = tower::layer::util::Stack<RoomLayer, NoLayer>;

fn server(config: &Config, room: &Room) -> Result<Server<Layers>, ServeError> {
    let mut server =
        Server::builder().http2_keepalive_interval(Some(KEEPALIVE)).http2_keepalive_timeout(Some(KEEPALIVE));
    if let Some(tls) = &config.grpc.tls {
        server = server.tls_config(tls_config(tls)?).map_err(ServeError::Tls)?;
    }
    Ok(server.layer(room.layer()))
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
async fn report_health(driver: Arc<Driver>, health: HealthReporter) {
    let mut events = std::pin::pin!(driver.events());
    while let Some(event) = events.next().await {
        match event {
            Event::DockerLost => health.set_not_serving::<DriverServiceServer<DriverService>>().await,
            Event::DockerBack => health.set_serving::<DriverServiceServer<DriverService>>().await,
            Event::Guest { .. } => {}
        }
    }
}

/// Ends the watches of health, which would keep their connections open.
async fn end_health(mut health: HealthReporter) {
    health.set_not_serving::<DriverServiceServer<DriverService>>().await;
    for service in ["", <DriverServiceServer<DriverService> as NamedService>::NAME] {
        health.clear_service_status(service).await;
    }
}

async fn prune_images(driver: Arc<Driver>, interval: Option<Duration>) {
    let Some(interval) = interval else { return };
    let mut clock = clock(interval);
    loop {
        clock.tick().await;
        // What servers name is nova-compute's to know. A stopped one's container uses its image.
        if let Err(error) = driver.prune_images(&HashSet::new()).await {
            warn!(%error, "cannot remove unused images; trying again later");
        }
    }
}

async fn reap_volumes(driver: Arc<Driver>) {
    let mut clock = clock(VOLUMES_PERIOD);
    loop {
        clock.tick().await;
        if let Err(error) = driver.reap_volumes().await {
            warn!(%error, "cannot remove unused volumes; trying again later");
        }
    }
}

/// What stops here nova-compute hears of, and calls the server SHUTOFF.
async fn watch_disks(driver: Arc<Driver>, locks: Arc<InstanceLocks>, settings: DockerConfig, timeout: StopTimeout) {
    let mut watch = DiskWatch::new(&settings);
    loop {
        let overuse = watch.next(&driver).await;
        // One with an operation under way is left for the next look.
        let Some(_lock) = locks.try_lock(overuse.uuid) else { continue };
        let stopped = async {
            if driver.tell_overuse(&overuse).await? {
                info!(instance = %overuse.uuid, reason = %overuse, "stopping the server");
                driver.stop(overuse.uuid, timeout).await?;
            }
            Ok::<_, driver::Error>(())
        };
        if let Err(error) = stopped.await {
            warn!(instance = %overuse.uuid, %error, "cannot stop the server for what it has written; trying again later");
        }
    }
}

fn clock(interval: Duration) -> Interval {
    let mut clock = tokio::time::interval_at(Instant::now() + interval, interval);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    clock
}
