//! Servers that a test starts.

use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Instant;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::time::timeout;

use crate::patience::{PATIENCE, PAUSE};

/// A server; asked to end, and waited for, when it is dropped. When the test is killed the kernel ends it.
#[derive(Debug)]
pub struct Server {
    child: Child,
    name: String,
}

impl Server {
    /// Starts `program`, of Debian's package `package`, with its output in `log`.
    pub fn start(
        program: &str,
        package: &str,
        arguments: &[String],
        environment: &[(&str, &Path)],
        log: &Path,
    ) -> Self {
        require(program, package);
        let output = File::options().create(true).append(true).open(log).expect("a log file");
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "TERM", program])
            .args(arguments)
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(output.try_clone().expect("a second descriptor"))
            .stderr(output)
            .spawn()
            .expect("install the package util-linux (setpriv)");
        Self { child, name: program.to_owned() }
    }

    /// Waits until `ready` returns true. Panics with the end of the log if the server ends before, or never gets there.
    pub async fn until_ready<F: Future<Output = bool>>(&mut self, log: &Path, ready: impl FnMut() -> F) {
        if let Err(reason) = self.try_until_ready(log, ready).await {
            panic!("{reason}");
        }
    }

    /// The same with the end of the log as an error.
    pub async fn try_until_ready<F: Future<Output = bool>>(
        &mut self,
        log: &Path,
        mut ready: impl FnMut() -> F,
    ) -> Result<(), String> {
        let deadline = Instant::now() + PATIENCE;
        while !ready().await {
            let ended = self.child.try_wait().expect("a child");
            if ended.is_some() || Instant::now() > deadline {
                let text = std::fs::read_to_string(log).unwrap_or_default();
                let tail: Vec<&str> = text.lines().rev().take(20).collect();
                let tail: Vec<&str> = tail.into_iter().rev().collect();
                return Err(format!("{} is not ready ({ended:?}); its log ends with:\n{}", self.name, tail.join("\n")));
            }
            // Neither dockerd nor ovsdb-server tells when it listens.
            tokio::time::sleep(PAUSE).await;
        }
        Ok(())
    }

    /// Asks the server to end, and waits for it.
    pub fn stop(&mut self) {
        self.end(Signal::SIGTERM);
    }

    /// Ends the server where it is, as a crash does.
    pub fn kill(&mut self) {
        self.end(Signal::SIGKILL);
    }

    fn end(&mut self, signal: Signal) {
        let Ok(pid) = i32::try_from(self.child.id()) else { return };
        let pid = Pid::from_raw(pid);
        if !matches!(self.child.try_wait(), Ok(None)) || kill(pid, signal).is_err() {
            return;
        }
        let (ended, has_ended) = mpsc::channel::<()>();
        let name = self.name.clone();
        std::thread::spawn(move || {
            if has_ended.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
                eprintln!("{name} did not end within {} s and is killed", PATIENCE.as_secs());
                kill(pid, Signal::SIGKILL).expect("a child");
            }
        });
        self.child.wait().expect("a child");
        drop(ended);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Fails with what to install when the program is not there.
pub fn require(program: &str, package: &str) {
    let path = std::env::var("PATH").unwrap_or_default();
    let found =
        path.split(':').chain(["/usr/sbin", "/sbin"]).any(|directory| Path::new(directory).join(program).exists());
    assert!(found, "{program} is missing: apt-get install --no-install-recommends {package}");
}

/// Runs a command to its end; its output, or a panic with its complaint.
pub async fn run(program: &str, arguments: &[&str]) -> String {
    let (status, output) = attempt(program, arguments).await;
    assert!(status, "{program} {arguments:?}: {output}");
    output
}

/// Runs a command to its end; whether it was happy, and what it wrote.
pub async fn attempt(program: &str, arguments: &[&str]) -> (bool, String) {
    let output = tokio::process::Command::new(program).args(arguments).stdin(Stdio::null()).kill_on_drop(true).output();
    let output = timeout(2 * PATIENCE, output).await.unwrap_or_else(|_| panic!("{program} {arguments:?} hangs"));
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    (output.status.success(), text)
}
