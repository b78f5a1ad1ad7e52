//! `nova-docker-agent check`: whether this host, and the cloud as seen from it, are fit for the agent.
//!
//! Each file has one subject: it asks (a function that waits) and judges (a function that does not). The subjects are looked at
//! side by side, each bounded in time, and the failure of one stops no other. Nothing is changed, on the host or in the
//! cloud; the broker holds a reply queue for as long as the check lasts. It works while the agent runs, and before its first start.
//!
//! | file | subject |
//! |---|---|
//! | `configuration` | mistakes; options of nova-compute without effect |
//! | `broker`, `conductor`, `service` | RabbitMQ; nova-conductor; this host in Nova, its cell, its identity |
//! | `keystone`, `apis`, `network_agent` | logins and clock; Placement, Neutron, Glance; who wires ports here |
//! | `docker`, `daemon`, `runtime` | Docker; what only dockerd's own settings say; our runtime in it |
//! | `switch`, `kernel` | Open vSwitch and OVN; the kernel and the user |
//! | `directories`, `registry_port`, `driver_socket` | what the agent keeps, and where it listens |
//! | `processes` | who runs on this host |

mod apis;
mod broker;
mod conductor;
mod configuration;
mod daemon;
mod directories;
mod docker;
mod driver_socket;
mod finding;
mod kernel;
mod keystone;
mod network_agent;
mod processes;
mod registry_port;
mod report;
mod runtime;
mod service;
mod switch;
#[cfg(test)]
pub(crate) mod testing;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt as _, join_all};

pub use finding::{Finding, Verdict};
pub use report::Report;

use crate::cloud::Cloud;
use crate::config::{Config, ConfigError};

/// What one subject may take. Several wait for other hosts, some of them twice.
const LIMIT: Duration = Duration::from_secs(60);

/// Which service the agent is, or is to be, on this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// `run`
    ComputeService,
    /// `serve-driver`: a nova-compute beside it has its own ways to the cloud.
    ContainerDriver,
}

type Subject = (&'static str, BoxFuture<'static, Vec<Finding>>);

/// Looks at everything.
pub async fn check(config: Config, files: &[PathBuf], door: Door) -> Report {
    let host = config.host.clone();
    let mut findings = configuration::judge(&config, files);
    let subjects = subjects(Arc::new(config), door);
    findings.extend(join_all(subjects.into_iter().map(bounded)).await.into_iter().flatten());
    Report::new(Some(&host), findings)
}

/// There is no configuration to go by.
pub fn mistaken(mistakes: &[ConfigError]) -> Report {
    Report::new(None, configuration::mistaken(mistakes))
}

fn subjects(config: Arc<Config>, door: Door) -> Vec<Subject> {
    let cloud = match Cloud::new(&config.cloud) {
        Ok(cloud) => Ok(cloud),
        Err(error) => {
            Err(Finding::failed("tls", error.to_string(), "correct the section's cafile, certfile or keyfile"))
        }
    };
    let mut subjects: Vec<Subject> = vec![];
    match door {
        Door::ComputeService => subjects.push(("broker", broker::look(config.clone()).boxed())),
        Door::ContainerDriver => subjects.push(("broker", ready(without_control_plane()))),
    }
    match cloud {
        Ok(cloud) => {
            subjects.push(("keystone", keystone::look(cloud.clone()).boxed()));
            if door == Door::ComputeService {
                subjects.push(("placement", apis::placement(cloud.clone(), config.clone()).boxed()));
                subjects.push(("neutron", network_agent::look(cloud.clone(), config.clone()).boxed()));
            }
            subjects.push(("glance", apis::glance(cloud, door).boxed()));
        }
        Err(finding) => subjects.push(("tls", ready(vec![finding]))),
    }
    subjects.push(("docker", docker::look(config.clone()).boxed()));
    subjects.push(("open-vswitch", switch::look(config.clone()).boxed()));
    subjects.push(("kernel", blocking("kernel", kernel::look)));
    subjects.push((
        "directories",
        blocking("directories", {
            let config = config.clone();
            move || directories::look(&config)
        }),
    ));
    subjects.push((
        "registry-port",
        blocking("registry-port", {
            let config = config.clone();
            move || registry_port::look(&config)
        }),
    ));
    subjects.push(("driver-socket", blocking("driver-socket", move || driver_socket::look(&config.grpc, door))));
    subjects
}

/// What nova-compute asks for itself behind the second door.
fn without_control_plane() -> Vec<Finding> {
    ["broker", "conductor", "service", "placement", "neutron"]
        .map(|check| Finding::left_out(check, "behind serve-driver, nova-compute talks to it"))
        .into()
}

fn ready(findings: Vec<Finding>) -> BoxFuture<'static, Vec<Finding>> {
    std::future::ready(findings).boxed()
}

/// What reads files and `/proc`, where that may block.
fn blocking(
    check: &'static str,
    look: impl FnOnce() -> Vec<Finding> + Send + 'static,
) -> BoxFuture<'static, Vec<Finding>> {
    async move {
        let looked = tokio::task::spawn_blocking(look).await;
        looked.unwrap_or_else(|error| vec![broke(check, &error.to_string())])
    }
    .boxed()
}

/// In a task of its own: a defect in one subject is its own failure.
async fn bounded((check, look): Subject) -> Vec<Finding> {
    match tokio::time::timeout(LIMIT, tokio::spawn(look)).await {
        Ok(Ok(findings)) => findings,
        Ok(Err(error)) => vec![broke(check, &error.to_string())],
        Err(_) => vec![Finding::failed(
            check,
            format!("no answer within {} s", LIMIT.as_secs()),
            "see whether the way to it drops packets (a firewall, a route), or the file system hangs",
        )],
    }
}

fn broke(check: &'static str, reason: &str) -> Finding {
    Finding::failed(check, format!("the check itself broke: {reason}"), "please report this defect")
}

/// `a, b and c`
fn listed<T: std::fmt::Display>(words: &[T]) -> String {
    let words: Vec<String> = words.iter().map(ToString::to_string).collect();
    match words.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} and {last}", rest.join(", ")),
        _ => words.concat(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_subject_that_hangs_or_breaks_fails_alone() {
        let hangs: Subject = ("glance", std::future::pending().boxed());
        let breaks: Subject = ("docker", async { panic!("a defect") }.boxed());
        let works: Subject = ("kernel", ready(vec![Finding::ok("kernel", "6.1")]));
        let found = join_all([hangs, breaks, works].map(bounded)).await.concat();
        assert_eq!(found[0].found, "no answer within 60 s");
        assert!(found[1].found.contains("broke") && found[1].verdict == Verdict::Failed, "{found:?}");
        assert_eq!(found[2], Finding::ok("kernel", "6.1"));
    }

    #[test]
    fn words_are_listed_as_people_do() {
        assert_eq!(listed(&["a", "b", "c"]), "a, b and c");
        assert_eq!(listed(&["a"]), "a");
        assert_eq!(listed::<&str>(&[]), "");
    }
}
