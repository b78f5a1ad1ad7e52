//! Options that nova-compute obeys and the agent does not, so that no operator finds out by an incident.

use nova_docker_service::config::{ConfigError, Origin, Settings};

/// An option that is set and has no effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unmet {
    pub section: &'static str,
    pub option: &'static str,
    pub origin: Origin,
    /// What the agent does instead.
    pub instead: &'static str,
}

impl std::fmt::Display for Unmet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { section, option, origin, instead } = self;
        write!(f, "{origin}: [{section}] {option} has no effect: {instead}")
    }
}

struct Entry {
    section: &'static str,
    option: &'static str,
    /// Values that ask for nothing that the agent does not do; nova-compute's default among them.
    fine: &'static [&'static str],
    instead: &'static str,
}

const fn entry(
    section: &'static str,
    option: &'static str,
    fine: &'static [&'static str],
    instead: &'static str,
) -> Entry {
    Entry { section, option, fine, instead }
}

const OFF: &[&str] = &["false", "0", "no", "off"];
const LOG: &str = "the log goes to standard error; the service manager keeps it";
const NO_PCI: &str = "containers get no PCI devices";
const NO_PINNING: &str = "containers share all processors by weight";
const PAUSES: &str = "pauses grow from `rabbit_retry_interval` to `rabbit_interval_max`, each cut by chance";
const NO_SIGNATURES: &str = "the agent does not verify the signatures of images";

/// `docs/nova-options.md` has the same rows.
const TABLE: &[Entry] = &[
    entry("DEFAULT", "servicegroup_driver", &["db"], "the agent reports that it is alive to the database, as `db`"),
    entry("DEFAULT", "instance_usage_audit", OFF, "the agent sends no notifications; meter at Placement or Docker"),
    entry(
        "DEFAULT",
        "default_access_ip_network_name",
        &[""],
        "servers get no access addresses by themselves; set them with the openstack command",
    ),
    entry("DEFAULT", "reserved_huge_pages", &[], "containers get no huge pages of their own"),
    entry("DEFAULT", "compute_monitors", &[], "the agent measures nothing for the scheduler"),
    entry("DEFAULT", "log_config_append", &[], LOG),
    entry("DEFAULT", "log_dir", &[], LOG),
    entry("DEFAULT", "log_file", &[], LOG),
    entry("DEFAULT", "use_journal", OFF, LOG),
    entry("DEFAULT", "use_syslog", OFF, LOG),
    entry("DEFAULT", "default_log_levels", &[], "`RUST_LOG` sets the levels"),
    entry("api", "vendordata_providers", &["", "StaticJSON"], "config drives have vendor data from StaticJSON alone"),
    entry("compute", "cpu_dedicated_set", &[], NO_PINNING),
    entry("compute", "cpu_shared_set", &[], NO_PINNING),
    entry(
        "compute",
        "consecutive_build_service_disable_threshold",
        &["10"],
        "failed launches always count; `[filter_scheduler] build_failure_weight_multiplier = 0` at the schedulers ignores them",
    ),
    entry(
        "compute",
        "provider_config_location",
        &["/etc/nova/provider_config", "/etc/nova/provider_config/"],
        "the agent reads no inventories from files; give the provider traits with the openstack command",
    ),
    entry("ephemeral_storage_encryption", "enabled", OFF, "containers have no ephemeral disks"),
    entry("os_vif_ovs", "network_device_mtu", &["1500"], "interfaces have the MTU of their network"),
    entry("os_vif_ovs", "ovsdb_interface", &["native"], "the agent talks to Open vSwitch by `ovs-vsctl`"),
    entry("os_vif_ovs", "per_port_bridge", OFF, "every port is plugged into the bridge that Neutron names"),
    entry("oslo_messaging_notifications", "driver", &["", "noop"], "the agent sends no notifications"),
    entry(
        "oslo_messaging_rabbit",
        "kombu_compression",
        &[],
        "the agent sends without compression, and reads what others have compressed",
    ),
    entry(
        "oslo_messaging_rabbit",
        "kombu_failover_strategy",
        &["round-robin"],
        "brokers are tried in the order of the transport URL",
    ),
    entry("oslo_messaging_rabbit", "kombu_reconnect_delay", &["1.0", "1"], PAUSES),
    entry("oslo_messaging_rabbit", "kombu_reconnect_splay", &["0.0", "0"], PAUSES),
    entry("oslo_messaging_rabbit", "rabbit_stream_fanout", OFF, "the agent has no fanout queue"),
    entry("pci", "device_spec", &[], NO_PCI),
    entry("pci", "passthrough_whitelist", &[], NO_PCI),
];

/// Whoever sets these relies on them for safety: the agent does not start.
const REFUSED: &[Entry] = &[entry("glance", "verify_glance_signatures", OFF, NO_SIGNATURES)];

/// What is set and has no effect, in the order of the table.
pub(super) fn unmet(settings: &Settings) -> Vec<Unmet> {
    found(TABLE, settings).map(|(unmet, _)| unmet).collect()
}

/// What is set, has no effect, and must have one.
pub(super) fn refused(settings: &Settings) -> Vec<ConfigError> {
    let refused = found(REFUSED, settings);
    refused
        .map(|(unmet, value)| ConfigError::Value {
            origin: unmet.origin,
            section: unmet.section.to_owned(),
            option: unmet.option.to_owned(),
            value: Some(value),
            expected: format!("false: {}", unmet.instead),
        })
        .collect()
}

fn found<'a>(table: &'static [Entry], settings: &'a Settings) -> impl Iterator<Item = (Unmet, String)> + 'a {
    table.iter().filter_map(|&Entry { section, option, fine, instead }| {
        let setting = settings.get(section, option)?;
        let value = setting.text.trim();
        let is_fine = fine.iter().any(|fine| value.eq_ignore_ascii_case(fine));
        let unmet = Unmet { section, option, origin: setting.origin.clone(), instead };
        (!is_fine).then(|| (unmet, value.to_owned()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_effect_is_named_with_its_place_and_what_is_done_instead() {
        let settings = Settings::from_map([(("DEFAULT", "servicegroup_driver"), "mc")]);
        let lines: Vec<String> = unmet(&settings).iter().map(ToString::to_string).collect();
        let line = "given: [DEFAULT] servicegroup_driver has no effect: the agent reports that it is alive to the database, as `db`";
        assert_eq!(lines, [line]);
    }

    #[test]
    fn a_value_that_asks_for_nothing_is_not_named() {
        for entry in TABLE.iter().chain(REFUSED) {
            for fine in entry.fine {
                let settings = Settings::from_map([((entry.section, entry.option), *fine)]);
                assert_eq!(unmet(&settings), [], "{}", entry.option);
                assert_eq!(refused(&settings), [], "{}", entry.option);
            }
            let settings = Settings::from_map([((entry.section, entry.option), "something else")]);
            assert_eq!(unmet(&settings).len() + refused(&settings).len(), 1, "{}", entry.option);
        }
    }

    #[test]
    fn the_guide_has_the_same_table() {
        let guide = include_str!("../../docs/nova-options.md");
        let rows: Vec<&str> = guide.lines().filter(|line| line.starts_with("| `")).collect();
        let expected: Vec<String> = TABLE
            .iter()
            .map(|entry| format!("| `[{}] {}` | {} |", entry.section, entry.option, entry.instead))
            .collect();
        assert_eq!(rows, expected);
    }
}
