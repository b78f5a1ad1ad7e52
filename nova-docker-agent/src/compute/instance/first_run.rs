//! The first run of a container. A launch is ACTIVE as soon as a failing start would have shown; a container that ends within the
//! rest of `build_grace_seconds` is a failed launch all the same, with the same fault.

use std::sync::PoisonError;
use std::time::{Duration, Instant};

use serde_json::json;
use tracing::{info, warn};
use uuid::Uuid;

use crate::compute::{Compute, error::Error};
use crate::{
    messaging::Context,
    objects::{Expected, Instance, VmState},
};

/// What a command that cannot work takes to end, mostly.
const FAILING_START: Duration = Duration::from_millis(100);
/// How long after the grace the end of a first run may still become known.
const LATE_NEWS: Duration = Duration::from_secs(600);

impl Compute {
    /// Starts a container that never ran, and waits for as long as an operator wants a launch to wait.
    ///
    /// # Errors
    /// It does not start, or ended meanwhile.
    pub(in crate::compute) async fn start_new(&self, uuid: Uuid) -> Result<(), Error> {
        let settings = &self.config.docker;
        let watch =
            if settings.waits_for_grace { settings.build_grace } else { settings.build_grace.min(FAILING_START) };
        self.driver.start_guest(uuid, watch).await?;
        if watch < settings.build_grace {
            let mut runs = self.first_runs.lock().unwrap_or_else(PoisonError::into_inner);
            runs.retain(|_, began| began.elapsed() < settings.build_grace + LATE_NEWS);
            runs.insert(uuid, Instant::now());
        }
        Ok(())
    }

    /// What runs from now on is not the first run: its user has asked for something (every operation says so as it begins), or
    /// the agent starts it again.
    pub(in crate::compute) fn end_first_run(&self, uuid: Uuid) -> bool {
        self.first_runs.lock().unwrap_or_else(PoisonError::into_inner).remove(&uuid).is_some()
    }

    /// Sets an instance to ERROR whose container has ended, if that was its first run and shorter than the grace. With the
    /// instance's lock held, and no task under way. Returns whether it did.
    ///
    /// # Errors
    /// Docker's, or conductor's.
    pub(in crate::compute) async fn fail_short_first_run(
        &self,
        context: &Context,
        instance: &mut Instance,
        uuid: Uuid,
    ) -> Result<bool, Error> {
        if !self.end_first_run(uuid) {
            return Ok(false);
        }
        let Some(error) = self.driver.short_run(uuid, self.config.docker.build_grace).await? else { return Ok(false) };
        let error = Error::from(error);
        warn!(%error, details = error.details(), instance = %uuid, "the launch failed after all");
        let state = json!({"vm_state": VmState::Error, "power_state": self.power_state(uuid).await?});
        self.save(context, instance, state, Expected::no_task()).await?;
        self.record_fault(context, uuid, &error).await;
        self.tracker.build_ended(false).await;
        info!(instance = %uuid, "error");
        Ok(true)
    }
}
