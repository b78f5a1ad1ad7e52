//! What containers are doing.

use std::path::PathBuf;
use std::time::Duration;

use bollard::models::{
    ContainerState, ContainerStateStatusEnum, ContainerSummary, ContainerSummaryStateEnum, HealthStatusEnum,
    MountPoint, RestartPolicy, RestartPolicyNameEnum,
};
use jiff::Timestamp;
use uuid::Uuid;

use super::{Docker, Error, labels};
use crate::guest::configuration::{Links, Restart, link};
use crate::guest::{Exposed, GuestSummary, Health, PowerState};

/// 128 + SIGKILL and 128 + SIGTERM: how processes end that a stop has ended.
const STOP_CODES: [i64; 3] = [0, 137, 143];

/// One of our containers, as Docker describes it.
#[derive(Debug)]
pub(super) struct Found {
    /// Docker's id, 64 hexadecimal digits.
    pub(super) id: String,
    /// The name that it was found by.
    pub(super) name: String,
    pub(super) state: PowerState,
    /// When its last run began, by Docker's clock.
    pub(super) started_at: String,
    /// What its check has found, while it runs.
    pub(super) health: Option<Health>,
    /// The configured count of interfaces.
    pub(super) interfaces: usize,
    /// Whether it is a rescue's.
    pub(super) rescues: bool,
    /// Its own name.
    pub(super) hostname: String,
    /// Its domain, if it was given one.
    pub(super) domainname: Option<String>,
    /// Identity of the compute service that created it.
    compute_id: String,
    /// ID of its image.
    pub(super) image: String,
    /// ID of the image that it was made from at first, where `image` holds the files of another container.
    pub(super) base_image: Option<String>,
    /// `NAME=value` of each variable, the image's among them.
    pub(super) environment: Vec<String>,
    /// Its first process on the host; none while it does not run.
    pub(super) pid: Option<u32>,
    /// What a stop sends; SIGTERM when none.
    pub(super) stop_signal: Option<String>,
    /// How long it has to end by itself; none where whoever stops it says so.
    pub(super) stop_grace: Option<Duration>,
    /// Whether its processes find their root file system read-only.
    pub(super) read_only: bool,
    /// The OCI runtime that it needs, by the operator's name of it; none for the usual one.
    pub(super) runtime: Option<String>,
    /// See [`labels::MADE_OF`]; empty where a release before this made it.
    pub(super) made_of: String,
    /// What runs once beside its first process; nothing where nothing does.
    pub(super) script: Vec<String>,
    /// Whether it was given configs and secrets.
    pub(super) has_given: bool,
    /// When it starts again by itself.
    pub(super) restart: Option<Restart>,
    /// Whether it is a job, whose launch succeeds when it ends well.
    pub(super) is_oneshot: bool,
    /// Whether Docker knows that it starts again.
    pub(super) restarts: bool,
    /// The links that it was given.
    pub(super) links: Links,
    /// Whose it is.
    pub(super) project_id: String,
    /// What its image exposes.
    pub(super) exposed: Vec<Exposed>,
    /// How often Docker has started it again since it was last started.
    pub(super) restart_count: i64,
    /// Whether it has ended, and is about to be started again.
    pub(super) is_restarting: bool,
    /// How long its last run took; none while it runs, or when it never ran, or when it ended before Docker noted its start.
    pub(super) ran_for: Option<Duration>,
    /// Its volumes, anonymous ones among them.
    pub(super) volumes: Vec<MountPoint>,
    /// Whether its first process has a terminal.
    pub(super) tty: bool,
    /// The user of its processes, as the image or the configuration names it; empty for root.
    pub(super) user: String,
    /// See [`labels::CONSOLE_SHELL`].
    pub(super) console_shell: String,
    /// The newest file of its log.
    pub(super) log_path: PathBuf,
    /// Docker's ids of the processes beside the first one.
    pub(super) execs: Vec<String>,
}

impl Found {
    /// ID of the image whose configuration it has.
    pub(super) fn base(&self) -> &str {
        self.base_image.as_deref().unwrap_or(&self.image)
    }
}

impl Docker {
    /// What the container is doing; none when there is no container.
    pub async fn state(&self, uuid: Uuid) -> Result<Option<PowerState>, Error> {
        Ok(self.find(uuid).await?.map(|found| found.state))
    }

