//! Start, stop, pause, remove.

use std::time::Duration;

use bollard::query_parameters::{
    KillContainerOptionsBuilder, RemoveContainerOptionsBuilder, StartContainerOptions, StopContainerOptionsBuilder,
    WaitContainerOptionsBuilder,
};
use futures::StreamExt;
use uuid::Uuid;

use super::{Docker, Error, create::wanted_wrong, hopeless, labels, state::Found, volumes};
use crate::guest::PowerState;
use crate::limits::StopTimeout;

/// Time that Docker may need beyond a timeout in the request.
const MARGIN: Duration = Duration::from_secs(60);
/// Lines of the log in the error about a container that exited at once, and what follows them.
const LAST_WORDS: usize = 21;
/// Bytes of them; a fault's message has little room.
const LAST_WORDS_BYTES: usize = 2000;
/// How often, and after which time each, it is looked whether a container's command is there.
const LOOKS: usize = 500;
const BETWEEN_LOOKS: Duration = Duration::from_millis(20);

impl Docker {
    /// Starts the container; no failure when it runs. What is on disk of its processes is given up. An instance with interfaces does
    /// not start without its namespace. Returns whether it had never run before.
    pub async fn start(&self, uuid: Uuid) -> Result<bool, Error> {
        let found = self.get(uuid).await?;
        if found.state == PowerState::Paused {
            return self.unpause(uuid).await.map(|()| false);
        }
        if found.rescues {
            self.hold_aside(uuid, &found.id).await?;
        }
        self.tell_before_start(uuid, &found).await?;
        self.drop_checkpoint(&found.id).await?;
        self.forget_stop(&found.id).await;
        self.let_restart(&found).await?;
        let started = self.engine().docker.start_container(&found.id, None::<StartContainerOptions>).await;
        let name = labels::container_name(uuid);
        if let Err(error) = started {
            self.give_restart_up(&found).await;
            return Err(start_error(self.engine().error("start container", &name, error)));
        }
        Ok(found.state == PowerState::Created)
    }

    /// What the runtime must know of a container whose processes are about to be there.
    pub(super) async fn tell_before_start(&self, uuid: Uuid, found: &Found) -> Result<(), Error> {
        if found.has_given && !self.has_given(&found.id) {
            return Err(Error::GivenMissing { uuid });
        }
        self.link_network(uuid, &found.id, found.interfaces).await?;
        self.tell_runtime(found).await?;
        if found.read_only {
            self.tell_read_only(&found.id).await?;
        }
        Ok(())
    }

    /// Waits until a container just started has run for `grace`. Told by Docker's own wait, so that an exit is known at once. A job
    /// may end well in that time.
    pub async fn started_well(&self, uuid: Uuid, grace: Duration) -> Result<(), Error> {
        if self.ended_within(uuid, grace).await? {
            let found = self.get(uuid).await?;
            // None: a job that is done, or started again meanwhile, by whoever.
            return self.end_of(&found).await.map_or(Ok(()), Err);
        }
        Ok(())
    }

    /// The error of a container whose last run was shorter than `grace`; none while it runs, or of a job that ended well.
    pub async fn short_run(&self, uuid: Uuid, grace: Duration) -> Result<Option<Error>, Error> {
        let found = self.get(uuid).await?;
        match found.ran_for {
            Some(time) if time >= grace => Ok(None),
            // Of one that has ended and yet took no time, Docker noted the start after the end.
            _ => Ok(self.end_of(&found).await),
        }
    }

    async fn end_of(&self, found: &Found) -> Option<Error> {
        let (exit_code, oom) = match found.state {
            PowerState::Crashed { exit_code, oom } => (exit_code, oom),
            PowerState::Stopped { exit_code: 0 } if found.is_oneshot => return None,
            PowerState::Stopped { exit_code } => (exit_code, false),
            _ => return None,
        };
        let log_tail = self.last_words(found).await;
        Some(Error::ExitedAtOnce { exit_code, oom, log_tail })
    }

