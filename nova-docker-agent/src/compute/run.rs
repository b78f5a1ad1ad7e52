//! Start and graceful stop, in the order that Nova's services have.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::sync::{Notify, Semaphore};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{info, warn};
use uuid::Uuid;

use super::{
    Compute,
    dispatch::{Dispatcher, endpoints},
    error::Error,
    instance::group_policy::GroupChecks,
    node::identity::{self, IdentityError},
    node::tracker::{NodeNames, ResourceTracker},
    ports::{Ports, waiters::PlugWaiters},
    reconcile::{
        not_begun::Arrivals,
        periodic::spawn_until,
        power_sync::{PutOff, Remembered},
        state_tags::Looks,
    },
};
use crate::{
    cloud::{self, Cloud},
    conductor::Conductor,
    config::Config,
    driver::{self, Driver},
    locks::InstanceLocks,
    messaging::{self, Context, Server, Transport},
};

/// The oldest control plane that is known to work: Nova 28 (2023.2), whose instances carry `compute_id`.
pub(crate) const OLDEST_SERVICE_VERSION: i64 = 66;
/// The newest whose behaviour was read and tested: Nova 34 (2026.2).
pub(crate) const NEWEST_SERVICE_VERSION: i64 = 74;
/// How long one conductor may take to answer the first question.
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// Part of the graceful stop that is reserved for cleaning up.
const CLEANUP_RESERVE: Duration = Duration::from_secs(20);

