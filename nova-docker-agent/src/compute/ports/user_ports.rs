//! Which of an instance's ports the user brought: they outlive it.

use std::collections::BTreeMap;

use uuid::Uuid;

use crate::compute::ports::NetworkInfo;
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

/// Marks the ports that the user brought in a cache that does not know of them: the process may have ended between the binding of
/// a port and the write of the cache.
pub(in crate::compute) fn keep_user_ports(network: &mut NetworkInfo, instance: &Instance) {
    let users = user_ports(instance);
    for vif in network.0.iter_mut().filter(|vif| users.contains(&vif.id)) {
        vif.preserve_on_delete = true;
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_port_that_is_recorded_as_the_users_stays_whatever_the_cache_says() {
        let (users, own) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let mut metadata = BTreeMap::new();
        mark_user_ports(&mut metadata, [users]);
        let mut instance = Instance::slim("6ff36a1a-8c2e-4b1c-859a-84bdd78d56c8");
        instance.set("system_metadata", json!(metadata));
        let vif = |id| json!({"id": id, "address": "fa:16:3e:00:00:01", "network": {"id": Uuid::nil()}});
        let mut network: NetworkInfo = serde_json::from_value(json!([vif(users), vif(own)])).unwrap();
        keep_user_ports(&mut network, &instance);
        assert_eq!(network.0.iter().map(|vif| vif.preserve_on_delete).collect::<Vec<_>>(), [true, false]);
    }
}