    /// Whether the container ends, or has ended, within `bound`.
    async fn ended_within(&self, uuid: Uuid, bound: Duration) -> Result<bool, Error> {
        let name = labels::container_name(uuid);
        let options = WaitContainerOptionsBuilder::default().condition("not-running").build();
        let docker = self.engine().patient(bound + MARGIN);
        let mut wait = docker.wait_container(&name, Some(options));
        match tokio::time::timeout(bound, wait.next()).await {
            Err(_) => Ok(false),
            // Any exit code above 0 is an error to the client library.
            Ok(Some(Ok(_)) | Some(Err(bollard::errors::Error::DockerContainerWaitError { .. }))) => Ok(true),
            Ok(Some(Err(error))) => Err(self.engine().error("wait for container", &name, error)),
            Ok(None) => Err(Error::Unavailable {
                host: self.engine().host.clone(),
                reason: format!("the wait for container {name} broke off"),
            }),
        }
    }

    async fn last_words(&self, found: &Found) -> String {
        match self.read_log(found, LAST_WORDS, LAST_WORDS_BYTES).await {
            Ok(text) => clean(&text),
            Err(error) => format!("(its log cannot be read: {error})"),
        }
    }

    /// Stops with the image's stop signal, and kills after `timeout`; zero kills at once. No failure when it is not running. One that
    /// is suspended to disk will not go on.
    /// A paused container is thawed, since a frozen process takes no signal. One that does not heed its stop signal is killed at
    /// once. One with a grace period of its own has that instead of a timeout.
    pub async fn stop(&self, uuid: Uuid, timeout: StopTimeout) -> Result<(), Error> {
        let found = self.get(uuid).await?;
        self.drop_checkpoint(&found.id).await?;
        self.forbid_restart(&found).await?;
        if found.is_restarting {
            // Nothing of it runs that a signal could end, and Docker waits until it has given the restart up.
            return self.ask_to_stop(&found, StopTimeout::of_container(Duration::from_secs(1))).await;
        }
        let timeout = match found.stop_grace {
            Some(grace) if timeout != StopTimeout::KILL => StopTimeout::of_container(grace),
            _ => timeout,
        };
        if timeout == StopTimeout::KILL {
            return self.kill(&found.id).await;
        }
        if is_in_vain(&found).await {
            tracing::debug!(instance = %uuid, "its first process does not heed the stop signal; killing it at once");
            return self.kill(&found.id).await;
        }
        if found.state == PowerState::Paused {
            self.unpause(uuid).await?;
        }
        self.ask_to_stop(&found, timeout).await
    }

    /// As [`stop`](Self::stop), and kills what still runs after `limit`, whatever grace it has.
    pub async fn stop_within(&self, uuid: Uuid, timeout: StopTimeout, limit: Duration) -> Result<(), Error> {
        match tokio::time::timeout(limit, self.stop(uuid, timeout)).await {
            Ok(stopped) => stopped,
            Err(_) => {
                tracing::warn!(instance = %uuid, ?limit, "its clean stop takes too long; killing it");
                self.stop(uuid, StopTimeout::KILL).await
            }
        }
    }

    async fn ask_to_stop(&self, found: &Found, timeout: StopTimeout) -> Result<(), Error> {
        if matches!(found.state, PowerState::Running | PowerState::Paused) {
            self.note_stop(found).await;
        }
        let options = StopContainerOptionsBuilder::default().t(timeout.seconds()).build();
        let stopped = self.engine().patient(timeout.get() + MARGIN).stop_container(&found.id, Some(options)).await;
        stopped.map_err(|error| self.engine().error("stop container", &found.name, error))
    }

    /// Docker thaws a paused container after the signal, so that nothing of it runs in between.
    pub(super) async fn kill(&self, id: &str) -> Result<(), Error> {
        let options = KillContainerOptionsBuilder::default().signal("KILL").build();
        match self.engine().docker.kill_container(id, Some(options)).await {
            Ok(()) => Ok(()),
            Err(error) => match self.engine().error("kill container", id, error) {
                // Not running.
                Error::Docker { status: 409, .. } => Ok(()),
                other => Err(other),
            },
        }
    }

