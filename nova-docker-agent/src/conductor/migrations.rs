//! Moves of instances between hosts.

use serde_json::{Map, Value};

use super::{Conductor, kwargs};
use crate::messaging::{CallError, Context, Target};
use crate::objects::Migration;

impl Conductor {
    /// The moves from or to a node that are under way or failed.
    pub async fn migrations_in_progress(
        &self,
        context: &Context,
        host: &str,
        node: &str,
    ) -> Result<Vec<Migration>, CallError> {
        let args = vec![host.into(), node.into()];
        self.list(context, "MigrationList", "get_in_progress_and_error", args, kwargs([])).await
    }

    /// The moves from or to a node that are under way.
    pub async fn migrations_under_way(
        &self,
        context: &Context,
        host: &str,
        node: &str,
    ) -> Result<Vec<Migration>, CallError> {
        let args = vec![host.into(), node.into()];
        self.list(context, "MigrationList", "get_in_progress_by_host_and_node", args, kwargs([])).await
    }

    /// The moves that match `filters` (`source_compute`, `status`: list, `migration_type`, `instance_uuid`).
    pub async fn migrations(
        &self,
        context: &Context,
        filters: Map<String, Value>,
    ) -> Result<Vec<Migration>, CallError> {
        let args = vec![Value::Object(filters)];
        self.list(context, "MigrationList", "get_by_filters", args, kwargs([])).await
    }

    /// The resizes to `host` that are finished since `seconds` and not confirmed.
    pub async fn unconfirmed_migrations(
        &self,
        context: &Context,
        seconds: u64,
        host: &str,
    ) -> Result<Vec<Migration>, CallError> {
        let args = vec![seconds.into(), host.into()];
        let slave = kwargs([("use_slave", true.into())]);
        self.list(context, "MigrationList", "get_unconfirmed_by_dest_compute", args, slave).await
    }

    /// Asks the compute service of `host` for the next step of a move.
    pub async fn ask_compute(&self, context: &Context, host: &str, method: &str, args: Value) -> Result<(), CallError> {
        self.rpc.cast(&Target::topic("compute", "6.0").server(host), context, method, args).await
    }

    /// Writes the changed fields of a move. Whoever is answered knows whether that was done, and may wait long for it.
    pub async fn save_migration(&self, context: &Context, migration: &mut Migration) -> Result<(), CallError> {
        let save = || {
            let mut migration = migration.clone();
            async move { self.act(context, &mut migration, "save").await.map(|()| migration) }
        };
        *migration = self.until_known("a save of a migration", save).await?;
        Ok(())
    }
}
