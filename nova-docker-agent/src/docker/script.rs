//! The script of a server's user data: it runs once, as root, beside the first process of a container that was never started before. What
//! it writes is in the container's log, among the lines of the first process.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::time::Duration;

use bollard::models::ExecConfig;
use futures::TryStreamExt as _;
use nix::libc::{O_NOCTTY, O_NONBLOCK, O_PATH};
use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio::net::unix::pipe::Sender;
use tracing::{info, warn};
use uuid::Uuid;

use super::exec::Running;
use super::state::Found;
use super::{Docker, Error, pieces};

/// Major numbers of the terminals that a container's first process can have.
const TERMINALS: std::ops::RangeInclusive<u64> = 136..=143;
const ROOT: &str = "0:0";
/// For a line into the console log.
const SAYING: Duration = Duration::from_secs(10);

impl Docker {
    /// Begins the script of a container that was started for the first time, if it has one. Nobody waits for its end.
    pub fn run_script(&self, uuid: Uuid) {
        let docker = self.clone();
        tokio::spawn(async move {
            match docker.run_script_of(uuid).await {
                Ok(None) => {}
                Ok(Some(0)) => info!(instance = %uuid, "the script of the user data has ended well"),
                Ok(Some(code)) => warn!(instance = %uuid, code, "the script of the user data has failed"),
                Err(error) => {
                    warn!(instance = %uuid, %error, "the script of the user data could not be run to its end")
                }
            }
        });
    }

    /// Its exit code; none where there is no script.
    async fn run_script_of(&self, uuid: Uuid) -> Result<Option<i64>, Error> {
        let found = self.get(uuid).await?;
        if found.script.is_empty() {
            return Ok(None);
        }
        let mut log = self.log_of(uuid, &found).await;
        if let Err(error) = &log {
            warn!(instance = %uuid, %error, "what the script of the user data writes is not in the console log");
        }
        let ended = self.run_to_its_end(uuid, &found, log.as_mut().ok()).await;
        let words = match &ended {
            Ok(0) => return Ok(Some(0)),
            Ok(code) => format!("the script of the user data has ended with exit code {code}\n"),
            Err(error) => format!("the script of the user data could not be run to its end: {error}\n"),
        };
        if let Ok(log) = &mut log {
            // Who has closed it reads nothing.
            log.write_all(words.as_bytes()).await.ok();
        }
        ended.map(Some)
    }

    async fn run_to_its_end(&self, uuid: Uuid, found: &Found, mut log: Option<&mut Sender>) -> Result<i64, Error> {
        let engine = self.engine();
        let config = ExecConfig {
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            cmd: Some(found.script.clone()),
            user: Some(ROOT.to_owned()),
            ..ExecConfig::default()
        };
        let made = engine.docker.create_exec(&found.id, config).await;
        let exec = made.map_err(|error| engine.error("make a command in container", &found.id, error))?.id;
        let start = json!({"Detach": false, "Tty": false});
        let stream =
            self.hijack(&format!("/exec/{exec}/start"), &start, "start a command in container", &found.id).await?;
        let mut running = Running::of(self.clone(), exec);
        let mut output = pieces::of_frames(stream);
        loop {
            let piece = output.try_next().await;
            let piece =
                piece.map_err(|source| Error::System { action: "read what a script writes".to_owned(), source })?;
            let Some(piece) = piece else { break };
            if let Some(sender) = &mut log
                && sender.write_all(&piece.bytes).await.is_err()
            {
                log = None;
            }
        }
        let code = running.exit_code().await?;
        self.put_script_exit_code(&found.id, code).await?;
        // Nobody may be listening.
        self.inner.scripts.send(uuid).ok();
        Ok(code)
    }

    /// Writes a line into the console log of an instance that runs.
    ///
    /// # Errors
    /// Nothing can be written there.
    pub async fn say(&self, uuid: Uuid, line: &str) -> Result<(), Error> {
        let failed = |source| Error::System { action: "write to the console log".to_owned(), source };
        // Whatever the tenant has put in the place of the output.
        let said = tokio::time::timeout(SAYING, async {
            let found = self.get(uuid).await?;
            let mut log = self.log_of(uuid, &found).await?;
            log.write_all(format!("{line}\n").as_bytes()).await.map_err(failed)
        });
        said.await.unwrap_or_else(|_| Err(failed(io::ErrorKind::TimedOut.into())))
    }

    /// Where the container's first process writes, which Docker reads.
    async fn log_of(&self, uuid: Uuid, found: &Found) -> Result<Sender, Error> {
        let failed = |source| Error::System { action: "write to the console log".to_owned(), source };
        let pid = found.pid.ok_or_else(|| failed(io::ErrorKind::NotFound.into()))?;
        let file = tokio::task::spawn_blocking(move || standard_output(pid)).await;
        let file = file.unwrap_or_else(|error| Err(io::Error::other(error))).map_err(failed)?;
        // As long as the process is the container's, nobody else can have had its number when the file was opened.
        if self.get(uuid).await?.pid != Some(pid) {
            return Err(failed(io::ErrorKind::NotFound.into()));
        }
        Sender::from_file_unchecked(file).map_err(failed)
    }
}

/// The standard output of a process, if it is still the pipe or the terminal that Docker has made. A tenant can have put anything in
/// its place: it is looked at before it is opened.
fn standard_output(pid: u32) -> io::Result<File> {
    let seen = OpenOptions::new().read(true).custom_flags(O_PATH).open(format!("/proc/{pid}/fd/1"))?;
    let kind = seen.metadata()?;
    let is_terminal = kind.file_type().is_char_device() && TERMINALS.contains(&(kind.rdev() >> 8 & 0xfff));
    if !(kind.file_type().is_fifo() || is_terminal) {
        return Err(io::Error::other("the container's first process has another standard output now"));
    }
    let path = format!("/proc/self/fd/{}", seen.as_raw_fd());
    OpenOptions::new().write(true).custom_flags(O_NOCTTY | O_NONBLOCK).open(path)
}
