//! What instances use of the node: the sums that the compute node's record shows.

use std::collections::{BTreeMap, HashMap};

use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::{
    compute::object,
    config::Config,
    guest::HostResources,
    limits::{signed, sum},
    objects::{Flavor, Instance, TaskState, VmState},
};

/// What one instance uses, and what the node's statistics say of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Usage {
    pub vcpus: i64,
    pub memory_mb: i64,
    pub disk_gb: i64,
    pub project_id: String,
    pub vm_state: Option<String>,
    pub task_state: Option<String>,
    pub os_type: Option<String>,
    /// Not an instance of its own: what is held for the end of a resize.
    pub is_move: bool,
}

impl Usage {
    /// None for an instance that uses nothing on its host: deleted, or shelved away.
    pub fn of(instance: &Instance) -> Option<Self> {
        match instance.vm_state() {
            Some(VmState::Deleted) => return None,
            // On its way back it needs room again.
            Some(VmState::ShelvedOffloaded) if instance.task_state() != Some(TaskState::Spawning) => return None,
            _ => {}
        }
        // The statistics count states by their names, also those of a newer Nova.
        let vm_state = instance.str("vm_state").map(str::to_owned);
        let flavor = instance.flavor();
        let amount = |field: &str| {
            flavor.as_ref().and_then(|flavor| flavor.int(field)).or_else(|| instance.int(field)).unwrap_or(0)
        };
        let swap_mb = flavor.as_ref().and_then(|flavor| flavor.int("swap")).unwrap_or(0);
        Some(Self {
            vcpus: amount("vcpus"),
            memory_mb: amount("memory_mb"),
            disk_gb: sum([amount("root_gb"), amount("ephemeral_gb"), swap_mb / 1024]),
            project_id: instance.str("project_id").unwrap_or_default().to_owned(),
            vm_state,
            task_state: instance.str("task_state").map(str::to_owned),
            os_type: instance.str("os_type").map(str::to_owned),
            is_move: false,
        })
    }

    /// What a resize holds for an instance besides the flavor that it is counted with.
    pub fn of_move(instance: &Instance, flavor: &Flavor) -> Self {
        let amount = |field: &str| flavor.int(field).unwrap_or(0);
        Self {
            vcpus: amount("vcpus"),
            memory_mb: amount("memory_mb"),
            disk_gb: sum([amount("root_gb"), amount("ephemeral_gb"), amount("swap") / 1024]),
            project_id: instance.str("project_id").unwrap_or_default().to_owned(),
            vm_state: None,
            task_state: None,
            os_type: None,
            is_move: true,
        }
    }
}

/// The instances and moves of the node, by their uuids, and its failed builds in a row.
#[derive(Clone, Debug, Default)]
pub(crate) struct Usages {
    pub instances: HashMap<Uuid, Usage>,
    pub failed_builds: u64,
}

impl Usages {
    fn sum(&self, of: impl Fn(&Usage) -> i64) -> i64 {
        sum(self.instances.values().map(of))
    }

    /// The instances themselves.
    fn servers(&self) -> impl Iterator<Item = &Usage> {
        self.instances.values().filter(|usage| !usage.is_move)
    }

    /// `ComputeNode.stats`: counters by name, as strings.
    pub(super) fn stats(&self) -> Map<String, Value> {
        let mut counters: BTreeMap<String, u64> = BTreeMap::new();
        let mut count = |key: String| *counters.entry(key).or_default() += 1;
        let mut io_workload = 0u64;
        for usage in self.servers() {
            if let Some(state) = &usage.vm_state {
                count(format!("num_vm_{state}"));
            }
            count(format!("num_task_{}", usage.task_state.as_deref().unwrap_or("None")));
            count(format!("num_os_type_{}", usage.os_type.as_deref().unwrap_or("None")));
            count(format!("num_proj_{}", usage.project_id));
            io_workload += u64::from(usage.task_state.as_deref().is_some_and(|task| TaskState::of(task).is_io_heavy()));
        }
        let mut stats: Map<String, Value> =
            counters.into_iter().map(|(key, value)| (key, Value::String(value.to_string()))).collect();
        let servers = self.servers().count();
        if servers > 0 {
            stats.insert("num_instances".to_owned(), servers.to_string().into());
            stats.insert("io_workload".to_owned(), io_workload.to_string().into());
        }
        stats.insert("failed_builds".to_owned(), self.failed_builds.to_string().into());
        // Present but null: the API shows no uptime, and does not ask every host for it by RPC.
        stats.insert("uptime".to_owned(), Value::Null);
        stats
    }
}

