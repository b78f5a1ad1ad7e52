//! nova-conductor: an answer, and its version.

use std::sync::Arc;
use std::time::Duration;

use super::finding::{Finding, Verdict};
use super::service;
use crate::compute::{NEWEST_SERVICE_VERSION, OLDEST_SERVICE_VERSION};
use crate::conductor::Conductor;
use crate::config::Config;
use crate::messaging::{CallError, Context, Transport, TransportConfig};

const CHECK: &str = "conductor";
const PATIENCE: Duration = Duration::from_secs(10);

/// Asks a conductor, and what it knows of this host.
pub(super) async fn look(config: &Config) -> Vec<Finding> {
    // A name of its own: with `use_queue_manager` the agent's replies would come here.
    let observer = TransportConfig { reply_queue: None, observer: true, ..config.messaging.clone() };
    let transport = match tokio::time::timeout(PATIENCE, Transport::connect(observer)).await {
        Ok(Ok(transport)) => transport,
        Ok(Err(error)) => return vec![silent(config, &error.to_string())],
        Err(_) => return vec![silent(config, "the message broker took the login and then no connection")],
    };
    let conductor = Conductor::new(Arc::new(transport.clone()), &config.host, PATIENCE);
    let version = async {
        conductor.ping(PATIENCE).await?;
        conductor.minimum_version(&Context::admin(), "nova-conductor").await
    };
    let judged = judge(config, version.await);
    let answered = judged.verdict != Verdict::Failed;
    let mut findings = vec![judged];
    if answered {
        findings.extend(service::look(&conductor, config).await);
    } else {
        findings.push(Finding::left_out("service", "a conductor must answer first"));
    }
    transport.close().await;
    findings
}

fn judge(config: &Config, version: Result<i64, CallError>) -> Finding {
    match version {
        Err(error) => silent(config, &error.to_string()),
        Ok(version) if version < OLDEST_SERVICE_VERSION => Finding::failed(
            CHECK,
            format!("answers; its service version is {version}, older than {OLDEST_SERVICE_VERSION} (Nova 28, 2023.2)"),
            "upgrade the control plane, or use serve-driver with its own nova-compute",
        ),
        Ok(version) if version > NEWEST_SERVICE_VERSION => Finding::warning(
            CHECK,
            format!("answers; its service version is {version}, newer than {NEWEST_SERVICE_VERSION} (Nova 34, 2026.2)"),
            "no such control plane was tested: look for a newer agent",
        ),
        Ok(version) => Finding::ok(CHECK, format!("answers; its service version is {version}")),
    }
}

fn silent(config: &Config, reason: &str) -> Finding {
    let exchange = &config.messaging.control_exchange;
    let advice = format!(
        "see whether nova-conductor of this host's cell runs, and uses the same broker, virtual host and \
         control_exchange (here: {exchange})"
    );
    Finding::failed(CHECK, reason, advice)
}

#[cfg(test)]
mod tests {
    use super::super::testing::config;
    use super::*;

    #[test]
    fn a_conductor_is_judged_by_its_version() {
        let verdict = |version| judge(&config(&[]), Ok(version)).verdict;
        assert_eq!(verdict(OLDEST_SERVICE_VERSION - 1), Verdict::Failed);
        assert_eq!(verdict(OLDEST_SERVICE_VERSION), Verdict::Ok);
        assert_eq!(verdict(NEWEST_SERVICE_VERSION + 1), Verdict::Warning);
    }

    #[test]
    fn silence_leads_to_the_exchange() {
        let late = CallError::Timeout { target: "x".to_owned(), method: "ping".to_owned(), timeout: PATIENCE };
        let finding = judge(&config(&[(("DEFAULT", "control_exchange"), "elsewhere")]), Err(late));
        assert_eq!(finding.found, "no reply from x to ping within 10 s");
        assert!(finding.advice.unwrap().contains("elsewhere"));
    }
}
