//! Recovery beside serving: the instances that are here when the service starts are kept from requests until each has been looked
//! at, and looked at again until that has succeeded.

use std::{collections::HashSet, sync::Arc, time::Duration};

use backon::{ExponentialBuilder, Retryable as _};
use futures::{StreamExt as _, future::BoxFuture};
use tokio::sync::OwnedMutexGuard;
use tracing::{Instrument as _, info, info_span, warn};
use uuid::Uuid;

use super::recovery::{INSTANCE_ATTRS, Recovered};
use crate::compute::{Compute, arguments::instance_uuid, defect::caught, error::Error};
use crate::{
    conductor::unless_in_doubt,
    messaging::Context,
    objects::{Instance, TaskState, VmState},
};

/// Instances that are recovered at a time; recovery is mostly waiting.
const CONCURRENCY: usize = 8;
/// What the start waits for the first report to the schedulers; it goes on without, and the report is repeated.
const FIRST_AUDIT: Duration = Duration::from_secs(10);

/// An instance, and what keeps requests for it waiting.
type Kept = (Instance, OwnedMutexGuard<()>);

/// The instances of the host as they were before the service took requests. Requests for them wait.
pub(in crate::compute) struct Found {
    instances: Vec<Kept>,
    here: HashSet<Uuid>,
    /// Not here yet: on their way to some host.
    unclaimed: Vec<Uuid>,
}

impl Compute {
    /// Reads the host's instances, for as long as it takes, and keeps requests for them waiting.
    pub(in crate::compute) async fn find_instances(&self) -> Found {
        let listed =
            (|| async { self.conductor.instances_by_host(&Context::admin(), &self.host, INSTANCE_ATTRS).await })
                .retry(patience())
                .notify(|error, pause| warn!(%error, retry_in = ?pause, "cannot read this host's instances; waiting"))
                .await;
        let unclaimed = (|| self.find_unclaimed())
            .retry(patience())
            .notify(|error, pause| warn!(%error, retry_in = ?pause, "cannot read what is on its way to a host"))
            .await;
        let mut found = Found { instances: Vec::new(), here: HashSet::new(), unclaimed: unclaimed.unwrap_or_default() };
        for uuid in &found.unclaimed {
            self.arrivals.expect(*uuid);
        }
        for instance in listed.unwrap_or_default() {
            match instance_uuid(&instance) {
                Ok(uuid) => {
                    // Free: nobody has been served yet.
                    let guard = self.recovering.lock(uuid).await;
                    self.arrivals.expect(uuid);
                    found.here.insert(uuid);
                    found.instances.push((instance, guard));
                }
                Err(error) => warn!(%error, "an instance is left alone"),
            }
        }
        found
    }

    /// Waits until nobody recovers the instance.
    pub(in crate::compute) async fn recovered(&self, uuid: Uuid) {
        drop(self.recovering.lock(uuid).await);
    }

    /// Looks at every instance, a few at a time, and then at what is left of others.
    pub(in crate::compute) async fn recover(self: Arc<Self>, found: Found) {
        let Found { instances, here, unclaimed } = found;
        // A dump may take long. They were all under way at once before, and nobody else is to wait for them.
        let (dumps, others): (Vec<_>, Vec<_>) =
            instances.into_iter().partition(|(instance, _)| instance.task_state() == Some(TaskState::Suspending));
        let at_once = dumps.len().max(1);
        let (mut failed, late) =
            tokio::join!(self.recover_each(others, CONCURRENCY), self.recover_each(dumps, at_once));
        failed.extend(late);
        let rest =
            [self.reap_strays(&here).await, self.error_out_unclaimed_builds(&here).await, self.reap_deleted().await];
        for error in rest.into_iter().filter_map(Result::err) {
            warn!(%error, "recovery is incomplete; the periodic tasks do the rest");
        }
        info!(instances = here.len(), again = failed.len(), "every instance has been looked at");
        self.links_changed();
        // Containers may have ended while nobody watched.
        if let Err(error) = caught(self.sync_power_states()).await {
            warn!(%error, "cannot bring the instances' power states up to date");
        }
        failed.extend(unclaimed);
        tokio::join!(self.recover_again(failed), self.catch_up_with_neutron(here));
    }

    /// Looks at so many at a time. Those that are to be looked at again.
    async fn recover_each(self: &Arc<Self>, instances: Vec<Kept>, at_once: usize) -> Vec<Uuid> {
        futures::stream::iter(instances)
            .map(|(instance, guard)| {
                let compute = self.clone();
                async move {
                    let uuid = instance_uuid(&instance).ok()?;
                    let recovered = compute.try_recover(instance).await;
                    if recovered {
                        compute.arrivals.forget(uuid);
                    }
                    drop(guard);
                    (!recovered).then_some(uuid)
                }
            })
            .buffer_unordered(at_once)
            .filter_map(std::future::ready)
            .collect()
            .await
    }

