//! Resizes that a restart of the agent cut short: undone before RESIZED, finished after.

use serde_json::{Map, json};
use tracing::warn;
use uuid::Uuid;

use crate::compute::{Compute, arguments::instance_uuid, error::Error};
use crate::{
    messaging::Context,
    objects::{Expected, Instance, Migration, MigrationStatus, TaskState},
};

/// The statuses of a migration on its way to `finished`.
const ON_THE_WAY: &[MigrationStatus] = &[
    MigrationStatus::Accepted,
    MigrationStatus::PreMigrating,
    MigrationStatus::Migrating,
    MigrationStatus::PostMigrating,
];
/// Those of one that may have left something of an instance that is deleted.
const AFTER_IT: &[MigrationStatus] = &[
    MigrationStatus::Finished,
    MigrationStatus::Confirming,
    MigrationStatus::Reverting,
    MigrationStatus::Reverted,
    MigrationStatus::Error,
];

impl Compute {
    /// The migrations of an instance with one of these statuses, the newest last; all without any.
    pub(in crate::compute) async fn migrations_of(
        &self,
        context: &Context,
        uuid: Uuid,
        statuses: &[MigrationStatus],
    ) -> Result<Vec<Migration>, Error> {
        let mut filters = Map::from_iter([("instance_uuid".to_owned(), json!(uuid))]);
        if !statuses.is_empty() {
            filters.insert("status".to_owned(), json!(statuses));
        }
        let mut found = self.conductor.migrations(&context.elevated(), filters).await?;
        found.sort_by_key(|migration| migration.int("id"));
        Ok(found)
    }

    /// The instance is what it was before the resize.
    pub(in crate::compute) async fn undo_interrupted_resize(
        &self,
        context: &Context,
        instance: &Instance,
    ) -> Result<(), Error> {
        let uuid = instance_uuid(instance)?;
        let _lock = self.locks.lock(uuid).await;
        let error = Error::exception(
            "MigrationError",
            "the compute service was restarted while it resized the instance, which is as it was before; resize it again",
            json!({}),
        );
        let (mut instance, _) = self.read_for_resize(context, uuid).await?;
        let task = instance.task_state();
        let last = task == Some(TaskState::ResizeFinish);
        let statuses = [ON_THE_WAY, if last { &[MigrationStatus::Finished] } else { &[] }].concat();
        let mut migrations = self.migrations_of(context, uuid, &statuses).await?;
        // What fails here is tried again, with the record as it is.
        self.driver.restore(uuid).await?;
        let mut none = Migration::empty();
        let migration = migrations.last_mut().unwrap_or(&mut none);
        let error = self.undo_resize(context, &instance, migration, error).await;
        for event in ["compute_prep_resize", "compute_resize_instance", "compute_finish_resize"] {
            self.finish_event(context, uuid, event, Some(&error)).await;
        }
        self.record_fault(context, uuid, &error).await;
        // Not one that was set meanwhile.
        self.save(context, &mut instance, json!({"task_state": null}), Expected::OneOf(vec![task, None])).await
    }

    /// Ends what an instance that is deleted has left of its resizes.
    pub(in crate::compute) async fn end_migrations(&self, context: &Context, uuid: Uuid) {
        let statuses = [ON_THE_WAY, AFTER_IT].concat();
        let ended = async {
            for mut migration in self.migrations_of(context, uuid, &statuses).await? {
                self.forget_migration(context, uuid, &migration).await;
                if !matches!(migration.status(), Some(MigrationStatus::Reverted | MigrationStatus::Error)) {
                    self.set_migration(context, &mut migration, MigrationStatus::Error).await?;
                }
            }
            Ok::<_, Error>(())
        };
        if let Err(error) = ended.await {
            warn!(%error, instance = %uuid, "cannot end the migrations of a deleted instance");
        }
    }

    /// The revert goes on where it was.
    pub(in crate::compute) async fn finish_interrupted_revert(
        &self,
        context: &Context,
        instance: &Instance,
    ) -> Result<(), Error> {
        let uuid = instance_uuid(instance)?;
        let statuses = [MigrationStatus::Reverting, MigrationStatus::Reverted];
        let mut migrations = self.migrations_of(context, uuid, &statuses).await?;
        let Some(mut migration) = migrations.pop() else {
            warn!("the migration that is to be reverted is not there");
            let mut instance = instance.clone();
            let reverting = Expected::task(TaskState::ResizeReverting);
            return self.save(context, &mut instance, json!({"task_state": null}), reverting).await;
        };
        self.set_migration(context, &mut migration, MigrationStatus::Reverted).await?;
        self.finish_revert_resize(context, uuid, migration).await
    }
}
