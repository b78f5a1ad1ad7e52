//! `get_diagnostics`, `get_instance_diagnostics`: what a running container has used.
//!
//! The first is Nova's old form, a free dictionary, here with the keys of the libvirt driver, and `health` for a container with a
//! check. The second is the standard form of API
//! 2.48. Its list of drivers has none for Docker: it says `driver: libvirt`, `hypervisor: docker`.

use std::sync::Arc;

use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::compute::{
    Compute,
    arguments::{Arguments, instance_uuid},
    error::Error,
    operation::Method,
};
use crate::{
    driver::Diagnostics,
    messaging::Context,
    objects::{Instance, Object, PowerState},
};

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
/// Version of all of Nova's objects of diagnostics.
const VERSION: &str = "1.0";

/// `get_diagnostics`.
pub(in crate::compute) struct GetDiagnostics {
    instance: Instance,
}

impl Method for GetDiagnostics {
    fn parse(mut arguments: Arguments) -> Result<Self, Error> {
        Ok(Self { instance: arguments.instance()? })
    }

    async fn run(self, compute: Arc<Compute>, context: &Context) -> Result<Value, Error> {
        compute.diagnostics(context, &self.instance).await.map(|found| free(&found))
    }
}

/// `get_instance_diagnostics`.
pub(in crate::compute) struct GetInstanceDiagnostics {
    instance: Instance,
}

impl Method for GetInstanceDiagnostics {
    fn parse(mut arguments: Arguments) -> Result<Self, Error> {
        Ok(Self { instance: arguments.instance()? })
    }

    async fn run(self, compute: Arc<Compute>, context: &Context) -> Result<Value, Error> {
        compute.diagnostics(context, &self.instance).await.map(|found| standard(&found, &self.instance))
    }
}

impl Compute {
    /// As nova-compute does, a failure is a fault of the instance too.
    async fn diagnostics(&self, context: &Context, instance: &Instance) -> Result<Diagnostics, Error> {
        let uuid = instance_uuid(instance)?;
        let found = async {
            match self.power_state(uuid).await? {
                PowerState::Running => Ok(self.driver.diagnostics(uuid).await?),
                state => Err(not_running(uuid, state)),
            }
        };
        match found.await {
            Ok(found) => Ok(found),
            Err(error) => {
                self.record_fault(context, uuid, &error).await;
                Err(error)
            }
        }
    }
}

/// The API makes it a conflict.
fn not_running(instance: Uuid, state: PowerState) -> Error {
    let state = match state {
        PowerState::NoState => "pending",
        PowerState::Running => "running",
        PowerState::Paused => "paused",
        PowerState::Shutdown => "shutdown",
        PowerState::Crashed => "crashed",
        PowerState::Suspended => "suspended",
    };
    let method = "get_diagnostics";
    let message =
        format!("Instance {instance} in power state {state}. Cannot {method} while the instance is in this state.");
    let kwargs = json!({"attr": "power state", "instance_uuid": instance, "state": state, "method": method});
    Error::exception("InstanceInvalidState", message, kwargs)
}

/// The form before API 2.48. Memory is in KiB, all else in bytes and nanoseconds.
fn free(found: &Diagnostics) -> Value {
    let used = &found.used;
    let mut all = Map::new();
    let mut tell = |name: String, value: u64| {
        all.insert(name, value.into());
    };
    tell("cpu0_time".to_owned(), used.cpu_time);
    tell("memory".to_owned(), used.memory_limit / KIB);
    tell("memory-actual".to_owned(), used.memory_limit / KIB);
    tell("memory-rss".to_owned(), used.memory / KIB);
    let disk = [
        ("read", used.read_bytes),
        ("read_req", used.read_requests),
        ("write", used.write_bytes),
        ("write_req", used.write_requests),
    ];
    for (name, value) in disk {
        if let Some(value) = value {
            tell(format!("disk_{name}"), value);
        }
    }
    for interface in &found.interfaces {
        for (direction, traffic) in [("rx", &interface.received), ("tx", &interface.sent)] {
            let name = format!("{}_{direction}", interface.name);
            tell(name.clone(), traffic.bytes);
            tell(format!("{name}_packets"), traffic.packets);
            tell(format!("{name}_errors"), traffic.errors);
            tell(format!("{name}_drop"), traffic.dropped);
        }
    }
    if let Some(health) = used.health {
        all.insert("health".to_owned(), health.as_str().into());
    }
    all.into()
}

