//! What Docker says of itself, for an operator.

use std::collections::BTreeMap;
use std::time::Duration;

use bollard::models::{SystemInfo, SystemVersion};

use super::engine::Engine;
use super::{Error, Storage};

/// A runtime in Docker's configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuntimeEntry {
    pub path: String,
    pub arguments: Vec<String>,
}

/// What Docker says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Survey {
    pub version: String,
    /// Agreed on with this client.
    pub api_version: String,
    /// Where it keeps containers.
    pub storage: Storage,
    /// `1` or `2`.
    pub cgroup_version: String,
    /// `cgroupfs` or `systemd`.
    pub cgroup_driver: String,
    /// What the kernel cannot limit of containers: `memory`, `cpu`, `pids`.
    pub unlimited: Vec<&'static str>,
    /// Whether it can limit swap.
    pub swap_limited: bool,
    pub live_restore: bool,
    /// Whether dockerd makes checkpoints.
    pub experimental: bool,
    pub log_driver: String,
    /// `seccomp`, `userns`, `rootless`, ...
    pub security: Vec<String>,
    pub runtimes: BTreeMap<String, RuntimeEntry>,
    pub kernel: String,
}

/// Asks Docker what it is.
///
/// # Errors
/// [`Error::Unavailable`].
pub async fn survey(host_url: &str, timeout: Duration) -> Result<Survey, Error> {
    let engine = Engine::connect(host_url, timeout).await?;
    let asked = tokio::try_join!(engine.docker.info(), engine.docker.version());
    let (info, version) = asked.map_err(|error| engine.error("describe", "itself", error))?;
    let storage = Storage::look(&info).await?;
    Ok(Survey { api_version: engine.api_version(), storage, ..of(info, &version) })
}

fn of(info: SystemInfo, version: &SystemVersion) -> Survey {
    let limits = [("memory", info.memory_limit), ("cpu", info.cpu_cfs_quota), ("pids", info.pids_limit)];
    let runtimes = info.runtimes.unwrap_or_default().into_iter().map(|(name, runtime)| {
        let (path, arguments) = (runtime.path.unwrap_or_default(), runtime.runtime_args.unwrap_or_default());
        (name, RuntimeEntry { path, arguments })
    });
    Survey {
        version: version.version.clone().unwrap_or_default(),
        api_version: String::new(),
        storage: Storage::default(),
        cgroup_version: info.cgroup_version.map(|version| version.to_string()).unwrap_or_default(),
        cgroup_driver: info.cgroup_driver.map(|driver| driver.to_string()).unwrap_or_default(),
        unlimited: limits.iter().filter(|(_, can)| *can == Some(false)).map(|&(name, _)| name).collect(),
        swap_limited: info.swap_limit != Some(false),
        live_restore: info.live_restore_enabled.unwrap_or_default(),
        experimental: info.experimental_build.unwrap_or_default(),
        log_driver: info.logging_driver.unwrap_or_default(),
        security: info.security_options.unwrap_or_default().iter().map(|option| security_name(option)).collect(),
        runtimes: runtimes.collect(),
        kernel: info.kernel_version.unwrap_or_default(),
    }
}

/// `name=seccomp,profile=default`
fn security_name(option: &str) -> String {
    let name = option.split(',').find_map(|part| part.strip_prefix("name="));
    name.unwrap_or(option).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_cannot_limit_is_named() {
        let info = SystemInfo {
            memory_limit: Some(true),
            cpu_cfs_quota: Some(false),
            pids_limit: None,
            security_options: Some(vec!["name=seccomp,profile=default".to_owned(), "name=userns".to_owned()]),
            ..SystemInfo::default()
        };
        let found = of(info, &SystemVersion::default());
        assert_eq!(found.unlimited, ["cpu"]);
        assert_eq!(found.security, ["seccomp", "userns"]);
    }
}
