//! What this host has to do with an instance. Who decides by it: recovery, the reaper, power sync, reclaiming, the plan of ports,
//! moves.
//!
//! The record's `host` tells whose the instance is. During a move that is not enough: the source keeps its container until the
//! move is confirmed, while the record names the destination already; and the destination has resources before it does.

use uuid::Uuid;

use crate::compute::{Compute, arguments::instance_uuid, error::Error};
use crate::{
    messaging::Context,
    objects::{Instance, Migration, MigrationStatus},
};

/// Whose the instance is, as this host sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::compute) enum Ownership {
    /// This host's: its states are for this service to change.
    Here,
    /// Another host's; but it is on its way from or to this one. What is here of it stays, and its states are not ours.
    Moving,
    /// Nothing of it belongs here.
    Elsewhere,
}

impl Ownership {
    fn of(instance: &Instance, migrations: &[Migration], host: &str) -> Self {
        if instance.deleted() {
            Self::Elsewhere
        } else if instance.host() == Some(host) {
            Self::Here
        } else if migrations.iter().any(|migration| names(migration, host)) {
            Self::Moving
        } else {
            Self::Elsewhere
        }
    }
}

/// Whether a host that has a part in the move has to keep what it has. The source of an evacuation has lost its instance.
fn names(migration: &Migration, host: &str) -> bool {
    let is = |role: &str| migration.str(role) == Some(host);
    let undecided = migration.status().is_some_and(MigrationStatus::is_undecided);
    undecided && (is("dest_compute") || is("source_compute") && migration.str("migration_type") != Some("evacuation"))
}

impl Compute {
    /// Whether the instance's record names this host. Enough for whoever changes its states; who removes something asks
    /// [`ownership`](Self::ownership).
    pub(in crate::compute) fn is_here(&self, instance: &Instance) -> bool {
        Ownership::of(instance, &[], &self.host) == Ownership::Here
    }

    /// What this host has to do with the instance, its moves considered.
    ///
    /// # Errors
    /// Conductor did not answer, or refused.
    pub(in crate::compute) async fn ownership(&self, instance: &Instance) -> Result<Ownership, Error> {
        if instance.deleted() || self.is_here(instance) {
            return Ok(Ownership::of(instance, &[], &self.host));
        }
        let uuid: Uuid = instance_uuid(instance)?;
        let statuses = MigrationStatus::ALL.iter().copied();
        let undecided: Vec<_> = statuses.filter(|status| status.is_undecided()).collect();
        let migrations = self.migrations_of(&Context::admin(), uuid, &undecided).await?;
        Ok(Ownership::of(instance, &migrations, &self.host))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UUID: &str = "6ff36a1a-8c2e-4b1c-859a-84bdd78d56c8";

    fn instance(host: Option<&str>) -> Instance {
        let mut instance = Instance::slim(UUID);
        instance.set("host", host);
        instance
    }

    fn migration(kind: &str, status: &str, (source, destination): (&str, &str)) -> Migration {
        let mut migration = Migration::empty();
        migration.set("migration_type", kind);
        migration.set("status", status);
        migration.set("source_compute", source);
        migration.set("dest_compute", destination);
        migration
    }

    fn here(host: Option<&str>, migrations: &[Migration]) -> Ownership {
        Ownership::of(&instance(host), migrations, "here")
    }

    #[test]
    fn the_record_names_whose_an_instance_is() {
        assert_eq!(here(Some("here"), &[]), Ownership::Here);
        assert_eq!(here(Some("there"), &[]), Ownership::Elsewhere);
        assert_eq!(here(None, &[]), Ownership::Elsewhere);
    }

    #[test]
    fn both_hosts_of_a_move_keep_what_they_have_until_it_is_decided() {
        let before = ["queued", "accepted", "preparing", "pre-migrating", "migrating", "running", "post-migrating"];
        for status in [&before[..], &["finished", "confirming", "reverting", "error"]].concat() {
            let leaves = migration("resize", status, ("here", "there"));
            assert_eq!(here(Some("there"), &[leaves]), Ownership::Moving, "the source while {status}");
            let comes = migration("live-migration", status, ("there", "here"));
            assert_eq!(here(Some("there"), &[comes]), Ownership::Moving, "the destination while {status}");
        }
        for status in ["confirmed", "reverted", "completed", "failed", "cancelled", "done", "running (post-copy)"] {
            let was = migration("resize", status, ("here", "there"));
            assert_eq!(here(Some("there"), &[was]), Ownership::Elsewhere, "after {status}");
        }
        let others = migration("resize", "finished", ("elsewhere", "there"));
        assert_eq!(here(Some("there"), &[others]), Ownership::Elsewhere, "a move of two other hosts");
    }

    #[test]
    fn who_was_evacuated_from_here_is_not_here() {
        let left = migration("evacuation", "accepted", ("here", "there"));
        assert_eq!(here(Some("there"), &[left]), Ownership::Elsewhere);
        let comes = migration("evacuation", "accepted", ("there", "here"));
        assert_eq!(here(Some("there"), &[comes]), Ownership::Moving);
    }
}