    /// Freezes every process; no failure when they are frozen.
    pub async fn pause(&self, uuid: Uuid) -> Result<(), Error> {
        let found = self.get(uuid).await?;
        if found.state == PowerState::Paused {
            return Ok(());
        }
        let paused = self.engine().docker.pause_container(&found.id).await;
        paused.map_err(|error| self.engine().error("pause container", &labels::container_name(uuid), error))
    }

    /// Thaws every process; no failure when the container runs.
    pub async fn unpause(&self, uuid: Uuid) -> Result<(), Error> {
        let found = self.get(uuid).await?;
        if found.state == PowerState::Running {
            return Ok(());
        }
        let unpaused = self.engine().docker.unpause_container(&found.id).await;
        unpaused.map_err(|error| self.engine().error("unpause container", &labels::container_name(uuid), error))
    }

    /// Kills and removes the container with its anonymous volumes, its link, and, unless the instance has another one, its config
    /// drive and its log; no failure when it is absent. Docker's names of the volumes that stay, if nobody else removes them.
    pub async fn remove(&self, uuid: Uuid) -> Result<Vec<String>, Error> {
        let volumes = match self.find(uuid).await? {
            Some(found) => self.remove_found(&found).await?,
            None => vec![],
        };
        self.drop_files(uuid).await;
        Ok(volumes)
    }

    /// Removes what the host has of an instance beside its containers, unless it still has one. What fails is made up for at the next
    /// start.
    pub(super) async fn drop_files(&self, uuid: Uuid) {
        if !self.has_config_drive(uuid) && !self.has_past_log(uuid).await {
            return;
        }
        let dropped = async {
            if self.list_any().await?.contains(&uuid) {
                return Ok(());
            }
            self.forget_past_log(uuid).await;
            self.remove_config_drive(uuid).await
        };
        if let Err(error) = dropped.await {
            tracing::warn!(instance = %uuid, %error, "files of the server stay until the agent is started again");
        }
    }

    pub(super) async fn remove_found(&self, found: &Found) -> Result<Vec<String>, Error> {
        if let Err(error) = self.end_dump_of(&found.id).await {
            tracing::warn!(container = found.name, %error, "cannot end its way to disk; its removal waits for that");
        }
        let options = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
        if let Err(error) = self.engine().patient(MARGIN * 2).remove_container(&found.id, Some(options)).await {
            match self.engine().error("remove container", &found.name, error) {
                Error::NotFound { .. } => {}
                // Somebody else's removal is under way.
                Error::Docker { status: 409, .. } => self.removed(&found.id).await?,
                other => return Err(other),
            }
        }
        self.drop_checkpoint(&found.id).await?;
        self.unlink(&found.id).await?;
        self.forget_runtime(&found.id).await?;
        self.forget_given(&found.id).await?;
        self.forget_stop(&found.id).await;
        if found.base_image.is_some() {
            self.remove_files(&found.image).await?;
        }
        let names = found.volumes.iter().filter_map(|volume| volume.name.clone());
        let (named, anonymous): (Vec<_>, Vec<_>) = names.partition(|name| volumes::is_named(name));
        // To Docker those are not anonymous that a container was given by their name.
        for name in anonymous {
            self.inner.volumes.remove_anonymous(&name).await?;
        }
        Ok(named)
    }

    async fn removed(&self, id: &str) -> Result<(), Error> {
        let options = WaitContainerOptionsBuilder::default().condition("removed").build();
        let docker = self.engine().patient(MARGIN);
        let mut wait = docker.wait_container(id, Some(options));
        match tokio::time::timeout(MARGIN, wait.next()).await {
            Ok(Some(Err(bollard::errors::Error::DockerContainerWaitError { .. })) | Some(Ok(_)) | None) => Ok(()),
            Ok(Some(Err(error))) => match self.engine().error("wait for the removal of container", id, error) {
                Error::NotFound { .. } => Ok(()),
                other => Err(other),
            },
            Err(_) => Err(Error::Docker {
                action: format!("remove container {id}"),
                status: 409,
                message: "its removal is under way and does not end".to_owned(),
            }),
        }
    }
}

