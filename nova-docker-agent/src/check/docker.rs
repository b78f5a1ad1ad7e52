//! Docker: what it is, what it can hold to, and how dockerd is set.

use std::sync::Arc;
use std::time::Duration;

use super::finding::Finding;
use super::{daemon, directories, runtime};
use crate::config::{Config, DockerConfig, StorageOveruse, Suspend};
use crate::docker::{self, Criu, Storage, Survey, look_for_criu};

const CHECK: &str = "docker";
const STORAGE: &str = "storage";
const LIMITS: &str = "limits";
const DAEMON: &str = "dockerd";
const CHECKPOINTS: &str = "criu";
/// The oldest release that was tested.
const OLDEST: (u32, u32) = (20, 10);
const PATIENCE: Duration = Duration::from_secs(20);

pub(super) async fn look(config: Arc<Config>) -> Vec<Finding> {
    let host_url = &config.docker.host_url;
    let survey = match docker::survey(host_url, PATIENCE).await {
        Ok(survey) => survey,
        Err(error) => {
            let left_out = |check| Finding::left_out(check, "Docker must answer first");
            let mut findings = vec![unavailable(&error.to_string())];
            findings.extend([STORAGE, LIMITS, DAEMON, runtime::CHECK, CHECKPOINTS, "docker-disk"].map(left_out));
            return findings;
        }
    };
    let settings = daemon::settings(host_url).await;
    let entry = survey.runtimes.get(&config.docker.runtime);
    let mut findings =
        vec![judge(host_url, &survey), judge_storage(&survey.storage, &config.docker), judge_limits(&survey)];
    findings.push(judge_daemon(&survey, settings.as_ref()));
    findings.push(runtime::look(&config.docker.runtime, entry).await);
    findings.push(judge_criu(config.docker.suspend, survey.experimental, look_for_criu(&config.docker.criu).await));
    findings.extend(directories::look_at_disk("docker-disk", survey.storage.root.clone()).await);
    findings
}

fn unavailable(reason: &str) -> Finding {
    let advice = if reason.contains("client version") {
        "use an agent and a Docker that have a version of Docker's API in common: upgrade the older of the two"
    } else {
        "see whether dockerd runs (`systemctl status docker`), whether [docker] host_url is its address, and whether this \
         user may use it"
    };
    Finding::failed(CHECK, reason, advice)
}

fn judge(host_url: &str, survey: &Survey) -> Finding {
    let found = format!("Docker {}, API {}, at {host_url}", survey.version, survey.api_version);
    let has = |name: &str| survey.security.iter().any(|option| option == name);
    let mut numbers = survey.version.split('.').map_while(|number| number.parse::<u32>().ok());
    let release = numbers.next().map(|major| (major, numbers.next().unwrap_or_default()));
    if release.is_some_and(|release| release < OLDEST) {
        return Finding::failed(CHECK, found, "upgrade Docker to 20.10 or newer");
    }
    if has("rootless") {
        return Finding::failed(
            CHECK,
            format!("{found}; it runs rootless"),
            "run dockerd as root: containers get their networks from root",
        );
    }
    if has("userns") {
        let advice = "take userns-remap out of daemon.json: the agent was never tested with it, and files that it puts into \
                      containers have other owners";
        return Finding::warning(CHECK, format!("{found}; userns-remap is on"), advice);
    }
    Finding::ok(CHECK, found)
}

fn judge_storage(storage: &Storage, settings: &DockerConfig) -> Finding {
    let found = storage.described();
    if storage.quota_enforced {
        return Finding::ok(STORAGE, format!("{found} holds root disks to their size"));
    }
    let answer = match (settings.storage_check, settings.storage_overuse) {
        (None, _) => "nobody looks",
        (Some(_), StorageOveruse::Log) => "the agent's log tells of it",
        (Some(_), StorageOveruse::Stop) => "a server that does so is stopped",
    };
    let found = format!("{found} does not hold root disks to their size: a container can fill the disk; {answer}");
    Finding::warning(STORAGE, found, docker::STORAGE_ADVICE)
}

fn judge_limits(survey: &Survey) -> Finding {
    let cgroups = format!("cgroup v{}, {}", survey.cgroup_version, survey.cgroup_driver);
    if survey.unlimited.is_empty() && !survey.swap_limited {
        let advice = "on cgroup v1 start the kernel with `swapaccount=1`; on cgroup v2 start dockerd as a service of systemd's, not in \
                      the root's group";
        return Finding::warning(LIMITS, format!("{cgroups}: Docker cannot limit swap"), advice);
    }
    if survey.unlimited.is_empty() {
        return Finding::ok(LIMITS, cgroups);
    }
    let found = format!("{cgroups}: the kernel cannot limit {}", super::listed(&survey.unlimited));
    Finding::failed(
        LIMITS,
        found,
        "start the kernel with these controllers (`cgroup_enable=memory`), and see `docker info`",
    )
}

fn judge_daemon(survey: &Survey, settings: Option<&daemon::Settings>) -> Finding {
    let word = |on: bool| if on { "on" } else { "off" };
    let proxy = match settings.and_then(|settings| settings.userland_proxy) {
        Some(on) => word(on),
        None => "unknown",
    };
    let found = format!(
        "live-restore {}, userland-proxy {proxy} (containers of servers publish no port), log driver {} (containers of \
         servers have json-file)",
        word(survey.live_restore),
        survey.log_driver
    );
    if survey.live_restore {
        return Finding::ok(DAEMON, found);
    }
    let file = settings.map_or_else(|| "daemon.json".to_owned(), |settings| settings.file.display().to_string());
    Finding::warning(
        DAEMON,
        format!("{found}: all servers stop when dockerd does"),
        format!("set \"live-restore\": true in {file}, and reload dockerd"),
    )
}

