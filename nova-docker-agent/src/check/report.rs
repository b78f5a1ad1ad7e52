//! All findings, for people and for programs.

use std::fmt;

use serde::Serialize;

use super::finding::{Finding, Verdict};

/// All findings.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The agent's own version.
    version: &'static str,
    /// None when the configuration does not say.
    host: Option<String>,
    /// The worst of all.
    verdict: Verdict,
    checks: Vec<Finding>,
}

impl Report {
    pub(super) fn new(host: Option<&str>, checks: Vec<Finding>) -> Self {
        let verdict = checks.iter().map(|finding| finding.verdict).max().unwrap_or(Verdict::Ok);
        let verdict = if verdict == Verdict::LeftOut { Verdict::Ok } else { verdict };
        Self { version: env!("CARGO_PKG_VERSION"), host: host.map(str::to_owned), verdict, checks }
    }

    /// The worst of all.
    pub fn verdict(&self) -> Verdict {
        self.verdict
    }

    pub fn findings(&self) -> &[Finding] {
        &self.checks
    }

    fn count(&self, verdict: Verdict) -> usize {
        self.checks.iter().filter(|finding| finding.verdict == verdict).count()
    }

    fn summary(&self) -> String {
        let word = match self.verdict {
            Verdict::Failed => "this host is not fit",
            Verdict::Warning => "this host works, with warnings",
            Verdict::Ok | Verdict::LeftOut => "this host is fit",
        };
        let [ok, left_out, warnings, failed] =
            [Verdict::Ok, Verdict::LeftOut, Verdict::Warning, Verdict::Failed].map(|verdict| self.count(verdict));
        format!("{word}: {failed} failed, {warnings} warnings, {ok} OK, {left_out} left out")
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.checks.iter().map(|finding| finding.check.len()).max().unwrap_or_default();
        for Finding { check, verdict, found, advice } in &self.checks {
            let word = match verdict {
                Verdict::Ok => "OK",
                Verdict::LeftOut => "left out",
                Verdict::Warning => "warning",
                Verdict::Failed => "FAILED",
            };
            writeln!(f, "{word:<9} {check:<width$}  {}", printable(found))?;
            if let Some(advice) = advice {
                writeln!(f, "{:<9} {:<width$}  -> {}", "", "", printable(advice))?;
            }
        }
        writeln!(f, "\n{}", self.summary())
    }
}

/// Other programs' words are among them: one line, and nothing that a terminal obeys.
fn printable(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let findings = vec![
            Finding::ok("docker", "Docker 26.1"),
            Finding::warning("clock", "7 s behind", "start chrony"),
            Finding::failed("broker", "refused:\n\u{1b}[31m403", "see transport_url"),
            Finding::left_out("conductor", "no broker"),
        ];
        Report::new(Some("compute-7"), findings)
    }

    #[test]
    fn people_get_a_line_for_each_with_what_to_do_below_and_a_summary_at_the_end() {
        let text = report().to_string();
        assert!(text.starts_with("OK        docker     Docker 26.1\nwarning   clock      7 s behind\n"), "{text}");
        assert!(text.contains("\n                     -> start chrony\n"), "{text}");
        assert!(text.contains("FAILED    broker     refused:  [31m403\n"), "{text}");
        assert!(text.ends_with("\nthis host is not fit: 1 failed, 1 warnings, 1 OK, 1 left out\n"), "{text}");
    }

    #[test]
    fn programs_get_the_same_as_json() {
        let json = serde_json::to_value(report()).unwrap();
        assert_eq!((&json["host"], &json["verdict"]), (&"compute-7".into(), &"failed".into()));
        assert_eq!(
            json["checks"][3],
            serde_json::json!({"check": "conductor", "verdict": "left_out", "found": "no broker"})
        );
        assert_eq!(json["checks"][1]["advice"], "start chrony");
    }

    #[test]
    fn what_is_left_out_spoils_nothing() {
        assert_eq!(Report::new(None, vec![Finding::left_out("broker", "gRPC")]).verdict(), Verdict::Ok);
    }
}
