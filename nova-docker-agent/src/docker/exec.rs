//! A command beside an instance's first process, for somebody who waits for its end.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use backon::{ExponentialBuilder, Retryable as _};
use bollard::{models::ExecConfig, query_parameters::ResizeExecOptionsBuilder};
use serde_json::json;
use tokio::{sync::Mutex, task::JoinHandle};
use tracing::{debug, warn};

use super::{
    Docker, Error, Offer,
    pieces::{self, Pieces},
    process::Session,
    state::Found,
    terminal::{DETACH_KEYS, Input, started},
};

/// In the environment of our commands, so that those that a killed agent has left are found.
pub(super) const MARK: (&str, &str) = ("NOVA_CONSOLE", "channel");
/// Shells that bar their user from nothing: who has one may run any command.
const FREE_SHELLS: [&str; 10] = ["sh", "ash", "bash", "dash", "fish", "ksh", "mksh", "zsh", "csh", "tcsh"];
/// CAP_SETGID and CAP_SETUID, without which nobody becomes another user.
const CHANGES_USERS: u64 = 1 << 6 | 1 << 7;

/// A window, in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Size {
    /// Its height.
    pub rows: u16,
    /// Its width.
    pub columns: u16,
}

/// A command that is wanted.
#[derive(Debug)]
pub struct Command {
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// The container's own where it is none.
    pub user: Option<String>,
    /// Beside the container's own.
    pub env: BTreeMap<String, String>,
    /// The container's own where it is none.
    pub working_dir: Option<String>,
    /// Whether it gets a terminal.
    pub tty: bool,
    /// Of the terminal.
    pub size: Option<Size>,
    /// Whether it gets a standard input.
    pub stdin: bool,
}

/// A command that runs.
pub struct Exec {
    /// Its standard input.
    pub input: Option<Input>,
    /// What it writes.
    pub output: Pieces,
    pub window: ExecWindow,
    /// Itself.
    pub running: Running,
}

/// The window of a command's terminal.
#[derive(Clone)]
pub struct ExecWindow {
    docker: Docker,
    exec: String,
    /// The size to which its user has changed it. Held while Docker is told one, so that the last one counts.
    changed: Arc<Mutex<Option<Size>>>,
}

/// To be asked for its end, or ended, by whoever has the command: Docker leaves it running when its streams go.
pub struct Running {
    docker: Docker,
    exec: String,
    session: Known,
}

enum Known {
    NotYet(JoinHandle<Option<Session>>),
    /// None: it has ended before anybody saw it.
    Now(Option<Session>),
}

impl Docker {
    /// Runs a command in a container whose console would be a shell that may run it.
    ///
    /// # Errors
    /// [`Error::Lacking`] says why there is none.
    pub async fn exec(&self, offer: &Offer, command: Command) -> Result<Exec, Error> {
        let found = offer.found();
        self.check_exec(found, &command).await?;
        let Command { tty, stdin, size, .. } = command;
        let made = self.engine().docker.create_exec(&found.id, config(command)).await;
        let exec = made.map_err(|error| self.engine().error("make a command in container", &found.id, error))?.id;
        let path = format!("/exec/{exec}/start");
        let start = json!({"Detach": false, "Tty": tty});
        let stream = self.hijack(&path, &start, "start a command in container", &found.id).await?;
        let window = ExecWindow { docker: self.clone(), exec: exec.clone(), changed: Arc::default() };
        let (process, first) = (started(self.clone(), exec.clone()), window.clone());
        let session = tokio::spawn(async move {
            let process = process.await;
            if let Some(size) = size.filter(|_| tty) {
                first.begin(size).await;
            }
            process.and_then(Session::of)
        });
        let (output, input) = tokio::io::split(stream);
        let output = if tty { pieces::of_terminal(output) } else { pieces::of_frames(output) };
        // Without its writing half the stream stays open as long as the reading one does.
        let input = stdin.then_some(input);
        let running = Running { docker: self.clone(), exec, session: Known::NotYet(session) };
        Ok(Exec { input, output, window, running })
    }

    /// Who has a shell may run what it runs, as its user.
    async fn check_exec(&self, found: &Found, command: &Command) -> Result<(), Error> {
        let shell = self.shell_path(found).await?;
        let name = shell.rsplit('/').next().unwrap_or_default();
        let lacking = |reason: &str| Err(Error::Lacking { reason: reason.to_owned() });
        if !FREE_SHELLS.contains(&name) {
            return lacking("its image or flavor names a shell (console_shell) that need not run every command");
        }
        match &command.user {
            Some(user) if *user != found.user && !may_change_users(found) => lacking(
                "only a container whose own user is root, and may become another, runs a command as another user",
            ),
            _ => Ok(()),
        }
    }
}

fn config(command: Command) -> ExecConfig {
    let Command { argv, user, env, working_dir, tty, size, stdin } = command;
    let (name, value) = MARK;
    let env = env.iter().map(|(name, value)| format!("{name}={value}")).chain([format!("{name}={value}")]).collect();
    ExecConfig {
        attach_stdin: Some(stdin),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        tty: Some(tty),
        console_size: size.filter(|_| tty).map(|size| vec![size.rows.into(), size.columns.into()]),
        detach_keys: Some(DETACH_KEYS.to_owned()),
        env: Some(env),
        cmd: Some(argv),
        user,
        working_dir,
        ..ExecConfig::default()
    }
}

