//! Before a build: the instance becomes this host's, and waits for one of the slots. Nova's order: a build that waits is found
//! again after a restart, and a deletion reaches it.

use serde_json::json;
use tokio::sync::SemaphorePermit;
use tokio_util::sync::CancellationToken;
use tracing::warn;
use uuid::Uuid;

use crate::compute::{
    Compute,
    error::Error,
    instance::{build::EVENT, request::BuildRequest},
    node::usage::Usage,
};
use crate::{
    messaging::Context,
    objects::{Expected, TaskState, VmState},
};

impl Compute {
    /// Makes the instance this host's, in one save. From here on external events for it, and its deletion, arrive here.
    pub(in crate::compute) async fn own(&self, context: &Context, request: &mut BuildRequest) -> Result<(), Error> {
        let fields = json!({
            "vm_state": VmState::Building,
            "task_state": null,
            "host": self.host,
            "launched_on": self.host,
            "node": self.node,
            "compute_id": self.tracker.node_id().await,
        });
        // One that was set to error meanwhile has been given up: its request comes too late.
        let expected = Expected::Building(vec![Some(TaskState::Scheduling), None]);
        let (_, saved) = tokio::join!(
            self.start_event(context, request.uuid, EVENT),
            self.save(context, &mut request.instance, fields, expected),
        );
        saved?;
        if let Some(usage) = Usage::of(&request.instance) {
            self.tracker.claim(request.uuid, usage).await;
        }
        Ok(())
    }

    /// # Errors
    /// The instance was deleted before its turn came.
    pub(in crate::compute) async fn build_slot(
        &self,
        uuid: Uuid,
        cancelled: &CancellationToken,
    ) -> Result<Option<SemaphorePermit<'_>>, Error> {
        tokio::select! {
            biased;
            () = cancelled.cancelled() => Err(Error::Deleting(uuid)),
            // A closed semaphore limits nobody.
            slot = self.build_slots.acquire() => Ok(slot.ok()),
        }
    }

    /// Instances that are being built for longer than an operator allows are set to error; what is left of them, a deletion
    /// removes.
    pub(in crate::compute) async fn check_build_times(&self) -> Result<(), Error> {
        let Some(limit) = self.config.instance_build_timeout else { return Ok(()) };
        let context = Context::admin();
        let filters = serde_json::Map::from_iter([
            ("vm_state".to_owned(), json!(VmState::Building)),
            ("host".to_owned(), json!(self.host)),
            ("deleted".to_owned(), json!(false)),
        ]);
        for instance in self.conductor.instances_by_filters(&context, filters, &[]).await? {
            if is_over(instance.str("created_at"), limit) {
                warn!(instance = instance.uuid(), ?limit, "its build takes too long; setting it to error");
                let uuid = crate::compute::arguments::instance_uuid(&instance)?;
                let found = Expected::Building(vec![instance.task_state()]);
                self.set_state(&context, uuid, json!({"vm_state": VmState::Error}), &found).await;
            }
        }
        Ok(())
    }
}

/// An instance whose time of creation is not known is never over.
fn is_over(created_at: Option<&str>, limit: std::time::Duration) -> bool {
    created_at.is_some() && crate::compute::reconcile::reaper::is_due(created_at, limit)
}

/// What a save that failed means for a build that had not begun.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::compute) enum NotOwned {
    /// Deleted on its way here: nobody needs what the scheduler has claimed for it.
    Deleted,
    /// A request that came twice, or late: the instance, and what is claimed for it, are somebody else's.
    NotOurs,
    /// Nova did not say: the build has failed.
    Failed,
}

impl NotOwned {
    pub(in crate::compute) fn of(error: &Error) -> Self {
        if error.is_gone() {
            Self::Deleted
        } else if error.is_unexpected_state() {
            Self::NotOurs
        } else {
            Self::Failed
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{compute::error::nova_failure, messaging::CallError};

    fn remote(class: &str) -> Error {
        Error::Conductor(CallError::Remote(nova_failure(class, "words", serde_json::Map::new())))
    }

    #[test]
    fn only_a_deletion_is_taken_for_a_deletion() {
        assert_eq!(NotOwned::of(&remote("InstanceNotFound")), NotOwned::Deleted);
        assert_eq!(NotOwned::of(&remote("UnexpectedDeletingTaskStateError")), NotOwned::Deleted);
        assert_eq!(NotOwned::of(&remote("UnexpectedTaskStateError")), NotOwned::NotOurs);
        assert_eq!(NotOwned::of(&remote("InstanceUpdateConflict")), NotOwned::NotOurs, "it is not being built");
        assert_eq!(NotOwned::of(&remote("DBConnectionError")), NotOwned::Failed);
    }

    #[test]
    fn a_build_is_over_after_the_operators_limit_only() {
        assert!(is_over(Some("2020-01-01T00:00:00Z"), Duration::from_secs(60)));
        assert!(!is_over(Some(&crate::compute::now()), Duration::from_secs(60)));
        assert!(!is_over(None, Duration::from_secs(60)));
    }
}