/// The form of API 2.48. Memory is in MiB, all else in bytes, nanoseconds and seconds. The kernel counts a container's processors as
/// one, and so its disks.
fn standard(found: &Diagnostics, instance: &Instance) -> Value {
    let used = &found.used;
    let memory = json!({"maximum": used.memory_limit / MIB, "used": used.memory.div_ceil(MIB)});
    let cpu = json!({"id": 0, "time": used.cpu_time, "utilisation": null});
    let disk = json!({
        "read_bytes": used.read_bytes, "read_requests": used.read_requests,
        "write_bytes": used.write_bytes, "write_requests": used.write_requests, "errors_count": null,
    });
    let nics: Vec<Value> = found
        .interfaces
        .iter()
        .map(|interface| {
            let (received, sent) = (&interface.received, &interface.sent);
            let mac = Some(&interface.mac).filter(|mac| !mac.is_empty());
            object(
                "NicDiagnostics",
                json!({
                    "mac_address": mac,
                    "rx_octets": received.bytes, "rx_packets": received.packets,
                    "rx_errors": received.errors, "rx_drop": received.dropped, "rx_rate": null,
                    "tx_octets": sent.bytes, "tx_packets": sent.packets,
                    "tx_errors": sent.errors, "tx_drop": sent.dropped, "tx_rate": null,
                }),
            )
        })
        .collect();
    object(
        "Diagnostics",
        json!({
            "state": "running",
            "driver": "libvirt",
            "hypervisor": "docker",
            "hypervisor_os": "linux",
            "uptime": used.uptime,
            "config_drive": instance.wants_config_drive(),
            "memory_details": object("MemoryDiagnostics", memory),
            "num_cpus": instance.flavor().map_or(1, |flavor| flavor.vcpus()),
            "cpu_details": [object("CpuDiagnostics", cpu)],
            "num_nics": nics.len(),
            "nic_details": nics,
            "num_disks": 1,
            "disk_details": [object("DiskDiagnostics", disk)],
        }),
    )
}

fn object(name: &str, fields: Value) -> Value {
    let mut object = Object::new(name, VERSION);
    for (field, value) in fields.as_object().into_iter().flatten() {
        object.set(field, value.clone());
    }
    object.to_value()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        docker::Used,
        network::{Counters, Traffic},
    };

    fn found() -> Diagnostics {
        let traffic = |bytes| Traffic { bytes, packets: 2, errors: 0, dropped: 1 };
        Diagnostics {
            used: Used {
                uptime: Some(9),
                cpu_time: 5,
                memory: 2 * MIB + 1,
                memory_limit: 64 * MIB,
                read_bytes: Some(4096),
                health: Some(crate::guest::Health::Unhealthy),
                write_bytes: Some(0),
                ..Used::default()
            },
            interfaces: vec![Counters {
                name: "eth0".to_owned(),
                mac: "fa:16:3e:be:a0:c7".to_owned(),
                received: traffic(100),
                sent: traffic(200),
            }],
        }
    }

    #[test]
    fn the_old_form_has_libvirts_names_and_leaves_out_what_is_not_counted() {
        let free = free(&found());
        for (name, value) in [
            ("cpu0_time", 5),
            ("memory", 64 * 1024),
            ("memory-rss", 2 * 1024),
            ("disk_read", 4096),
            ("eth0_rx", 100),
            ("eth0_tx", 200),
            ("eth0_rx_packets", 2),
            ("eth0_tx_drop", 1),
        ] {
            assert_eq!(free[name], value, "{name}");
        }
        assert_eq!(free.get("disk_read_req"), None);
        assert_eq!(free["health"], "unhealthy");
    }

    #[test]
    fn the_standard_form_has_the_shape_of_the_recorded_one() {
        let told = standard(&found(), &Instance::slim("6ff36a1a-8c2e-4b1c-859a-84bdd78d56c8"));
        let data = &told["nova_object.data"];
        assert_eq!(
            (&data["driver"], &data["hypervisor"], &data["uptime"]),
            (&"libvirt".into(), &"docker".into(), &9.into())
        );
        let nic = &data["nic_details"][0]["nova_object.data"];
        assert_eq!((&nic["rx_octets"], &nic["tx_octets"]), (&100.into(), &200.into()));
        assert_eq!(data["memory_details"]["nova_object.data"], json!({"maximum": 64, "used": 3}));
        let fields = [
            "state",
            "driver",
            "hypervisor",
            "hypervisor_os",
            "uptime",
            "config_drive",
            "memory_details",
            "cpu_details",
            "nic_details",
            "disk_details",
            "num_cpus",
            "num_nics",
            "num_disks",
        ];
        assert!(fields.iter().all(|field| data.get(field).is_some()));
        assert_eq!(data.as_object().unwrap().len(), fields.len());
    }

    #[test]
    fn an_instance_that_does_not_run_is_a_conflict_that_names_its_state() {
        let failure = not_running(Uuid::nil(), PowerState::Paused).to_failure();
        assert_eq!((failure.class.as_str(), &failure.kwargs["state"]), ("InstanceInvalidState", &"paused".into()));
        assert!(failure.message.contains("in power state paused"), "{}", failure.message);
    }
}