/// Whether the container's stop signal changes nothing. Docker calls a container started a moment before its command is there; until
/// then its first process is the runtime's, which has handlers of its own. Nobody tells when that moment is over.
async fn is_in_vain(found: &Found) -> bool {
    let Some(pid) = found.pid else { return false };
    for _ in 0..LOOKS {
        match tokio::fs::read_to_string(format!("/proc/{pid}/status")).await {
            Ok(status) if hopeless::is_runtimes(&status) => tokio::time::sleep(BETWEEN_LOOKS).await,
            status => return status.is_ok_and(|status| hopeless::ignores(&status, found.stop_signal.as_deref())),
        }
    }
    false
}

/// What a failed start says of the image: of its user, its working directory, its command. The runtime's words are:
/// `... unable to start container process: exec: "COMMAND": executable file not found in $PATH: unknown`.
fn start_error(error: Error) -> Error {
    let Error::Docker { message, .. } = &error else { return error };
    const OF_THE_IMAGE: [&str; 8] = [
        "unable to find user",
        "unable to find group",
        "uids and gids must be in range",
        "environment variable name",
        "Cwd must be an absolute path",
        "chdir to cwd",
        "error during container init: mkdir ",
        // A volume hides the container's own /proc.
        "error during container init: open /proc/",
    ];
    if OF_THE_IMAGE.iter().any(|words| message.contains(words)) {
        return wanted_wrong(without_steps(message).to_owned());
    }
    let reasons = [
        "executable file not found",
        "permission denied",
        "no such file or directory",
        "is a directory",
        "exec format error",
    ];
    let Some((_, rest)) = message.split_once("exec: \"") else { return error };
    let Some((command, words)) = rest.split_once('"') else { return error };
    match reasons.into_iter().find(|reason| words.contains(reason)) {
        Some(reason) => Error::CommandNotFound { command: command.to_owned(), reason: reason.to_owned() },
        None => error,
    }
}

/// What the runtime says, without the steps that led there: a fault has room for 255 characters.
fn without_steps(message: &str) -> &str {
    const STEPS: [&str; 5] = [
        "failed to create shim task: ",
        "OCI runtime create failed: ",
        "runc create failed: ",
        "unable to start container process: ",
        "error during container init: ",
    ];
    STEPS.iter().fold(message, |rest, step| rest.strip_prefix(step).unwrap_or(rest))
}

/// Text without control characters but line ends, and without empty lines around it.
fn clean(text: &str) -> String {
    text.chars().filter(|letter| *letter == '\n' || !letter.is_control()).collect::<String>().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(message: &str) -> Error {
        Error::Docker { action: "start container x".to_owned(), status: 400, message: message.to_owned() }
    }

    #[test]
    fn a_missing_command_is_called_by_its_name() {
        let message = "failed to create shim task: OCI runtime create failed: runc create failed: unable to start container \
            process: exec: \"/bin/nothing\": stat /bin/nothing: no such file or directory: unknown";
        match start_error(refused(message)) {
            Error::CommandNotFound { command, reason } => {
                assert_eq!((command.as_str(), reason.as_str()), ("/bin/nothing", "no such file or directory"));
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_the_image_cannot_have_is_its_fault_and_told_without_the_runtimes_steps() {
        let steps = "failed to create shim task: OCI runtime create failed: runc create failed: ";
        let process = format!("{steps}unable to start container process: error during container init: ");
        for (steps, words) in [
            ("", "unable to find user nosuch: no matching entries in passwd file"),
            (steps, "Cwd must be an absolute path: unknown"),
            (&process, "environment variable name can't be empty: \"=nameless\": unknown"),
        ] {
            let error = start_error(refused(&format!("{steps}{words}")));
            assert!(matches!(&error, Error::Invalid { reason, .. } if reason == words), "{error}");
        }
    }

    #[test]
    fn a_failure_that_is_not_about_the_command_stays_what_it_is() {
        assert!(matches!(
            start_error(refused("failed to mount overlay: no such file or directory")),
            Error::Docker { .. }
        ));
    }

    #[test]
    fn control_characters_of_a_log_are_dropped() {
        assert_eq!(clean("\n\u{1b}[31mred\r\nnext\n\n"), "[31mred\nnext");
    }
}
