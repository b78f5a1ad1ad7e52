//! What a serial console of an instance leads to: the terminal of its first process, or a shell beside it.

use std::{io, os::fd::OwnedFd, time::Duration};

use backon::{ExponentialBuilder, Retryable as _};
use bollard::exec::CreateExecOptions;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};
use serde_json::json;
use tokio::{
    io::{ReadHalf, WriteHalf},
    task::JoinHandle,
};
use tracing::{debug, warn};
use uuid::Uuid;

use super::{Docker, Error, exec, hijack::Stream, process::Session, state::Found};
use crate::guest::PowerState;

/// Shells that are looked for where the image and the flavor name none, the best one first.
const SHELLS: [&str; 2] = ["/bin/bash", "/bin/sh"];
/// Keys that end a connection to Docker, instead of Ctrl-P Ctrl-Q, which shells know otherwise. There is no way to have none.
pub(super) const DETACH_KEYS: &str = "ctrl-^,ctrl-_,ctrl-^,ctrl-_,ctrl-^,ctrl-_";
/// In the environment of our shells, so that those that a killed agent has left are found.
const MARK: &str = "NOVA_CONSOLE=serial";
/// Lines and bytes of the log that a new viewer sees first.
const SCROLLBACK: (usize, usize) = (1000, 16 * 1024);
/// How long a shell may take to end after its terminal has gone.
const HANGUP: Timespec = Timespec { tv_sec: 2, tv_nsec: 0 };

/// What a console of a container that runs would be.
#[derive(Debug)]
enum Line {
    /// The terminal of the first process.
    Process,
    /// A new shell, by its path.
    Shell(String),
}

/// Where the bytes for a process go.
pub type Input = WriteHalf<Stream>;

/// An instance that runs and has a console.
#[derive(Debug)]
pub struct Offer {
    uuid: Uuid,
    found: Found,
    line: Line,
}

impl Offer {
    pub(super) fn instance(&self) -> Uuid {
        self.uuid
    }

    pub(super) fn found(&self) -> &Found {
        &self.found
    }
}

/// An open terminal.
pub struct Terminal {
    /// Where its user's bytes go.
    pub input: Input,
    /// What is written to it; ends when there is nobody left who could write.
    pub output: ReadHalf<Stream>,
    /// What was written before.
    pub scrollback: String,
    /// Others read the same output: who does not read holds the process up for all of them.
    pub is_shared: bool,
    /// To be ended by whoever has the terminal.
    pub shell: Option<Shell>,
}

/// A shell that somebody must end: Docker leaves it running when its terminal goes.
pub struct Shell(JoinHandle<Option<OwnedFd>>);

impl Shell {
    /// Hangs up, and kills the shell if it stays.
    pub async fn end(self) {
        let Ok(Some(process)) = self.0.await else { return };
        if let Err(error) = hang_up(process).await {
            warn!(%error, "cannot end the shell of a console");
        }
    }
}

impl Docker {
    /// Whether the instance has a serial console now.
    ///
    /// # Errors
    /// There is no such instance, or [`Error::NoConsole`] says why it has none.
    pub async fn check_console(&self, uuid: Uuid) -> Result<(), Error> {
        self.offer(uuid).await.map(drop)
    }

    /// What the instance's console would be. Nothing is started.
    ///
    /// # Errors
    /// As [`check_console`](Self::check_console).
    pub async fn offer(&self, uuid: Uuid) -> Result<Offer, Error> {
        let found = self.get(uuid).await?;
        let line = self.line(&found).await?;
        Ok(Offer { uuid, found, line })
    }

    /// Opens a terminal of the instance.
    ///
    /// # Errors
    /// Docker's.
    pub async fn terminal(&self, offer: &Offer) -> Result<Terminal, Error> {
        match &offer.line {
            Line::Process => self.attach(&offer.found).await,
            Line::Shell(path) => self.shell(&offer.found, path.clone()).await,
        }
    }

    async fn line(&self, found: &Found) -> Result<Line, Error> {
        let none = |reason| Err(Error::NoConsole { reason });
        match found.state {
            PowerState::Running => {}
            PowerState::Paused => return none("it is paused"),
            _ => return none("it is not running"),
        }
        if found.tty {
            return Ok(Line::Process);
        }
        self.shell_path(found).await.map(Line::Shell)
    }

    /// The shell of a container that is not attached to.
    pub(super) async fn shell_path(&self, found: &Found) -> Result<String, Error> {
        let none = |reason| Err(Error::NoConsole { reason });
        match found.console_shell.as_str() {
            "none" => none("its image or flavor offers neither a terminal nor a shell (console_shell)"),
            "" => {
                for shell in SHELLS {
                    if self.path_exists(&found.id, shell).await? {
                        return Ok(shell.to_owned());
                    }
                }
                none("its image has no /bin/bash and no /bin/sh")
            }
            shell if self.path_exists(&found.id, shell).await? => Ok(shell.to_owned()),
            _ => none("the shell that its image or flavor names (console_shell) is not in the image"),
        }
    }