/// The fields of the compute node's record that follow from the host and its instances.
pub(crate) fn node_fields(config: &Config, host: &HostResources, usages: &Usages) -> Map<String, Value> {
    let (vcpus, memory_mb, disk_gb) = (i64::from(host.vcpus), signed(host.memory_mb), signed(host.disk_gb));
    let vcpus_used = signed(config.reserved_host_cpus).saturating_add(usages.sum(|usage| usage.vcpus));
    let memory_mb_used = signed(config.reserved_host_memory_mb).saturating_add(usages.sum(|usage| usage.memory_mb));
    let disk_gb_used = signed(reserved_disk_gb(config)).saturating_add(usages.sum(|usage| usage.disk_gb));
    let disk_free = disk_gb.saturating_sub(signed(host.disk_used_gb));
    let workload = usages.servers().filter(|usage| usage.task_state.is_some()).count();
    let fields = json!({
        "vcpus": vcpus,
        "memory_mb": memory_mb,
        "local_gb": disk_gb,
        "vcpus_used": vcpus_used,
        "memory_mb_used": memory_mb_used,
        "local_gb_used": disk_gb_used,
        "free_ram_mb": memory_mb.saturating_sub(memory_mb_used),
        // Never null: the scheduler would ignore the node.
        "free_disk_gb": disk_gb.saturating_sub(disk_gb_used),
        "disk_available_least": disk_free,
        "current_workload": workload,
        "running_vms": usages.servers().count(),
        "hypervisor_type": "docker",
        "hypervisor_version": version_number(&host.docker_version),
        "cpu_info": "",
        "metrics": "[]",
        "host_ip": config.my_ip.to_string(),
        "stats": usages.stats(),
    });
    let mut fields = object(fields);
    fields.extend(configured_ratios(config));
    fields
}

/// Ratios that are not configured stay what the record has.
fn configured_ratios(config: &Config) -> impl Iterator<Item = (String, Value)> {
    let ratios = [
        ("cpu_allocation_ratio", config.cpu_allocation_ratio),
        ("ram_allocation_ratio", config.ram_allocation_ratio),
        ("disk_allocation_ratio", config.disk_allocation_ratio),
    ];
    ratios.into_iter().filter_map(|(field, ratio)| Some((field.to_owned(), json!(ratio?))))
}

/// `reserved_host_disk_mb` in GiB, rounded up as Nova does.
pub(crate) fn reserved_disk_gb(config: &Config) -> u64 {
    config.reserved_host_disk_mb.div_ceil(1024)
}

/// Nova's form of a hypervisor version: 20.10.24 is 20010024.
fn version_number(version: &str) -> i64 {
    version
        .split('.')
        .take(3)
        .map(|part| {
            part.chars().take_while(char::is_ascii_digit).collect::<String>().parse::<i64>().unwrap_or(0).min(999)
        })
        .chain(std::iter::repeat(0))
        .take(3)
        .fold(0, |number, part| number * 1000 + part)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(vcpus: i64, task_state: Option<&str>) -> Usage {
        Usage {
            vcpus,
            memory_mb: 64,
            disk_gb: 1,
            project_id: "p".to_owned(),
            vm_state: Some("active".to_owned()),
            task_state: task_state.map(str::to_owned),
            os_type: None,
            is_move: false,
        }
    }

    #[test]
    fn the_record_follows_the_ratios_that_are_configured_and_keeps_the_others() {
        let config = crate::check::testing::config(&[
            (("DEFAULT", "cpu_allocation_ratio"), "2.5"),
            (("DEFAULT", "ram_allocation_ratio"), "0.0"),
        ]);
        let ratios: Vec<_> = configured_ratios(&config).collect();
        assert_eq!(ratios, [("cpu_allocation_ratio".to_owned(), json!(2.5))]);
    }

    #[test]
    fn versions_are_numbers_as_nova_writes_them() {
        assert_eq!(version_number("20.10.24+dfsg1"), 20_010_024);
        assert_eq!(version_number("29.1"), 29_001_000);
        assert_eq!(version_number("garbage"), 0);
        for text in crate::limits::extremes::TEXTS {
            assert!((0..1_000_000_000).contains(&version_number(&format!("{text}.{text}.{text}"))), "{text}");
        }
    }

    #[test]
    fn a_flavor_of_any_size_has_a_usage_and_the_node_has_a_sum() {
        for &amount in crate::limits::extremes::SIGNED {
            let mut instance = Instance::slim("6ff36a1a-8c2e-4b1c-859a-84bdd78d56c8");
            for field in ["vcpus", "memory_mb", "root_gb", "ephemeral_gb"] {
                instance.set(field, amount);
            }
            let usage = Usage::of(&instance).unwrap();
            let mut usages = Usages::default();
            for _ in 0..3 {
                usages.instances.insert(Uuid::new_v4(), usage.clone());
            }
            let sums = [usages.sum(|usage| usage.memory_mb), usages.sum(|usage| usage.disk_gb)];
            assert!(sums.iter().all(|sum| sum.signum() == amount.signum()), "{amount}: {sums:?}");
        }
    }

    #[test]
    fn statistics_count_instances_by_state_task_and_project() {
        let mut usages = Usages { failed_builds: 2, ..Usages::default() };
        usages.instances.insert(Uuid::new_v4(), usage(1, None));
        usages.instances.insert(Uuid::new_v4(), usage(2, Some("spawning")));
        let stats = usages.stats();
        assert_eq!(stats["num_instances"], "2");
        assert_eq!(stats["num_vm_active"], "2");
        assert_eq!(stats["num_task_spawning"], "1");
        assert_eq!(stats["num_task_None"], "1");
        assert_eq!(stats["num_proj_p"], "2");
        assert_eq!(stats["io_workload"], "1");
        assert_eq!(stats["failed_builds"], "2");
        assert_eq!(stats["uptime"], Value::Null);
    }

    #[test]
    fn a_shelved_away_instance_uses_nothing_until_it_comes_back() {
        let mut instance = Instance::slim("6ff36a1a-8c2e-4b1c-859a-84bdd78d56c8");
        instance.set("vm_state", "shelved_offloaded");
        assert_eq!(Usage::of(&instance), None);
        instance.set("task_state", "spawning");
        assert!(Usage::of(&instance).is_some());
    }
}
