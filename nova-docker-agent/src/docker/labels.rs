//! Names and labels that tie a container to its instance.

use std::collections::HashMap;
use std::time::Duration;

use bollard::models::ContainerSummary;
use serde_json::json;
use uuid::Uuid;

use crate::guest::Guest;
use crate::guest::configuration::link;

/// The instance's UUID. A container without it is none of ours.
pub(super) const INSTANCE: &str = "org.openstack.nova.instance-uuid";
/// `compute_id` of the service that created the container.
pub(super) const COMPUTE: &str = "org.openstack.nova.compute-id";
/// How many interfaces the instance has; with any, it must not start without its network namespace.
pub(super) const INTERFACES: &str = "org.openstack.nova.interfaces";
/// ID of the image that a container was made from at first, where its own image holds the files of another container.
pub(super) const BASE: &str = "org.openstack.nova.base-image";
/// Set on the container of a rescue.
pub(super) const RESCUE: &str = "org.openstack.nova.rescue";
/// On volumes: the project that a volume belongs to, and its name there.
pub(super) const VOLUME_PROJECT: &str = "org.openstack.nova.volume-project-id";
pub(super) const VOLUME_NAME: &str = "org.openstack.nova.volume-name";
/// The shell that a console leads to: a path, `none`, or nothing for the usual ones.
pub(super) const CONSOLE_SHELL: &str = "org.openstack.nova.console-shell";
/// Seconds that the container has to end by itself; nothing where whoever stops it says so.
pub(super) const GRACE: &str = "org.openstack.nova.stop-grace-seconds";
/// Whether the container's processes find their root file system read-only. Docker itself is not told, or nobody could put files there.
pub(super) const READ_ONLY: &str = "org.openstack.nova.read-only";
/// How many configs and secrets it was given. Their contents are in memory alone.
pub(super) const GIVEN: &str = "org.openstack.nova.given-files";
/// When the container starts again by itself; nothing where it does not. Docker is told while it is to run, and no longer.
pub(super) const RESTART: &str = "org.openstack.nova.restart";
/// The links that it was given: a JSON object of aliases and whom they name.
pub(super) const LINKS: &str = "org.openstack.nova.links";
/// Whose the instance is.
pub(super) const PROJECT: &str = "org.openstack.nova.project-id";
/// Whether the container is a job, whose launch succeeds when it ends well.
pub(super) const ONESHOT: &str = "org.openstack.nova.oneshot";
/// The OCI runtime that the flavor names, by the operator's name of it; nothing for the usual one.
pub(super) const RUNTIME: &str = "org.openstack.nova.runtime";
/// A digest of what the container was made of; see `made_as`.
pub(super) const MADE_OF: &str = "org.openstack.nova.made-of";
/// What runs once beside the first process, after the first start: a JSON list of words, or nothing.
pub(super) const SCRIPT: &str = "org.openstack.nova.script";
/// GiB that the flavor's disk has. Not among what a container was made of: those that were made before have it not.
pub(super) const ROOT_GB: &str = "org.openstack.nova.root-gb";
const NAME: &str = "org.openstack.nova.name";
const USER: &str = "org.openstack.nova.user-id";

/// Every label that we set, whatever an image may bring of the same name.
pub(super) const ALL: [&str; 19] = [
    INSTANCE,
    COMPUTE,
    INTERFACES,
    CONSOLE_SHELL,
    GRACE,
    READ_ONLY,
    RESTART,
    ONESHOT,
    GIVEN,
    LINKS,
    RUNTIME,
    MADE_OF,
    SCRIPT,
    NAME,
    PROJECT,
    USER,
    RESCUE,
    BASE,
    ROOT_GB,
];

/// Name of an instance's container.
pub(super) fn container_name(uuid: Uuid) -> String {
    format!("nova-{uuid}")
}

/// Name of a container of the instance that has made room for another one.
pub(super) fn aside_name(uuid: Uuid) -> String {
    format!("nova-{uuid}-aside")
}

/// Whether a listed container has this name; Docker lists names with a slash before them.
pub(super) fn has_name(container: &ContainerSummary, name: &str) -> bool {
    container.names.iter().flatten().any(|listed| listed.strip_prefix('/') == Some(name))
}

/// The labels of an instance's container.
pub(super) fn of(guest: &Guest, interfaces: usize) -> HashMap<String, String> {
    let ours = [
        (INSTANCE, guest.uuid.to_string()),
        (COMPUTE, guest.created_by.clone()),
        (INTERFACES, interfaces.to_string()),
        // Empty, too: the image must not bring one.
        (CONSOLE_SHELL, guest.configuration.console_shell.clone().unwrap_or_default()),
        (GRACE, guest.configuration.grace().map(whole_seconds).unwrap_or_default()),
        (READ_ONLY, guest.configuration.read_only.unwrap_or(false).to_string()),
        (RESTART, guest.configuration.restart.map(|restart| restart.to_string()).unwrap_or_default()),
        (ONESHOT, guest.configuration.oneshot.unwrap_or(false).to_string()),
        (GIVEN, guest.configuration.given.len().to_string()),
        (LINKS, link::written(&guest.configuration.links)),
        (RUNTIME, guest.configuration.privileges.runtime.clone().unwrap_or_default()),
        (MADE_OF, String::new()),
        (SCRIPT, guest.configuration.script.as_ref().map(|script| json!(script.argv).to_string()).unwrap_or_default()),
        (NAME, guest.name.clone()),
        (PROJECT, guest.project_id.clone()),
        (USER, guest.user_id.clone()),
        (RESCUE, guest.rescues.to_string()),
        (BASE, String::new()),
    ];
    let asked = guest.configuration.labels.clone();
    // The later ones win.
    asked.into_iter().chain(ours.map(|(name, value)| (name.to_owned(), value))).collect()
}

/// Rounded up.
fn whole_seconds(time: Duration) -> String {
    time.as_millis().div_ceil(1000).to_string()
}

/// Docker's filter for containers (and events of containers) that carry our label.
pub(super) fn filter() -> HashMap<&'static str, Vec<&'static str>> {
    HashMap::from([("label", vec![INSTANCE])])
}
