//! What the servers of this host hold of its provider in placement, against what their flavors ask for. It differs where placement did
//! not answer when a resize was given up, reverted or confirmed: the server holds another flavor's resources, or the move, which has
//! ended, still holds some.

use std::{
    collections::{BTreeMap, BTreeSet},
    iter::once,
};

use futures::future::try_join_all;
use serde_json::{Map, json};
use tracing::{info, warn};
use uuid::Uuid;

use super::flavor_resources::{OF_THIS_HOST, Resources, asked_for};
use crate::compute::{Compute, arguments::instance_uuid, error::Error};
use crate::{
    cloud::{
        Caller,
        placement::{Allocation, ConsumerAllocations, ProviderAllocations},
    },
    messaging::Context,
    objects::{Instance, MigrationStatus, VmState},
};

/// The statuses of a migration after which nothing is held for it.
const ENDED: &[MigrationStatus] = &[MigrationStatus::Error, MigrationStatus::Reverted, MigrationStatus::Confirmed];
/// Those of one that may go on where its instance is in ERROR.
const UNDECIDED: &[MigrationStatus] = &[
    MigrationStatus::Accepted,
    MigrationStatus::PreMigrating,
    MigrationStatus::Migrating,
    MigrationStatus::PostMigrating,
    MigrationStatus::Finished,
    MigrationStatus::Confirming,
    MigrationStatus::Reverting,
];

/// What an instance is to hold of this host's provider.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Due {
    /// That is the business of an operation under way, or of a resize that waits for its user.
    Unsettled,
    /// Nobody knows, or it is not on this host. What its ended moves hold nobody needs.
    Unknown,
    Resources(Resources),
}

/// `instance` is as the database has it now; none is deleted.
fn due(instance: Option<&Instance>, host: &str) -> Due {
    let Some(instance) = instance else { return Due::Unknown };
    if instance.task_state().is_some() {
        return Due::Unsettled;
    }
    match instance.vm_state() {
        None | Some(VmState::Resized | VmState::Building | VmState::Unknown) => Due::Unsettled,
        Some(VmState::Deleted | VmState::ShelvedOffloaded) => Due::Unknown,
        Some(_) if instance.host() != Some(host) => Due::Unknown,
        Some(_) => asked_for(instance).map_or(Due::Unknown, Due::Resources),
    }
}

/// What instances hold of this host's provider, and what is asked for, where that is not the same.
pub(in crate::compute) type Differing = BTreeMap<Uuid, (Resources, Resources)>;

/// A consumer, and what it holds.
type Held = (Uuid, ConsumerAllocations);

/// An instance and its ended moves as placement has them. They are read before the instance's row: what begins after the row was read
/// changes them first, and is noticed.
struct Seen {
    instance: Held,
    ended_moves: Vec<Held>,
}

impl Seen {
    /// What is to be changed so that the instance holds what is due, and its ended moves nothing.
    fn changes(&self, due: &Due, provider: Uuid, row: Option<&Instance>) -> Vec<Held> {
        if *due == Due::Unsettled {
            return Vec::new();
        }
        let of_moves = self.ended_moves.iter().filter(|(_, held)| !held.allocations.is_empty());
        let given_up = of_moves
            .map(|(id, held)| (*id, ConsumerAllocations { allocations: BTreeMap::new(), ..held.clone() }))
            .collect();
        let mut changes: Vec<Held> = given_up;
        if let (Due::Resources(asked), Some(row)) = (due, row) {
            changes.extend(self.of_instance(asked, provider, row).map(|held| (self.instance.0, held)));
        }
        changes
    }