/// Why the service did not come up.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("cannot use the message bus: {0}")]
    Messaging(#[from] messaging::Error),
    #[error("cannot set up the clients of the control plane: {0}")]
    Cloud(#[from] cloud::Error),
    #[error(transparent)]
    Driver(#[from] driver::StartError),
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error(
        "the control plane's service version is {0}: older than {OLDEST_SERVICE_VERSION} (Nova 28, 2023.2), which this agent needs"
    )]
    TooOld(i64),
    #[error("{0}")]
    Nova(String),
}

impl From<Error> for StartError {
    fn from(error: Error) -> Self {
        Self::Nova(error.to_string())
    }
}

impl From<messaging::CallError> for StartError {
    fn from(error: messaging::CallError) -> Self {
        Self::Nova(error.to_string())
    }
}

/// Runs the compute service until `shutdown` completes, and then stops it gracefully.
///
/// # Errors
/// The service did not come up. While it runs, what fails is logged and tried again.
pub async fn run(config: Config, shutdown: impl Future<Output = ()>) -> Result<(), StartError> {
    let mut shutdown = std::pin::pin!(shutdown);
    // Tries until a broker answers, which may be never.
    let transport = tokio::select! {
        transport = Transport::connect(config.messaging.clone()) => transport?,
        () = &mut shutdown => {
            info!("stopped before the message broker was there");
            return Ok(());
        }
    };
    let compute = tokio::select! {
        compute = start(config, transport.clone()) => Arc::new(compute?),
        () = &mut shutdown => {
            info!("stopped before the service was up");
            transport.close().await;
            return Ok(());
        }
    };
    let (tasks, stopping) = (compute.tasks.clone(), compute.stopping.clone());
    let (found, unreported) = tokio::select! {
        ready = async { (compute.find_instances().await, compute.first_audit().await) } => ready,
        () = &mut shutdown => {
            info!("stopped before the service was up");
            compute.driver.shutdown().await;
            transport.close().await;
            return Ok(());
        }
    };
    let servers = serve(&compute, &transport).await?;
    compute.start_periodic_tasks(&tasks, &stopping);
    spawn_until(&tasks, &stopping, compute.clone().recover(found));
    if let Some(report) = unreported {
        spawn_until(&tasks, &stopping, report);
    }
    info!(host = compute.host, node = compute.node, compute_id = %compute.compute_id, "the compute service is up");
    shutdown.await;
    stop(&compute, servers, &tasks, &stopping).await;
    transport.close().await;
    info!("stopped");
    Ok(())
}

/// The two queues of this host.
struct Servers {
    /// New work.
    main: Server,
    /// Since Nova 33: events and continuations for work under way, which must outlast the first queue.
    alternative: Server,
}

async fn serve(compute: &Arc<Compute>, transport: &Transport) -> Result<Servers, StartError> {
    let dispatcher = Arc::new(Dispatcher(compute.clone()));
    let alternative = transport.serve("compute-alt", &compute.host, endpoints(), dispatcher.clone()).await?;
    let main = transport.serve("compute", &compute.host, endpoints(), dispatcher).await?;
    Ok(Servers { main, alternative })
}

async fn start(config: Config, transport: Transport) -> Result<Compute, StartError> {
    let conductor = Conductor::new(Arc::new(transport), &config.host, config.rpc_response_timeout);
    await_conductor(&conductor).await;
    let context = Context::admin();
    let service_version = conductor.minimum_version(&context, "nova-conductor").await?;
    check_service_version(service_version)?;
    let service = conductor.service(&context, &config.host).await?;
    let compute_id = node_identity(&config, service.is_some())?;
    let cloud = Cloud::new(&config.cloud)?;
    tokio::spawn({
        let cloud = cloud.clone();
        async move { cloud.log_in().await }
    });
    let driver = Driver::start(&config, cloud.glance.clone()).await?;
    let service = match service {
        Some(service) => {
            if let (Some(id), true) = (service.id(), service.service_version() != service_version) {
                conductor.save_service_version(&context, id, service_version).await?;
            }
            service
        }
        None => {
            let service = conductor.create_service(&context, &config.host, service_version).await?;
            info!(host = config.host, "registered the compute service");
            service
        }
    };
    let service_id = service.id().ok_or_else(|| StartError::Nova("the service's row has no id".to_owned()))?;
    let host = driver.host().await.map_err(Error::from)?;
    let names = NodeNames { host: &config.host, node: &config.host, uuid: compute_id, service_id };
    let tracker = ResourceTracker::start(&conductor, &config, &names, host.clone()).await?;
    let compute = Compute {
        host: config.host.clone(),
        node: config.host.clone(),
        compute_id,
        service_id,
        service_version,
        conductor,
        ports: Ports::new(cloud.neutron.clone(), &config.cloud.ovs_bridge)
            .with_metadata_route(config.docker.metadata_route),
        cloud,
        driver,
        tracker,
        locks: InstanceLocks::default(),
        recovering: InstanceLocks::default(),
        arrivals: Arrivals::default(),
        cache_locks: InstanceLocks::default(),
        waiters: PlugWaiters::default(),
        building: Mutex::new(HashMap::new()),
        group_checks: GroupChecks::default(),
        outages: Remembered::default(),
        removals: Remembered::default(),
        rebooted: Remembered::default(),
        put_off: PutOff::default(),
        first_runs: Mutex::default(),
        health_looks: Looks::default(),
        held_elsewhere: tokio::sync::Mutex::default(),
        status: tokio::sync::Mutex::default(),
        links_changed: Notify::new(),
        build_slots: slots(config.max_concurrent_builds),
        snapshot_slots: slots(config.max_concurrent_snapshots),
        syncs: Arc::default(),
        tasks: TaskTracker::new(),
        stopping: CancellationToken::new(),
        config,
    };
    Ok(compute)
}

/// Zero means no limit, as everywhere in Nova.
fn slots(limit: usize) -> Semaphore {
    Semaphore::new(if limit == 0 { Semaphore::MAX_PERMITS } else { limit })
}

/// Waits for as long as it takes: the control plane may be starting too.
async fn await_conductor(conductor: &Conductor) {
    while let Err(error) = conductor.ping(PING_TIMEOUT).await {
        warn!(%error, "no conductor answers; waiting for one");
        // A lost connection fails at once, and would make this loop spin.
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

fn check_service_version(version: i64) -> Result<(), StartError> {
    if version < OLDEST_SERVICE_VERSION {
        return Err(StartError::TooOld(version));
    }
    if version > NEWEST_SERVICE_VERSION {
        warn!(
            version,
            newest = NEWEST_SERVICE_VERSION,
            "the control plane is newer than any that this agent was tested with"
        );
    }
    Ok(())
}

fn node_identity(config: &Config, registered: bool) -> Result<Uuid, IdentityError> {
    let mut directories = config.config_directories.clone();
    directories.push(config.state_path.clone());
    match identity::read(&directories)? {
        Some(id) => Ok(id),
        None if registered => {
            Err(IdentityError::Lost { host: config.host.clone(), path: identity::path(&config.state_path) })
        }
        None => identity::create(&config.state_path),
    }
}

/// Takes no new work, lets running operations finish, and then stops listening for their events. Nobody waits for a conductor that is
/// away.
async fn stop(compute: &Arc<Compute>, servers: Servers, tasks: &TaskTracker, stopping: &CancellationToken) {
    let config = &compute.config;
    let limit = config.graceful_shutdown_timeout.min(config.manager_shutdown_timeout).saturating_sub(CLEANUP_RESERVE);
    info!(limit = ?limit, "stopping: no new requests; waiting for operations under way");
    compute.conductor.stop_waiting();
    servers.main.stop().await;
    if tokio::time::timeout(limit, servers.main.drained()).await.is_err() {
        warn!("operations still run; cancelling their waits");
        compute.waiters.cancel_all("cancelled, the compute service is stopping");
        let cut_off = tokio::time::timeout(CLEANUP_RESERVE, servers.main.drained()).await;
        if cut_off.is_err() {
            warn!("gave up on running operations; the next start recovers them");
        }
    }
    servers.alternative.stop().await;
    // Acknowledged events and continuations are nobody else's.
    if tokio::time::timeout(CLEANUP_RESERVE, servers.alternative.drained()).await.is_err() {
        warn!("gave up on events under way");
    }
    stopping.cancel();
    tasks.close();
    tasks.wait().await;
    compute.driver.shutdown().await;
}
