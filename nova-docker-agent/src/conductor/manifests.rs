//! The object versions that this agent understands, which it sends with each class method.
//!
//! They are the versions of Nova 28 to 34, which do not differ in anything that a compute host reads. The conductor
//! looks the class up by its own entry; the others only say how to send nested objects.

use serde_json::{Map, Value};

type Versions = &'static [(&'static str, &'static str)];

const SERVICE_TREE: Versions = &[
    ("Service", "1.22"),
    ("ComputeNode", "1.19"),
    ("HVSpec", "1.2"),
    ("PciDevicePoolList", "1.1"),
    ("PciDevicePool", "1.1"),
];

const INSTANCE_TREE: Versions = &[
    ("Instance", "2.8"),
    ("ServiceList", "1.19"),
    ("Service", "1.22"),
    ("ComputeNode", "1.19"),
    ("HVSpec", "1.2"),
    ("PciDevicePoolList", "1.1"),
    ("PciDevicePool", "1.1"),
    ("InstanceInfoCache", "1.5"),
    ("SecurityGroupList", "1.1"),
    ("SecurityGroup", "1.2"),
    ("InstanceFault", "1.2"),
    ("PciDeviceList", "1.3"),
    ("PciDevice", "1.7"),
    ("InstanceNUMATopology", "1.3"),
    ("InstanceNUMACell", "1.6"),
    ("VirtCPUTopology", "1.0"),
    ("InstancePCIRequests", "1.1"),
    ("InstancePCIRequest", "1.4"),
    ("InstanceDeviceMetadata", "1.0"),
    ("DeviceMetadata", "1.0"),
    ("DeviceBus", "1.0"),
    ("TagList", "1.1"),
    ("Tag", "1.1"),
    ("Flavor", "1.2"),
    ("VirtCPUModel", "1.0"),
    ("VirtCPUFeature", "1.0"),
    ("EC2Ids", "1.0"),
    ("MigrationContext", "1.2"),
    ("ResourceList", "1.0"),
    ("Resource", "1.0"),
    ("ResourceMetadata", "1.0"),
    ("KeyPairList", "1.3"),
    ("KeyPair", "1.4"),
    ("TrustedCerts", "1.0"),
];

/// `{class: version}` of a class and of everything that its objects may contain.
///
/// A class that is not in the table is sent without versions, and the conductor answers with an error that names it.
pub(super) fn object_versions(class: &str) -> Map<String, Value> {
    let (own, tree): (Versions, Versions) = match class {
        "Instance" => (&[], INSTANCE_TREE),
        "InstanceList" => (&[("InstanceList", "2.6")], INSTANCE_TREE),
        "BlockDeviceMapping" => (&[("BlockDeviceMapping", "1.21")], INSTANCE_TREE),
        "BlockDeviceMappingList" => {
            (&[("BlockDeviceMappingList", "1.18"), ("BlockDeviceMapping", "1.21")], INSTANCE_TREE)
        }
        "Service" => (&[], SERVICE_TREE),
        "ComputeNode" => (&[], &SERVICE_TREE[1..]),
        "ComputeNodeList" => (&[("ComputeNodeList", "1.17")], &SERVICE_TREE[1..]),
        "InstanceActionEvent" => (&[("InstanceActionEvent", "1.4")], &[]),
        "InstanceActionEventList" => (&[("InstanceActionEventList", "1.1"), ("InstanceActionEvent", "1.4")], &[]),
        "InstanceAction" => (&[("InstanceAction", "1.2")], &[]),
        "InstanceActionList" => (&[("InstanceActionList", "1.1"), ("InstanceAction", "1.2")], &[]),
        "InstanceInfoCache" => (&[("InstanceInfoCache", "1.5")], &[]),
        "VirtualInterface" => (&[("VirtualInterface", "1.3")], &[]),
        "VirtualInterfaceList" => (&[("VirtualInterfaceList", "1.0"), ("VirtualInterface", "1.3")], &[]),
        "Migration" => (&[("Migration", "1.8")], &[]),
        "MigrationList" => (&[("MigrationList", "1.5"), ("Migration", "1.8")], &[]),
        "Tag" => (&[("Tag", "1.1")], &[]),
        "InstanceGroup" => (&[("InstanceGroup", "1.11")], &[]),
        // 1.1 is what every release since Zed has; the methods used here are the same in 1.3.
        "ConsoleAuthToken" => (&[("ConsoleAuthToken", "1.1")], &[]),
        _ => (&[], &[]),
    };
    own.iter().chain(tree).map(|(class, version)| ((*class).to_owned(), Value::from(*version))).collect()
}
