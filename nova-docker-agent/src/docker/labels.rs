//! Names and labels that tie a container to its instance.

use std::collections::HashMap;

use uuid::Uuid;

use crate::guest::Guest;

/// The instance's UUID. A container without it is none of ours.
pub(super) const INSTANCE: &str = "org.openstack.nova.instance-uuid";
/// `compute_id` of the service that created the container.
pub(super) const COMPUTE: &str = "org.openstack.nova.compute-id";
/// How many interfaces the instance has; with any, it must not start without its network namespace.
pub(super) const INTERFACES: &str = "org.openstack.nova.interfaces";
/// On volumes: the project that a volume belongs to, and its name there.
pub(super) const VOLUME_PROJECT: &str = "org.openstack.nova.volume-project-id";
pub(super) const VOLUME_NAME: &str = "org.openstack.nova.volume-name";
/// The shell that a console leads to: a path, `none`, or nothing for the usual ones.
pub(super) const CONSOLE_SHELL: &str = "org.openstack.nova.console-shell";
const NAME: &str = "org.openstack.nova.name";
const PROJECT: &str = "org.openstack.nova.project-id";
const USER: &str = "org.openstack.nova.user-id";

/// Every label that we set, whatever an image may bring of the same name.
pub(super) const ALL: [&str; 7] = [INSTANCE, COMPUTE, INTERFACES, CONSOLE_SHELL, NAME, PROJECT, USER];

/// Name of an instance's container.
pub(super) fn container_name(uuid: Uuid) -> String {
    format!("nova-{uuid}")
}

/// The labels of an instance's container.
pub(super) fn of(guest: &Guest, interfaces: usize) -> HashMap<String, String> {
    let ours = [
        (INSTANCE, guest.uuid.to_string()),
        (COMPUTE, guest.created_by.clone()),
        (INTERFACES, interfaces.to_string()),
        // Empty, too: the image must not bring one.
        (CONSOLE_SHELL, guest.configuration.console_shell.clone().unwrap_or_default()),
        (NAME, guest.name.clone()),
        (PROJECT, guest.project_id.clone()),
        (USER, guest.user_id.clone()),
    ];
    let asked = guest.configuration.labels.clone();
    // The later ones win.
    asked.into_iter().chain(ours.map(|(name, value)| (name.to_owned(), value))).collect()
}

/// Docker's filter for containers (and events of containers) that carry our label.
pub(super) fn filter() -> HashMap<&'static str, Vec<&'static str>> {
    HashMap::from([("label", vec![INSTANCE])])
}
