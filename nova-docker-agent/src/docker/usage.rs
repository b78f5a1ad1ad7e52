//! What a container has used since it was started.

use bollard::models::{ContainerBlkioStatEntry, ContainerMemoryStats, ContainerStatsResponse};
use bollard::query_parameters::StatsOptionsBuilder;
use futures::StreamExt;
use jiff::Timestamp;
use uuid::Uuid;

use super::{Docker, Error, labels};
use crate::guest::Health;

/// What the kernel has counted of a container. What is `None` this host's kernel does not count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Used {
    /// Seconds since its first process was started.
    pub uptime: Option<u64>,
    /// What its check has found; none where it has none.
    pub health: Option<Health>,
    /// Time of all processors together, in nanoseconds.
    pub cpu_time: u64,
    /// Bytes of memory in use, without files that the kernel keeps only as long as nobody wants the memory.
    pub memory: u64,
    /// Bytes of memory that it may use.
    pub memory_limit: u64,
    pub read_bytes: Option<u64>,
    pub read_requests: Option<u64>,
    pub write_bytes: Option<u64>,
    pub write_requests: Option<u64>,
}

impl Docker {
    /// What the instance's container has used.
    pub async fn used(&self, uuid: Uuid) -> Result<Used, Error> {
        let found = self.get(uuid).await?;
        let options = StatsOptionsBuilder::default().stream(false).one_shot(true).build();
        let docker = &self.engine().docker;
        let (answer, details) = tokio::join!(
            async { std::pin::pin!(docker.stats(&found.id, Some(options))).next().await },
            docker.inspect_container(&found.id, None),
        );
        let failed = |error| self.engine().error("measure container", &labels::container_name(uuid), error);
        let stats = answer.transpose().map_err(failed)?.unwrap_or_default();
        let started = details.map_err(failed)?.state.and_then(|state| state.started_at);
        let started = started.and_then(|text| text.parse::<Timestamp>().ok());
        let uptime = started.and_then(|at| seconds_between(at, Timestamp::now()));
        Ok(Used { uptime, health: found.health, ..Used::of(&stats) })
    }
}

fn seconds_between(start: Timestamp, end: Timestamp) -> Option<u64> {
    u64::try_from(end.as_second().saturating_sub(start.as_second())).ok()
}

impl Used {
    fn of(stats: &ContainerStatsResponse) -> Self {
        let cpu = stats.cpu_stats.as_ref().and_then(|cpu| cpu.cpu_usage.as_ref()?.total_usage);
        let memory = stats.memory_stats.as_ref();
        let disk = stats.blkio_stats.clone().unwrap_or_default();
        let bytes = |verb| sum(disk.io_service_bytes_recursive.as_deref(), verb);
        let requests = |verb| sum(disk.io_serviced_recursive.as_deref(), verb);
        Self {
            uptime: None,
            health: None,
            cpu_time: cpu.unwrap_or_default(),
            memory: memory.map(in_use).unwrap_or_default(),
            memory_limit: memory.and_then(|memory| memory.limit).unwrap_or_default(),
            read_bytes: bytes("read"),
            read_requests: requests("read"),
            write_bytes: bytes("write"),
            write_requests: requests("write"),
        }
    }
}

/// As `docker stats` shows it. The names are those of cgroup v1 and v2.
fn in_use(memory: &ContainerMemoryStats) -> u64 {
    let counted = memory.stats.as_ref();
    let cache = ["total_inactive_file", "inactive_file"].into_iter().find_map(|name| counted?.get(name)).copied();
    memory.usage.unwrap_or_default().saturating_sub(cache.unwrap_or_default())
}

/// Over all devices; none where the kernel has counted nothing of the kind at all.
fn sum(entries: Option<&[ContainerBlkioStatEntry]>, verb: &str) -> Option<u64> {
    let of_verb =
        |entry: &&ContainerBlkioStatEntry| entry.op.as_deref().is_some_and(|op| op.eq_ignore_ascii_case(verb));
    let entries = entries.filter(|entries| !entries.is_empty())?;
    Some(entries.iter().filter(of_verb).filter_map(|entry| entry.value).fold(0, u64::saturating_add))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn used(stats: serde_json::Value) -> Used {
        Used::of(&serde_json::from_value(stats).unwrap())
    }

    #[test]
    fn files_that_the_kernel_keeps_are_no_memory_in_use_in_either_kind_of_cgroup() {
        for name in ["total_inactive_file", "inactive_file"] {
            let used = used(json!({"memory_stats": {"usage": 100, "limit": 1000, "stats": {name: 30, "cache": 90}}}));
            assert_eq!((used.memory, used.memory_limit), (70, 1000));
        }
    }

    #[test]
    fn the_disk_is_the_sum_of_all_devices_and_nothing_that_is_not_counted() {
        let entry = |op: &str, value: u64| json!({"major": 1, "minor": 0, "op": op, "value": value});
        let used = used(json!({"blkio_stats": {
            "io_service_bytes_recursive": [entry("Read", 5), entry("write", 7), entry("Read", 2), entry("Total", 14)],
            "io_serviced_recursive": null,
        }}));
        assert_eq!((used.read_bytes, used.write_bytes), (Some(7), Some(7)));
        assert_eq!((used.read_requests, used.write_requests), (None, None));
    }

    #[test]
    fn a_clock_that_was_set_back_gives_no_uptime() {
        let (early, late) = (Timestamp::from_second(10).unwrap(), Timestamp::from_second(25).unwrap());
        assert_eq!((seconds_between(early, late), seconds_between(late, early)), (Some(15), None));
    }
}
