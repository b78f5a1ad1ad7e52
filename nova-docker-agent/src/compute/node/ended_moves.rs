//! What moves that have ended still hold in placement: where it did not answer when a resize was given up, reverted or confirmed.

use serde_json::{Map, json};
use tracing::{info, warn};
use uuid::Uuid;

use super::usage::Usage;
use crate::compute::{Compute, error::Error};
use crate::{
    cloud::{self, Caller, placement::Placement},
    messaging::Context,
    objects::{Instance, Migration, VmState},
};

/// The statuses of a migration after which nothing is held for it.
const ENDED: &[&str] = &["error", "reverted", "confirmed"];

/// What is right for the allocations of a migration that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Due {
    /// An operation is under way, whose business they are.
    Wait,
    /// They are those of the flavor that the instance has on this host.
    GiveBack,
    /// Nobody needs them.
    Drop,
}

/// `instance` is as the database has it now; none is deleted.
fn due(migration: &Migration, instance: Option<&Instance>, host: &str) -> Due {
    let Some(instance) = instance else { return Due::Drop };
    // A later resize may be waiting for its user.
    if instance.task_state().is_some() || instance.vm_state() == Some(VmState::Resized) {
        return Due::Wait;
    }
    if instance.str("host") != Some(host) || Usage::of(instance).is_none() {
        return Due::Drop;
    }
    let old = migration.int("old_instance_type_id");
    let has_old = old.is_some() && instance.flavor().and_then(|flavor| flavor.int("id")) == old;
    if has_old { Due::GiveBack } else { Due::Drop }
}

/// The instance and the migration as placement has them. They are read before the instance's row: what begins after the row was read
/// changes them first, and is noticed.
struct Seen {
    instance: (Uuid, cloud::placement::ConsumerAllocations),
    migration: (Uuid, cloud::placement::ConsumerAllocations),
}

impl Seen {
    async fn read(
        placement: &Placement,
        caller: &Caller,
        instance: Uuid,
        migration: Uuid,
    ) -> Result<Self, cloud::Error> {
        let (of_instance, of_migration) =
            tokio::try_join!(placement.allocations(caller, instance), placement.allocations(caller, migration))?;
        Ok(Self { instance: (instance, of_instance), migration: (migration, of_migration) })
    }

    /// False when somebody has changed them meanwhile: the next audit looks again.
    async fn settle(&self, placement: &Placement, caller: &Caller, due: Due) -> Result<bool, cloud::Error> {
        let ((instance, held), (migration, left)) = (&self.instance, &self.migration);
        let is_there = left.allocations.iter().all(|(provider, wanted)| {
            held.allocations.get(provider).is_some_and(|allocation| allocation.resources == wanted.resources)
        });
        match due {
            Due::Wait => Ok(true),
            _ if left.allocations.is_empty() => Ok(true),
            Due::GiveBack if !is_there => {
                placement.move_seen_allocations(caller, (*migration, left), (*instance, held)).await
            }
            Due::GiveBack | Due::Drop => placement.clear_allocations(caller, *migration, left).await,
        }
    }
}

impl Compute {
    /// Settles what those of `consumers` hold that are moves of this host which have ended.
    pub(super) async fn settle_ended_moves(&self, consumers: &[String]) -> Result<(), Error> {
        let context = Context::admin();
        let filters = Map::from_iter([
            ("uuid".to_owned(), json!(consumers)),
            ("status".to_owned(), json!(ENDED)),
            ("source_compute".to_owned(), json!(self.host)),
        ]);
        // Nova deletes a server's migrations with it.
        let with_deleted = Context::admin().with_read_deleted("yes");
        for migration in self.conductor.migrations(&with_deleted, filters).await? {
            if let Err(error) = self.settle_ended_move(&context, &migration).await {
                warn!(%error, migration = migration.uuid(), "cannot settle what a move that has ended holds in placement");
            }
        }
        Ok(())
    }

    async fn settle_ended_move(&self, context: &Context, migration: &Migration) -> Result<(), Error> {
        let id = |text: Option<&str>| text.and_then(|text| Uuid::parse_str(text).ok());
        let (Some(uuid), Some(consumer)) = (id(migration.instance_uuid()), id(migration.uuid())) else { return Ok(()) };
        let Some(_lock) = self.locks.try_lock(uuid) else { return Ok(()) };
        let (caller, placement) = (Caller::own(), &self.cloud.placement);
        let seen = Seen::read(placement, &caller, uuid, consumer).await?;
        let instance = match self.conductor.instance(context, &uuid.to_string(), &["flavor"]).await {
            Err(error) if error.class() == Some("InstanceNotFound") => None,
            instance => Some(instance?),
        };
        let due = due(migration, instance.as_ref(), &self.host);
        if due == Due::Wait {
            return Ok(());
        }
        if seen.settle(placement, &caller, due).await? {
            info!(instance = %uuid, migration = %consumer, ?due, "settled what a move that has ended held in placement");
        } else {
            info!(instance = %uuid, migration = %consumer, "left allocations alone that changed meanwhile");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
