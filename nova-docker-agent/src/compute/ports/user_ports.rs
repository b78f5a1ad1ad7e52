//! Which of an instance's ports the user brought: they outlive it.

use std::collections::BTreeMap;

use uuid::Uuid;

use crate::objects::Instance;

/// Prefix of the system metadata that name the ports which the user brought, one port each (a value holds 255 characters).
/// Written before any port is bound: whatever happens to this process afterwards, they are not deleted with the instance.
const USER_PORT: &str = "user_port_";

/// Writes ports that the user brings into the system metadata of an instance.
pub(in crate::compute) fn mark_user_ports(
    metadata: &mut BTreeMap<String, String>,
    ports: impl IntoIterator<Item = Uuid>,
) {
    metadata.extend(ports.into_iter().map(|port| (format!("{USER_PORT}{port}"), String::new())));
}

/// Takes a port out of the system metadata again; whether it was there.
pub(in crate::compute) fn unmark_user_port(metadata: &mut BTreeMap<String, String>, port: Uuid) -> bool {
    metadata.remove(&format!("{USER_PORT}{port}")).is_some()
}

/// The ports that the user brought to the instance, as [`mark_user_ports`] has written them down.
pub(in crate::compute) fn user_ports(instance: &Instance) -> Vec<Uuid> {
    let metadata = instance.system_metadata();
    metadata.keys().filter_map(|key| key.strip_prefix(USER_PORT)?.parse().ok()).collect()
}
