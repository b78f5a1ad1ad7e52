//! Typed views: an object of a known class, and its fields by name. They deref to [`Object`] for everything else.

use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};

use serde_json::{Map, Value};

use super::{Error, Object};

macro_rules! view {
    ($(#[$doc:meta])* $view:ident = $class:literal $version:literal) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq)]
        pub struct $view(Object);

        impl $view {
            /// The class of the object.
            pub const CLASS: &'static str = $class;
            /// The version in which this agent creates the object: the highest that every supported release knows.
            pub const VERSION: &'static str = $version;

            /// An object without fields, for creation or for a save of single fields.
            pub fn empty() -> Self {
                Self(Object::new($class, $version))
            }

            /// The object itself.
            pub fn into_object(self) -> Object {
                self.0
            }
        }

        impl TryFrom<Object> for $view {
            type Error = Error;

            fn try_from(object: Object) -> Result<Self, Error> {
                if object.name == $class {
                    Ok(Self(object))
                } else {
                    Err(Error::OtherClass { expected: $class, found: object.name })
                }
            }
        }

        impl TryFrom<Value> for $view {
            type Error = Error;

            fn try_from(value: Value) -> Result<Self, Error> {
                Object::from_value(value)?.try_into()
            }
        }

        impl From<$view> for Value {
            fn from(view: $view) -> Self {
                view.0.to_value()
            }
        }

        impl Deref for $view {
            type Target = Object;

            fn deref(&self) -> &Object {
                &self.0
            }
        }

        impl DerefMut for $view {
            fn deref_mut(&mut self) -> &mut Object {
                &mut self.0
            }
        }
    };
}

view! {
    /// A server. Which fields are loaded depends on the sender; the flavor, metadata and caches are often not.
    Instance = "Instance" "2.8"
}
view! {
    /// The size of an instance: MiB, GiB (disk), and MiB again for swap.
    Flavor = "Flavor" "1.2"
}
view! {
    /// A row of `openstack compute service list`.
    Service = "Service" "1.22"
}
view! {
    /// A row of `openstack hypervisor list`.
    ComputeNode = "ComputeNode" "1.19"
}
view! {
    /// A disk of an instance, real or planned.
    BlockDeviceMapping = "BlockDeviceMapping" "1.21"
}
view! {
    /// A network or port that the user asked for.
    NetworkRequest = "NetworkRequest" "1.3"
}
view! {
    /// What the scheduler was asked for.
    RequestSpec = "RequestSpec" "1.14"
}
view! {
    /// A move of an instance between hosts or flavors.
    Migration = "Migration" "1.8"
}
view! {
    /// Something that another service reports about an instance, such as `network-vif-plugged`.
    ExternalEvent = "InstanceExternalEvent" "1.5"
}
view! {
    /// What Nova remembers about an instance's network.
    InstanceInfoCache = "InstanceInfoCache" "1.5"
}
view! {
    /// The record of a port of an instance, from which device tags come.
    VirtualInterface = "VirtualInterface" "1.3"
}

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

    pub fn vm_state(&self) -> Option<&str> {
        self.str("vm_state")
    }

    /// What is being done to the instance; `None` = nothing (or not loaded).
    pub fn task_state(&self) -> Option<&str> {
        self.str("task_state")
    }

    /// Nova's number: 0 unknown, 1 running, 3 paused, 4 shut down, 6 crashed, 7 suspended.
    pub fn power_state(&self) -> Option<i64> {
        self.int("power_state")
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

    /// The user's metadata; empty when not loaded.
    pub fn metadata(&self) -> BTreeMap<String, String> {
        texts(self.get("metadata"))
    }

    /// Nova's own metadata, `image_*` among them; empty when not loaded. A save replaces all of it.
    pub fn system_metadata(&self) -> BTreeMap<String, String> {
        texts(self.get("system_metadata"))
    }

    pub fn flavor(&self) -> Option<Flavor> {
        self.object("flavor")?.try_into().ok()
    }

    /// The cached VIFs, decoded from the JSON text in the cache; an empty list when there is none.
    pub fn network_info(&self) -> Value {
        let cache = self.object("info_cache").and_then(|cache| InstanceInfoCache::try_from(cache).ok());
        cache.map_or_else(|| Value::Array(Vec::new()), |cache| cache.network_info())
    }

    pub fn deleted(&self) -> bool {
        self.bool("deleted").unwrap_or_default()
    }
}

impl Flavor {
    pub fn flavor_name(&self) -> Option<&str> {
        self.str("name")
    }

    /// MiB.
    pub fn memory_mb(&self) -> i64 {
        self.int("memory_mb").unwrap_or_default()
    }

    pub fn vcpus(&self) -> i64 {
        self.int("vcpus").unwrap_or_default()
    }

    /// GiB; 0 = not limited by the flavor.
    pub fn root_gb(&self) -> i64 {
        self.int("root_gb").unwrap_or_default()
    }

    /// GiB.
    pub fn ephemeral_gb(&self) -> i64 {
        self.int("ephemeral_gb").unwrap_or_default()
    }

    /// MiB.
    pub fn swap(&self) -> i64 {
        self.int("swap").unwrap_or_default()
    }

    pub fn extra_specs(&self) -> BTreeMap<String, String> {
        texts(self.get("extra_specs"))
    }
}

impl Service {
    pub fn id(&self) -> Option<i64> {
        self.int("id")
    }

    pub fn report_count(&self) -> i64 {
        self.int("report_count").unwrap_or_default()
    }

    pub fn disabled(&self) -> bool {
        self.bool("disabled").unwrap_or_default()
    }

    pub fn forced_down(&self) -> bool {
        self.bool("forced_down").unwrap_or_default()
    }

    /// Nova's number for what a service can do.
    pub fn service_version(&self) -> i64 {
        self.int("version").unwrap_or_default()
    }
}

impl ComputeNode {
    pub fn id(&self) -> Option<i64> {
        self.int("id")
    }

    pub fn uuid(&self) -> Option<&str> {
        self.str("uuid")
    }

    pub fn host(&self) -> Option<&str> {
        self.str("host")
    }

    pub fn hypervisor_hostname(&self) -> Option<&str> {
        self.str("hypervisor_hostname")
    }
}

impl BlockDeviceMapping {
    /// The backing is a Cinder volume.
    pub fn is_volume(&self) -> bool {
        self.str("destination_type") == Some("volume")
    }

    /// The disk that the instance boots from.
    pub fn is_root(&self) -> bool {
        self.int("boot_index") == Some(0)
    }

    pub fn volume_id(&self) -> Option<&str> {
        self.str("volume_id")
    }

    pub fn device_name(&self) -> Option<&str> {
        self.str("device_name")
    }
}

impl NetworkRequest {
    pub fn network_id(&self) -> Option<&str> {
        self.str("network_id")
    }

    pub fn port_id(&self) -> Option<&str> {
        self.str("port_id")
    }

    /// The address that the user wants.
    pub fn address(&self) -> Option<&str> {
        self.str("address")
    }

    pub fn tag(&self) -> Option<&str> {
        self.str("tag")
    }
}

impl RequestSpec {
    /// The scheduler hint, which is a list on the wire even when the user gave one value.
    pub fn scheduler_hint(&self, name: &str) -> Vec<String> {
        match self.get("scheduler_hints").and_then(|hints| hints.get(name)) {
            Some(Value::Array(values)) => values.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
            Some(Value::String(value)) => vec![value.clone()],
            _ => Vec::new(),
        }
    }
}

impl Migration {
    pub fn uuid(&self) -> Option<&str> {
        self.str("uuid")
    }

    pub fn instance_uuid(&self) -> Option<&str> {
        self.str("instance_uuid")
    }

    pub fn status(&self) -> Option<&str> {
        self.str("status")
    }
}

impl ExternalEvent {
    pub fn instance_uuid(&self) -> Option<&str> {
        self.str("instance_uuid")
    }

    /// `network-vif-plugged`, `network-changed`, ..
    pub fn event_name(&self) -> Option<&str> {
        self.str("name")
    }

    /// `completed`, `failed`, ..
    pub fn status(&self) -> Option<&str> {
        self.str("status")
    }

    /// What the event is about: the port id for network events.
    pub fn tag(&self) -> Option<&str> {
        self.str("tag")
    }
}

impl InstanceInfoCache {
    /// The cached VIFs, decoded; an empty list when there is none.
    pub fn network_info(&self) -> Value {
        let decoded = self.str("network_info").and_then(|text| serde_json::from_str::<Value>(text).ok());
        decoded.filter(Value::is_array).unwrap_or_else(|| Value::Array(Vec::new()))
    }
}

/// A dictionary of nullable texts; null reads as "".
fn texts(value: Option<&Value>) -> BTreeMap<String, String> {
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    };
    let entries: Option<&Map<String, Value>> = value.and_then(Value::as_object);
    entries.into_iter().flatten().map(|(key, value)| (key.clone(), text(value))).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_object_of_another_class_is_refused() {
        let error = Flavor::try_from(Object::new("Instance", "2.8")).unwrap_err();
        assert_eq!(error.to_string(), "an object of class Flavor was expected, found Instance");
    }

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