    /// What the instance is to hold of all providers; none where it does.
    fn of_instance(&self, asked: &Resources, provider: Uuid, row: &Instance) -> Option<ConsumerAllocations> {
        let mut held = self.instance.1.clone();
        if !held.allocations.contains_key(&provider) {
            // A resize begins with giving it all to the move, also what ports have of others' providers. What the instance holds
            // instead is a claim on the host that it did not go to.
            let of_moves = self.ended_moves.iter().rev().map(|(_, held)| &held.allocations);
            if let Some(all) = of_moves.into_iter().find(|allocations| allocations.contains_key(&provider)) {
                held.allocations = all.clone();
            }
        }
        if self.instance.1.allocations.is_empty() {
            held.project_id = row.project_id().map(str::to_owned);
            held.user_id = row.user_id().map(str::to_owned);
        }
        let here = held.allocations.remove(&provider).map(|allocation| allocation.resources).unwrap_or_default();
        // A provider that many hosts share may be where it has its disk.
        let is_shared = |class: &String| {
            let of_others = held.allocations.values().map(|allocation| &allocation.resources);
            of_others.filter(|resources| !is_of_a_host(resources)).any(|resources| resources.contains_key(class))
        };
        let is_needed = |class: &String| here.contains_key(class) || !is_shared(class);
        let needed = asked.iter().filter(|(class, _)| is_needed(class)).map(|(class, amount)| (class.clone(), *amount));
        // Of classes that an operator has added nothing is known.
        let added = here.iter().filter(|(class, _)| !OF_THIS_HOST.contains(&class.as_str()));
        let resources: Resources = added.map(|(class, amount)| (class.clone(), *amount)).chain(needed).collect();
        if !resources.is_empty() {
            held.allocations.insert(provider, Allocation { resources, generation: None });
        }
        let amounts = |all: &ConsumerAllocations| -> Vec<(Uuid, Resources)> {
            all.allocations.iter().map(|(id, allocation)| (*id, allocation.resources.clone())).collect()
        };
        (amounts(&held) != amounts(&self.instance.1)).then_some(held)
    }
}

/// Whether a provider that gives these is a host.
fn is_of_a_host(resources: &Resources) -> bool {
    ["VCPU", "PCPU", "MEMORY_MB"].iter().any(|class| resources.contains_key(*class))
}

/// Whether an instance is on no host, and on its way to none.
pub(super) fn is_nowhere(instance: &Instance) -> bool {
    !instance.deleted()
        && instance.host().is_none()
        && instance.task_state().is_none()
        && matches!(instance.vm_state(), Some(VmState::ShelvedOffloaded | VmState::Error))
}

impl Compute {
    /// Sets right what the host's `instances` hold of its provider, of which `held` is held. `strangers` hold some of it and are no
    /// instances of this host: moves that have ended, and instances that are on no host, hold nothing of it afterwards.
    pub(super) async fn settle_holdings(
        &self,
        instances: &[Instance],
        held: &ProviderAllocations,
        strangers: &[String],
    ) -> Result<(), Error> {
        let moves = self.ended_moves(strangers).await?;
        let mut differing = Differing::new();
        for instance in instances {
            let uuid = instance_uuid(instance)?;
            let holds = held.allocations.get(&uuid).map(|allocation| allocation.resources.clone()).unwrap_or_default();
            let Due::Resources(asked) = due(Some(instance), &self.host) else { continue };
            if holds != asked {
                differing.insert(uuid, (holds, asked));
            }
        }
        let mut right = self.held_elsewhere.lock().await;
        right.retain(|uuid, seen| differing.get(uuid) == Some(seen));
        let unsettled: BTreeSet<Uuid> =
            moves.keys().chain(differing.keys().filter(|uuid| !right.contains_key(uuid))).copied().collect();
        for uuid in unsettled {
            match self.settle(uuid, moves.get(&uuid).map_or(&[], Vec::as_slice)).await {
                Ok(true) => right.extend(differing.remove(&uuid).map(|seen| (uuid, seen))),
                Ok(false) => {}
                Err(error) => {
                    warn!(%error, instance = %uuid, "cannot set right what the instance holds in placement");
                }
            }
        }
        Ok(())
    }

