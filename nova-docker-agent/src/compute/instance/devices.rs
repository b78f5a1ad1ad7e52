//! The devices of an instance that its user has tagged, as its metadata names them.

use serde_json::{Value, json};

use crate::compute::ports::Allocation;
use crate::objects::{Instance, Object};

/// A network interface with its tags.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TaggedInterface {
    pub mac: String,
    pub tags: Vec<String>,
}

/// Those of ports that were just made the instance's.
pub(crate) fn tagged(allocation: &Allocation) -> Vec<TaggedInterface> {
    let ports = allocation.ports.iter();
    ports
        .filter_map(|allocated| {
            Some(TaggedInterface { mac: allocated.port.mac_address.clone(), tags: vec![allocated.tag.clone()?] })
        })
        .collect()
}

/// Those that the instance's record has.
pub(crate) fn tagged_interfaces(instance: &Instance) -> Vec<TaggedInterface> {
    let record = instance.object("device_metadata");
    let devices = record.as_ref().and_then(|record| record.get("devices")?.as_array());
    let devices = devices.into_iter().flatten().filter_map(|device| Object::from_value(device.clone()).ok());
    devices.filter(|device| device.name == "NetworkInterfaceMetadata").filter_map(|device| interface(&device)).collect()
}

fn interface(device: &Object) -> Option<TaggedInterface> {
    let tags = device.get("tags").and_then(Value::as_array);
    let tags = tags.into_iter().flatten().filter_map(|tag| tag.as_str().map(str::to_owned)).collect();
    Some(TaggedInterface { mac: device.str("mac")?.to_owned(), tags })
}

/// The value of the instance's field `device_metadata`. Containers have no buses.
pub(crate) fn device_metadata(interfaces: &[TaggedInterface]) -> Value {
    let devices: Vec<Value> = interfaces
        .iter()
        .map(|TaggedInterface { mac, tags }| {
            let mut device = Object::new("NetworkInterfaceMetadata", "1.2");
            device.set("mac", mac.as_str());
            device.set("tags", json!(tags));
            device.set("vf_trusted", false);
            device.to_value()
        })
        .collect();
    let mut record = Object::new("InstanceDeviceMetadata", "1.0");
    record.set("devices", devices);
    record.to_value()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_into_an_instances_record_is_read_from_it() {
        let interfaces = vec![TaggedInterface { mac: "fa:16:3e:be:a0:c7".to_owned(), tags: vec!["lan".to_owned()] }];
        let mut instance = Instance::slim("6ff36a1a-8c2e-4b1c-859a-84bdd78d56c8");
        assert_eq!(tagged_interfaces(&instance), []);
        instance.set("device_metadata", Value::Null);
        assert_eq!(tagged_interfaces(&instance), []);
        instance.set("device_metadata", device_metadata(&interfaces));
        assert_eq!(tagged_interfaces(&instance), interfaces);
    }
}