    /// Whether the instance runs in the container with this id.
    pub async fn runs_in(&self, uuid: Uuid, container: &str) -> Result<bool, Error> {
        let found = self.find(uuid).await?;
        Ok(found.is_some_and(|found| found.id == container && found.state == PowerState::Running))
    }

    /// The container of one instance; none when there is no container.
    pub async fn summary(&self, uuid: Uuid) -> Result<Option<GuestSummary>, Error> {
        let found = self.find(uuid).await?;
        Ok(found.map(|Found { id, state, health, compute_id, script, .. }| {
            let script = if script.is_empty() { None } else { self.script_exit_code(&id) };
            GuestSummary { uuid, state, health, script, compute_id }
        }))
    }

    /// Every container with our label but those that were set aside, from Docker's list alone: a container that was killed for
    /// memory shows as stopped here, and one that ended with a code of its own when it was stopped as crashed;
    /// [`state`](Self::state) knows better.
    pub async fn list(&self) -> Result<Vec<GuestSummary>, Error> {
        Ok(self.list_all().await?.iter().filter_map(|(uuid, container)| self.listed(*uuid, container)).collect())
    }

    /// The instance's container, by its exact name, and only with our label on it.
    pub(super) async fn find(&self, uuid: Uuid) -> Result<Option<Found>, Error> {
        self.find_named(uuid, &labels::container_name(uuid)).await
    }

    /// As [`find`](Self::find), by another name that the instance's containers have.
    pub(super) async fn find_named(&self, uuid: Uuid, name: &str) -> Result<Option<Found>, Error> {
        let details = match self.engine().docker.inspect_container(name, None).await {
            Ok(details) => details,
            Err(error) => {
                return match self.engine().error("inspect", name, error) {
                    Error::NotFound { .. } => Ok(None),
                    other => Err(other),
                };
            }
        };
        let config = details.config.unwrap_or_default();
        let labels = config.labels.unwrap_or_default();
        if labels.get(labels::INSTANCE).map(String::as_str) != Some(uuid.to_string().as_str()) {
            return Ok(None);
        }
        let (Some(id), Some(state)) = (details.id, details.state) else { return Ok(None) };
        let started_at = state.started_at.clone().unwrap_or_default();
        let power_state = match power_state(&state) {
            PowerState::Crashed { exit_code, oom: false } if self.is_stop_noted(&id, &started_at).await => {
                PowerState::Stopped { exit_code }
            }
            other => other,
        };
        let power_state = self.unless_checkpointed(&id, power_state);
        Ok(Some(Found {
            id,
            name: name.to_owned(),
            state: power_state,
            started_at,
            health: health(&state),
            pid: state.pid.and_then(|pid| u32::try_from(pid).ok()).filter(|&pid| pid > 0),
            stop_signal: config.stop_signal,
            stop_grace: labels.get(labels::GRACE).and_then(|time| time.parse().ok()).map(Duration::from_secs),
            read_only: labels.get(labels::READ_ONLY).is_some_and(|value| value == "true"),
            runtime: labels.get(labels::RUNTIME).filter(|name| !name.is_empty()).cloned(),
            made_of: labels.get(labels::MADE_OF).cloned().unwrap_or_default(),
            script: labels.get(labels::SCRIPT).and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default(),
            has_given: labels.get(labels::GIVEN).is_some_and(|count| !matches!(count.as_str(), "" | "0")),
            restart: labels.get(labels::RESTART).and_then(|text| Restart::parse(text).ok()).flatten(),
            is_oneshot: labels.get(labels::ONESHOT).is_some_and(|value| value == "true"),
            restarts: details.host_config.and_then(|host| host.restart_policy).is_some_and(|policy| is_on(&policy)),
            links: labels.get(labels::LINKS).map(|text| link::read(text)).unwrap_or_default(),
            project_id: labels.get(labels::PROJECT).cloned().unwrap_or_default(),
            exposed: Exposed::all(config.exposed_ports.iter().flatten().map(String::as_str)),
            restart_count: details.restart_count.unwrap_or_default(),
            is_restarting: state.restarting.unwrap_or_default(),
            ran_for: run_time(&state),
            interfaces: labels.get(labels::INTERFACES).and_then(|count| count.parse().ok()).unwrap_or_default(),
            rescues: labels.get(labels::RESCUE).is_some_and(|value| value == "true"),
            compute_id: labels.get(labels::COMPUTE).cloned().unwrap_or_default(),
            base_image: labels.get(labels::BASE).filter(|id| is_image_id(id)).cloned(),
            console_shell: labels.get(labels::CONSOLE_SHELL).cloned().unwrap_or_default(),
            user: config.user.unwrap_or_default(),
            tty: config.tty.unwrap_or_default(),
            execs: details.exec_ids.unwrap_or_default(),
            log_path: details.log_path.unwrap_or_default().into(),
            image: details.image.unwrap_or_default(),
            hostname: config.hostname.unwrap_or_default(),
            domainname: config.domainname.filter(|name| !name.is_empty()),
            environment: config.env.unwrap_or_default(),
            volumes: details.mounts.into_iter().flatten().filter(|mount| mount.name.is_some()).collect(),
        }))
    }