    /// Attached first and its log read afterwards: what is written meanwhile is seen twice rather than never.
    async fn attach(&self, found: &Found) -> Result<Terminal, Error> {
        let stream = self.attached(&found.id, false).await?;
        let (lines, bytes) = SCROLLBACK;
        let scrollback = self.read_log(found, lines, bytes).await.unwrap_or_else(|error| {
            warn!(%error, "a console begins without what was written before");
            String::new()
        });
        let (output, input) = tokio::io::split(stream);
        Ok(Terminal { input, output, scrollback, is_shared: true, shell: None })
    }

    /// Both directions of a first process; `with_log` also what it has written.
    pub(super) async fn attached(&self, id: &str, with_log: bool) -> Result<Stream, Error> {
        let keys = DETACH_KEYS.replace('^', "%5E");
        let log = if with_log { "&logs=1" } else { "" };
        let path = format!("/containers/{id}/attach?stream=1&stdin=1&stdout=1&stderr=1{log}&detachKeys={keys}");
        self.hijack(&path, &json!({}), "attach to container", id).await
    }

    async fn shell(&self, found: &Found, path: String) -> Result<Terminal, Error> {
        let options = CreateExecOptions {
            attach_stdin: Some(true),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            tty: Some(true),
            detach_keys: Some(DETACH_KEYS.to_owned()),
            env: Some(vec![MARK.to_owned()]),
            cmd: Some(vec![path]),
            ..CreateExecOptions::default()
        };
        let made = self.engine().docker.create_exec(&found.id, options).await;
        let exec = made.map_err(|error| self.engine().error("make a shell in container", &found.id, error))?.id;
        let start = json!({"Detach": false, "Tty": true});
        let path = format!("/exec/{exec}/start");
        let stream = self.hijack(&path, &start, "start a shell in container", &found.id).await?;
        let shell = Shell(tokio::spawn(started(self.clone(), exec)));
        let (output, input) = tokio::io::split(stream);
        Ok(Terminal { input, output, scrollback: String::new(), is_shared: false, shell: Some(shell) })
    }

    /// Ends the shells and commands of consoles that an agent has left when it was killed.
    ///
    /// # Errors
    /// Docker's; some may stay.
    pub async fn end_left_shells(&self) -> Result<(), Error> {
        for guest in self.list().await? {
            if guest.state != PowerState::Running {
                continue;
            }
            for exec in self.get(guest.uuid).await?.execs {
                let (name, value) = exec::MARK;
                let command = format!("{name}={value}");
                if let Ok(Some(process)) = self.exec_process(&exec, |pid| is_marked(pid, MARK)).await {
                    let ended = hang_up(process).await;
                    debug!(instance = %guest.uuid, ?ended, "a console was left over");
                } else if let Ok(Some(process)) = self.exec_process(&exec, |pid| is_marked(pid, &command)).await
                    && let Some(session) = Session::of(process)
                {
                    let ended = session.end().await;
                    debug!(instance = %guest.uuid, ?ended, "a command of a console was left over");
                }
            }
        }
        Ok(())
    }

    /// The process of an exec; none when it has ended, or is not one of those that are looked for.
    async fn exec_process(&self, exec: &str, wanted: impl Fn(i32) -> bool) -> Result<Option<OwnedFd>, NotYet> {
        let Some(pid) = self.running(exec).await? else { return Ok(None) };
        if !wanted(pid) {
            return Ok(None);
        }
        let Some(process) = Pid::from_raw(pid).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok()) else {
            return Ok(None);
        };
        // The number could have been another process's by then, had this one ended.
        Ok((self.running(exec).await? == Some(pid)).then_some(process))
    }

    async fn running(&self, exec: &str) -> Result<Option<i32>, NotYet> {
        // An exec is forgotten when it has ended, or with its Docker.
        let Ok(exec) = self.engine().docker.inspect_exec(exec).await else { return Ok(None) };
        let pid = exec.pid.and_then(|pid| i32::try_from(pid).ok()).filter(|&pid| pid > 0);
        match (exec.exit_code, exec.running, pid) {
            (None, Some(true), Some(pid)) => Ok(Some(pid)),
            (Some(_), ..) => Ok(None),
            _ => Err(NotYet),
        }
    }
}

/// Docker has not started the process yet.
struct NotYet;

/// The process of a new exec. Docker answers before it starts it, and does not tell when it has.
pub(super) async fn started(docker: Docker, exec: String) -> Option<OwnedFd> {
    let backoff = ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(20))
        .with_max_delay(Duration::from_secs(1))
        .with_max_times(120);
    (|| docker.exec_process(&exec, |_| true)).retry(backoff).await.unwrap_or_else(|NotYet| {
        warn!(exec, "the shell of a console did not start; it is left to Docker");
        None
    })
}

fn is_marked(pid: i32, mark: &str) -> bool {
    let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    environment.split(|&byte| byte == 0).any(|variable| variable == mark.as_bytes())
}

/// What a terminal does that goes: the shell ends its jobs and itself. One that stays is killed.
async fn hang_up(process: OwnedFd) -> io::Result<()> {
    tokio::task::spawn_blocking(move || {
        match pidfd_send_signal(&process, Signal::HUP) {
            // It has ended by itself.
            Err(Errno::SRCH) => return Ok(()),
            sent => sent?,
        }
        let ended = poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&HANGUP))?;
        match pidfd_send_signal(&process, Signal::KILL) {
            Err(error) if ended == 0 && error != Errno::SRCH => Err(error.into()),
            _ => Ok(()),
        }
    })
    .await?
}
