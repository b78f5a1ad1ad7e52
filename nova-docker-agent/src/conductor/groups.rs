//! Server groups, which are in the database of the API: a conductor of a cell may not reach it.

use serde_json::json;
use uuid::Uuid;

use super::{Conductor, found, kwargs, malformed};
use crate::messaging::{CallError, Context};
use crate::objects::InstanceGroup;

impl Conductor {
    /// The group that a scheduler hint names, by its id or by its name; none when there is none.
    pub async fn instance_group(&self, context: &Context, hint: &str) -> Result<Option<InstanceGroup>, CallError> {
        let method = if Uuid::parse_str(hint).is_ok() { "get_by_uuid" } else { "get_by_name" };
        let group = self.get(context, "InstanceGroup", method, vec![hint.into()], kwargs([])).await;
        found(group, &["InstanceGroupNotFound"])
    }

    /// The hosts of a group's instances, one instance left out.
    pub async fn hosts_of_group(
        &self,
        context: &Context,
        group: InstanceGroup,
        without: Uuid,
    ) -> Result<Vec<String>, CallError> {
        let exclude = kwargs([("exclude", json!([without]))]);
        let hosts = self.object_action(context, &mut group.into_object(), "get_hosts", Vec::new(), exclude).await?;
        serde_json::from_value(hosts).map_err(|error| malformed("InstanceGroup.get_hosts", error))
    }
}
