//! What an instance says about itself.

use std::collections::BTreeMap;

use serde_json::Value;

use super::views::texts;
use super::{Flavor, Instance, InstanceInfoCache, PowerState, TaskState, VmState};

impl Instance {
    /// An instance with nothing but its uuid, to save single fields of it.
    pub fn slim(uuid: &str) -> Self {
        let mut instance = Self::empty();
        instance.data.insert("uuid".to_owned(), uuid.into());
        instance
    }

    /// The identity of the instance; "" only when a sender left it out.
    pub fn uuid(&self) -> &str {
        self.str("uuid").unwrap_or_default()
    }

    /// The database id.
    pub fn id(&self) -> Option<i64> {
        self.int("id")
    }

    /// The compute host that the instance is on.
    pub fn host(&self) -> Option<&str> {
        self.str("host")
    }

    /// The hypervisor node that the instance is on.
    pub fn node(&self) -> Option<&str> {
        self.str("node")
    }

    pub fn vm_state(&self) -> Option<VmState> {
        self.str("vm_state").map(VmState::of)
    }

    /// What is being done to the instance; `None` = nothing (or not loaded).
    pub fn task_state(&self) -> Option<TaskState> {
        self.str("task_state").map(TaskState::of)
    }

    /// What the record says that the container is doing.
    pub fn power_state(&self) -> Option<PowerState> {
        self.int("power_state").map(PowerState::of)
    }

    pub fn project_id(&self) -> Option<&str> {
        self.str("project_id")
    }

    pub fn user_id(&self) -> Option<&str> {
        self.str("user_id")
    }

    pub fn display_name(&self) -> Option<&str> {
        self.str("display_name")
    }

    /// The name that the guest should have, made from the display name by Nova.
    pub fn hostname(&self) -> Option<&str> {
        self.str("hostname")
    }

    /// The Glance image; `None` when booted from a volume (an empty text on the wire).
    pub fn image_ref(&self) -> Option<&str> {
        self.str("image_ref").filter(|image| !image.is_empty())
    }

    pub fn availability_zone(&self) -> Option<&str> {
        self.str("availability_zone")
    }

    pub fn key_name(&self) -> Option<&str> {
        self.str("key_name")
    }

    /// The public key, in OpenSSH's form.
    pub fn key_data(&self) -> Option<&str> {
        self.str("key_data")
    }

    /// Base64.
    pub fn user_data(&self) -> Option<&str> {
        self.str("user_data")
    }

    /// Nova writes the user's wish as Python's text of a boolean.
    pub fn wants_config_drive(&self) -> bool {
        self.str("config_drive").is_some_and(|text| matches!(text.to_ascii_lowercase().as_str(), "true" | "1" | "yes"))
    }

    /// The user names certificates that the image must be signed with.
    pub fn has_trusted_certificates(&self) -> bool {
        let ids = self.object("trusted_certs").and_then(|certificates| certificates.data.get("ids").cloned());
        ids.is_some_and(|ids| ids.as_array().is_none_or(|ids| !ids.is_empty()))
    }

    /// The user's metadata; empty when not loaded.
    pub fn metadata(&self) -> BTreeMap<String, String> {
        texts(self.get("metadata"))
    }

    /// Nova's own metadata, `image_*` among them; empty when not loaded. A save replaces all of it.
    pub fn system_metadata(&self) -> BTreeMap<String, String> {
        texts(self.get("system_metadata"))
    }

    /// Its tags; none when they are not loaded.
    pub fn tags(&self) -> Option<Vec<String>> {
        let rows = self.object("tags")?.objects();
        Some(rows.iter().filter_map(|row| row.str("tag")).map(str::to_owned).collect())
    }

    pub fn flavor(&self) -> Option<Flavor> {
        self.object("flavor")?.try_into().ok()
    }

    /// The cached VIFs, decoded from the JSON text in the cache; an empty list when there is none.
    /// The flavor from before a resize that is not confirmed.
    pub fn old_flavor(&self) -> Option<Flavor> {
        self.get("old_flavor").cloned().and_then(|value| Flavor::try_from(value).ok())
    }

    /// The flavor that a resize leads to.
    pub fn new_flavor(&self) -> Option<Flavor> {
        self.get("new_flavor").cloned().and_then(|value| Flavor::try_from(value).ok())
    }

    pub fn network_info(&self) -> Value {
        let cache = self.object("info_cache").and_then(|cache| InstanceInfoCache::try_from(cache).ok());
        cache.map_or_else(|| Value::Array(Vec::new()), |cache| cache.network_info())
    }

    pub fn deleted(&self) -> bool {
        self.bool("deleted").unwrap_or_default()
    }
}

impl InstanceInfoCache {
    /// The cached VIFs, decoded; an empty list when there is none.
    pub fn network_info(&self) -> Value {
        let decoded = self.str("network_info").and_then(|text| serde_json::from_str::<Value>(text).ok());
        decoded.filter(Value::is_array).unwrap_or_else(|| Value::Array(Vec::new()))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_network_info_is_read_through_its_two_layers() {
        let mut cache = InstanceInfoCache::empty();
        cache.set("network_info", r#"[{"id": "p"}]"#);
        let mut instance = Instance::slim("u");
        assert_eq!(instance.network_info(), json!([]));
        instance.set("info_cache", cache);
        assert_eq!(instance.network_info(), json!([{"id": "p"}]));
    }

    #[test]
    fn tags_are_read_out_of_their_rows() {
        let row = |tag| {
            json!({"nova_object.name": "Tag", "nova_object.namespace": "nova", "nova_object.version": "1.1",
            "nova_object.data": {"resource_id": "u", "tag": tag}})
        };
        let mut list = crate::Object::new("TagList", "1.1");
        list.set("objects", json!([row("exit:0"), row("web")]));
        let mut instance = Instance::slim("u");
        assert_eq!(instance.tags(), None, "they are not loaded");
        instance.set("tags", list.to_value());
        assert_eq!(instance.tags(), Some(vec!["exit:0".to_owned(), "web".to_owned()]));
    }

    #[test]
    fn a_slim_instance_has_no_changes_of_its_own() {
        let instance = Instance::slim("u");
        assert!(instance.changes.is_empty());
        assert_eq!(instance.uuid(), "u");
    }

    #[test]
    fn metadata_with_null_values_reads_as_empty_text() {
        let mut instance = Instance::slim("u");
        instance.set("metadata", json!({"a": null, "b": "c"}));
        assert_eq!(instance.metadata(), BTreeMap::from([("a".into(), String::new()), ("b".into(), "c".into())]));
    }
}
