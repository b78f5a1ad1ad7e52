//! Open vSwitch on this host, and OVN's controller where it is at work.

use std::sync::Arc;
use std::time::Duration;

use super::finding::Finding;
use super::processes;
use crate::config::Config;
use crate::network::{self, NetworkConfig, SwitchSurvey};

const CHECK: &str = "open-vswitch";
const OVN: &str = "ovn";
/// What the kernel keeps of a process's name.
const CONTROLLER: &str = "ovn-controller";
const PATIENCE: Duration = Duration::from_secs(10);

/// What the kernel and the file system say of it.
#[derive(Clone, Copy)]
struct Host {
    has_ethtool: bool,
    /// `openvswitch` is in the kernel.
    has_module: bool,
    /// OVN's controller runs.
    has_controller: bool,
}

pub(super) async fn look(config: Arc<Config>) -> Vec<Finding> {
    let connection = &config.ovs.ovsdb_connection;
    let settings =
        NetworkConfig { ovsdb_connection: connection.clone(), ovsdb_timeout: PATIENCE, ..NetworkConfig::default() };
    let bridge = &config.cloud.ovs_bridge;
    match network::survey(&settings, bridge).await {
        Err(error) => vec![unavailable(&error.to_string())],
        Ok(survey) => {
            let host = tokio::task::spawn_blocking(|| Host {
                has_ethtool: crate::docker::find_program("ethtool").is_some(),
                has_module: std::path::Path::new("/sys/module/openvswitch").exists(),
                has_controller: !processes::named(CONTROLLER).is_empty(),
            });
            let Ok(host) = host.await else { return vec![] };
            let mut findings = vec![judge(connection, bridge, &survey, host)];
            findings.extend(judge_ovn(&config.host, &survey, host));
            findings
        }
    }
}

fn unavailable(reason: &str) -> Finding {
    let advice = if reason.contains("cannot run ovs-vsctl") {
        "install Open vSwitch (openvswitch-switch): the agent plugs containers with ovs-vsctl"
    } else {
        "see whether ovsdb-server runs, and whether [os_vif_ovs] ovsdb_connection is its address \
         (`ovs-vsctl set-manager ptcp:6640:127.0.0.1` opens the default one, or give unix:/run/openvswitch/db.sock)"
    };
    Finding::failed(CHECK, reason, advice)
}

fn judge(connection: &str, bridge: &str, survey: &SwitchSurvey, host: Host) -> Finding {
    let version = survey.version.as_deref().unwrap_or("of unknown version");
    let found = format!("Open vSwitch {version} at {connection}");
    if !survey.has_bridge {
        return Finding::failed(
            CHECK,
            format!("{found}; it has no bridge {bridge}"),
            "start Neutron's Open vSwitch agent or ovn-controller, which make it; [neutron] ovs_bridge names it",
        );
    }
    if survey.userspace && !host.has_ethtool {
        let advice = "install ethtool: without it TCP fails over a datapath in user space";
        return Finding::failed(CHECK, format!("{found}; the datapath of {bridge} is in user space"), advice);
    }
    if !survey.userspace && !host.has_module {
        let advice = "`modprobe openvswitch`, and see ovs-vswitchd's log: without the module nothing is forwarded";
        return Finding::failed(CHECK, format!("{found}; the kernel has no module openvswitch"), advice);
    }
    let datapath = if survey.userspace { "in user space" } else { "in the kernel" };
    Finding::ok(CHECK, format!("{found}; bridge {bridge}, its datapath is {datapath}"))
}

/// Nothing where OVN has no part.
fn judge_ovn(host_name: &str, survey: &SwitchSurvey, host: Host) -> Option<Finding> {
    let remote = survey.ovn_remote.as_deref()?;
    let Some(system_id) = &survey.system_id else {
        let advice = "`ovs-vsctl set Open_vSwitch . external_ids:system-id=ID`, with an id of this host's own";
        return Some(Finding::failed(OVN, "this host has no system-id: it is no chassis", advice));
    };
    let chassis = format!("chassis {system_id} of {remote}");
    if let Some(name) = survey.other_name(host_name) {
        return Some(Finding::failed(
            OVN,
            format!("{chassis} is called {name}, and [DEFAULT] host is {host_name}: ports do not bind"),
            format!(
                "set host = {name}, or `ovs-vsctl set Open_vSwitch . external_ids:hostname={host_name}` and restart ovn-controller"
            ),
        ));
    }
    if !host.has_controller {
        let advice = "start ovn-controller: it wires the ports";
        return Some(Finding::failed(OVN, format!("{chassis}: ovn-controller does not run"), advice));
    }
    Some(Finding::ok(OVN, format!("{chassis}, called {host_name}")))
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    const GOOD: Host = Host { has_ethtool: true, has_module: true, has_controller: true };

    fn survey() -> SwitchSurvey {
        SwitchSurvey { version: Some("3.1.0".to_owned()), has_bridge: true, ..SwitchSurvey::default() }
    }

    #[test]
    fn each_datapath_needs_its_own_part_of_the_host() {
        let judge = |survey: &SwitchSurvey, host| judge("tcp:127.0.0.1:6640", "br-int", survey, host).verdict;
        let (kernel, user) = (survey(), SwitchSurvey { userspace: true, ..survey() });
        assert_eq!(judge(&kernel, Host { has_ethtool: false, ..GOOD }), Verdict::Ok);
        assert_eq!(judge(&kernel, Host { has_module: false, ..GOOD }), Verdict::Failed);
        assert_eq!(judge(&user, Host { has_module: false, ..GOOD }), Verdict::Ok);
        assert_eq!(judge(&user, Host { has_ethtool: false, ..GOOD }), Verdict::Failed);
        assert_eq!(judge(&SwitchSurvey { has_bridge: false, ..survey() }, GOOD), Verdict::Failed);
    }

    #[test]
    fn a_chassis_must_have_the_hosts_name_and_a_controller() {
        let chassis = SwitchSurvey {
            ovn_remote: Some("tcp:10.0.0.1:6642".to_owned()),
            system_id: Some("abc".to_owned()),
            hostname: Some("compute-7".to_owned()),
            ..survey()
        };
        let verdict = |survey: &SwitchSurvey, host| judge_ovn("compute-7", survey, host).map(|finding| finding.verdict);
        assert_eq!(verdict(&survey(), GOOD), None);
        assert_eq!(verdict(&chassis, GOOD), Some(Verdict::Ok));
        assert_eq!(verdict(&chassis, Host { has_controller: false, ..GOOD }), Some(Verdict::Failed));
        assert_eq!(verdict(&SwitchSurvey { system_id: None, ..chassis.clone() }, GOOD), Some(Verdict::Failed));
        let other = SwitchSurvey { hostname: Some("compute-7.example.org".to_owned()), ..chassis };
        assert!(judge_ovn("compute-7", &other, GOOD).unwrap().found.contains("compute-7.example.org"));
    }

    #[test]
    fn a_missing_program_is_told_from_a_missing_server() {
        assert!(unavailable("cannot run ovs-vsctl: No such file").advice.unwrap().contains("install"));
        assert!(unavailable("database connection failed").advice.unwrap().contains("ovsdb-server"));
    }
}
