//! The records of this service and of its compute node.

use serde_json::{Value, json};

use super::{Conductor, found, kwargs, malformed};
use crate::messaging::{CallError, Context};
use crate::objects::{ComputeNode, Service};

const BINARY: &str = "nova-compute";

impl Conductor {
    /// The record of the compute service on `host`; `None` when it was never registered.
    pub async fn service(&self, context: &Context, host: &str) -> Result<Option<Service>, CallError> {
        let args = vec![host.into(), BINARY.into()];
        let value = self.class_action(context, "Service", "get_by_host_and_binary", args, kwargs([])).await?;
        match value {
            Value::Null => Ok(None),
            value => {
                let service = Service::try_from(value);
                service.map(Some).map_err(|error| malformed("Service.get_by_host_and_binary", error))
            }
        }
    }

    /// Registers the compute service of `host`. `version` is Nova's number for what the service can do.
    ///
    /// # Errors
    /// `ServiceTooOld` when `version` is less than that of a compute service that the conductor knows.
    pub async fn create_service(&self, context: &Context, host: &str, version: i64) -> Result<Service, CallError> {
        let mut service = Service::empty();
        service.set("host", host);
        service.set("binary", BINARY);
        service.set("topic", "compute");
        service.set("report_count", 0);
        // Without it the row says 0, and controllers refuse to start with so old a compute host.
        service.set("version", version);
        self.act(context, &mut service, "create").await?;
        Ok(service)
    }

    /// Writes a new `version` into the record of the service.
    pub async fn save_service_version(&self, context: &Context, id: i64, version: i64) -> Result<(), CallError> {
        let mut service = Service::empty();
        service.data.insert("id".to_owned(), id.into());
        service.data.insert("binary".to_owned(), BINARY.into());
        service.set("version", version);
        self.act(context, &mut service, "save").await
    }

    /// Takes the service off the scheduler's list, with a reason for the operator, or puts it back.
    pub async fn save_service_disabled(
        &self,
        context: &Context,
        id: i64,
        reason: Option<&str>,
    ) -> Result<(), CallError> {
        let mut service = Service::empty();
        service.data.insert("id".to_owned(), id.into());
        service.data.insert("binary".to_owned(), BINARY.into());
        service.set("disabled", reason.is_some());
        service.set("disabled_reason", reason);
        self.act(context, &mut service, "save").await
    }

    /// Says that the service is alive. Only a `count` greater than the stored one counts.
    ///
    /// # Errors
    /// `ServiceNotFound` when an operator deleted the record.
    pub async fn report(&self, context: &Context, id: i64, count: i64) -> Result<(), CallError> {
        let mut service = Service::empty();
        service.data.insert("id".to_owned(), id.into());
        service.set("report_count", count);
        self.act(context, &mut service, "save").await
    }

    /// The least `version` of all services of a binary; 0 when there is none.
    pub async fn minimum_version(&self, context: &Context, binary: &str) -> Result<i64, CallError> {
        let args = vec![binary.into()];
        let value = self.class_action(context, "Service", "get_minimum_version", args, kwargs([])).await?;
        value.as_i64().ok_or_else(|| malformed("Service.get_minimum_version", format!("{value} is no number")))
    }

    /// The compute node with this uuid; `None` when there is none that the context may see (`read_deleted`).
    pub async fn compute_node_by_uuid(&self, context: &Context, uuid: &str) -> Result<Option<ComputeNode>, CallError> {
        let node = self.get(context, "ComputeNode", "get_by_uuid", vec![uuid.into()], kwargs([])).await;
        found(node, &["ComputeHostNotFound"])
    }

    /// The compute nodes of `host`, empty when there are none.
    pub async fn compute_nodes_by_host(&self, context: &Context, host: &str) -> Result<Vec<ComputeNode>, CallError> {
        let options = kwargs([("use_slave", json!(true))]);
        let nodes = self.list(context, "ComputeNodeList", "get_all_by_host", vec![host.into()], options).await;
        Ok(found(nodes, &["ComputeHostNotFound"])?.unwrap_or_default())
    }

    /// Creates the compute node's row.
    ///
    /// # Errors
    /// `DuplicateRecord` when its uuid, or its host and name, are taken.
    pub async fn create_compute_node(&self, context: &Context, node: &mut ComputeNode) -> Result<(), CallError> {
        self.act(context, node, "create").await
    }

    /// Writes the changed fields of the compute node.
    pub async fn save_compute_node(&self, context: &Context, node: &mut ComputeNode) -> Result<(), CallError> {
        self.act(context, node, "save").await
    }
}
