//! Carrying out a refusal: what the API has prepared for the operation is taken back.

use serde_json::{Map, Value, json};
use tracing::{info, warn};
use uuid::Uuid;

use crate::compute::{
    Compute,
    arguments::instance_argument,
    arguments::instance_uuid,
    duties::Duties,
    error::Error,
    refusal::table::{Aftermath, Cast, EVACUATION, Refusal, migration, unsupported},
};
use crate::{
    cloud::Caller,
    messaging::Context,
    objects::{Expected, Instance, Migration, MigrationStatus, TaskState},
};

impl Compute {
    /// Answers a method that containers do not have. The answer of a cast goes nowhere.
    pub(in crate::compute) async fn refuse(
        &self,
        context: &Context,
        method: &str,
        refusal: Refusal,
        mut args: Map<String, Value>,
    ) -> Result<Value, Error> {
        let instance = args.contains_key("instance").then(|| instance_argument(method, &mut args)).transpose()?;
        info!(method, "refused: not supported for containers");
        match (refusal, instance) {
            (Refusal::Call(answer), instance) => {
                let uuid = instance.as_ref().map(instance_uuid).transpose()?;
                let error = answer.error(uuid, args.get("console_type").and_then(Value::as_str));
                match (answer.event, uuid) {
                    (Some(event), Some(uuid)) => {
                        // A task that there is is another operation's: for none of these the API sets one.
                        let duties = Duties::of(event, &[]);
                        self.operate(context, uuid, duties, async { Err(error) }).await
                    }
                    _ => Err(error),
                }
            }
            (Refusal::Cast(cast), Some(instance)) => self.refuse_cast(context, cast, instance, &args).await,
            (Refusal::Cast(cast), None) => Err(cast.error()),
            (Refusal::Fault(what), instance) => {
                let error = unsupported(what);
                if let Some(instance) = &instance {
                    self.record_fault(context, instance_uuid(instance)?, &error).await;
                }
                Err(error)
            }
        }
    }

    /// Refuses to take over an instance of a host that is lost.
    pub(in crate::compute) async fn refuse_evacuation(
        &self,
        context: &Context,
        instance: Instance,
        args: &Map<String, Value>,
    ) -> Result<Value, Error> {
        info!("refused: containers are not evacuated");
        self.refuse_cast(context, EVACUATION, instance, args).await
    }

    /// Refuses to take an instance from another host, or to give one away. The step before this one has set `task`.
    pub(in crate::compute) async fn refuse_migration(
        &self,
        context: &Context,
        instance: Instance,
        record: Migration,
        task: TaskState,
    ) -> Result<Value, Error> {
        info!("refused: containers are not migrated to other hosts");
        let args = Map::from_iter([("migration".to_owned(), record.to_value())]);
        self.refuse_cast(context, migration(task), instance, &args).await
    }

    async fn refuse_cast(
        &self,
        context: &Context,
        cast: Cast,
        mut instance: Instance,
        args: &Map<String, Value>,
    ) -> Result<Value, Error> {
        let uuid = instance_uuid(&instance)?;
        let duties = Duties::of(cast.event, cast.task.as_slice());
        self.operate(context, uuid, duties, async {
            let mut error = cast.error();
            if let Some(task) = cast.task {
                let kept = self.save(context, &mut instance, json!({"task_state": task}), Expected::task(task)).await;
                match kept {
                    // A request that came twice, or late: the task is another one's.
                    Err(late) if late.is_unexpected_task_state() && !late.is_gone() => {
                        self.give_up_late(context, cast.aftermath, &instance, args).await;
                        return Err(late);
                    }
                    Err(other) => error = other,
                    Ok(()) => {}
                }
            }
            Err(match self.undo(context, cast.aftermath, &instance, args).await {
                Ok(()) => error,
                Err(cleanup) => Error::Cleanup { error: Box::new(error), cleanup: cleanup.to_string() },
            })
        })
        .await
    }

    async fn undo(
        &self,
        context: &Context,
        aftermath: Aftermath,
        instance: &Instance,
        args: &Map<String, Value>,
    ) -> Result<(), Error> {
        match aftermath {
            Aftermath::Nothing => Ok(()),
            Aftermath::Evacuation => self.undo_evacuation(context, instance, args).await,
            Aftermath::Resize => self.undo_claim(context, instance_uuid(instance)?, args).await,
            Aftermath::Migration => self.fail_migration(context, args, MigrationStatus::Error).await,
        }
    }

    /// What was prepared for a request that is nobody's any more.
    async fn give_up_late(
        &self,
        context: &Context,
        aftermath: Aftermath,
        instance: &Instance,
        args: &Map<String, Value>,
    ) {
        let migration = args.get("migration").cloned().and_then(|value| Migration::try_from(value).ok());
        let (Ok(uuid), Some(mut migration)) = (instance_uuid(instance), migration) else { return };
        let given_up = match aftermath {
            Aftermath::Nothing => Ok(()),
            Aftermath::Resize => self.give_up_late_migration(context, uuid, &mut migration).await,
            // No other host begins with it, and its record alone is left.
            Aftermath::Migration => self.fail_migration(context, args, MigrationStatus::Error).await,
            Aftermath::Evacuation => match self.waits(context, uuid, &migration, MigrationStatus::Accepted).await {
                Ok(true) => self.undo_evacuation(context, instance, args).await,
                waits => waits.map(drop),
            },
        };
        if let Err(error) = given_up {
            warn!(%error, instance = %uuid, "cannot give up a migration that came late");
        }
    }

    /// An evacuation has claimed this host for an instance that lives elsewhere.
    async fn undo_evacuation(
        &self,
        context: &Context,
        instance: &Instance,
        args: &Map<String, Value>,
    ) -> Result<(), Error> {
        self.fail_migration(context, args, MigrationStatus::Failed).await?;
        let caller = Caller::service(context.request_id());
        let placement = &self.cloud.placement;
        placement.remove_provider(&caller, instance_uuid(instance)?, self.compute_id).await?;
        Ok(())
    }

    /// Conductor has moved the allocation that the instance holds to the migration, and claimed this host for the instance.
    async fn undo_claim(&self, context: &Context, instance: Uuid, args: &Map<String, Value>) -> Result<(), Error> {
        let migration = args.get("migration").cloned().map(Migration::try_from).and_then(Result::ok);
        if let Some(migration) = migration.as_ref().and_then(|migration| Uuid::parse_str(migration.uuid()?).ok()) {
            let caller = Caller::service(context.request_id());
            self.cloud.placement.move_allocations(&caller, migration, instance).await?;
        } else {
            warn!(%instance, "a resize came without its migration: its allocations stay as they are");
        }
        self.fail_migration(context, args, MigrationStatus::Error).await
    }

    async fn fail_migration(
        &self,
        context: &Context,
        args: &Map<String, Value>,
        status: MigrationStatus,
    ) -> Result<(), Error> {
        let Some(mut migration) = args.get("migration").cloned().and_then(|value| Migration::try_from(value).ok())
        else {
            return Ok(());
        };
        migration.set("status", status.as_str());
        self.conductor.save_migration(&context.elevated(), &mut migration).await?;
        Ok(())
    }
}
