//! This host in Nova: its service, its compute node, its cell, and whether another host has its name.

use std::time::Duration;

use jiff::Timestamp;
use uuid::Uuid;

use super::finding::Finding;
use super::processes::{self, Agent};
use crate::compute::node::identity::{self, IdentityError};
use crate::conductor::Conductor;
use crate::config::Config;
use crate::messaging::{CallError, Context};
use crate::objects::{ComputeNode, Service};

const CHECK: &str = "service";
const CELL: &str = "cell";
const IDENTITY: &str = "identity";
/// What a report may be late.
const LATE: Duration = Duration::from_secs(2);

/// What Nova knows of this host.
pub(super) async fn look(conductor: &Conductor, config: &Config) -> Vec<Finding> {
    match ask(conductor, config).await {
        Ok(findings) => findings,
        Err(error) => vec![Finding::failed(CHECK, error.to_string(), "see nova-conductor's log")],
    }
}

async fn ask(conductor: &Conductor, config: &Config) -> Result<Vec<Finding>, CallError> {
    let context = Context::admin();
    let service = conductor.service(&context, &config.host).await?;
    let nodes = conductor.compute_nodes_by_host(&context, &config.host).await?;
    let here = processes::agents().await.iter().any(Agent::serves_nova);
    let seen = service.as_ref().and_then(last_report);
    let doubtful = !here && seen.is_some_and(|seen| is_fresh(seen, Timestamp::now(), config));
    // It may have been stopped a moment ago: only another report is proof.
    let foreign = if doubtful { reports_again(conductor, config, service.as_ref()).await? } else { false };
    let mut directories = config.config_directories.clone();
    directories.push(config.state_path.clone());
    let own = identity::read(&directories);
    let mut findings = vec![judge_service(config, service.as_ref(), here, foreign)];
    findings.push(judge_identity(config, service.is_some(), &nodes, own));
    findings.push(judge_cell(&nodes));
    Ok(findings)
}

async fn reports_again(conductor: &Conductor, config: &Config, before: Option<&Service>) -> Result<bool, CallError> {
    tokio::time::sleep(config.report_interval + LATE).await;
    let after = conductor.service(&Context::admin(), &config.host).await?;
    Ok(after.is_some_and(|after| before.is_some_and(|before| after.report_count() > before.report_count())))
}

/// `2026-11-29T21:47:35Z`
fn last_report(service: &Service) -> Option<Timestamp> {
    service.str("last_seen_up")?.parse().ok()
}

/// Within `service_down_time`, as the scheduler counts.
fn is_fresh(seen: Timestamp, now: Timestamp, config: &Config) -> bool {
    now.duration_since(seen).as_secs_f64() < (config.messaging.max_silence * 2).as_secs_f64()
}

fn judge_service(config: &Config, service: Option<&Service>, here: bool, foreign: bool) -> Finding {
    let host = &config.host;
    let Some(service) = service else {
        return Finding::ok(CHECK, format!("host {host} is new to Nova; the agent's first start registers it"));
    };
    if foreign {
        return Finding::failed(
            CHECK,
            format!("another machine reports as host {host}: no compute service runs on this one, and Nova hears it"),
            "give this host a name of its own in [DEFAULT] host; two hosts with one name take each other's servers",
        );
    }
    let reason = service.disabled_reason().unwrap_or("no reason given");
    match (service.forced_down(), service.disabled()) {
        (true, _) => Finding::warning(
            CHECK,
            format!("host {host} is forced down: nothing is scheduled to it"),
            format!("`openstack compute service set --up {host} nova-compute`, when its servers may run here again"),
        ),
        (_, true) => Finding::warning(
            CHECK,
            format!("host {host} is disabled: {reason}"),
            "what begins with AUTO ends by itself when its cause does; else `openstack compute service set --enable`",
        ),
        _ if here => Finding::ok(CHECK, format!("host {host} is registered, and its compute service runs here")),
        _ => Finding::ok(CHECK, format!("host {host} is registered; no compute service runs here now")),
    }
}

