//! The compute service: Nova's state machine, one file for each family of operation.
//!
//! | room | what |
//! |---|---|
//! | `run` | start and graceful stop, in Nova's order |
//! | `dispatch`, `operation`, `arguments` | from an RPC method to its operation or its refusal; the list of all methods |
//! | `admission` | which requests wait for which |
//! | `duties` | what every operation owes to Nova: event, fault, task state |
//! | `defect` | a panic ends the work on one instance, not the process |
//! | `instance` | the operations on one instance, one file each |
//! | `ports` | Nova's network API: an instance's ports and the record of them; what Neutron tells |
//! | `migration` | resizes, step by step between source and destination |
//! | `node` | the compute node's record, its resource provider, its allocations |
//! | `reconcile` | what nobody asked for: audits, crashes, leftovers, restarts |
//! | `refusal` | operations that containers do not have |
//! | `error` | what can go wrong, and how Nova is told |

mod admission;
mod arguments;
mod defect;
mod dispatch;
mod duties;
mod error;
mod instance;
mod migration;
pub mod node;
mod operation;
pub mod ports;
mod reconcile;
mod refusal;
mod run;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use serde_json::{Map, Value};
use tokio::sync::{Notify, Semaphore};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use uuid::Uuid;

pub(crate) use run::{NEWEST_SERVICE_VERSION, OLDEST_SERVICE_VERSION};
pub use run::{StartError, run};

use self::{
    error::Error,
    instance::group_policy::GroupChecks,
    node::holdings::Differing,
    node::tracker::ResourceTracker,
    ports::{Ports, waiters::PlugWaiters},
    reconcile::{
        not_begun::Arrivals,
        power_sync::{PutOff, Remembered, Syncs},
        state_tags::Looks,
    },
};
use crate::{
    cloud::{Caller, Cloud},
    conductor::Conductor,
    config::Config,
    driver::Driver,
    locks::InstanceLocks,
    messaging::Context,
    objects::{Expected, Instance},
};

/// The compute service of one host.
pub(crate) struct Compute {
    config: Config,
    /// Name of the service: queues, service row, port bindings.
    host: String,
    /// Name of the compute node and of the resource provider.
    node: String,
    compute_id: Uuid,
    service_id: i64,
    /// The control plane's own service version: which behaviours it expects of a compute service.
    service_version: i64,
    conductor: Conductor,
    cloud: Cloud,
    ports: Ports,
    driver: Driver,
    tracker: ResourceTracker,
    /// Instances with an operation under way.
    locks: InstanceLocks,
    /// Instances that are looked at after a start; requests for them wait.
    recovering: InstanceLocks,
    /// Requests that have come for instances of which the start is not done with.
    arrivals: Arrivals,
    /// Instances whose network information is being rewritten.
    cache_locks: InstanceLocks,
    waiters: PlugWaiters,
    /// Builds under way, to be cancelled when their instance is deleted.
    building: Mutex<HashMap<Uuid, CancellationToken>>,
    /// Builds whose server group has not been looked at.
    group_checks: GroupChecks,
    /// Instances whose containers changed while Docker was away.
    outages: Remembered,
    /// Instances whose containers Docker has removed.
    removals: Remembered,
    /// Instances whose reboot recovery has done, while its request may still wait.
    rebooted: Remembered,
    /// Instances that are looked at when their task has ended.
    put_off: PutOff,
    /// Instances that hold of others' providers, as of a disk that hosts share, what their flavors ask for.
    held_elsewhere: tokio::sync::Mutex<Differing>,
    /// Held while the host's status is read from Nova and told to placement, so that no old one is told last.
    status: tokio::sync::Mutex<()>,
    /// Containers in their first run, and since when.
    first_runs: Mutex<HashMap<Uuid, Instant>>,
    /// Servers of this host have changed, to which others may be linked.
    links_changed: Notify,
    /// When the health of containers is told to Nova.
    health_looks: Looks,
    build_slots: Semaphore,
    snapshot_slots: Semaphore,
    /// Instances whose power state is looked at in turn.
    syncs: Arc<Syncs>,
    /// What the service does by itself; it ends with `stopping`.
    tasks: TaskTracker,
    stopping: CancellationToken,
}

/// The fields of what this code wrote as an object (`json!({...})`), or as nothing.
fn object(written: Value) -> Map<String, Value> {
    match written {
        Value::Object(fields) => fields,
        other => {
            debug_assert!(other.is_null(), "written for an object: {other}");
            Map::new()
        }
    }
}

impl Compute {
    /// Saves `fields` and brings the copy up to date with the row.
    async fn save(
        &self,
        context: &Context,
        instance: &mut Instance,
        fields: Value,
        expected: Expected,
    ) -> Result<(), Error> {
        let saved = self.conductor.save_instance(context, instance.uuid(), object(fields), &expected).await?;
        instance.apply(saved.into_object().data);
        Ok(())
    }

    /// The sender of REST calls for a request: its user, or the agent itself when the request has no token.
    fn caller(&self, context: &Context) -> Caller {
        match context.auth_token() {
            Some(token) => Caller::user(token, context.request_id()),
            None => Caller::service(context.request_id()),
        }
    }

    /// Makes the build of `instance` stop at its next wait.
    fn cancel_build(&self, instance: Uuid) {
        let building = self.building.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(token) = building.get(&instance) {
            token.cancel();
        }
    }

    fn begin_build(&self, instance: Uuid) -> CancellationToken {
        let mut building = self.building.lock().unwrap_or_else(PoisonError::into_inner);
        building.entry(instance).or_default().clone()
    }

    fn end_build(&self, instance: Uuid) {
        self.building.lock().unwrap_or_else(PoisonError::into_inner).remove(&instance);
    }
}

/// Now, as Nova's objects carry times: `2026-11-22T14:09:40Z`.
fn now() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
