//! Neutron: where it is, and who wires this host's ports.

use std::sync::Arc;

use serde_json::Value;

use super::finding::Finding;
use super::{apis, listed};
use crate::cloud::neutron::Agent;
use crate::cloud::{Caller, Cloud};
use crate::config::Config;

const NEUTRON: &str = "neutron";
const CHECK: &str = "network-agent";
/// Those that wire ports into Open vSwitch.
const WIRING: [&str; 3] = ["Open vSwitch agent", "OVN Controller agent", "OVN Controller Gateway agent"];
/// Hosts that are named when this one is not among them.
const SHOWN: usize = 5;

pub(super) async fn look(cloud: Cloud, config: Arc<Config>) -> Vec<Finding> {
    let neutron = &cloud.neutron;
    let caller = Caller::own();
    let host = config.host.as_str();
    let here = [("host", host)];
    let (greeting, agents) = tokio::join!(neutron.greeting(), neutron.agents(&caller, &here));
    let (agents, refusal) = match agents {
        Ok(agents) => (agents, None),
        Err(error) => (vec![], Some(error)),
    };
    let greeting = match apis::judge(NEUTRON, greeting, refusal) {
        Ok(greeting) => greeting,
        Err(finding) => return vec![finding, Finding::left_out(CHECK, "Neutron must answer first")],
    };
    let reached = Finding::ok(NEUTRON, format!("{}, {}", greeting.url, listed(&greeting.versions)));
    let others = if agents.iter().any(wires) {
        vec![]
    } else {
        // For the operator's eye alone.
        neutron.agents(&caller, &[("alive", "True")]).await.unwrap_or_default()
    };
    vec![reached, judge(host, &config.cloud.ovs_bridge, &agents, &others)]
}

fn wires(agent: &Agent) -> bool {
    WIRING.contains(&agent.agent_type.as_str())
}

fn judge(host: &str, bridge: &str, agents: &[Agent], others: &[Agent]) -> Finding {
    let Some(agent) = agents.iter().find(|agent| wires(agent)) else { return unknown(host, others) };
    let name = &agent.agent_type;
    if !agent.alive {
        return Finding::failed(
            CHECK,
            format!("Neutron's {name} on host {host} is not alive: ports do not bind here"),
            "start it (neutron-openvswitch-agent, or ovn-controller), and see its log",
        );
    }
    let setting = |key: &str| agent.configurations.get(key);
    if setting("ovs_hybrid_plug").and_then(Value::as_bool) == Some(true) {
        return Finding::failed(
            CHECK,
            format!(
                "Neutron's {name} asks for the hybrid plug of the iptables firewall, which the agent does not have"
            ),
            "set firewall_driver = openvswitch in [securitygroup] of the Open vSwitch agent",
        );
    }
    match setting("integration_bridge").and_then(Value::as_str) {
        Some(theirs) if theirs != bridge => Finding::warning(
            CHECK,
            format!("Neutron's {name} wires bridge {theirs}, and [neutron] ovs_bridge is {bridge}"),
            "set both to the same bridge",
        ),
        _ => Finding::ok(CHECK, format!("Neutron's {name} on host {host} is alive")),
    }
}

fn unknown(host: &str, others: &[Agent]) -> Finding {
    let mut names: Vec<&str> = others.iter().filter(|agent| wires(agent)).map(|agent| agent.host.as_str()).collect();
    // This host under another name first.
    let short = |name: &str| name.split('.').next().unwrap_or_default().to_lowercase();
    names.sort_by_key(|name| (short(name) != short(host), *name));
    names.dedup();
    let known = match (names.is_empty(), names.len() > SHOWN) {
        (true, _) => "it knows none anywhere".to_owned(),
        (_, true) => format!("it knows them on {} and {} more", names[..SHOWN].join(", "), names.len() - SHOWN),
        _ => format!("it knows them on {}", listed(&names)),
    };
    Finding::failed(
        CHECK,
        format!(
            "Neutron knows no Open vSwitch agent and no OVN controller on a host called {host}: ports do not bind; {known}"
        ),
        "set [DEFAULT] host to the name under which `openstack network agent list` shows this host, or start its \
         Open vSwitch agent or ovn-controller",
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::Verdict;
    use super::*;

    fn agent(kind: &str, host: &str, alive: bool, configurations: Value) -> Agent {
        let agent = json!({"agent_type": kind, "host": host, "alive": alive, "configurations": configurations});
        serde_json::from_value(agent).unwrap()
    }

    fn verdict(agents: &[Agent]) -> (Verdict, String) {
        let finding = judge("compute-7", "br-int", agents, &[]);
        (finding.verdict, finding.found)
    }

    #[test]
    fn a_live_agent_of_either_kind_is_good() {
        let settings = json!({"ovs_hybrid_plug": false, "integration_bridge": "br-int"});
        assert_eq!(verdict(&[agent("Open vSwitch agent", "compute-7", true, settings)]).0, Verdict::Ok);
        let dhcp = agent("DHCP agent", "compute-7", true, json!({}));
        let ovn = agent("OVN Controller agent", "compute-7", true, json!({}));
        assert_eq!(
            verdict(&[dhcp, ovn]),
            (Verdict::Ok, "Neutron's OVN Controller agent on host compute-7 is alive".to_owned())
        );
    }

    #[test]
    fn a_dead_agent_and_the_hybrid_plug_fail_and_another_bridge_is_a_warning() {
        assert_eq!(verdict(&[agent("Open vSwitch agent", "compute-7", false, json!({}))]).0, Verdict::Failed);
        let hybrid = json!({"ovs_hybrid_plug": true});
        assert_eq!(verdict(&[agent("Open vSwitch agent", "compute-7", true, hybrid)]).0, Verdict::Failed);
        let other = json!({"integration_bridge": "br-x"});
        assert_eq!(verdict(&[agent("Open vSwitch agent", "compute-7", true, other)]).0, Verdict::Warning);
    }

    #[test]
    fn another_name_of_the_host_is_shown_first() {
        let other = |host| agent("Open vSwitch agent", host, true, json!({}));
        let others = [other("a.example.org"), other("compute-7.example.org")];
        let finding = judge("Compute-7", "br-int", &[], &others);
        assert_eq!(finding.verdict, Verdict::Failed);
        assert!(finding.found.ends_with("it knows them on compute-7.example.org and a.example.org"), "{finding:?}");
        assert!(
            judge("x", "br-int", &[agent("DHCP agent", "x", true, json!({}))], &[]).found.ends_with("none anywhere")
        );
    }
}
