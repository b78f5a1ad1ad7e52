//! At start: operations that a restart has interrupted are finished or undone, instance by instance.

use std::{collections::HashSet, sync::Arc, time::Duration};

use backon::{ExponentialBuilder, Retryable as _};
use futures::StreamExt as _;
use serde_json::json;
use tracing::{Instrument as _, info, info_span, warn};
use uuid::Uuid;

use crate::compute::{
    Compute, arguments::instance_uuid, error::Error, instance::guest::power, operation::Duties,
    ports::cache::network_info, ports::interfaces::interfaces,
};
use crate::{messaging::Context, objects::Instance};

/// How many instances are looked at at a time; most of it is waiting.
const CONCURRENCY: usize = 8;
/// What recovery reads of each instance.
const INSTANCE_ATTRS: &[&str] = &["info_cache", "metadata", "system_metadata", "flavor"];

/// What to do about one instance, by its states and its container's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Recovery {
    Nothing,
    /// The deletion had begun.
    Delete,
    /// The build had begun: nothing says how far it came.
    FailBuild,
    /// The task left no trace that matters.
    ClearTask,
    /// The task is done in fact, and was not recorded.
    Settle,
    Reboot {
        hard: bool,
    },
    Stop,
    Start,
    Unpause,
    /// No task: the network is made sure of, as the host may have been restarted.
    Replug,
}

impl Compute {
    /// Looks at every instance of the host, then at what is left of others. Failures are logged: one instance's trouble
    /// must not keep the host down.
    pub(in crate::compute) async fn recover(self: &Arc<Self>) -> Result<(), Error> {
        let context = Context::admin();
        let instances = self.conductor.instances_by_host(&context, &self.host, INSTANCE_ATTRS).await?;
        let here: HashSet<Uuid> = instances.iter().map(instance_uuid).collect::<Result<_, _>>()?;
        futures::stream::iter(instances)
            .for_each_concurrent(CONCURRENCY, async |instance| {
                let span = info_span!("recovery", instance = instance.uuid());
                async {
                    if let Err(error) = self.recover_instance(instance).await {
                        warn!(%error, "cannot recover the instance");
                    }
                }
                .instrument(span)
                .await;
            })
            .await;
        let rest =
            [self.reap_strays(&here).await, self.error_out_unclaimed_builds(&here).await, self.reap_deleted().await];
        for error in rest.into_iter().filter_map(Result::err) {
            warn!(%error, "recovery is not complete; the periodic tasks look at what is left");
        }
        Ok(())
    }

    async fn recover_instance(self: &Arc<Self>, instance: Instance) -> Result<(), Error> {
        let uuid = instance_uuid(&instance)?;
        let actual = self.power_state(uuid).await?;
        let vm_state = instance.vm_state().unwrap_or_default().to_owned();
        let task = instance.task_state().map(str::to_owned);
        let recovery = decide(&vm_state, task.as_deref(), actual);
        if recovery != Recovery::Nothing && recovery != Recovery::Replug {
            info!(vm_state, task, power_state = actual, ?recovery, "recovering");
        }
        // Without a project, so that events go to the instance's newest action: the one that was interrupted.
        let context = Context::admin();
        match recovery {
            Recovery::Nothing => Ok(()),
            Recovery::Replug => self.replug(&context, instance, actual).await,
            Recovery::ClearTask => {
                self.set_state(&context, uuid, json!({"task_state": null})).await;
                Ok(())
            }
            Recovery::Settle => {
                let vm_state = if actual == power::PAUSED { "paused" } else { "active" };
                let state = json!({"vm_state": vm_state, "power_state": actual, "task_state": null});
                self.set_state(&context, uuid, state).await;
                Ok(())
            }
            Recovery::FailBuild => self.fail_interrupted_build(&context, instance).await,
            Recovery::Delete => self.resume_delete(&context, instance).await,
            Recovery::Stop => self.stop(&context, instance, true).await,
            Recovery::Start => self.start(&context, instance).await,
            Recovery::Unpause => self.unpause(&context, instance).await,
            Recovery::Reboot { hard } => self.resume_reboot(&context, instance, hard).await,
        }
    }

    async fn resume_delete(&self, context: &Context, instance: Instance) -> Result<(), Error> {
        let uuid = instance_uuid(&instance)?;
        let _lock = self.locks.lock(uuid).await;
        let duties = Duties::of("compute_terminate_instance").erroring_out();
        self.operate(context, uuid, duties, self.delete(context, instance)).await
    }

    /// A soft reboot whose container is down goes on as a hard one.
    async fn resume_reboot(&self, context: &Context, mut instance: Instance, hard: bool) -> Result<(), Error> {
        let pending = if hard { "reboot_pending_hard" } else { "reboot_pending" };
        self.save(context, &mut instance, json!({"task_state": pending}), None).await?;
        self.reboot(context, instance, hard).await
    }

