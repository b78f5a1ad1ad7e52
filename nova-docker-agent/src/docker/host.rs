//! What the host has.

use std::path::Path;

use nix::sys::statvfs::statvfs;

use super::{Docker, Error};
use crate::guest::HostResources;

const GIB: u64 = 1024 * 1024 * 1024;
const MIB: u64 = 1024 * 1024;
const KIB_PER_MIB: u64 = 1024;

impl Docker {
    /// What the host has, from Docker, the file system below its data root, and `/proc`. Docker must run on this host.
    pub async fn host(&self) -> Result<HostResources, Error> {
        let docker = &self.engine().docker;
        let failed = |error| self.engine().error("describe", "the host", error);
        let (info, version) = tokio::try_join!(docker.info(), docker.version()).map_err(failed)?;
        let root = info.docker_root_dir.clone().unwrap_or_default();
        // A file system that hangs must not hold up anything else.
        let measured = tokio::task::spawn_blocking(move || Measured::now(Path::new(&root))).await;
        let measured = measured.map_err(|error| Error::System {
            action: "measure the host".to_owned(),
            source: std::io::Error::other(error),
        })??;
        let (disk, disk_used) = measured.disk;
        Ok(HostResources {
            vcpus: info.ncpu.and_then(|count| u32::try_from(count).ok()).unwrap_or_default(),
            memory_mb: info.mem_total.and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or_default() / MIB,
            memory_used_mb: memory_used_mb(&measured.meminfo),
            disk_gb: disk / GIB,
            disk_used_gb: disk_used / GIB,
            docker_version: version.version.unwrap_or_default(),
            api_version: self.engine().api_version(),
            quota_enforced: self.quota_enforced(),
            storage_driver: info.driver.unwrap_or_default(),
            arch: info.architecture.unwrap_or_default(),
            kernel: info.kernel_version.unwrap_or_default(),
            uptime: first_number(&measured.uptime) as u64,
            load: load(&measured.loadavg),
        })
    }
}

/// What the kernel says of the host. To be read where reading may block.
struct Measured {
    /// Size and use, in bytes.
    disk: (u64, u64),
    meminfo: String,
    uptime: String,
    loadavg: String,
}

impl Measured {
    fn now(root: &Path) -> Result<Self, Error> {
        let [meminfo, uptime, loadavg] = ["/proc/meminfo", "/proc/uptime", "/proc/loadavg"].map(read);
        Ok(Self { disk: disk(root)?, meminfo: meminfo?, uptime: uptime?, loadavg: loadavg? })
    }
}

/// Size of the file system and what is used of it, in bytes. What only root may fill counts as used, as for `df`.
fn disk(root: &Path) -> Result<(u64, u64), Error> {
    let found = statvfs(root)
        .map_err(|errno| Error::System { action: format!("measure {}", root.display()), source: errno.into() })?;
    let total = found.blocks().saturating_mul(found.fragment_size());
    Ok((total, total.saturating_sub(found.blocks_available().saturating_mul(found.fragment_size()))))
}

/// Bytes that are free for others than root.
pub(super) fn free(directory: &Path) -> std::io::Result<u64> {
    let found = statvfs(directory)?;
    Ok(found.blocks_available().saturating_mul(found.fragment_size()))
}

fn read(path: &str) -> Result<String, Error> {
    std::fs::read_to_string(path).map_err(|source| Error::System { action: format!("read {path}"), source })
}

fn memory_used_mb(meminfo: &str) -> u64 {
    let field = |name: &str| {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim_start_matches(':').split_whitespace().next()?.parse::<u64>().ok()
    };
    let total = field("MemTotal").unwrap_or_default();
    total.saturating_sub(field("MemAvailable").unwrap_or(total)) / KIB_PER_MIB
}

fn first_number(text: &str) -> f64 {
    text.split_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or_default()
}

fn load(loadavg: &str) -> [f64; 3] {
    let mut numbers = loadavg.split_whitespace().map(|word| word.parse().unwrap_or_default());
    std::array::from_fn(|_| numbers.next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn used_memory_is_what_is_not_available() {
        let meminfo = "MemTotal:       2048000 kB\nMemFree: 5 kB\nMemAvailable:   1024000 kB\n";
        assert_eq!(memory_used_mb(meminfo), 1000);
    }
}
