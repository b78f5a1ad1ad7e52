//! Dumps under way: the room on the disk that they may need together, and the end of those that nobody wants any more.

use std::{
    collections::HashMap,
    ffi::OsStr,
    fs, io,
    os::unix::ffi::OsStrExt as _,
    sync::{Mutex, PoisonError},
    time::Instant,
};

use rustix::{
    io::Errno,
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};
use uuid::Uuid;

use super::{
    Docker, Error,
    checkpoint::{BETWEEN_LOOKS, ENDING, is_held, names, on_disk},
    state::Found,
};
use crate::guest::PowerState;

/// What the runtime writes into, in a container's directory.
const IMAGES: &str = "images";

/// By instance.
#[derive(Debug, Default)]
pub(super) struct Dumps(Mutex<HashMap<Uuid, Dump>>);

#[derive(Debug, Default)]
struct Dump {
    /// Bytes that it may yet write.
    room: u64,
    is_unwanted: bool,
}

/// A dump, for as long as this lives.
#[derive(Debug)]
pub(super) struct Dumping<'a> {
    dumps: &'a Dumps,
    instance: Uuid,
}

impl Dumps {
    pub(super) fn begin(&self, instance: Uuid) -> Dumping<'_> {
        self.with(|all| all.insert(instance, Dump::default()));
        Dumping { dumps: self, instance }
    }

    /// Nobody wants the dump of an instance any more. Whether there is one.
    pub(super) fn give_up(&self, instance: Uuid) -> bool {
        self.with(|all| all.get_mut(&instance).map(|dump| dump.is_unwanted = true).is_some())
    }

    fn with<T>(&self, work: impl FnOnce(&mut HashMap<Uuid, Dump>) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Dumping<'_> {
    /// Takes so many bytes of those that are free; false where the dumps together may need more. What one has written by now counts
    /// twice.
    pub(super) fn reserve(&self, room: u64, free: u64) -> bool {
        self.dumps.with(|all| {
            let taken: u64 = all.values().map(|dump| dump.room).sum();
            let fits = taken.checked_add(room).is_some_and(|needed| needed <= free);
            if fits && let Some(own) = all.get_mut(&self.instance) {
                own.room = room;
            }
            fits
        })
    }

    pub(super) fn is_unwanted(&self) -> bool {
        self.dumps.with(|all| all.get(&self.instance).is_some_and(|dump| dump.is_unwanted))
    }
}

impl Drop for Dumping<'_> {
    fn drop(&mut self) {
        self.dumps.with(|all| all.remove(&self.instance));
    }
}

impl Docker {
    /// Ends the dump of an instance that is being deleted, and with it the container's processes: a deletion has to wait for it
    /// otherwise, and a dump may take long.
    ///
    /// # Errors
    /// Docker's, or the kernel's.
    pub async fn end_dump(&self, uuid: Uuid) -> Result<(), Error> {
        let is_ours = self.inner.dumps.give_up(uuid);
        // An agent before this one may have asked for it, and this one not yet look after it.
        if !is_ours && !self.has_dumps().await? {
            return Ok(());
        }
        match self.find(uuid).await? {
            Some(found) if is_ours => self.kill_dump(&found.id).await,
            Some(found) if found.state == PowerState::Running => self.end_dump_of(&found.id).await,
            _ => Ok(()),
        }
    }

    /// Whether the runtime is at work with any container's processes; Docker need not be asked for that.
    async fn has_dumps(&self) -> Result<bool, Error> {
        let directory = self.inner.config.checkpoint_directory.clone();
        let action = format!("look for dumps in {}", directory.display());
        on_disk(action, move || Ok(names(&directory)?.iter().any(|id| is_held(&directory.join(id))))).await
    }

    /// As [`end_dump`](Self::end_dump), of a container, whoever has asked for the dump.
    pub(super) async fn end_dump_of(&self, id: &str) -> Result<(), Error> {
        if self.is_being_dumped(id) { self.kill_dump(id).await } else { Ok(()) }
    }

    /// Whether the runtime writes the container's processes to disk, or reads them from there.
    pub(super) fn is_being_dumped(&self, id: &str) -> bool {
        is_held(&self.checkpoint_of(id))
    }

    /// The container once the dump is over that an agent before this one may have asked for: it runs again, or has ended.
    pub(super) async fn after_dump(&self, uuid: Uuid) -> Result<Found, Error> {
        let found = self.get(uuid).await?;
        let was_dumped = self.checkpoint_of(&found.id).exists();
        self.settled(&found.id).await?;
        let deadline = Instant::now() + ENDING;
        loop {
            let found = self.get(uuid).await?;
            // Docker thaws it, or notes its end, when the runtime has ended.
            if !was_dumped || found.state != PowerState::Paused || Instant::now() > deadline {
                return Ok(found);
            }
            tokio::time::sleep(BETWEEN_LOOKS).await;
        }
    }

    async fn kill_dump(&self, id: &str) -> Result<(), Error> {
        tracing::info!(container = id, "ending its dump: it is to be removed");
        let images = self.checkpoint_of(id).join(IMAGES);
        on_disk(format!("end the dump of {id}"), move || kill_family(images.as_os_str())).await?;
        // Docker itself would wait for the dump.
        let Some(first) = self.first_process(id).await? else { return Ok(()) };
        let of = id.to_owned();
        on_disk(format!("kill container {id}"), move || kill(first, |number| is_of(number, &of))).await
    }

