//! What the requests of a resize carry, and what all steps of one have in common.

use serde_json::{Map, Value, json};
use tracing::{info, warn};
use uuid::Uuid;

use crate::compute::{
    Compute,
    arguments::{Arguments, instance_uuid},
    error::Error,
};
use crate::{
    cloud::Caller,
    messaging::Context,
    objects::{Flavor, Instance, Migration, MigrationStatus, TaskState, VmState},
};

/// What a step reads of its instance.
pub(super) const INSTANCE_ATTRS: &[&str] = &["metadata", "system_metadata", "flavor"];
/// Key of system_metadata: whether the server was on when its resize began.
pub(super) const OLD_VM_STATE: &str = "old_vm_state";
/// Status of the migration of a resize of which no step has begun.
const FIRST: MigrationStatus = MigrationStatus::PreMigrating;

/// A step of a resize.
pub(in crate::compute) struct Step {
    pub(super) instance: Instance,
    pub(super) uuid: Uuid,
    pub(super) migration: Migration,
    /// What the step does not look at goes on to the next one as it came.
    pub(super) rest: Map<String, Value>,
}

impl Step {
    pub(super) fn parse(mut arguments: Arguments) -> Result<Self, Error> {
        let instance = arguments.instance()?;
        let migration = arguments.get("migration").cloned().unwrap_or_default();
        let migration = Migration::try_from(migration)
            .map_err(|error| arguments.bad(format!("the argument `migration`: {error}")))?;
        Ok(Self { uuid: instance_uuid(&instance)?, instance, migration, rest: arguments.into_map() })
    }

    pub(super) fn argument(&self, name: &str) -> Value {
        self.rest.get(name).cloned().unwrap_or_default()
    }

    /// The flavor that is asked for.
    pub(super) fn flavor(&self) -> Result<Flavor, Error> {
        Flavor::try_from(self.argument("flavor")).map_err(|error| Error::BadRequest {
            method: "resize".to_owned(),
            problem: format!("the argument `flavor`: {error}"),
        })
    }

    /// The migration's own id, which holds allocations and usage.
    pub(super) fn migration_uuid(&self) -> Option<Uuid> {
        migration_uuid(&self.migration)
    }
}

pub(super) fn migration_uuid(migration: &Migration) -> Option<Uuid> {
    Uuid::parse_str(migration.uuid()?).ok()
}

/// Whether the server was on when its resize began.
pub(super) fn was_on(instance: &Instance) -> bool {
    match instance.system_metadata().get(OLD_VM_STATE) {
        Some(state) => state != VmState::Stopped.as_str(),
        None => instance.vm_state() != Some(VmState::Stopped),
    }
}

/// The fields of an instance that say which flavor it has, and which it had or is to have.
pub(super) fn flavor_fields(flavor: &Flavor, old: Value, new: Value) -> Map<String, Value> {
    let mut fields = Map::new();
    let copied = [
        ("instance_type_id", "id"),
        ("memory_mb", "memory_mb"),
        ("vcpus", "vcpus"),
        ("root_gb", "root_gb"),
        ("ephemeral_gb", "ephemeral_gb"),
    ];
    fields.extend(copied.map(|(field, of)| (field.to_owned(), flavor.get(of).cloned().unwrap_or_default())));
    fields.extend(stashed_flavors(flavor, old, new));
    fields
}

/// The flavor that counts, and the two that a resize remembers. Nova saves the three together.
pub(super) fn stashed_flavors(flavor: &Flavor, old: Value, new: Value) -> Map<String, Value> {
    Map::from_iter([
        ("flavor".to_owned(), flavor.to_value()),
        ("old_flavor".to_owned(), old),
        ("new_flavor".to_owned(), new),
    ])
}

