//! What a server's flavor asks of this host's provider in placement, as the scheduler reckons it (`ResourceRequest` in
//! `nova/scheduler/utils.py`).

use std::collections::BTreeMap;

use crate::objects::{Flavor, Instance};

/// Resource class to amount.
pub(super) type Resources = BTreeMap<String, u64>;

/// The classes that this host's provider has an inventory of. What a flavor or a port asks besides, another provider has.
pub(super) const OF_THIS_HOST: [&str; 3] = ["VCPU", "MEMORY_MB", "DISK_GB"];

/// None where the instance's flavor is not known.
pub(super) fn asked_for(instance: &Instance) -> Option<Resources> {
    let flavor = instance.flavor()?;
    let overrides = overrides(&flavor);
    let amount = |number: i64| u64::try_from(number).unwrap_or(0);
    // Of one that has no image the root disk is a volume.
    let root_gb = if instance.image_ref().is_some_and(|image| !image.is_empty()) { flavor.root_gb() } else { 0 };
    let swap_gb = amount(flavor.swap()).div_ceil(1024);
    let disk_gb = amount(root_gb).saturating_add(amount(flavor.ephemeral_gb())).saturating_add(swap_gb);
    let vcpus = if overrides.contains_key("PCPU") { 0 } else { amount(flavor.vcpus()) };
    let own = [vcpus, amount(flavor.memory_mb()), disk_gb];
    let asked = OF_THIS_HOST.into_iter().zip(own);
    Some(
        asked
            .map(|(class, own)| (class.to_owned(), overrides.get(class).copied().unwrap_or(own)))
            .filter(|(_, amount)| *amount > 0)
            .collect(),
    )
}

/// What the extra specs `resources:CLASS` and `resources_GROUP:CLASS` say, all groups together. What is no number says nothing.
fn overrides(flavor: &Flavor) -> Resources {
    let mut overrides = Resources::new();
    for (key, value) in flavor.extra_specs() {
        let Some((group, class)) = key.strip_prefix("resources").and_then(|rest| rest.split_once(':')) else {
            continue;
        };
        let is_group = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-');
        let Ok(amount) = value.trim().parse::<u64>() else { continue };
        if group.len() <= 64 && group.chars().all(is_group) {
            let sum = overrides.entry(class.to_owned()).or_default();
            *sum = sum.saturating_add(amount);
        }
    }
    overrides
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::objects::Object;

    fn asked(numbers: [i64; 5], extra_specs: &[(&str, &str)], image: &str) -> Vec<(String, u64)> {
        let mut flavor = Object::new("Flavor", "1.2");
        for (field, number) in ["vcpus", "memory_mb", "root_gb", "ephemeral_gb", "swap"].into_iter().zip(numbers) {
            flavor.set(field, number);
        }
        let specs: BTreeMap<_, _> = extra_specs.iter().copied().collect();
        flavor.set("extra_specs", json!(specs));
        let mut instance = Instance::slim("6ff36a1a-8c2e-4b1c-859a-84bdd78d56c8");
        instance.set("flavor", flavor.to_value());
        instance.set("image_ref", image);
        asked_for(&instance).unwrap().into_iter().collect()
    }

    fn are(disk_gb: u64, memory_mb: u64, vcpus: u64) -> Vec<(String, u64)> {
        let all = [("DISK_GB", disk_gb), ("MEMORY_MB", memory_mb), ("VCPU", vcpus)];
        all.into_iter().filter(|(_, amount)| *amount > 0).map(|(class, amount)| (class.to_owned(), amount)).collect()
    }

    #[test]
    fn a_flavor_asks_for_its_processors_its_memory_and_all_of_its_disks() {
        assert_eq!(asked([2, 512, 3, 0, 0], &[], "i"), are(3, 512, 2));
        assert_eq!(asked([2, 512, 3, 4, 1], &[], "i"), are(8, 512, 2), "a part of a GiB of swap is one");
        assert_eq!(asked([2, 512, 3, 0, 0], &[], ""), are(0, 512, 2), "its root disk is a volume");
        assert_eq!(asked([1, 64, 0, 0, 0], &[], "i"), are(0, 64, 1));
    }

    #[test]
    fn extra_specs_replace_what_the_flavor_asks_for() {
        let small = [1, 64, 1, 0, 0];
        assert_eq!(asked(small, &[("resources:VCPU", "0")], "i"), are(1, 64, 0));
        assert_eq!(
            asked(small, &[("resources:MEMORY_MB", "100"), ("resources1:MEMORY_MB", "28")], "i"),
            are(1, 128, 1)
        );
        assert_eq!(asked(small, &[("resources_DISK:DISK_GB", "7")], "i"), are(7, 64, 1));
        assert_eq!(asked(small, &[("resources:PCPU", "1")], "i"), are(1, 64, 0));
        for other in [
            ("resources:VCPU", "many"),
            ("resources:VCPU", "-1"),
            ("resources:CUSTOM_LICENSE", "1"),
            ("resources!:VCPU", "9"),
            ("trait:VCPU", "required"),
        ] {
            assert_eq!(asked(small, &[other], "i"), are(1, 64, 1), "{other:?}");
        }
    }

    #[test]
    fn a_flavor_of_any_size_asks_for_something() {
        for &number in crate::limits::extremes::SIGNED {
            let asked =
                asked([number; 5], &[("resources:VCPU", "18446744073709551615"), ("resourcesx:VCPU", "1")], "i");
            assert!(asked.iter().any(|(class, amount)| class == "VCPU" && *amount == u64::MAX));
        }
        assert_eq!(asked_for(&Instance::slim("i")), None);
    }
}
