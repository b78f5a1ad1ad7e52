//! Suspend to disk: a container's processes, with their memory and connections, wait in files until they go on.
//!
//! Each container has a directory of its own below `[docker]`'s of checkpoints, which only root can enter: it has all that was in
//! memory. The runtime writes there what Docker would copy, and says when it is whole; see `nova-docker-runtime`. It is no part of
//! the container's file system, so that no snapshot has it, and it goes with the resume, the next start or the container.

use std::collections::HashSet;
use std::fs::{self, DirBuilder};
use std::io::{self, ErrorKind};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use backon::{ConstantBuilder, Retryable as _};
use bollard::models::{ContainerInspectResponse, ContainerSummaryStateEnum, MountPoint};
use bollard::query_parameters::WaitContainerOptionsBuilder;
use futures::StreamExt as _;
use hyper::Method;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use uuid::Uuid;

use super::dumps::Dumping;
use super::{Docker, Error, host, state::Found};
use crate::guest::PowerState;

/// Docker's name of the one checkpoint that a container has.
const NAME: &str = "nova";
/// Made by the runtime.
const WHOLE: &str = "whole";
/// For as much memory as a container may have, on a slow disk.
const PATIENCE: Duration = Duration::from_secs(3600);
/// For Docker to notice that the processes of a dump have ended.
pub(super) const ENDING: Duration = Duration::from_secs(60);
/// Between two looks whether the runtime is done, which tells nobody.
pub(super) const BETWEEN_LOOKS: Duration = Duration::from_millis(200);
/// How long who only looks at a directory may hold it, and how often.
const LOOK: Duration = Duration::from_millis(10);
const LOOKS: usize = 50;
/// Tries of a dump: a runtime gives up to freeze processes that go on starting others, on a busy host. And of a restore: containerd
/// takes Docker's mark for one that it knows, now and then.
const TRIES: usize = 3;

impl Docker {
    /// Writes the container's processes to disk and ends them; no failure when that is done already.
    ///
    /// # Errors
    /// [`Error::NotDumped`]: it cannot be done here or now, and the container runs as before. [`Error::Unwanted`]: the instance is being
    /// deleted.
    pub async fn checkpoint(&self, uuid: Uuid) -> Result<(), Error> {
        let dumping = self.inner.dumps.begin(uuid);
        let done = self.checkpoint_as(uuid, &dumping).await;
        done.map_err(|error| {
            if !dumping.is_unwanted() {
                return error;
            }
            // Whatever it is: who removes the container has ended the dump.
            tracing::info!(instance = %uuid, %error, "it does not go to disk: it is to be removed");
            Error::Unwanted
        })
    }

    async fn checkpoint_as(&self, uuid: Uuid, dumping: &Dumping<'_>) -> Result<(), Error> {
        let found = self.after_dump(uuid).await?;
        match found.state {
            PowerState::Suspended => return Ok(()),
            // A dump that somebody else asked for has just come to its end.
            PowerState::Running if self.is_checkpointed(&found.id) && self.ends(&found, ENDING).await => return Ok(()),
            PowerState::Running => {}
            _ => return Err(not_dumped("its processes do not run")),
        }
        let criu = self.inner.criu.look(&self.inner.config.criu).await.map_err(not_dumped)?;
        let prepared = async {
            self.check_fit(&found, dumping).await?;
            self.drop_checkpoint(&found.id).await?;
            if dumping.is_unwanted() {
                return Err(Error::Unwanted);
            }
            self.forbid_restart(&found).await
        };
        prepared.await.map_err(as_not_dumped)?;
        let dumped = async {
            self.prepare_checkpoint(&found.id, &criu.program).await?;
            self.dump(&found).await
        };
        let Err(error) = dumped.await else { return self.ended_whole(&found).await };
        // The order may be lost, and the dump go on.
        self.settled(&found.id).await?;
        if self.is_checkpointed(&found.id) {
            // containerd could not keep what Docker has beside it, which the restore makes again.
            tracing::info!(container = found.name, %error, "it is on disk all the same");
            return self.ended_whole(&found).await;
        }
        // Docker may be away: what became of the container is found out when it is back.
        let state = self.state(uuid).await?;
        if state != Some(PowerState::Running) {
            return Err(error);
        }
        for undone in [self.drop_checkpoint(&found.id).await, self.let_restart(&found).await] {
            if let Err(error) = undone {
                tracing::warn!(container = found.name, %error, "not everything is as it was before the dump that failed");
            }
        }
        Err(as_not_dumped(error))
    }