    /// The container, the network and the claim of a build that a restart cut short.
    async fn fail_interrupted_build(&self, context: &Context, instance: Instance) -> Result<(), Error> {
        let uuid = instance_uuid(&instance)?;
        let _lock = self.locks.lock(uuid).await;
        let error = Error::exception(
            "BuildAbortException",
            "the compute service was restarted while it built the instance; delete it and launch it again",
            json!({}),
        );
        if let Err(cleanup) = self.driver.remove(uuid).await {
            warn!(error = %cleanup, "not everything of the interrupted build is gone");
        }
        self.release_network(context, uuid, &instance).await?;
        self.finish_event(context, uuid, crate::compute::instance::build::EVENT, Some(&error)).await;
        self.record_fault(context, uuid, &error).await;
        let state = json!({
            "host": null, "node": null, "compute_id": null, "vm_state": "error", "task_state": null,
        });
        self.set_state(context, uuid, state).await;
        self.drop_allocation(context, uuid).await;
        self.tracker.release(uuid).await;
        Ok(())
    }

    /// Plugging what is plugged already changes nothing, so this is done for every instance that has a container.
    async fn replug(&self, context: &Context, instance: Instance, actual: i64) -> Result<(), Error> {
        let uuid = instance_uuid(&instance)?;
        if actual == power::NOSTATE {
            warn!("the instance has no container on this host");
            return Ok(());
        }
        let interfaces = interfaces(&network_info(&instance)?)?;
        // After a reboot of the host, Neutron's agent makes the bridge a little later than we start.
        let pauses = ExponentialBuilder::default().with_max_delay(Duration::from_secs(5)).with_max_times(8);
        (|| self.driver.plug(uuid, &interfaces))
            .retry(pauses)
            .notify(|error, pause| info!(%error, retry_in = ?pause, "cannot plug the instance yet"))
            .await?;
        let was_running = instance.power_state() == Some(power::RUNNING);
        if was_running && actual != power::RUNNING && self.config.resume_guests_state_on_host_boot {
            info!("starting the instance that was running before the host was restarted");
            self.power_on(context, uuid).await?;
        }
        Ok(())
    }
}

/// Nova's table (`_init_instance`), for what this service does.
fn decide(vm_state: &str, task: Option<&str>, actual: i64) -> Recovery {
    let running = actual == power::RUNNING;
    match (vm_state, task) {
        (_, Some("deleting")) | ("deleted", _) => Recovery::Delete,
        ("soft-delete" | "error", _) => Recovery::Nothing,
        ("building", _) | (_, Some("scheduling" | "block_device_mapping" | "networking" | "spawning")) => {
            Recovery::FailBuild
        }
        (
            _,
            Some(
                "image_snapshot"
                | "image_snapshot_pending"
                | "image_pending_upload"
                | "image_uploading"
                | "image_backup"
                | "resize_prep",
            ),
        ) => Recovery::ClearTask,
        (_, Some("reboot_started" | "rebooting" | "reboot_started_hard" | "rebooting_hard")) if running => {
            Recovery::Settle
        }
        (_, Some("reboot_pending")) if running => Recovery::Reboot { hard: false },
        (_, Some("rebooting" | "reboot_pending" | "reboot_started")) => Recovery::Reboot { hard: true },
        (_, Some("rebooting_hard" | "reboot_pending_hard" | "reboot_started_hard")) => Recovery::Reboot { hard: true },
        (_, Some("unpausing")) if actual == power::PAUSED => Recovery::Unpause,
        (_, Some("pausing" | "unpausing")) if running || actual == power::PAUSED => Recovery::Settle,
        (_, Some("powering-off")) => Recovery::Stop,
        (_, Some("powering-on")) => Recovery::Start,
        (_, Some(_)) => Recovery::ClearTask,
        (_, None) => Recovery::Replug,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deletion_that_was_interrupted_goes_on_whatever_the_state() {
        for vm_state in ["active", "error", "building", "stopped"] {
            assert_eq!(decide(vm_state, Some("deleting"), power::RUNNING), Recovery::Delete);
        }
    }

    #[test]
    fn an_interrupted_build_is_failed_in_every_one_of_its_steps() {
        for task in [None, Some("networking"), Some("block_device_mapping"), Some("spawning")] {
            assert_eq!(decide("building", task, power::NOSTATE), Recovery::FailBuild);
        }
    }

    #[test]
    fn an_interrupted_reboot_is_settled_when_the_container_runs_and_redone_when_not() {
        assert_eq!(decide("active", Some("reboot_started"), power::RUNNING), Recovery::Settle);
        assert_eq!(decide("active", Some("reboot_pending"), power::RUNNING), Recovery::Reboot { hard: false });
        assert_eq!(decide("active", Some("reboot_started"), power::SHUTDOWN), Recovery::Reboot { hard: true });
    }

    #[test]
    fn a_stop_or_start_under_way_is_redone() {
        assert_eq!(decide("active", Some("powering-off"), power::RUNNING), Recovery::Stop);
        assert_eq!(decide("stopped", Some("powering-on"), power::SHUTDOWN), Recovery::Start);
    }

    #[test]
    fn no_task_survives_a_restart() {
        for task in ["image_uploading", "pausing", "suspending", "rescuing", "shelving", "anything"] {
            assert!(
                !matches!(decide("active", Some(task), power::RUNNING), Recovery::Nothing | Recovery::Replug),
                "{task}"
            );
        }
    }

    #[test]
    fn an_instance_without_a_task_is_left_running() {
        assert_eq!(decide("active", None, power::RUNNING), Recovery::Replug);
        assert_eq!(decide("error", None, power::RUNNING), Recovery::Nothing);
    }
}