    /// As [`find`](Self::find), for operations that cannot do without the container.
    pub(super) async fn get(&self, uuid: Uuid) -> Result<Found, Error> {
        self.find(uuid)
            .await?
            .ok_or_else(|| Error::NotFound { what: format!("container {}", labels::container_name(uuid)) })
    }
}

fn is_on(policy: &RestartPolicy) -> bool {
    !matches!(policy.name, None | Some(RestartPolicyNameEnum::EMPTY | RestartPolicyNameEnum::NO))
}

/// `sha256:` and 64 hexadecimal digits.
fn is_image_id(text: &str) -> bool {
    text.strip_prefix("sha256:").is_some_and(|hex| hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// From the start to the end of the last run, by Docker's clock.
fn run_time(state: &ContainerState) -> Option<Duration> {
    let time = |text: &Option<String>| text.as_deref()?.parse::<Timestamp>().ok();
    let (started, finished) = (time(&state.started_at)?, time(&state.finished_at)?);
    Duration::try_from(started.duration_until(finished)).ok()
}

/// Docker's state of a container in our words.
pub(super) fn power_state(state: &ContainerState) -> PowerState {
    let exit_code = state.exit_code.unwrap_or_default();
    match state.status {
        Some(ContainerStateStatusEnum::CREATED) => PowerState::Created,
        Some(ContainerStateStatusEnum::PAUSED) => PowerState::Paused,
        Some(ContainerStateStatusEnum::RUNNING | ContainerStateStatusEnum::RESTARTING) => PowerState::Running,
        Some(ContainerStateStatusEnum::STOPPING) => PowerState::Running,
        _ => ended(exit_code, state.oom_killed.unwrap_or_default()),
    }
}

/// What the check of a container's health has found. Of one that does not run Docker keeps the last finding.
fn health(state: &ContainerState) -> Option<Health> {
    if !matches!(power_state(state), PowerState::Running | PowerState::Paused) {
        return None;
    }
    match state.health.as_ref()?.status? {
        HealthStatusEnum::STARTING => Some(Health::Starting),
        HealthStatusEnum::HEALTHY => Some(Health::Healthy),
        HealthStatusEnum::UNHEALTHY => Some(Health::Unhealthy),
        HealthStatusEnum::NONE | HealthStatusEnum::EMPTY => None,
    }
}

/// The state of a container whose first process has ended.
pub(super) fn ended(exit_code: i64, oom: bool) -> PowerState {
    if STOP_CODES.contains(&exit_code) && !oom {
        PowerState::Stopped { exit_code }
    } else {
        PowerState::Crashed { exit_code, oom }
    }
}

impl Docker {
    fn listed(&self, uuid: Uuid, container: &ContainerSummary) -> Option<GuestSummary> {
        let summary = summary(uuid, container)?;
        let has_script = container.labels.as_ref()?.get(labels::SCRIPT).is_some_and(|words| !words.is_empty());
        let id = container.id.as_deref()?;
        let script = if has_script { self.script_exit_code(id) } else { None };
        let state = self.unless_checkpointed(id, summary.state);
        Some(GuestSummary { script, state, ..summary })
    }

    /// Docker calls a container ended whose processes are on disk, and paused while they go there. Those may yet run on.
    fn unless_checkpointed(&self, id: &str, state: PowerState) -> PowerState {
        match state {
            PowerState::Stopped { .. } | PowerState::Crashed { .. } if self.is_checkpointed(id) => {
                PowerState::Suspended
            }
            PowerState::Paused if self.is_being_dumped(id) => PowerState::Running,
            other => other,
        }
    }
}

fn summary(uuid: Uuid, container: &ContainerSummary) -> Option<GuestSummary> {
    let labels = container.labels.as_ref()?;
    if !labels::has_name(container, &labels::container_name(uuid)) {
        return None;
    }
    let state = match container.state? {
        ContainerSummaryStateEnum::CREATED => PowerState::Created,
        ContainerSummaryStateEnum::PAUSED => PowerState::Paused,
        ContainerSummaryStateEnum::EXITED | ContainerSummaryStateEnum::DEAD | ContainerSummaryStateEnum::REMOVING => {
            ended(container.status.as_deref().and_then(exit_code).unwrap_or_default(), false)
        }
        _ => PowerState::Running,
    };
    let health = container.status.as_deref().and_then(listed_health);
    let compute_id = labels.get(labels::COMPUTE).cloned().unwrap_or_default();
    Some(GuestSummary { uuid, state, health, script: None, compute_id })
}

/// The exit code in the list's text: `Exited (137) 3 seconds ago`.
fn exit_code(status: &str) -> Option<i64> {
    status.strip_prefix("Exited (")?.split_once(')')?.0.parse().ok()
}

/// The finding of a check in the list's text: `Up 3 seconds (healthy)`, `Up 1 second (health: starting)`.
fn listed_health(status: &str) -> Option<Health> {
    let (_, finding) = status.strip_prefix("Up ")?.strip_suffix(')')?.rsplit_once('(')?;
    Health::of(finding.strip_prefix("health: ").unwrap_or(finding))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_that_a_stop_has_ended_has_not_crashed() {
        assert_eq!(ended(143, false), PowerState::Stopped { exit_code: 143 });
        assert_eq!(ended(137, true), PowerState::Crashed { exit_code: 137, oom: true });
        assert_eq!(ended(1, false), PowerState::Crashed { exit_code: 1, oom: false });
    }

    #[test]
    fn only_an_id_names_the_image_that_a_container_was_made_from() {
        assert!(is_image_id(&format!("sha256:{}", "0a".repeat(32))));
        for other in ["", "sha256:0a", "../containers/x", &format!("sha256:{}", "z".repeat(64))] {
            assert!(!is_image_id(other), "{other}");
        }
    }

    #[test]
    fn a_run_that_is_not_over_has_no_length() {
        let state = |started: &str, finished: &str| ContainerState {
            started_at: Some(started.to_owned()),
            finished_at: Some(finished.to_owned()),
            ..ContainerState::default()
        };
        let (one, two, never) = ("2026-01-01T00:00:01.5Z", "2026-01-01T00:00:02Z", "0001-01-01T00:00:00Z");
        assert_eq!(run_time(&state(one, two)), Some(Duration::from_millis(500)));
        assert_eq!(run_time(&state(one, never)), None);
        assert_eq!(run_time(&state(two, one)), None, "it runs again");
        assert_eq!(run_time(&ContainerState::default()), None);
    }

    #[test]
    fn the_finding_of_a_check_is_read_from_the_list_and_from_a_container_that_runs() {
        let listed = ["Up 3 seconds (healthy)", "Up 1 second (health: starting)", "Up 2 hours (unhealthy)"];
        let found = [Health::Healthy, Health::Starting, Health::Unhealthy];
        assert_eq!(listed.map(listed_health), found.map(Some));
        for none in ["Up 3 seconds", "Up 3 seconds (Paused)", "Exited (137) 3 seconds ago", "Exited (1) (healthy)"] {
            assert_eq!(listed_health(none), None, "{none}");
        }
        let state = |status| ContainerState {
            status: Some(status),
            health: Some(bollard::models::Health { status: Some(HealthStatusEnum::HEALTHY), ..Default::default() }),
            ..ContainerState::default()
        };
        assert_eq!(health(&state(ContainerStateStatusEnum::RUNNING)), Some(Health::Healthy));
        assert_eq!(health(&state(ContainerStateStatusEnum::EXITED)), None, "of its last run");
        assert_eq!(health(&ContainerState { health: None, ..state(ContainerStateStatusEnum::RUNNING) }), None);
    }

    #[test]
    fn the_exit_code_is_read_from_the_list() {
        assert_eq!(exit_code("Exited (137) 3 seconds ago"), Some(137));
        assert_eq!(exit_code("Up 3 seconds"), None);
    }
}