    /// Lets the processes go on that are on disk.
    ///
    /// # Errors
    /// [`Error::NotRestored`]: they stay on disk, and can be tried again.
    pub async fn restore(&self, uuid: Uuid) -> Result<(), Error> {
        let found = self.get(uuid).await?;
        let criu = self.inner.criu.look(&self.inner.config.criu).await.map_err(not_restored)?;
        self.tell_before_start(uuid, &found).await?;
        self.prepare_checkpoint(&found.id, &criu.program).await?;
        self.let_restart(&found).await?;
        if let Err(error) = self.start_from_checkpoint(&found).await {
            self.give_restart_up(&found).await;
            // It may have come back, and the answer not.
            return match self.state(uuid).await? {
                Some(PowerState::Running) => self.drop_checkpoint(&found.id).await,
                _ => Err(not_restored(error)),
            };
        }
        self.forget_stop(&found.id).await;
        if let Err(error) = self.drop_checkpoint(&found.id).await {
            tracing::warn!(container = found.name, %error, "what it was restored from stays until the agent is started again");
        }
        Ok(())
    }

    /// Whether the container's processes are on disk, if it does not run.
    pub(super) fn is_checkpointed(&self, id: &str) -> bool {
        self.checkpoint_of(id).join(WHOLE).exists()
    }

    /// Removes what is on disk of the container's processes: they will not go on.
    pub(super) async fn drop_checkpoint(&self, id: &str) -> Result<(), Error> {
        let directory = self.checkpoint_of(id);
        if !tokio::fs::try_exists(&directory).await.unwrap_or(true) {
            return Ok(());
        }
        let path = format!("/containers/{id}/checkpoints/{NAME}");
        if let Err(error) =
            self.order((Method::DELETE, &path), self.inner.config.timeout, "remove checkpoint of", id).await
        {
            // It went with the container, or was never made.
            tracing::debug!(container = id, %error, "Docker removes no checkpoint");
        }
        self.forget_checkpoint(id).await?;
        self.settled(id).await?;
        let action = format!("remove {}", directory.display());
        let remove = || {
            let directory = directory.clone();
            on_disk(action.clone(), move || remove(&directory))
        };
        // Whoever looks at the directory holds it for a moment.
        let is_held =
            |error: &Error| matches!(error, Error::System { source, .. } if source.kind() == ErrorKind::ResourceBusy);
        remove.retry(ConstantBuilder::default().with_delay(LOOK).with_max_times(LOOKS)).when(is_held).await
    }

    /// Removes what a crash has left: checkpoints of containers that have gone, run, or were never whole.
    pub(super) async fn remove_stray_checkpoints(&self) -> Result<(), Error> {
        let all = self.list_all().await?;
        if all.is_empty() {
            // It may be a Docker whose disk is not mounted.
            return Ok(());
        }
        let suspended: HashSet<String> = (all.into_iter())
            .filter(|(_, container)| container.state == Some(ContainerSummaryStateEnum::EXITED))
            .filter_map(|(_, container)| container.id)
            .collect();
        let directory = self.inner.config.checkpoint_directory.clone();
        let action = format!("look for checkpoints in {}", directory.display());
        let listed = on_disk(action, move || names(&directory)).await?;
        for id in listed {
            let directory = self.checkpoint_of(&id);
            // An agent before this one may have asked for what goes on.
            let looking = format!("look at {}", directory.display());
            let is_free = on_disk(looking, move || is_free(&directory)).await?;
            if is_free && (!suspended.contains(&id) || !self.is_checkpointed(&id)) {
                tracing::info!(container = id, "removing a checkpoint that is no container's");
                self.drop_checkpoint(&id).await?;
            }
        }
        Ok(())
    }

    /// Waits until the runtime has done what it does with the container's directory: an agent that has ended may have asked for it.
    pub(super) async fn settled(&self, id: &str) -> Result<(), Error> {
        let directory = self.checkpoint_of(id);
        let action = format!("wait for {}", directory.display());
        let deadline = Instant::now() + PATIENCE;
        loop {
            let looked = directory.clone();
            if on_disk(action.clone(), move || is_free(&looked)).await? {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(Error::System { action, source: ErrorKind::TimedOut.into() });
            }
            tokio::time::sleep(BETWEEN_LOOKS).await;
        }
    }

