//! `revert_resize` and `finish_revert_resize`: the old container is back, with its flavor.

use std::sync::Arc;

use serde_json::{Map, Value, json};
use tracing::info;
use uuid::Uuid;

use super::request::{Step, was_on};
use crate::compute::{
    Compute,
    arguments::{Arguments, instance_uuid},
    duties::Duties,
    error::Error,
    instance::power::STOP,
    node::usage::Usage,
    now,
    operation::Method,
};
use crate::{
    cloud::Caller,
    limits::StopTimeout,
    messaging::Context,
    objects::{Expected, Instance, Migration, MigrationStatus, TaskState, VmState},
};

/// `revert_resize`, on the host that the instance is on.
pub(in crate::compute) struct RevertResize(Step);

impl Method for RevertResize {
    fn parse(arguments: Arguments) -> Result<Self, Error> {
        Step::parse(arguments).map(Self)
    }

    async fn run(self, compute: Arc<Compute>, context: &Context) -> Result<Value, Error> {
        compute.revert_resize(context, self.0).await.map(|()| Value::Null)
    }
}

/// `finish_revert_resize`, on the host that the instance came from.
pub(in crate::compute) struct FinishRevertResize(Step);

impl Method for FinishRevertResize {
    fn parse(arguments: Arguments) -> Result<Self, Error> {
        Step::parse(arguments).map(Self)
    }

    async fn run(self, compute: Arc<Compute>, context: &Context) -> Result<Value, Error> {
        let Self(Step { uuid, migration, .. }) = self;
        compute.finish_revert_resize(context, uuid, migration).await.map(|()| Value::Null)
    }
}

/// A reverted migration that fails is in error, and so is its instance.
const fn duties(event: &'static str) -> Duties<'static> {
    Duties::of(event, &[TaskState::ResizeReverting]).erroring_out()
}

impl Compute {
    async fn revert_resize(&self, context: &Context, mut step: Step) -> Result<(), Error> {
        let uuid = step.uuid;
        let _lock = self.locks.lock(uuid).await;
        self.operate(context, uuid, duties("compute_revert_resize"), async {
            let reverted = async {
                let (mut instance, _) = self.read_for_resize(context, uuid).await?;
                let reverting = Expected::task(TaskState::ResizeReverting);
                self.save(context, &mut instance, json!({"task_state": TaskState::ResizeReverting}), reverting).await?;
                // What it has written since the resize is given up with it.
                self.driver.stop(uuid, StopTimeout::KILL).await?;
                self.set_migration(context, &mut step.migration, MigrationStatus::Reverted).await?;
                let source = step.migration.str("source_compute").unwrap_or(&self.host).to_owned();
                self.ask_for(context, "finish_revert_resize", &source, &instance, &step, &["request_spec"]).await
            };
            self.ending_migration(context, reverted.await, &mut step.migration).await
        })
        .await
    }

    pub(super) async fn finish_revert_resize(
        &self,
        context: &Context,
        uuid: Uuid,
        mut migration: Migration,
    ) -> Result<(), Error> {
        let _lock = self.locks.lock(uuid).await;
        self.operate(context, uuid, duties("compute_finish_revert_resize"), async {
            let finished = self.come_back(context, uuid, &migration).await;
            self.ending_migration(context, finished, &mut migration).await
        })
        .await
    }

    async fn ending_migration(
        &self,
        context: &Context,
        result: Result<(), Error>,
        migration: &mut Migration,
    ) -> Result<(), Error> {
        let Err(error) = result else { return Ok(()) };
        match self.set_migration(context, migration, MigrationStatus::Error).await {
            Ok(()) => Err(error),
            Err(cleanup) => Err(Error::Cleanup { error: Box::new(error), cleanup: cleanup.to_string() }),
        }
    }

    async fn come_back(&self, context: &Context, uuid: Uuid, migration: &Migration) -> Result<(), Error> {
        let (mut instance, _) = self.read_for_resize(context, uuid).await?;
        let on = was_on(&instance);
        let reverting = || Expected::task(TaskState::ResizeReverting);
        let mut fields = self.old_flavor_fields(&instance);
        // Until all is done, for another try.
        fields.remove("system_metadata");
        fields.extend(Map::from_iter([
            ("host".to_owned(), json!(self.host)),
            ("node".to_owned(), json!(self.node)),
            ("compute_id".to_owned(), json!(self.tracker.node_id().await)),
        ]));
        self.save(context, &mut instance, Value::Object(fields), reverting()).await?;
        self.take_allocations_back(context, uuid, migration).await?;
        if let Some(usage) = Usage::of(&instance) {
            self.tracker.claim(uuid, usage).await;
        }
        self.driver.restore(uuid).await?;
        if on {
            self.power_on(context, uuid).await?;
        } else {
            self.renew_state_tags(uuid).await;
        }
        self.record_revert(context, &mut instance, on).await
    }

    async fn take_allocations_back(&self, context: &Context, uuid: Uuid, migration: &Migration) -> Result<(), Error> {
        let Some(consumer) = super::request::migration_uuid(migration) else { return Ok(()) };
        let caller = Caller::service(context.request_id());
        self.cloud.placement.move_allocations(&caller, consumer, uuid).await?;
        self.tracker.release(consumer).await;
        Ok(())
    }

    /// As nova-compute, which starts a server that was down and then stops it: its users know those states.
    async fn record_revert(&self, context: &Context, instance: &mut Instance, on: bool) -> Result<(), Error> {
        let uuid = instance_uuid(instance)?;
        let mut metadata = instance.system_metadata();
        metadata.remove(super::request::OLD_VM_STATE);
        let mut fields = json!({
            "launched_at": now(),
            "power_state": self.power_state(uuid).await?,
            "system_metadata": metadata,
            "task_state": if on { Value::Null } else { json!(TaskState::PoweringOff) },
        });
        if on {
            fields["vm_state"] = json!(VmState::Active);
        }
        self.save(context, instance, fields, Expected::task(TaskState::ResizeReverting)).await?;
        info!("the resize is reverted");
        self.tell_schedulers(instance).await;
        if on {
            return Ok(());
        }
        self.operate(context, uuid, STOP, self.stop_locked(context, instance, true)).await
    }
}
