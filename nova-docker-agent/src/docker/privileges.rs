//! What loosens the hold on a container, as Docker is asked for it, and what of it this host has.

use bollard::models::{DeviceMapping, DeviceRequest, HostConfig, Mount, MountType};

use super::{Docker, DockerConfig};
use crate::config::HostMount;
use crate::guest::Guest;
use crate::guest::configuration::{Configuration, Device, Gpus, Volume};

/// What Docker's own client makes of no masked and no read-only paths.
const SYSTEM_PATHS: &str = "systempaths=unconfined";
const NO_NEW_PRIVILEGES: &str = "no-new-privileges:true";
/// What a driver of graphics processors must be able to do.
const GPU: &str = "gpu";

impl Docker {
    /// What a guest asks of this host that its operator has not given to it.
    pub fn lacks(&self, guest: &Guest) -> Option<String> {
        let asked = &guest.configuration.privileges;
        let config = &self.inner.config;
        if let Some(name) = asked.runtime.as_ref().filter(|name| !config.runtimes.contains_key(*name)) {
            let known = listed(config.runtimes.keys());
            return Some(format!("docker:runtime: this host has no OCI runtime {name:?} ([docker] runtimes: {known})"));
        }
        let name = asked.host_mounts.keys().find(|name| !config.host_mounts.contains_key(*name))?;
        let known = listed(config.host_mounts.keys());
        Some(format!("docker:host_mount:{name}: this host has no such directory ([docker] host_mounts: {known})"))
    }
}

fn listed<'a>(names: impl Iterator<Item = &'a String>) -> String {
    let names: Vec<&str> = names.map(String::as_str).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

/// Adds what loosens the hold. The seccomp profile, masked paths and the LSM profile are Docker's defaults as long as nothing is said
/// of them.
pub(super) fn add(host: &mut HostConfig, asked: &Configuration) {
    let privileges = &asked.privileges;
    host.privileged = Some(privileges.privileged.unwrap_or(false));
    host.devices = some(privileges.devices.iter().map(device).collect());
    host.device_cgroup_rules = some(privileges.device_cgroup_rules.iter().cloned().collect());
    host.device_requests = privileges.gpus.as_ref().map(|gpus| vec![request(gpus)]);
    let held = asked.no_new_privileges.unwrap_or(true).then(|| NO_NEW_PRIVILEGES.to_owned());
    let options = privileges.security_opt.iter().filter(|option| *option != SYSTEM_PATHS).cloned();
    host.security_opt = some(held.into_iter().chain(options).collect());
    if privileges.security_opt.iter().any(|option| option == SYSTEM_PATHS) {
        host.masked_paths = Some(vec![]);
        host.readonly_paths = Some(vec![]);
    }
}

fn some<T>(all: Vec<T>) -> Option<Vec<T>> {
    (!all.is_empty()).then_some(all)
}

fn device(device: &Device) -> DeviceMapping {
    DeviceMapping {
        path_on_host: Some(device.host.clone()),
        path_in_container: Some(device.path.clone()),
        cgroup_permissions: Some(device.access.clone()),
    }
}

fn request(gpus: &Gpus) -> DeviceRequest {
    let (count, device_ids) = match gpus {
        Gpus::Count(count) => (Some(*count), None),
        Gpus::Ids(ids) => (None, Some(ids.clone())),
    };
    DeviceRequest { count, device_ids, capabilities: Some(vec![vec![GPU.to_owned()]]), ..Default::default() }
}

/// The mounts of directories of the host. One that the operator does not give any more is refused before; see [`Docker::lacks`].
pub(super) fn mounts(guest: &Guest, config: &DockerConfig) -> Vec<Mount> {
    let asked = guest.configuration.privileges.host_mounts.iter();
    let given = asked.filter_map(|(name, place)| Some((config.host_mounts.get(name)?, place)));
    let mount = |(directory, place): (&HostMount, &Volume)| Mount {
        typ: Some(MountType::BIND),
        source: Some(directory.path.to_string_lossy().into_owned()),
        target: Some(place.path.clone()),
        read_only: Some(directory.read_only || place.read_only),
        ..Default::default()
    };
    given.map(mount).collect()
}