    /// Where placement did not answer when the instance's way here ended.
    pub(in crate::compute) async fn take_from_homeless(&self, uuid: Uuid) -> Result<(), Error> {
        let Some(_lock) = self.locks.try_lock(uuid) else { return Ok(()) };
        let (caller, placement) = (&Caller::own(), &self.cloud.placement);
        // Before the row: a claim for a way that begins comes after the task that the row then has.
        let mut held = placement.allocations(caller, uuid).await?;
        let row = self.conductor.instance(&Context::admin(), &uuid.to_string(), &[]).await?;
        if is_nowhere(&row)
            && held.allocations.remove(&self.compute_id).is_some()
            && placement.replace_seen(caller, &[(uuid, held)]).await?
        {
            info!(instance = %uuid, "took what the instance, which is on no host, held in placement");
        }
        Ok(())
    }

    /// Those of `consumers` that are moves of this host which have ended, the newest last, by their instances.
    async fn ended_moves(&self, consumers: &[String]) -> Result<BTreeMap<Uuid, Vec<Uuid>>, Error> {
        let mut moves: BTreeMap<Uuid, Vec<Uuid>> = BTreeMap::new();
        if consumers.is_empty() {
            return Ok(moves);
        }
        let filters = Map::from_iter([
            ("uuid".to_owned(), json!(consumers)),
            ("status".to_owned(), json!(ENDED)),
            ("source_compute".to_owned(), json!(self.host)),
        ]);
        // Nova deletes a server's migrations with it.
        let with_deleted = Context::admin().with_read_deleted("yes");
        let mut ended = self.conductor.migrations(&with_deleted, filters).await?;
        ended.sort_by_key(|migration| migration.int("id"));
        for migration in ended {
            let id = |text: Option<&str>| text.and_then(|text| Uuid::parse_str(text).ok());
            if let (Some(instance), Some(consumer)) = (id(migration.instance_uuid()), id(migration.uuid())) {
                moves.entry(instance).or_default().push(consumer);
            }
        }
        Ok(moves)
    }

    /// Whether it was right as it is: elsewhere the instance may hold what it does not hold here.
    async fn settle(&self, uuid: Uuid, ended_moves: &[Uuid]) -> Result<bool, Error> {
        let Some(_lock) = self.locks.try_lock(uuid) else { return Ok(false) };
        let (context, caller, placement) = (Context::admin(), &Caller::own(), &self.cloud.placement);
        let read = |id: Uuid| async move { Ok::<_, Error>((id, placement.allocations(caller, id).await?)) };
        let mut seen = try_join_all(once(uuid).chain(ended_moves.iter().copied()).map(read)).await?;
        let seen = Seen { instance: seen.remove(0), ended_moves: seen };
        let row = match self.conductor.instance(&context, &uuid.to_string(), &["flavor"]).await {
            Err(error) if error.class() == Some("InstanceNotFound") => None,
            instance => Some(instance?),
        };
        let is_in_error = row.as_ref().is_some_and(|row| row.vm_state() == Some(VmState::Error));
        if is_in_error && !self.migrations_of(&context, uuid, UNDECIDED).await?.is_empty() {
            return Ok(false);
        }
        let due = due(row.as_ref(), &self.host);
        let changes = seen.changes(&due, self.compute_id, row.as_ref());
        if changes.is_empty() {
            return Ok(matches!(due, Due::Resources(_)));
        }
        let before = seen.instance.1.allocations.get(&self.compute_id).map(|allocation| &allocation.resources);
        let changed = match placement.replace_seen(caller, &changes).await {
            // There is no room for what the instance is to hold: the ended moves may have it.
            Err(error) if error.status() == Some(409) && changes.len() > 1 => {
                let of_moves: Vec<Held> = changes.into_iter().filter(|(id, _)| *id != uuid).collect();
                placement.replace_seen(caller, &of_moves).await?
            }
            changed => changed?,
        };
        if changed {
            info!(instance = %uuid, ?before, ?due, ?ended_moves, "set right what the instance holds in placement");
        } else {
            info!(instance = %uuid, "left allocations alone that changed meanwhile");
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests;
