//! Our runtime in Docker's configuration: its name, its program, its version, its arguments.

use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use super::finding::Finding;
use crate::docker::{RuntimeEntry, find_program};
use crate::network::LINK_DIRECTORY;

pub(super) const CHECK: &str = "runtime";
const PROGRAM: &str = "nova-docker-runtime";
const REAL: &str = "--nova-runtime=";
const LINKS: &str = "--nova-links=";
const DEFAULT_REAL: &str = "runc";
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) async fn look(name: &str, entry: Option<&RuntimeEntry>) -> Finding {
    let Some(entry) = entry else { return unknown(name) };
    let path = entry.path.clone();
    let real = argument(entry, REAL).unwrap_or(DEFAULT_REAL).to_owned();
    let found = tokio::task::spawn_blocking(move || (find_program(&path).is_some(), find_program(&real).is_some()));
    let (is_there, has_real) = found.await.unwrap_or_default();
    let version = if is_there { version(&entry.path).await } else { None };
    judge(name, entry, &Program { is_there, has_real, version })
}

/// The entry's program, as it is on this host.
struct Program {
    is_there: bool,
    /// What it becomes.
    has_real: bool,
    /// What it says of itself; releases before this question pass it on to runc.
    version: Option<String>,
}

async fn version(path: &str) -> Option<String> {
    let mut command = Command::new(path);
    command.arg("--nova-version").stdin(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(PATIENCE, command.output()).await.ok()?.ok()?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    text.strip_prefix(PROGRAM).map(|version| version.trim().to_owned())
}

fn argument<'a>(entry: &'a RuntimeEntry, name: &str) -> Option<&'a str> {
    entry.arguments.iter().find_map(|argument| argument.strip_prefix(name))
}

fn unknown(name: &str) -> Finding {
    Finding::failed(
        CHECK,
        format!("Docker knows no runtime {name:?}"),
        format!(
            "add {{\"runtimes\": {{\"{name}\": {{\"path\": \"/usr/local/bin/{PROGRAM}\"}}}}}} to daemon.json, and reload dockerd"
        ),
    )
}

fn judge(name: &str, entry: &RuntimeEntry, program: &Program) -> Finding {
    let path = &entry.path;
    let own = env!("CARGO_PKG_VERSION");
    if !program.is_there {
        let advice = format!("install {PROGRAM} there, beside the agent of the same release");
        return Finding::failed(CHECK, format!("runtime {name:?} is {path}, which is no program"), advice);
    }
    if argument(entry, LINKS).is_some_and(|links| links != LINK_DIRECTORY) {
        let advice = format!("take {LINKS} out of runtimeArgs: the agent uses {LINK_DIRECTORY}");
        return Finding::failed(
            CHECK,
            format!("runtime {name:?} looks for networks in another directory than the agent"),
            advice,
        );
    }
    if !program.has_real {
        let real = argument(entry, REAL).unwrap_or(DEFAULT_REAL);
        let advice = format!("install {real}, or name another one with {REAL} in runtimeArgs");
        return Finding::failed(CHECK, format!("runtime {name:?} becomes {real}, which is no program"), advice);
    }
    match program.version.as_deref() {
        Some(version) if version == own => Finding::ok(CHECK, format!("runtime {name:?} is {path}, {version}")),
        version => Finding::warning(
            CHECK,
            format!("runtime {name:?} is {path}, {}; the agent is {own}", version.unwrap_or("of another release")),
            format!("install {PROGRAM} of the agent's release: the two belong together"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    fn entry(arguments: &[&str]) -> RuntimeEntry {
        let arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
        RuntimeEntry { path: "/opt/nova-docker-runtime".to_owned(), arguments }
    }

    fn program() -> Program {
        Program { is_there: true, has_real: true, version: Some(env!("CARGO_PKG_VERSION").to_owned()) }
    }

    #[test]
    fn the_entry_must_lead_to_a_program_of_our_release_and_to_a_real_runtime() {
        let judge = |arguments: &[&str], program| judge("nova", &entry(arguments), &program);
        assert_eq!(judge(&[], program()).verdict, Verdict::Ok);
        assert_eq!(judge(&["--nova-links=/run/nova-docker-agent/netns"], program()).verdict, Verdict::Ok);
        assert_eq!(judge(&["--nova-links=/elsewhere"], program()).verdict, Verdict::Failed);
        assert_eq!(judge(&[], Program { is_there: false, ..program() }).verdict, Verdict::Failed);
        let crun = judge(&["--nova-runtime=crun"], Program { has_real: false, ..program() });
        assert!(crun.verdict == Verdict::Failed && crun.found.contains("crun"), "{crun:?}");
        assert_eq!(judge(&[], Program { version: None, ..program() }).verdict, Verdict::Warning);
        let old = Program { version: Some("0.0.1".to_owned()), ..program() };
        assert!(judge(&[], old).found.contains("0.0.1; the agent is"));
    }

    #[test]
    fn a_missing_entry_is_given_to_be_pasted() {
        assert!(unknown("nova").advice.unwrap().contains(r#"{"runtimes": {"nova": {"path": "#));
    }
}