/// Only who asks for suspension to disk, and for nothing else, is failed without it.
fn judge_criu(suspend: Suspend, experimental: bool, criu: Result<Criu, String>) -> Finding {
    if matches!(suspend, Suspend::Freeze | Suspend::Refuse) {
        return Finding::left_out(CHECKPOINTS, "[docker] suspend wants no server on disk");
    }
    let usable = criu.and_then(|criu| match experimental {
        true => Ok(criu),
        false => Err("dockerd makes no checkpoints without \"experimental\": true in daemon.json".to_owned()),
    });
    match usable {
        Ok(Criu { program, version }) => {
            let found = format!("CRIU {version}, {}: servers are suspended to disk", program.display());
            Finding::ok(CHECKPOINTS, found)
        }
        Err(reason) if suspend == Suspend::Checkpoint => Finding::failed(
            CHECKPOINTS,
            format!("no server can be suspended: {reason}"),
            "mend it, or set [docker] suspend = auto, which freezes servers in memory",
        ),
        Err(reason) => Finding::ok(CHECKPOINTS, format!("servers are suspended in memory: {reason}")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Verdict, testing};
    use super::*;

    fn survey(version: &str) -> Survey {
        Survey { version: version.to_owned(), api_version: "1.41".to_owned(), swap_limited: true, ..Survey::default() }
    }

    #[test]
    fn releases_before_the_oldest_tested_one_fail() {
        let verdict = |version| judge("unix:///d", &survey(version)).verdict;
        assert_eq!(verdict("19.03.15"), Verdict::Failed);
        assert_eq!(verdict("20.10.24+dfsg1"), Verdict::Ok);
        assert_eq!(verdict("29.0.1"), Verdict::Ok);
        assert_eq!(verdict("dev"), Verdict::Ok);
    }

    #[test]
    fn users_that_are_others_inside_are_told() {
        let with = |name: &str| Survey { security: vec![name.to_owned()], ..survey("26.1.5") };
        assert_eq!(judge("", &with("userns")).verdict, Verdict::Warning);
        assert_eq!(judge("", &with("rootless")).verdict, Verdict::Failed);
        assert_eq!(judge("", &with("seccomp")).verdict, Verdict::Ok);
    }

    #[test]
    fn without_criu_suspension_is_in_memory_unless_only_the_disk_is_wanted() {
        let criu = || Ok(Criu { program: "/opt/criu".into(), version: "4.2.1".to_owned() });
        let none = || Err("no program".to_owned());
        assert!(judge_criu(Suspend::Auto, true, criu()).found.contains("4.2.1, /opt/criu"));
        let finding = judge_criu(Suspend::Auto, true, none());
        assert!(finding.verdict == Verdict::Ok && finding.found.contains("in memory: no program"), "{finding:?}");
        assert!(judge_criu(Suspend::Auto, false, criu()).found.contains("experimental"));
        assert_eq!(judge_criu(Suspend::Checkpoint, true, criu()).verdict, Verdict::Ok);
        assert_eq!(judge_criu(Suspend::Checkpoint, true, none()).verdict, Verdict::Failed);
        assert_eq!(judge_criu(Suspend::Freeze, true, none()).verdict, Verdict::LeftOut);
    }

    #[test]
    fn storage_without_a_quota_is_a_warning() {
        let config = testing::config(&[]);
        let held = Storage { quota_enforced: true, ..Storage::default() };
        assert_eq!(judge_storage(&held, &config.docker).verdict, Verdict::Ok);
        let finding = judge_storage(&Storage::default(), &config.docker);
        assert_eq!(finding.verdict, Verdict::Warning);
        assert!(finding.found.ends_with("the agent's log tells of it"), "{finding:?}");
        let stopping = DockerConfig { storage_overuse: StorageOveruse::Stop, ..config.docker };
        assert!(judge_storage(&Storage::default(), &stopping).found.ends_with("is stopped"));
        let off = DockerConfig { storage_check: None, ..stopping };
        assert!(judge_storage(&Storage::default(), &off).found.ends_with("nobody looks"));
    }

    #[test]
    fn what_the_kernel_cannot_limit_fails() {
        assert_eq!(judge_limits(&survey("26.1.5")).verdict, Verdict::Ok);
        assert_eq!(judge_limits(&Survey { swap_limited: false, ..survey("26.1.5") }).verdict, Verdict::Warning);
        let finding = judge_limits(&Survey { unlimited: vec!["memory", "pids"], ..survey("26.1.5") });
        assert!(finding.verdict == Verdict::Failed && finding.found.ends_with("memory and pids"), "{finding:?}");
    }

    #[test]
    fn a_dockerd_that_takes_the_containers_with_it_is_a_warning_that_names_its_file() {
        let settings = daemon::Settings { file: "/etc/d.json".into(), userland_proxy: Some(false) };
        let finding = judge_daemon(&survey("26.1.5"), Some(&settings));
        assert_eq!(finding.verdict, Verdict::Warning);
        assert!(finding.found.contains("userland-proxy off"), "{finding:?}");
        assert!(finding.advice.unwrap().contains("/etc/d.json"));
        let restoring = Survey { live_restore: true, ..survey("26.1.5") };
        assert_eq!(judge_daemon(&restoring, None).verdict, Verdict::Ok);
    }

    #[test]
    fn a_refused_version_of_the_api_has_its_own_advice() {
        let old =
            "Docker at unix:///d is unavailable: client version 1.41 is too old. Minimum supported API version is 1.44";
        assert!(unavailable(old).advice.unwrap().contains("in common"));
        assert!(unavailable("no such file").advice.unwrap().contains("systemctl"));
    }
}