    pub(super) fn checkpoint_of(&self, id: &str) -> PathBuf {
        self.inner.config.checkpoint_directory.join(id)
    }

    async fn prepare_checkpoint(&self, id: &str, criu: &Path) -> Result<(), Error> {
        let directory = self.checkpoint_of(id);
        self.tell_checkpoint(id, &directory, criu).await?;
        let action = format!("make {}", directory.display());
        on_disk(action, move || DirBuilder::new().recursive(true).mode(0o700).create(&directory)).await
    }

    async fn dump(&self, found: &Found) -> Result<(), Error> {
        let options = bollard::container::CreateCheckpointOptions {
            checkpoint_id: NAME.to_owned(),
            exit: true,
            ..Default::default()
        };
        let mut tries = 0;
        loop {
            tries += 1;
            let dumped = self.engine().patient(PATIENCE).create_checkpoint(&found.id, options.clone()).await;
            match dumped.map_err(|error| self.engine().error("checkpoint container", &found.name, error)) {
                Err(Error::Docker { message, .. }) if message.contains("unable to freeze") && tries < TRIES => {}
                answer => return answer,
            }
        }
    }

    /// Docker has said that the processes are on disk; until it knows that they have ended, it would not start them.
    async fn ended_whole(&self, found: &Found) -> Result<(), Error> {
        if self.ends(found, PATIENCE).await && self.is_checkpointed(&found.id) {
            return Ok(());
        }
        let reason = "nova-docker-runtime has not said that they are whole: is it of the agent's release?";
        let action = format!("find the processes of {} on disk", found.name);
        Err(Error::System { action, source: io::Error::other(reason) })
    }

    /// Whether the container ends in time.
    async fn ends(&self, found: &Found, patience: Duration) -> bool {
        let options = WaitContainerOptionsBuilder::default().condition("not-running").build();
        let docker = self.engine().patient(patience);
        // What it answers with is the exit code, an error to the client library.
        drop(docker.wait_container(&found.id, Some(options)).next().await);
        let details = self.engine().docker.inspect_container(&found.id, None).await;
        details.is_ok_and(|details| details.state.is_none_or(|state| state.running != Some(true)))
    }

    async fn start_from_checkpoint(&self, found: &Found) -> Result<(), Error> {
        let path = format!("/containers/{}/start?checkpoint={NAME}", found.id);
        let mut tries = 0;
        loop {
            tries += 1;
            mark(found).await?;
            match self.order((Method::POST, &path), PATIENCE, "restore container", &found.name).await {
                Err(Error::Docker { message, .. }) if message.contains("already exists") && tries < TRIES => {}
                answer => return answer,
            }
        }
    }

    /// Whether it is known that such a container comes back, and there is room for it.
    async fn check_fit(&self, found: &Found, dumping: &Dumping<'_>) -> Result<(), Error> {
        let engine = self.engine();
        let info = engine.docker.info().await.map_err(|error| engine.error("describe", "itself", error))?;
        if info.experimental_build != Some(true) {
            return Err(not_dumped("dockerd makes no checkpoints without \"experimental\": true in daemon.json"));
        }
        let details = engine.docker.inspect_container(&found.id, None).await;
        let details = details.map_err(|error| engine.error("inspect", &found.name, error))?;
        let config = &self.inner.config;
        let of_host = |mount: &MountPoint| {
            mount.typ.as_deref() == Some("bind")
                && config.host_mounts.values().any(|given| {
                    mount.source.as_deref().is_some_and(|source| Path::new(source).starts_with(&given.path))
                })
        };
        if details.mounts.iter().flatten().any(of_host) {
            return Err(not_dumped("it has a directory of the host"));
        }
        if let Some(reason) = unfit(found, &details) {
            return Err(not_dumped(reason));
        }
        if !found.script.is_empty() {
            return Err(not_dumped(
                "it was made with a script, whose file would not be there after a restart of the host",
            ));
        }
        let most = details.host_config.and_then(|host| host.memory).and_then(|most| u64::try_from(most).ok());
        let directory = config.checkpoint_directory.clone();
        let free = on_disk(format!("measure {}", directory.display()), move || {
            DirBuilder::new().recursive(true).mode(0o700).create(&directory)?;
            host::free(&directory)
        });
        if !dumping.reserve(most.unwrap_or_default(), free.await?) {
            return Err(not_dumped(
                "the host's disk has not as much room as this and the others that go there now have memory",
            ));
        }
        Ok(())
    }
}

