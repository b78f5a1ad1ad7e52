//! What moves use of the host, beside their instances.

use std::collections::HashMap;

use uuid::Uuid;

use super::request::migration_uuid;
use crate::compute::{arguments::instance_uuid, node::usage::Usage};
use crate::objects::{Instance, Migration, MigrationStatus};

/// The usage of each migration on this host: the flavor of its instance that the instance itself is not counted with.
pub(in crate::compute) fn of_migrations(migrations: &[Migration], instances: &[Instance]) -> HashMap<Uuid, Usage> {
    let instances: HashMap<Uuid, &Instance> =
        instances.iter().filter_map(|instance| Some((instance_uuid(instance).ok()?, instance))).collect();
    let usage = |migration: &Migration| {
        // One that failed holds nothing.
        if migration.status().is_some_and(MigrationStatus::has_failed) {
            return None;
        }
        let instance = instances.get(&Uuid::parse_str(migration.instance_uuid()?).ok()?)?;
        let current = instance.flavor()?;
        let others = [instance.old_flavor(), instance.new_flavor()];
        let other = others.into_iter().flatten().find(|flavor| flavor.get("id") != current.get("id"))?;
        Some((migration_uuid(migration)?, Usage::of_move(instance, &other)))
    };
    migrations.iter().filter_map(usage).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::objects::Object;

    fn flavor(id: i64, memory_mb: i64) -> serde_json::Value {
        let mut flavor = Object::new("Flavor", "1.2");
        flavor.set("id", id);
        flavor.set("memory_mb", memory_mb);
        flavor.to_value()
    }

    #[test]
    fn a_resize_counts_the_flavor_that_its_instance_is_not_counted_with() {
        let uuid = "6ff36a1a-8c2e-4b1c-859a-84bdd78d56c8";
        let mut migration = Migration::empty();
        migration.set("uuid", "ed1b6eff-a11f-4712-9f82-433985507b9b");
        migration.set("instance_uuid", uuid);
        migration.set("status", "finished");
        let mut instance = Instance::slim(uuid);
        instance.set("flavor", flavor(2, 128));
        instance.set("old_flavor", flavor(1, 64));
        instance.set("new_flavor", flavor(2, 128));
        let memory = |migration: &Migration, instance: &Instance| {
            let found = of_migrations(std::slice::from_ref(migration), std::slice::from_ref(instance));
            found.into_values().map(|usage| usage.memory_mb).next()
        };
        assert_eq!(memory(&migration, &instance), Some(64));
        instance.set("flavor", flavor(1, 64));
        assert_eq!(memory(&migration, &instance), Some(128), "it has not changed yet");
        migration.set("status", "error");
        assert_eq!(memory(&migration, &instance), None);
        migration.set("status", "finished");
        instance.set("old_flavor", json!(null));
        instance.set("new_flavor", json!(null));
        assert_eq!(memory(&migration, &instance), None);
    }
}