impl Compute {
    /// The instance as the database has it, and its flavor.
    pub(super) async fn read_for_resize(&self, context: &Context, uuid: Uuid) -> Result<(Instance, Flavor), Error> {
        let instance = self.conductor.instance(context, &uuid.to_string(), INSTANCE_ATTRS).await?;
        let flavor = instance.flavor().ok_or_else(|| Error::BadRequest {
            method: format!("instance {uuid}"),
            problem: "the instance has no flavor".to_owned(),
        })?;
        Ok((instance, flavor))
    }

    pub(super) async fn set_migration(
        &self,
        context: &Context,
        migration: &mut Migration,
        status: MigrationStatus,
    ) -> Result<(), Error> {
        migration.set("status", status.as_str());
        self.conductor.save_migration(&context.elevated(), migration).await?;
        Ok(())
    }

    /// Gives what the migration holds in placement back to the instance, ends the migration, and counts it out. What fails
    /// is logged: whoever calls has a failure of its own to report.
    pub(super) async fn give_up_migration(&self, context: &Context, uuid: Uuid, migration: &mut Migration) {
        if let Some(consumer) = migration_uuid(migration) {
            let caller = Caller::service(context.request_id());
            if let Err(error) = self.cloud.placement.move_allocations(&caller, consumer, uuid).await {
                warn!(%error, instance = %uuid, "what the migration holds in placement stays with it");
            }
            self.tracker.release(consumer).await;
        }
        if let Err(error) = self.set_migration(context, migration, MigrationStatus::Error).await {
            warn!(%error, instance = %uuid, "cannot record that the migration has failed");
        }
    }

    /// Whether the record of a migration still has the status that it had when its first step was asked for.
    pub(in crate::compute) async fn waits(
        &self,
        context: &Context,
        uuid: Uuid,
        migration: &Migration,
        first: MigrationStatus,
    ) -> Result<bool, Error> {
        let waiting = self.migrations_of(context, uuid, &[first]).await?;
        Ok(waiting.iter().any(|other| other.uuid() == migration.uuid()))
    }

    /// Gives up a migration whose first step came when its task was gone. One of which a step has begun came twice, and is left alone.
    pub(in crate::compute) async fn give_up_late_migration(
        &self,
        context: &Context,
        uuid: Uuid,
        migration: &mut Migration,
    ) -> Result<(), Error> {
        let task = self.conductor.instance(context, &uuid.to_string(), &[]).await?.task_state();
        // Between this task and the status that goes with it an agent may have died.
        if task == Some(TaskState::ResizeMigrating) || !self.waits(context, uuid, migration, FIRST).await? {
            return Ok(());
        }
        info!(migration = migration.uuid(), "the task of a resize that came late is gone: giving up its migration");
        let all = self.migrations_of(context, uuid, &[]).await?;
        if all.iter().any(|other| other.int("id") > migration.int("id")) {
            // What the instance holds in placement is a later resize's business.
            self.forget_migration(context, uuid, migration).await;
            return self.set_migration(context, migration, MigrationStatus::Error).await;
        }
        self.give_up_migration(context, uuid, migration).await;
        Ok(())
    }

    /// The next step of a resize, on the host that it is for.
    pub(super) async fn ask_for(
        &self,
        context: &Context,
        method: &'static str,
        host: &str,
        instance: &Instance,
        step: &Step,
        more: &[&str],
    ) -> Result<(), Error> {
        let mut args = json!({"instance": instance.to_value(), "migration": step.migration.to_value()});
        for name in more {
            args[*name] = step.argument(name);
        }
        self.conductor.ask_compute(context, host, method, args).await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_server_that_was_stopped_is_not_started_again() {
        let mut instance = Instance::slim("6ff36a1a-8c2e-4b1c-859a-84bdd78d56c8");
        assert!(was_on(&instance));
        instance.set("vm_state", "stopped");
        assert!(!was_on(&instance), "its resize had not begun");
        instance.set("system_metadata", json!({OLD_VM_STATE: "stopped"}));
        assert!(!was_on(&instance));
        instance.set("system_metadata", json!({OLD_VM_STATE: "active"}));
        assert!(was_on(&instance));
    }
}
