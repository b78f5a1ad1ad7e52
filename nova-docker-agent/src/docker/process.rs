//! Processes of containers, as the host's kernel shows them.

use std::{
    fs, io,
    os::fd::{AsRawFd as _, OwnedFd},
    path::PathBuf,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};
use tokio::net::unix::pipe::Receiver;

/// How long a command may take to end after its user has gone.
const HANGUP: Timespec = Timespec { tv_sec: 2, tv_nsec: 0 };

/// A process that leads a session, as every command does that Docker starts beside the first one.
pub(super) struct Session {
    leader: OwnedFd,
    /// Its number on the host. No other process gets it as long as one is in the session.
    number: i32,
    /// Where the container's processes are.
    namespace: PathBuf,
}

impl Session {
    /// None when the leader has ended.
    pub(super) fn of(leader: OwnedFd) -> Option<Self> {
        let number = number(&leader)?;
        Some(Self { namespace: namespace(number)?, leader, number })
    }

    /// Waits until the leader has ended.
    pub(super) async fn ended(&self) -> io::Result<()> {
        // It is no pipe, but it is waited for as one is; the type for all descriptors is unsafe to make.
        Receiver::from_owned_fd_unchecked(self.leader.try_clone()?)?.readable().await
    }

    /// What a terminal does that goes, for all processes of the session. Those that stay are killed. What has made a session
    /// of its own is not reached.
    pub(super) async fn end(self) -> io::Result<()> {
        tokio::task::spawn_blocking(move || {
            self.send(Signal::HUP)?;
            poll(&mut [PollFd::new(&self.leader, PollFlags::IN)], Some(&HANGUP))?;
            self.send(Signal::KILL)
        })
        .await?
    }

    fn send(&self, signal: Signal) -> io::Result<()> {
        for entry in fs::read_dir("/proc")? {
            let Some(number) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            if !self.has(number) {
                continue;
            }
            let Some(process) = Pid::from_raw(number).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok()) else {
                continue;
            };
            // The number could have become another's meanwhile.
            if self.has(number) {
                match pidfd_send_signal(&process, signal) {
                    Ok(()) | Err(Errno::SRCH) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(())
    }

    fn has(&self, number: i32) -> bool {
        let stat = fs::read_to_string(format!("/proc/{number}/stat")).unwrap_or_default();
        session(&stat) == Some(self.number) && namespace(number).as_ref() == Some(&self.namespace)
    }
}

/// The number of the process that a descriptor stands for; none when it has gone.
fn number(process: &OwnedFd) -> Option<i32> {
    let about = fs::read_to_string(format!("/proc/self/fdinfo/{}", process.as_raw_fd())).ok()?;
    let number = about.lines().find_map(|line| line.strip_prefix("Pid:"))?.trim().parse().ok()?;
    (number > 0).then_some(number)
}

fn namespace(number: i32) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{number}/ns/pid")).ok()
}

/// The session in a process's stat. A program's name may have anything in it, brackets too.
fn session(stat: &str) -> Option<i32> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_ascii_whitespace().nth(3)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::CommandExt as _;

    #[test]
    fn a_session_is_read_behind_a_name_with_brackets_in_it() {
        assert_eq!(session("42 (a) 1 2 3 4) S 7 8 9 0 -1 4194560"), Some(9));
        assert_eq!(session("42 (a"), None);
    }

    #[tokio::test]
    async fn all_processes_of_a_session_end_also_those_that_take_no_hangup() {
        let mut command = std::process::Command::new("setsid");
        command.args(["sh", "-c", "trap '' HUP; sleep 1000 & echo $!; wait; wait"]);
        let mut child = command.process_group(0).stdout(std::process::Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        let output = child.stdout.take().unwrap();
        io::BufRead::read_line(&mut io::BufReader::new(output), &mut line).unwrap();
        let job: i32 = line.trim().parse().unwrap();
        // setsid(1) forks where it leads a group already.
        let stat = fs::read_to_string(format!("/proc/{job}/stat")).unwrap();
        let leader = Pid::from_raw(super::session(&stat).unwrap()).unwrap();
        let session = Session::of(pidfd_open(leader, PidfdFlags::empty()).unwrap()).unwrap();
        let job = pidfd_open(Pid::from_raw(job).unwrap(), PidfdFlags::empty()).unwrap();
        {
            let mut ended = std::pin::pin!(session.ended());
            assert!(futures::poll!(&mut ended).is_pending());
        }
        let watched = Session::of(session.leader.try_clone().unwrap()).unwrap();
        let (end, watch) = tokio::join!(session.end(), watched.ended());
        end.unwrap();
        watch.unwrap();
        poll(&mut [PollFd::new(&job, PollFlags::IN)], None).unwrap();
        child.wait().unwrap();
    }
}