fn judge_identity(
    config: &Config,
    registered: bool,
    nodes: &[ComputeNode],
    own: Result<Option<Uuid>, IdentityError>,
) -> Finding {
    let path = identity::path(&config.state_path);
    let known = nodes.iter().find(|node| node.hypervisor_hostname() == Some(&config.host)).and_then(|node| node.uuid());
    match (own, known) {
        (Err(error), _) => Finding::failed(IDENTITY, error.to_string(), "restore the file from a backup"),
        (Ok(None), _) if registered => {
            let lost = IdentityError::Lost { host: config.host.clone(), path };
            Finding::failed(IDENTITY, lost.to_string(), "write that UUID into the file")
        }
        (Ok(None), _) => Finding::ok(IDENTITY, format!("the first start makes {}", path.display())),
        (Ok(Some(own)), Some(known)) if known != own.to_string() => Finding::failed(
            IDENTITY,
            format!("this host is compute node {own}, and Nova's node named {} is {known}", config.host),
            "another machine was registered under this name, or the file compute_id comes from another one: correct \
             [DEFAULT] host or the file",
        ),
        (Ok(Some(own)), _) => Finding::ok(IDENTITY, format!("this host is compute node {own}")),
    }
}

/// A compute node carries a mark when its host was found by `discover_hosts`.
fn judge_cell(nodes: &[ComputeNode]) -> Finding {
    let Some(node) = nodes.first() else {
        return Finding::left_out(CELL, "Nova has no compute node of this host yet; the agent's first start makes it");
    };
    match node.int("mapped") {
        Some(0) => Finding::warning(
            CELL,
            "this host belongs to no cell yet: nothing is scheduled to it",
            "run `nova-manage cell_v2 discover_hosts` on a controller, or set \
             [scheduler] discover_hosts_in_cells_interval there",
        ),
        _ => Finding::ok(CELL, "this host was discovered"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::super::testing::config;
    use super::*;

    fn service(fields: &[(&str, serde_json::Value)]) -> Service {
        let mut service = Service::empty();
        for (name, value) in fields {
            service.set(name, value.clone());
        }
        service
    }

    fn node(uuid: &str, mapped: i64) -> ComputeNode {
        let mut node = ComputeNode::empty();
        node.set("uuid", uuid);
        node.set("hypervisor_hostname", "compute-7");
        node.set("mapped", mapped);
        node
    }

    #[test]
    fn a_name_that_another_machine_uses_fails() {
        let up = service(&[("disabled", false.into())]);
        let judge = |service, here, foreign| judge_service(&config(&[]), service, here, foreign);
        assert_eq!(judge(Some(&up), false, true).verdict, Verdict::Failed);
        assert_eq!(judge(Some(&up), true, false).verdict, Verdict::Ok);
        assert_eq!(judge(Some(&up), false, false).verdict, Verdict::Ok);
        assert_eq!(judge(None, false, false).verdict, Verdict::Ok);
        let disabled = service(&[("disabled", true.into()), ("disabled_reason", "AUTO: Docker".into())]);
        let finding = judge(Some(&disabled), true, false);
        assert_eq!((finding.verdict, finding.found.ends_with("AUTO: Docker")), (Verdict::Warning, true));
    }

    #[test]
    fn a_report_counts_as_fresh_for_as_long_as_the_service_counts_as_up() {
        let seen = last_report(&service(&[("last_seen_up", "2026-11-29T21:47:35Z".into())])).unwrap();
        assert!(is_fresh(seen, "2026-11-29T21:48:34Z".parse().unwrap(), &config(&[])));
        assert!(!is_fresh(seen, "2026-11-29T21:48:36Z".parse().unwrap(), &config(&[])));
    }

    #[test]
    fn an_identity_that_is_lost_or_another_hosts_fails() {
        let (own, other) = (Uuid::from_u128(1), Uuid::from_u128(2).to_string());
        let judge =
            |registered, nodes: &[ComputeNode], own| judge_identity(&config(&[]), registered, nodes, Ok(own)).verdict;
        assert_eq!(judge(false, &[], None), Verdict::Ok);
        assert_eq!(judge(true, &[], None), Verdict::Failed);
        assert_eq!(judge(true, &[node(&other, 1)], Some(own)), Verdict::Failed);
        assert_eq!(judge(true, &[node(&own.to_string(), 1)], Some(own)), Verdict::Ok);
    }

    #[test]
    fn a_host_that_was_not_discovered_is_warned_of() {
        let uuid = Uuid::from_u128(1).to_string();
        assert_eq!(judge_cell(&[node(&uuid, 0)]).verdict, Verdict::Warning);
        assert_eq!(judge_cell(&[node(&uuid, 1)]).verdict, Verdict::Ok);
        assert_eq!(judge_cell(&[]).verdict, Verdict::LeftOut);
    }
}