    /// Brings the instances' interfaces to what Neutron says. Of a port that was bound for an attachment which this process did not
    /// come to the end of, or of what changed while nobody was here, no event comes again.
    async fn catch_up_with_neutron(&self, here: HashSet<Uuid>) {
        let (mut behind, mut pause) = (here, FIRST_PAUSE);
        for _ in 0..CATCH_UPS {
            let mut still = HashSet::new();
            for uuid in behind {
                if let Err(error) = caught(self.heal_network_of(uuid)).await {
                    warn!(%error, instance = %uuid, "cannot bring the instance's network up to date");
                    still.insert(uuid);
                }
            }
            if still.is_empty() {
                return;
            }
            behind = still;
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LAST_PAUSE);
        }
    }

    /// In a task of its own: nothing that happens to it happens to the others.
    async fn try_recover(self: &Arc<Self>, instance: Instance) -> bool {
        let span = info_span!("recovery", instance = instance.uuid());
        let compute = self.clone();
        let task = async move {
            // In doubt when the agent stops, it keeps no request waiting.
            let recovered = unless_in_doubt(caught(compute.recover_instance(instance))).await;
            if let Some(Err(error)) = &recovered {
                warn!(%error, "cannot recover the instance; it is tried again");
            }
            matches!(recovered, Some(Ok(Recovered::Done)))
        };
        tokio::spawn(task.instrument(span)).await.unwrap_or(false)
    }

    /// Until it is done, each with what Nova says of it by then.
    async fn recover_again(self: &Arc<Self>, mut failed: Vec<Uuid>) {
        let mut pause = FIRST_PAUSE;
        while !failed.is_empty() {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_UNDECIDED);
            let mut still = Vec::new();
            for uuid in failed {
                if self.recover_once_more(uuid).await {
                    self.arrivals.forget(uuid);
                } else {
                    still.push(uuid);
                }
            }
            failed = still;
        }
    }

    /// Whether nothing is to be done for the instance any more.
    async fn recover_once_more(self: &Arc<Self>, uuid: Uuid) -> bool {
        if self.locks.is_busy(uuid) {
            // Somebody asked for something meanwhile, and it is under way.
            return false;
        }
        let _guard = self.recovering.lock(uuid).await;
        match self.conductor.instance(&Context::admin(), &uuid.to_string(), INSTANCE_ATTRS).await {
            // A snapshot holds no lock, and a resize none between its steps. A build has no task when it begins.
            Ok(instance) if is_at_work(&instance) && self.arrivals.has_begun(uuid) => true,
            Ok(instance) if self.is_here(&instance) => self.try_recover(instance).await,
            Ok(instance) => {
                let settled = unless_in_doubt(caught(self.settle_unclaimed(&instance))).await.unwrap_or(Ok(false));
                settled.unwrap_or_else(|error| {
                    warn!(%error, instance = %uuid, "cannot tell whether its request is lost; it is tried again");
                    false
                })
            }
            Err(error) if error.class() == Some("InstanceNotFound") => true,
            Err(error) => {
                warn!(%error, instance = %uuid, "cannot read the instance; it is tried again");
                false
            }
        }
    }

    /// Tells the schedulers and placement of this host. Where they do not answer, the start goes on: the instances that are here
    /// need neither, and the report is repeated until it is done.
    pub(in crate::compute) async fn first_audit(self: &Arc<Self>) -> Option<BoxFuture<'static, ()>> {
        let problem = match tokio::time::timeout(FIRST_AUDIT, caught(self.audit())).await {
            Ok(Ok(())) => return None,
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {} s", FIRST_AUDIT.as_secs()),
        };
        warn!(problem, "cannot report this host to placement; no new instances come until that is done");
        let compute = self.clone();
        Some(Box::pin(async move {
            let audited: Result<(), Error> = (|| caught(compute.audit()))
                .retry(patience())
                .notify(|error, pause| warn!(%error, retry_in = ?pause, "waiting for placement"))
                .await;
            if audited.is_ok() {
                info!("this host is reported to placement");
            }
        }))
    }
}

fn is_at_work(instance: &Instance) -> bool {
    instance.task_state().is_some() || instance.vm_state() == Some(VmState::Building)
}

/// How soon, and how often, a recovery that failed is repeated. Its instance has a task that nobody works on.
const FIRST_PAUSE: Duration = Duration::from_secs(5);
const LONGEST_UNDECIDED: Duration = Duration::from_secs(60);
/// How often a network is looked at at least that cannot be brought up to date.
const LAST_PAUSE: Duration = Duration::from_secs(300);

/// How often an instance is tried whose network cannot be brought up to date: for half an hour. A port that is badly bound stays so.
const CATCH_UPS: usize = 10;

/// Without an end, and not all hosts at the same moment.
fn patience() -> ExponentialBuilder {
    ExponentialBuilder::default().with_max_delay(Duration::from_secs(30)).with_jitter().without_max_times()
}
