//! The configuration.

use std::path::PathBuf;

use super::finding::Finding;
use super::listed;
use crate::config::{Config, ConfigError};

const CHECK: &str = "configuration";

/// A configuration without mistakes; what it sets without effect.
pub(super) fn judge(config: &Config, files: &[PathBuf]) -> Vec<Finding> {
    let files: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
    let mut findings =
        vec![Finding::ok(CHECK, format!("{} read; this host is called {}", listed(&files), config.host))];
    findings.extend(config.unmet.iter().map(|unmet| {
        Finding::warning(CHECK, unmet.to_string(), "take it out, or live with what the agent does instead")
    }));
    findings
}

/// Every mistake, and all else is left out.
pub(super) fn mistaken(mistakes: &[ConfigError]) -> Vec<Finding> {
    let advice = "correct it; `nova-docker-agent config` prints every option with its value and its origin";
    let mut findings: Vec<Finding> =
        mistakes.iter().map(|mistake| Finding::failed(CHECK, mistake.to_string(), advice)).collect();
    findings.push(Finding::left_out("everything else", "the configuration must be right first"));
    findings
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::super::testing::{Setting, settings};
    use super::*;
    use crate::config;

    fn findings(more: &[Setting]) -> Vec<Finding> {
        match config::from_settings(&settings(more), &[]) {
            Ok((config, _)) => judge(&config, &["/etc/nova/nova.conf".into()]),
            Err(mistakes) => mistaken(&mistakes),
        }
    }

    #[test]
    fn an_option_without_effect_is_a_warning_with_what_happens_instead() {
        let found = findings(&[(("DEFAULT", "use_syslog"), "true")]);
        assert_eq!(found[0], Finding::ok(CHECK, "/etc/nova/nova.conf read; this host is called compute-7"));
        assert_eq!(found[1].verdict, Verdict::Warning);
        assert!(found[1].found.contains("[DEFAULT] use_syslog has no effect"), "{found:?}");
    }

    #[test]
    fn every_mistake_fails_and_shows_no_secret() {
        let found = findings(&[(("docker", "pids_limits"), "1"), (("DEFAULT", "transport_url"), "amqp://u:s3cret@h/")]);
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(found.iter().take(2).all(|finding| finding.verdict == Verdict::Failed), "{found:?}");
        assert!(!format!("{found:?}").contains("s3cret"), "{found:?}");
    }
}
