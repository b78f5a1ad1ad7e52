//! `confirm_resize`: the old container goes, and with it what was held for it. By a user, or by the clock
//! (`resize_confirm_window`).

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};
use tracing::{info, warn};
use uuid::Uuid;

use super::request::{OLD_VM_STATE, Step, migration_uuid, stashed_flavors};
use crate::compute::{
    Compute,
    arguments::{Arguments, instance_uuid},
    duties::Duties,
    error::Error,
    operation::Method,
};
use crate::{
    cloud::Caller,
    messaging::Context,
    objects::{Expected, Instance, Migration, MigrationStatus, TaskState, VmState},
};

/// The statuses that the migration of an instance that is resized may have.
const DECIDED_OR_NOT: &[MigrationStatus] = &[
    MigrationStatus::Finished,
    MigrationStatus::Confirming,
    MigrationStatus::Confirmed,
    MigrationStatus::Reverting,
    MigrationStatus::Reverted,
    MigrationStatus::Error,
];

/// `confirm_resize`.
pub(in crate::compute) struct ConfirmResize(Step);

impl Method for ConfirmResize {
    fn parse(arguments: Arguments) -> Result<Self, Error> {
        Step::parse(arguments).map(Self)
    }

    async fn run(self, compute: Arc<Compute>, context: &Context) -> Result<Value, Error> {
        let Self(step) = self;
        compute.confirm_resize(context, step.uuid, step.migration).await.map(|()| Value::Null)
    }
}

impl Compute {
    /// Done already is done; so is the confirmation of an instance that is gone.
    pub(super) async fn confirm_resize(
        &self,
        context: &Context,
        uuid: Uuid,
        mut migration: Migration,
    ) -> Result<(), Error> {
        let _lock = self.locks.lock(uuid).await;
        let duties = Duties::of("compute_confirm_resize", &[]).erroring_out();
        let confirmed = self.operate(context, uuid, duties, async {
            if !migration.status().is_some_and(MigrationStatus::can_be_confirmed) {
                warn!(status = migration.str("status"), "this migration is not one that can be confirmed");
                return Ok(());
            }
            let (mut instance, flavor) = self.read_for_resize(context, uuid).await?;
            let deleting = matches!(instance.task_state(), Some(TaskState::Deleting | TaskState::SoftDeleting));
            if instance.vm_state() != Some(VmState::Resized) || !(deleting || instance.task_state().is_none()) {
                warn!("the instance is not resized any more: nothing is confirmed");
                return Ok(());
            }
            if let Err(error) = self.driver.settle(uuid).await {
                // A deletion removes it too. Otherwise the user is told, and nothing is held for the old flavor any more.
                warn!(%error, "the container with the old flavor stays");
                if !deleting {
                    self.set_migration(context, &mut migration, MigrationStatus::Error).await?;
                    self.forget_migration(context, uuid, &migration).await;
                    return Err(error.into());
                }
            }
            self.set_migration(context, &mut migration, MigrationStatus::Confirmed).await?;
            self.forget_migration(context, uuid, &migration).await;
            let mut metadata = instance.system_metadata();
            metadata.remove(OLD_VM_STATE);
            let power_state = self.power_state(uuid).await?;
            let vm_state = if power_state.is_down() { VmState::Stopped } else { VmState::Active };
            let mut fields = stashed_flavors(&flavor, Value::Null, Value::Null);
            fields.extend(Map::from_iter([
                ("vm_state".to_owned(), json!(vm_state)),
                ("power_state".to_owned(), json!(power_state)),
                ("task_state".to_owned(), Value::Null),
                ("system_metadata".to_owned(), json!(metadata)),
            ]));
            let deleting = Expected::OneOf(vec![None, Some(TaskState::Deleting), Some(TaskState::SoftDeleting)]);
            self.save(context, &mut instance, Value::Object(fields), deleting).await?;
            info!("the resize is confirmed");
            self.tell_schedulers(&instance).await;
            Ok(())
        });
        match confirmed.await {
            Err(error) if error.is_instance_not_found() => Ok(()),
            confirmed => confirmed,
        }
    }

    /// The host and placement hold nothing for the migration any more.
    pub(super) async fn forget_migration(&self, context: &Context, instance: Uuid, migration: &Migration) {
        let Some(consumer) = migration_uuid(migration) else { return };
        self.tracker.release(consumer).await;
        let caller = Caller::service(context.request_id());
        if let Err(error) = self.cloud.placement.delete_allocations(&caller, consumer).await {
            warn!(%error, %instance, migration = %consumer, "cannot drop what the migration holds in placement");
        }
    }

    /// Confirms what nobody has confirmed or reverted for as long as an operator wants to wait.
    pub(in crate::compute) async fn confirm_forgotten_resizes(&self, window: Duration) -> Result<(), Error> {
        let context = Context::admin();
        for migration in self.conductor.unconfirmed_migrations(&context, window.as_secs(), &self.host).await? {
            if let Err(error) = self.confirm_forgotten(&context, migration).await {
                warn!(%error, "cannot confirm a resize; trying again later");
            }
        }
        Ok(())
    }

    async fn confirm_forgotten(&self, context: &Context, mut migration: Migration) -> Result<(), Error> {
        let Some(uuid) = migration.instance_uuid().map(str::to_owned) else { return Ok(()) };
        let instance = match self.conductor.instance(context, &uuid, &[]).await {
            Err(error) if error.class() == Some("InstanceNotFound") => {
                return self.set_migration(context, &mut migration, MigrationStatus::Error).await;
            }
            instance => instance?,
        };
        match (instance.vm_state(), instance.task_state()) {
            (Some(VmState::Resized), None) => {}
            (_, Some(TaskState::ResizeFinish | TaskState::Deleting | TaskState::SoftDeleting)) => return Ok(()),
            (Some(VmState::Resized), Some(_)) => return Ok(()),
            _ => {
                self.forget_migration(context, instance_uuid(&instance)?, &migration).await;
                return self.set_migration(context, &mut migration, MigrationStatus::Error).await;
            }
        }
        info!(instance = uuid, "confirming a resize that nobody has confirmed (resize_confirm_window)");
        self.set_migration(context, &mut migration, MigrationStatus::Confirming).await?;
        if let Err(error) = self.conductor.action_start(context, &uuid, "confirmResize").await {
            warn!(%error, "cannot record the confirmation as an action");
        }
        self.confirm_resize(context, instance_uuid(&instance)?, migration).await
    }

    /// A confirmation that had begun before a restart of the agent. The migration may say that it is confirmed, and its instance not yet.
    pub(in crate::compute) async fn confirm_again(&self, context: &Context, instance: &Instance) -> Result<(), Error> {
        let uuid = instance_uuid(instance)?;
        // An earlier resize says nothing of this one.
        let Some(mut migration) = self.migrations_of(context, uuid, DECIDED_OR_NOT).await?.pop() else { return Ok(()) };
        if !matches!(migration.status(), Some(MigrationStatus::Confirming | MigrationStatus::Confirmed)) {
            return Ok(());
        }
        self.set_migration(context, &mut migration, MigrationStatus::Confirming).await?;
        self.confirm_resize(context, uuid, migration).await
    }
}
