//! `build_and_run_instance`: from the scheduler's decision to a running container, or to a clean failure.

use std::sync::Arc;

use serde_json::json;
use tracing::{Instrument as _, info, info_span};

use crate::compute::{
    Compute,
    defect::{caught, caught_or},
    error::Error,
    instance::build_wait::NotOwned,
    instance::config_drive::is_wanted,
    instance::request::{BuildRequest, check_supported},
    node::usage::Usage,
    now,
    ports::user_ports::mark_user_ports,
};
use crate::{
    messaging::Context,
    objects::{Expected, PowerState, TaskState, VmState},
};

/// Name of the build's event; the two underscores are Nova's.
pub(in crate::compute) const EVENT: &str = "compute__do_build_and_run_instance";

/// The fault of an instance whose launch a restart has cut short.
pub(in crate::compute) fn cut_short() -> Error {
    Error::exception(
        "BuildAbortException",
        "the compute service was restarted while it built the instance; delete it and launch it again",
        json!({}),
    )
}

/// How a build ended.
enum Ended {
    Active,
    /// The user deleted the instance meanwhile, or it was never ours.
    Deleted,
    Rescheduled,
    /// It did not go with its server group, which is no fault of this host.
    RescheduledByPolicy,
    Failed(Error),
}

impl Ended {
    /// Whether this host could build it; none where nothing is known of that.
    fn success(&self) -> Option<bool> {
        match self {
            Self::Active => Some(true),
            Self::Failed(_) | Self::Rescheduled => Some(false),
            Self::Deleted | Self::RescheduledByPolicy => None,
        }
    }
}

impl Compute {
    /// Builds the instance. Whatever goes wrong has been told to Nova when this returns.
    pub(in crate::compute) async fn build(
        self: Arc<Self>,
        context: &Context,
        mut request: BuildRequest,
    ) -> Result<(), Error> {
        let uuid = request.uuid;
        let span = info_span!("operation", name = EVENT, instance = %uuid, request_id = context.request_id());
        let cancelled = self.begin_build(uuid);
        let _unchecked = self.group_checks.begin(uuid);
        let work = async {
            let _lock = self.locks.lock(uuid).await;
            let ended = self.build_locked(context, &mut request, &cancelled).await;
            let failure = match &ended {
                Ended::Failed(error) => Some(error),
                Ended::Active | Ended::Deleted | Ended::Rescheduled | Ended::RescheduledByPolicy => None,
            };
            self.finish_event(context, uuid, EVENT, failure).await;
            ended
        }
        .instrument(span);
        let ended = caught_or(work, Ended::Failed).await;
        self.end_build(uuid);
        if let Some(succeeded) = ended.success() {
            self.tracker.build_ended(succeeded).await;
        }
        match ended {
            Ended::Failed(error) => Err(error),
            Ended::Active | Ended::Deleted | Ended::Rescheduled | Ended::RescheduledByPolicy => Ok(()),
        }
    }

    async fn build_locked(
        &self,
        context: &Context,
        request: &mut BuildRequest,
        cancelled: &tokio_util::sync::CancellationToken,
    ) -> Ended {
        let owned = self.own(context, request).await;
        if let Err(error) = &owned {
            info!(%error, "not built");
            match NotOwned::of(error) {
                NotOwned::Deleted => {
                    self.drop_allocation(context, request.uuid).await;
                    return Ended::Deleted;
                }
                NotOwned::NotOurs => return Ended::Deleted,
                NotOwned::Failed => {}
            }
        }
        let slot = match owned {
            Ok(()) => match self.await_links(request, cancelled).await {
                Ok(()) => self.build_slot(request.uuid, cancelled).await,
                Err(error) => Err(error),
            },
            Err(error) => Err(error),
        };
        // A panic is undone as any failure is.
        let outcome = caught(async {
            let _slot = slot?;
            info!(name = request.instance.display_name(), "building");
            self.claim(context, request).await?;
            self.spawn(context, request, cancelled).await?;
            self.activate(context, request).await
        })
        .await;
        let Err(error) = outcome else { return Ended::Active };
        let by_policy = matches!(error, Error::GroupPolicy(_));
        match self.build_failed(context, request, error).await {
            Some(error) if error.is_gone() => Ended::Deleted,
            Some(error) => Ended::Failed(error),
            None if by_policy => Ended::RescheduledByPolicy,
            None => Ended::Rescheduled,
        }
    }

    /// What the instance is to remember of its launch.
    async fn claim(&self, context: &Context, request: &mut BuildRequest) -> Result<(), Error> {
        check_supported(request)?;
        self.check_group_policy(context, request.uuid, &request.rest).await?;
        let mut system_metadata = request.instance.system_metadata();
        system_metadata.insert("boot_roles".to_owned(), context.roles().join(","));
        mark_user_ports(&mut system_metadata, request.requested_ports());
        let network_left_over = system_metadata.remove("network_allocated").as_deref() == Some("True");
        let remembered = json!({"system_metadata": system_metadata});
        self.save(context, &mut request.instance, remembered, Expected::Any).await?;
        if network_left_over {
            // Another host failed to build it and left its ports to us. New ports are made.
            self.release_network(context, request.uuid, &request.instance).await?;
        }
        Ok(())
    }

    async fn activate(&self, context: &Context, request: &mut BuildRequest) -> Result<(), Error> {
        let mut fields = json!({
            "power_state": PowerState::Running,
            "vm_state": VmState::Active,
            "task_state": null,
            "launched_at": now(),
        });
        if is_wanted(&request.instance, &request.image, &self.config.metadata) {
            // Its user may not have asked for it. The field is a text.
            fields["config_drive"] = "True".into();
        }
        self.remember_exposed(&request.instance, &mut fields).await;
        self.save(context, &mut request.instance, fields, Expected::task(TaskState::Spawning)).await?;
        info!("active");
        if let Some(usage) = Usage::of(&request.instance) {
            self.tracker.claim(request.uuid, usage).await;
        }
        self.tell_schedulers(&request.instance).await;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_blamed_for_what_it_could_not_build_and_for_nothing_else() {
        let failed = Ended::Failed(Error::Defect("a defect".to_owned()));
        assert_eq!([failed.success(), Ended::Rescheduled.success()], [Some(false); 2]);
        assert_eq!([Ended::Deleted.success(), Ended::RescheduledByPolicy.success()], [None; 2]);
        assert_eq!(Ended::Active.success(), Some(true));
    }
}
