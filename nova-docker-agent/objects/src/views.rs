//! Typed views: an object of a known class, and its fields by name. They deref to [`Object`] for everything else.

use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};

use serde_json::{Map, Value};

use super::{Error, MigrationStatus, Object};

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
view! {
    /// Something that was asked of an instance.
    InstanceAction = "InstanceAction" "1.2"
}
view! {
    /// A step of an action.
    InstanceActionEvent = "InstanceActionEvent" "1.4"
}
view! {
    /// A server group: which instances are to be on one host, or apart.
    InstanceGroup = "InstanceGroup" "1.11"
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

    /// Why it is disabled, in the words of whoever did it.
    pub fn disabled_reason(&self) -> Option<&str> {
        self.str("disabled_reason")
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

    /// An empty disk of the flavor or of the user: ephemeral or swap.
    pub fn is_blank(&self) -> bool {
        self.str("source_type") == Some("blank")
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

impl InstanceGroup {
    pub fn uuid(&self) -> Option<&str> {
        self.str("uuid")
    }

    /// `affinity`, `anti-affinity`, or one of their soft forms, which bind nobody.
    pub fn policy(&self) -> Option<&str> {
        self.str("policy")
    }

    /// The uuids of its instances.
    pub fn members(&self) -> Vec<&str> {
        self.get("members").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect()
    }

    /// How many of them one host may have, where they are to be apart.
    pub fn max_server_per_host(&self) -> usize {
        let rules = texts(self.get("_rules"));
        rules.get("max_server_per_host").and_then(|most| most.parse().ok()).unwrap_or(1)
    }
}

impl Migration {
    pub fn uuid(&self) -> Option<&str> {
        self.str("uuid")
    }

    pub fn instance_uuid(&self) -> Option<&str> {
        self.str("instance_uuid")
    }

    pub fn status(&self) -> Option<MigrationStatus> {
        self.str("status").map(MigrationStatus::of)
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

/// A dictionary of nullable texts; null reads as "".
pub(super) fn texts(value: Option<&Value>) -> BTreeMap<String, String> {
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
    use super::*;

    #[test]
    fn a_group_whose_rule_is_no_number_has_one_server_on_a_host() {
        for (rules, most) in [("3", 3), ("0", 0), ("-1", 1), ("many", 1), ("99999999999999999999999", 1)] {
            let mut group = InstanceGroup::empty();
            group.set("_rules", serde_json::json!({"max_server_per_host": rules}));
            assert_eq!(group.max_server_per_host(), most, "{rules}");
        }
        assert_eq!(InstanceGroup::empty().max_server_per_host(), 1);
    }

    #[test]
    fn an_object_of_another_class_is_refused() {
        let error = Flavor::try_from(Object::new("Instance", "2.8")).unwrap_err();
        assert_eq!(error.to_string(), "an object of class Flavor was expected, found Instance");
    }
}