    /// The number of the first process of a container that runs.
    async fn first_process(&self, id: &str) -> Result<Option<i32>, Error> {
        let details = self.engine().docker.inspect_container(id, None).await;
        let details = match details.map_err(|error| self.engine().error("inspect container", id, error)) {
            Err(Error::NotFound { .. }) => return Ok(None),
            details => details?,
        };
        let state = details.state.filter(|state| state.running == Some(true));
        Ok(state.and_then(|state| state.pid).and_then(|pid| i32::try_from(pid).ok()).filter(|pid| *pid > 0))
    }
}

/// Whether a process is counted as one of a container's.
fn is_of(number: i32, id: &str) -> bool {
    fs::read_to_string(format!("/proc/{number}/cgroup")).is_ok_and(|groups| groups.contains(id))
}

/// Kills the processes that have this among their arguments, and all that they have started.
fn kill_family(argument: &OsStr) -> io::Result<()> {
    let all = processes()?;
    let mut family: Vec<i32> = all.keys().copied().filter(|number| has_argument(*number, argument)).collect();
    let mut next = 0;
    while let Some(parent) = family.get(next).copied() {
        family.extend(all.iter().filter(|(_, process)| process.parent == parent).map(|(number, _)| *number));
        next += 1;
    }
    for number in family {
        let began = all.get(&number).map(|process| process.began);
        kill(number, |number| process(number).map(|process| process.began) == began)?;
    }
    Ok(())
}

/// Kills a process, if it still is the one that is meant.
fn kill(number: i32, is_it: impl Fn(i32) -> bool) -> io::Result<()> {
    let Some(process) = Pid::from_raw(number).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok()) else {
        return Ok(());
    };
    // The number could have become another's meanwhile.
    if !is_it(number) {
        return Ok(());
    }
    match pidfd_send_signal(&process, Signal::KILL) {
        Ok(()) | Err(Errno::SRCH) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// What tells a process from one that has its number later, and whose it is.
struct Process {
    parent: i32,
    /// When, as the kernel counts.
    began: u64,
}

fn processes() -> io::Result<HashMap<i32, Process>> {
    let names = fs::read_dir("/proc")?.map(|entry| entry.map(|entry| entry.file_name()));
    let names: io::Result<Vec<_>> = names.collect();
    let numbers = names?.into_iter().filter_map(|name| name.to_str()?.parse().ok());
    Ok(numbers.filter_map(|number| Some((number, process(number)?))).collect())
}

/// None when it has gone.
fn process(number: i32) -> Option<Process> {
    let stat = fs::read_to_string(format!("/proc/{number}/stat")).ok()?;
    // The name, in brackets, may hold anything; the state follows it, and then the parent.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(1);
    let parent = fields.next()?.parse().ok()?;
    Some(Process { parent, began: fields.nth(17)?.parse().ok()? })
}

fn has_argument(number: i32, argument: &OsStr) -> bool {
    let line = fs::read(format!("/proc/{number}/cmdline")).unwrap_or_default();
    line.split(|byte| *byte == 0).any(|word| word == argument.as_bytes())
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn dumps_at_once_get_no_more_room_together_than_there_is() {
        let dumps = Dumps::default();
        let (first, second) = (dumps.begin(Uuid::from_u128(1)), dumps.begin(Uuid::from_u128(2)));
        assert!(first.reserve(6, 10));
        assert!(!second.reserve(6, 10) && second.reserve(4, 10));
        drop(first);
        drop(second);
        let third = dumps.begin(Uuid::from_u128(3));
        assert!(!third.reserve(11, 10) && third.reserve(10, 10));
        assert!(!dumps.begin(Uuid::from_u128(4)).reserve(u64::MAX, u64::MAX));
    }

    #[test]
    fn a_dump_that_nobody_wants_knows_it_and_the_next_one_is_wanted() {
        let (dumps, instance) = (Dumps::default(), Uuid::from_u128(1));
        assert!(!dumps.give_up(instance));
        let dump = dumps.begin(instance);
        assert!(!dump.is_unwanted());
        assert!(dumps.give_up(instance));
        assert!(dump.is_unwanted());
        drop(dump);
        assert!(!dumps.begin(instance).is_unwanted());
    }

    #[test]
    fn a_process_is_found_by_a_whole_argument_and_goes_with_its_children() {
        let mark = format!("mark-{}", Uuid::new_v4());
        let start = |argument: &str| {
            let mut command = Command::new("sh");
            command.args(["-c", "sleep 1000 & echo; wait", argument]).stdout(Stdio::piped());
            command.spawn().unwrap()
        };
        let (mut meant, mut other) = (start(&mark), start(&format!("{mark}-other")));
        let child_of = |parent: u32| {
            let all = processes().unwrap();
            all.into_iter().find(|(_, process)| process.parent.cast_unsigned() == parent).map(|(number, _)| number)
        };
        for process in [&mut meant, &mut other] {
            let mut byte = [0];
            io::Read::read_exact(process.stdout.as_mut().unwrap(), &mut byte).unwrap();
        }
        kill_family(OsStr::new(&mark)).unwrap();
        assert!(!meant.wait().unwrap().success());
        // Its output ends with the last of its processes.
        io::copy(meant.stdout.as_mut().unwrap(), &mut io::sink()).unwrap();
        assert_eq!(other.try_wait().unwrap(), None);
        let child = child_of(other.id()).unwrap();
        kill(child, |_| true).unwrap();
        other.wait().unwrap();
    }
}
