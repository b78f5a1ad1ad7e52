//! Instances: reading, slim saves, destruction.

use serde_json::{Map, Value, json};

use super::doubt::Save;
use super::{Conductor, kwargs, malformed};
use crate::messaging::{CallError, Context};
use crate::objects::{Expected, Instance};

impl Conductor {
    /// One instance, with the named extra fields (`flavor`, `metadata`, `system_metadata`, `info_cache`, ..).
    pub async fn instance(
        &self,
        context: &Context,
        uuid: &str,
        expected_attrs: &[&str],
    ) -> Result<Instance, CallError> {
        let attrs = kwargs([("expected_attrs", json!(expected_attrs))]);
        self.get(context, "Instance", "get_by_uuid", vec![uuid.into()], attrs).await
    }

    /// The instances whose host is `host`.
    pub async fn instances_by_host(
        &self,
        context: &Context,
        host: &str,
        expected_attrs: &[&str],
    ) -> Result<Vec<Instance>, CallError> {
        let attrs = kwargs([("expected_attrs", json!(expected_attrs))]);
        self.list(context, "InstanceList", "get_by_host", vec![host.into()], attrs).await
    }

    /// The uuids of the instances whose host is `host`.
    pub async fn uuids_by_host(&self, context: &Context, host: &str) -> Result<Vec<String>, CallError> {
        let uuids =
            self.class_action(context, "InstanceList", "get_uuids_by_host", vec![host.into()], kwargs([])).await?;
        serde_json::from_value(uuids).map_err(|error| malformed("InstanceList.get_uuids_by_host", error))
    }

    /// The instances whose host is `host` and whose node is `node`.
    pub async fn instances_by_host_and_node(
        &self,
        context: &Context,
        host: &str,
        node: &str,
        expected_attrs: &[&str],
    ) -> Result<Vec<Instance>, CallError> {
        let attrs = kwargs([("expected_attrs", json!(expected_attrs))]);
        self.list(context, "InstanceList", "get_by_host_and_node", vec![host.into(), node.into()], attrs).await
    }

    /// The instances that match `filters` (`uuid`: list, `host`, `vm_state`, `task_state`, `deleted`, `soft_deleted`,
    /// `cleaned`). Deleted rows also need a context with read_deleted.
    pub async fn instances_by_filters(
        &self,
        context: &Context,
        filters: Map<String, Value>,
        expected_attrs: &[&str],
    ) -> Result<Vec<Instance>, CallError> {
        let attrs = kwargs([("expected_attrs", json!(expected_attrs)), ("use_slave", true.into())]);
        self.list(context, "InstanceList", "get_by_filters", vec![Value::Object(filters)], attrs).await
    }

    /// Servers of a project that are not deleted, oldest first; `filters` are those of [`instances_by_filters`](Self::instances_by_filters),
    /// and `display_name` (a regular expression) and `tags`. With their network information and system metadata.
    pub async fn instances_of_project(
        &self,
        context: &Context,
        project_id: &str,
        mut filters: Map<String, Value>,
        limit: usize,
    ) -> Result<Vec<Instance>, CallError> {
        filters.insert("project_id".to_owned(), project_id.into());
        filters.insert("deleted".to_owned(), false.into());
        let how = kwargs([
            ("sort_keys", json!(["created_at", "id"])),
            ("sort_dirs", json!(["asc", "asc"])),
            ("limit", limit.into()),
            ("expected_attrs", json!(["info_cache", "system_metadata"])),
        ]);
        self.list(context, "InstanceList", "get_by_filters", vec![Value::Object(filters)], how).await
    }

    /// Writes single fields of an instance and returns its columns as they are now in the database. Whoever is answered knows whether
    /// that was done, and may wait long for it.
    ///
    /// `metadata` and `system_metadata` replace the whole dictionary. `node` must go together with `compute_id`. Whoever writes states
    /// names the tasks that it expects: over any task only the first try is made, and later ones over the task that the first look found.
    ///
    /// # Errors
    /// `UnexpectedTaskStateError` or `UnexpectedDeletingTaskStateError` when the task state
    /// in the database is not an `expected` one; `InstanceUpdateConflict` when the state is not. `InstanceNotFound` when it was deleted.
    pub async fn save_instance(
        &self,
        context: &Context,
        uuid: &str,
        fields: Map<String, Value>,
        expected: &Expected,
    ) -> Result<Instance, CallError> {
        self.until_saved(context, uuid, Save::new(fields, expected)).await
    }

    /// Asks for it once.
    pub(super) async fn save_instance_once(
        &self,
        context: &Context,
        uuid: &str,
        save: &Save,
    ) -> Result<Instance, CallError> {
        let mut instance = Instance::slim(uuid);
        for (field, value) in &save.fields {
            instance.set(field, value.clone());
        }
        self.object_action(context, &mut instance, "save", Vec::new(), save.expected()).await?;
        Ok(instance)
    }

    /// Marks the instance's row, and those that belong to it, as deleted. Without a `host` it is not done where a host has taken the
    /// instance meanwhile (`ObjectActionError`); with one, Nova asks no more. Whoever is answered knows whether that was done, and may
    /// wait long for it; what an earlier try has destroyed is not there (`InstanceNotFound`).
    pub async fn destroy_instance(
        &self,
        context: &Context,
        uuid: &str,
        id: i64,
        host: Option<&str>,
    ) -> Result<(), CallError> {
        let mut instance = Instance::slim(uuid);
        instance.data.insert("id".to_owned(), id.into());
        instance.data.insert("host".to_owned(), json!(host));
        let destroy = || {
            let mut instance = instance.clone();
            async move { self.act(context, &mut instance, "destroy").await }
        };
        self.until_known("the end of an instance", destroy).await
    }
}