/// Makes what Docker keeps in place of the images another one than before: containerd may still have that, and refuses it.
async fn mark(found: &Found) -> Result<(), Error> {
    let directory = found.log_path.parent().unwrap_or(Path::new("/")).join("checkpoints").join(NAME);
    let file = directory.join("again");
    let written = async {
        tokio::fs::create_dir_all(&directory).await?;
        tokio::fs::write(&file, Uuid::new_v4().to_string()).await
    };
    written.await.map_err(|source| Error::System { action: format!("write {}", file.display()), source })
}

/// What a container has that is not known to come back.
fn unfit(found: &Found, details: &ContainerInspectResponse) -> Option<&'static str> {
    let host = details.host_config.as_ref()?;
    let some = |list: &Option<Vec<_>>| list.as_ref().is_some_and(|list: &Vec<_>| !list.is_empty());
    let rules: [(bool, &str); 6] = [
        (found.runtime.is_some(), "it has another OCI runtime than usual"),
        (found.rescues, "it is a rescue's"),
        (host.privileged == Some(true), "it is privileged"),
        (host.init == Some(true), "Docker's init is its first process"),
        (some(&host.devices), "it has devices of the host"),
        (host.device_requests.as_ref().is_some_and(|all| !all.is_empty()), "it has graphics processors"),
    ];
    rules.into_iter().find(|(has, _)| *has).map(|(_, reason)| reason)
}

fn not_dumped(reason: impl ToString) -> Error {
    Error::NotDumped { reason: reason.to_string() }
}

/// Nothing has happened to the container yet.
fn as_not_dumped(error: Error) -> Error {
    if matches!(error, Error::NotDumped { .. }) { error } else { not_dumped(error) }
}

fn not_restored(reason: impl ToString) -> Error {
    Error::NotRestored { reason: reason.to_string() }
}

pub(super) async fn on_disk<T: Send + 'static>(
    action: String,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, Error> {
    let done = tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(io::Error::other(error)));
    done.map_err(|source| Error::System { action, source })
}

/// Whether the runtime does not work in a directory, which it holds while it does. Those who look do not hinder each other.
pub(super) fn is_free(directory: &Path) -> io::Result<bool> {
    Ok(lock(directory, FlockArg::LockSharedNonblock)?.is_some())
}

/// Whether the runtime is known to work in a directory.
pub(super) fn is_held(directory: &Path) -> bool {
    is_free(directory).is_ok_and(|free| !free)
}

/// What keeps others away from a directory; nothing does where it is not there.
struct Held {
    _lock: Option<Flock<fs::File>>,
}

/// None where another one holds it.
fn lock(directory: &Path, how: FlockArg) -> io::Result<Option<Held>> {
    match fs::File::open(directory) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Some(Held { _lock: None })),
        file => match Flock::lock(file?, how) {
            Ok(lock) => Ok(Some(Held { _lock: Some(lock) })),
            Err((_, Errno::EWOULDBLOCK)) => Ok(None),
            Err((_, errno)) => Err(errno.into()),
        },
    }
}

/// The mark first: half of the images are none.
fn remove(directory: &Path) -> io::Result<()> {
    let Some(_held) = lock(directory, FlockArg::LockExclusiveNonblock)? else {
        return Err(ErrorKind::ResourceBusy.into());
    };
    for removed in [fs::remove_file(directory.join(WHOLE)), fs::remove_dir_all(directory)] {
        match removed {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// The containers that have a directory there.
pub(super) fn names(directory: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(vec![]),
        entries => entries?,
    };
    let names: io::Result<Vec<String>> =
        entries.map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned())).collect();
    Ok(names?.into_iter().filter(|name| is_id(name)).collect())
}

/// Whether it is the directory of a container, and not something else that is on this disk.
fn is_id(name: &str) -> bool {
    name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}
