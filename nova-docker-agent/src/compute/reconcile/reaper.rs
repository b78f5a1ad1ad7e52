//! Removes what deleted instances left on the host, after a crash or while the service was down.

use std::{
    collections::{BTreeSet, HashSet},
    time::Duration,
};

use serde_json::{Map, json};
use tracing::{info, warn};
use uuid::Uuid;

use crate::compute::{
    Compute, arguments::instance_uuid, error::Error, instance::build::cut_short, node::ownership::Ownership,
};
use crate::{
    config::RunningDeletedAction,
    driver::End,
    limits::StopTimeout,
    messaging::Context,
    objects::{Expected, VmState},
};

/// Whether an instance has been deleted for as long as an operator wants to wait; one without a time is due.
pub(in crate::compute) fn is_due(deleted_at: Option<&str>, wait: Duration) -> bool {
    let deleted_at = deleted_at.and_then(|text| text.parse::<jiff::Timestamp>().ok());
    // A time to come is that of another clock: nothing of the wait is over.
    let elapsed =
        |at: jiff::Timestamp| Duration::try_from(at.duration_until(jiff::Timestamp::now())).unwrap_or_default();
    deleted_at.is_none_or(|at| elapsed(at) >= wait)
}

impl Compute {
    /// Instances that have a container, a namespace or a switch port here. Containers of another agent's are not ours.
    async fn present(&self) -> Result<BTreeSet<Uuid>, Error> {
        let ours = self.compute_id.to_string();
        let (mine, others): (Vec<_>, Vec<_>) =
            self.driver.guests().await?.into_iter().partition(|guest| guest.compute_id == ours);
        let others: HashSet<Uuid> = others.into_iter().map(|guest| guest.uuid).collect();
        let mut present: BTreeSet<Uuid> = mine.into_iter().map(|guest| guest.uuid).collect();
        present.extend(self.driver.asides(&ours).await?);
        present.extend(self.driver.plugged().await?.into_iter().filter(|uuid| !others.contains(uuid)));
        Ok(present)
    }

    /// Removes guests whose instance is deleted.
    pub(in crate::compute) async fn reap_deleted(&self) -> Result<(), Error> {
        let present = self.present().await?;
        if present.is_empty() {
            return Ok(());
        }
        let uuids: Vec<String> = present.iter().map(Uuid::to_string).collect();
        let context = Context::admin().with_read_deleted("yes");
        let mut filters = Map::new();
        filters.insert("deleted".to_owned(), json!(true));
        filters.insert("soft_deleted".to_owned(), json!(false));
        filters.insert("uuid".to_owned(), json!(uuids));
        for instance in self.conductor.instances_by_filters(&context, filters, &[]).await? {
            let uuid = instance_uuid(&instance)?;
            if !is_due(instance.str("deleted_at"), self.config.running_deleted_instance_timeout) {
                continue;
            }
            if let Err(error) = self.reap(uuid).await {
                warn!(%error, instance = %uuid, "cannot remove what is left of a deleted instance");
            }
        }
        Ok(())
    }

    async fn reap(&self, uuid: Uuid) -> Result<(), Error> {
        self.recovered(uuid).await;
        let _lock = self.locks.lock(uuid).await;
        match self.config.running_deleted_instance_action {
            RunningDeletedAction::Noop => Ok(()),
            RunningDeletedAction::Log => {
                warn!(instance = %uuid, "a deleted instance is still on this host (running_deleted_instance_action = log)");
                Ok(())
            }
            RunningDeletedAction::Shutdown => {
                info!(instance = %uuid, "stopping the container of a deleted instance");
                Ok(self.driver.stop(uuid, StopTimeout::of_operator(self.config.shutdown_timeout)).await?)
            }
            RunningDeletedAction::Reap => {
                info!(instance = %uuid, "removing what is left of a deleted instance");
                Ok(self.driver.remove(uuid, End::Deleted { with_volumes: false }).await?)
            }
        }
    }

    /// At start: removes what an interrupted build left of instances that no longer belong to this host.
    pub(in crate::compute) async fn reap_strays(&self, here: &HashSet<Uuid>) -> Result<(), Error> {
        let strays: Vec<Uuid> = self.present().await?.into_iter().filter(|uuid| !here.contains(uuid)).collect();
        for uuid in strays {
            if self.belongs_elsewhere(uuid).await? {
                info!(instance = %uuid, "removing what is left of an instance of another host");
                if let Err(error) = self.driver.remove(uuid, End::Replaced).await {
                    warn!(%error, instance = %uuid, "cannot remove it");
                }
            }
        }
        Ok(())
    }

    /// Whether Nova knows the instance and says that nothing of it belongs here. An instance that Nova does not know is left to an
    /// operator: the agent may be looking at the wrong cloud.
    async fn belongs_elsewhere(&self, uuid: Uuid) -> Result<bool, Error> {
        let context = Context::admin().with_read_deleted("yes");
        match self.conductor.instance(&context, &uuid.to_string(), &[]).await {
            Ok(instance) => Ok(self.ownership(&instance).await? == Ownership::Elsewhere),
            Err(error) if error.class() == Some("InstanceNotFound") => {
                warn!(instance = %uuid, "a container of an instance that Nova does not know: left alone");
                Ok(false)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// At start: fails the builds that got no further than their claim in placement.
    pub(in crate::compute) async fn error_out_unclaimed_builds(&self, here: &HashSet<Uuid>) -> Result<(), Error> {
        let caller = crate::cloud::Caller::own();
        let held = self.cloud.placement.provider_allocations(&caller, self.compute_id).await?;
        let unclaimed: Vec<String> =
            held.allocations.keys().filter(|uuid| !here.contains(uuid)).map(Uuid::to_string).collect();
        if unclaimed.is_empty() {
            return Ok(());
        }
        let context = Context::admin();
        let mut filters = Map::new();
        filters.insert("uuid".to_owned(), json!(unclaimed));
        filters.insert("vm_state".to_owned(), json!(VmState::Building));
        for instance in self.conductor.instances_by_filters(&context, filters, &[]).await? {
            // Its message may still wait in the queue; then the build begins as soon as this start is done.
            if instance.host().is_none() && instance.task_state().is_none() {
                let uuid = instance_uuid(&instance)?;
                warn!(instance = %uuid, "its build was interrupted before it was this host's; setting it to error");
                self.record_fault(&context, uuid, &cut_short()).await;
                let failed = json!({"vm_state": VmState::Error, "task_state": null});
                if self.set_state(&context, uuid, failed, &Expected::Building(vec![None])).await {
                    self.drop_allocation(&context, uuid).await;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deleted_instance_is_due_when_the_operators_wait_is_over() {
        let hour = Duration::from_secs(3600);
        assert!(is_due(Some("2020-01-01T00:00:00Z"), hour));
        assert!(!is_due(Some(&crate::compute::now()), hour));
        assert!(is_due(Some(&crate::compute::now()), Duration::ZERO));
        assert!(is_due(None, hour));
        assert!(!is_due(Some("9999-01-01T00:00:00Z"), hour), "a clock that is ahead");
    }
}
