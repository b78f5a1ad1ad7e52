//! The scheduler's memory of instances, and sending a build back for another host.

use serde_json::{Value, json};

use super::Conductor;
use crate::messaging::{CallError, Context, Target};
use crate::objects::{Instance, Object};

/// A build that shall be tried on another host: what the build request came with, and why this host failed.
/// No `Debug`: a password and files are in it.
#[derive(Clone, PartialEq)]
pub struct BuildInstances {
    /// As it is in the database, without host and node.
    pub instance: Instance,
    pub image: Value,
    /// With `retry.exc` and `retry.exc_reason` of this failure.
    pub filter_properties: Value,
    pub admin_password: Value,
    pub injected_files: Value,
    pub requested_networks: Value,
    pub security_groups: Value,
    pub request_spec: Value,
    /// The alternates that are left.
    pub host_list: Value,
}

impl Conductor {
    /// Sends a build back to the conductor, which tries the next host.
    pub async fn build_instances(&self, context: &Context, build: BuildInstances) -> Result<(), CallError> {
        let target = Target::topic("conductor", "1.19").namespace("compute_task");
        let args = json!({
            "instances": [build.instance.to_value()],
            "image": build.image,
            "filter_properties": build.filter_properties,
            "admin_password": build.admin_password,
            "injected_files": build.injected_files,
            "requested_networks": build.requested_networks,
            "security_groups": build.security_groups,
            "request_spec": build.request_spec,
            "host_lists": [build.host_list],
        });
        self.rpc.cast(&target, context, "build_instances", args).await
    }

    /// Tells the schedulers that these instances are on `host` now.
    pub async fn update_instance_info(
        &self,
        context: &Context,
        host: &str,
        instances: &[Instance],
    ) -> Result<(), CallError> {
        let mut list = Object::new("InstanceList", "2.6");
        list.set("objects", instances.iter().map(|instance| instance.to_value()).collect::<Vec<Value>>());
        self.tell_schedulers(
            context,
            "update_instance_info",
            json!({"host_name": host, "instance_info": list.to_value()}),
        )
        .await
    }

    /// Tells the schedulers that an instance left `host`.
    pub async fn delete_instance_info(&self, context: &Context, host: &str, uuid: &str) -> Result<(), CallError> {
        self.tell_schedulers(context, "delete_instance_info", json!({"host_name": host, "instance_uuid": uuid})).await
    }

    /// Tells the schedulers all instances of `host`, so that they can see whether they missed something.
    pub async fn sync_instance_info(&self, context: &Context, host: &str, uuids: &[&str]) -> Result<(), CallError> {
        self.tell_schedulers(context, "sync_instance_info", json!({"host_name": host, "instance_uuids": uuids})).await
    }

    async fn tell_schedulers(&self, context: &Context, method: &str, args: Value) -> Result<(), CallError> {
        self.rpc.cast(&Target::topic("scheduler", "4.2").fanout(), context, method, args).await
    }
}