fn may_change_users(found: &Found) -> bool {
    let own = found.user.split(':').next().unwrap_or_default();
    let status = found.pid.and_then(|pid| std::fs::read_to_string(format!("/proc/{pid}/status")).ok());
    matches!(own, "" | "0" | "root") && bounding_set(&status.unwrap_or_default()) & CHANGES_USERS == CHANGES_USERS
}

/// What the kernel's status of a process says that it can have at most.
fn bounding_set(status: &str) -> u64 {
    let set = status.lines().find_map(|line| line.strip_prefix("CapBnd:"));
    set.and_then(|set| u64::from_str_radix(set.trim(), 16).ok()).unwrap_or_default()
}

impl Running {
    /// A command that has been started.
    pub(super) fn of(docker: Docker, exec: String) -> Self {
        let process = started(docker.clone(), exec.clone());
        let session = tokio::spawn(async move { process.await.and_then(Session::of) });
        Self { docker, exec, session: Known::NotYet(session) }
    }

    /// Waits for the end; its exit code.
    ///
    /// # Errors
    /// Docker does not know it any more, or does not answer.
    pub async fn exit_code(&mut self) -> Result<i64, Error> {
        if let Some(session) = self.session().await {
            session
                .ended()
                .await
                .map_err(|source| Error::System { action: "wait for the end of a command".to_owned(), source })?;
        }
        let backoff = ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(5))
            .with_max_delay(Duration::from_secs(1))
            .with_max_times(30);
        let lacking = |reason: &str| Error::Lacking { reason: reason.to_owned() };
        // Docker hears of it a moment later.
        let asked = || async {
            self.known_exit_code().await.map_or_else(|error| Ok(Err(error)), |code| code.map(Ok).ok_or(Late))
        };
        match asked.retry(backoff).await {
            Ok(Ok(code)) => Ok(code),
            Ok(Err(Error::NotFound { .. })) => Err(lacking("the container has ended, and its commands with it")),
            Ok(Err(error)) => Err(error),
            Err(Late) => Err(lacking("Docker does not tell how the command ended")),
        }
    }

    async fn known_exit_code(&self) -> Result<Option<i64>, Error> {
        let exec = self.docker.engine().docker.inspect_exec(&self.exec).await;
        let exec = exec.map_err(|error| self.docker.engine().error("inspect command", &self.exec, error))?;
        Ok(exec.exit_code.filter(|_| exec.running != Some(true)))
    }

    /// Ends it and all that it has started in its session, if it has not ended.
    pub async fn end(mut self) {
        if self.session().await.is_none() {
            return;
        }
        if let Known::Now(Some(session)) = self.session
            && let Err(error) = session.end().await
        {
            warn!(%error, "cannot end the command of a console");
        }
    }

    async fn session(&mut self) -> Option<&Session> {
        if let Known::NotYet(process) = &mut self.session {
            let session = process.await.unwrap_or_default();
            self.session = Known::Now(session);
        }
        match &self.session {
            Known::Now(session) => session.as_ref(),
            Known::NotYet(_) => None,
        }
    }
}

/// Docker has not heard of the end yet.
struct Late;

impl ExecWindow {
    /// Tells the terminal the size of the window. One that has ended needs none.
    pub async fn resize(&self, size: Size) {
        let mut changed = self.changed.lock().await;
        *changed = Some(size);
        self.tell(size).await;
    }

    /// Docker before 23 makes a terminal without a size, and later ones take none before it is there. By now its user may have changed
    /// it.
    async fn begin(&self, size: Size) {
        let changed = self.changed.lock().await;
        self.tell(changed.unwrap_or(size)).await;
    }

    async fn tell(&self, size: Size) {
        let options = ResizeExecOptionsBuilder::default().h(size.rows.into()).w(size.columns.into()).build();
        if let Err(error) = self.docker.engine().docker.resize_exec(&self.exec, options).await {
            debug!(%error, "a command's terminal keeps its size");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_says_whether_a_container_can_change_users() {
        let usual = bounding_set("Name:\tsh\nCapEff:\t0\nCapBnd:\t00000000a80425fb\nCapAmb:\t0\n");
        assert_eq!(usual & CHANGES_USERS, CHANGES_USERS);
        assert_eq!(bounding_set("CapBnd:\t0000000000000040\n") & CHANGES_USERS, 1 << 6);
        assert_eq!(bounding_set(""), 0);
    }

    #[tokio::test]
    async fn a_command_has_our_mark_whatever_its_environment_is() {
        let command = Command {
            argv: vec!["true".to_owned()],
            user: None,
            env: BTreeMap::from([("A".to_owned(), "b=c".to_owned()), (MARK.0.to_owned(), "mine".to_owned())]),
            working_dir: None,
            tty: false,
            size: Some(Size { rows: 1, columns: 2 }),
            stdin: false,
        };
        let made = config(command);
        let env = made.env.unwrap();
        assert_eq!((env[0].as_str(), env.last().unwrap().as_str()), ("A=b=c", "NOVA_CONSOLE=channel"));
        assert_eq!(made.console_size, None, "there is no terminal");
    }
}
