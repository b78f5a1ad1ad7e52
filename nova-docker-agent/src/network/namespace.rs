//! Named network namespaces, the way `ip netns` keeps them: a namespace is held by a bind mount of its file.
//!
//! Threads have namespaces of their own. Whatever must happen inside one happens on a thread that is started for it and
//! ends with it, so that no worker of the runtime is ever left in a tenant's namespace.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::statfs::{NSFS_MAGIC, statfs};
use tokio::sync::oneshot;

use super::Error;

/// The calling thread's own namespace; `/proc/self` would be that of the process's first thread.
const OWN_NAMESPACE: &str = "/proc/thread-self/ns/net";

/// Makes the namespace at `path`, or leaves it when it is there. Its `lo` is down and its settings are the kernel's.
pub(super) async fn ensure(path: &Path) -> Result<(), Error> {
    let path = path.to_owned();
    on_own_thread(move || {
        let directory = path.parent().unwrap_or(Path::new("/"));
        let _lock = prepare_directory(directory)?;
        if is_namespace(&path)? {
            return Ok(());
        }
        // A plain file is what a crash between the next two steps leaves.
        OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(false)
            .mode(0o444)
            .open(&path)
            .map_err(|source| Error::system(format!("create {}", path.display()), source))?;
        unshare(CloneFlags::CLONE_NEWNET).map_err(|errno| Error::system("make a network namespace", errno))?;
        mount(Some(OWN_NAMESPACE), &path, Some("none"), MsFlags::MS_BIND, None::<&str>)
            .map_err(|errno| Error::system(format!("bind a network namespace to {}", path.display()), errno))
    })
    .await
}

/// Removes the name; the namespace itself goes with the last process in it. No failure when it is absent.
pub(super) async fn remove(path: &Path) -> Result<(), Error> {
    let path = path.to_owned();
    on_own_thread(move || {
        match umount2(&path, MntFlags::MNT_DETACH) {
            // EINVAL: a file that nothing is mounted on.
            Ok(()) | Err(Errno::ENOENT | Errno::EINVAL) => {}
            Err(errno) => return Err(Error::system(format!("unmount {}", path.display()), errno)),
        }
        match fs::remove_file(&path) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::system(format!("remove {}", path.display()), source))
            }
            _ => Ok(()),
        }
    })
    .await
}

/// Whether a namespace is bound to `path`.
pub(super) fn is_namespace(path: &Path) -> Result<bool, Error> {
    match statfs(path) {
        Ok(found) => Ok(found.filesystem_type() == NSFS_MAGIC),
        Err(Errno::ENOENT) => Ok(false),
        Err(errno) => Err(Error::system(format!("look at {}", path.display()), errno)),
    }
}

/// Runs `work` on a thread of its own inside the namespace at `path`. Sockets that it opens, and processes that it starts,
/// belong to the namespace from then on. The runtime's reactor is at hand in it.
pub(super) async fn inside<T: Send + 'static>(
    path: &Path,
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let path = path.to_owned();
    on_own_thread(move || {
        let file = File::open(&path).map_err(|source| Error::system(format!("open {}", path.display()), source))?;
        setns(file, CloneFlags::CLONE_NEWNET)
            .map_err(|errno| Error::system(format!("enter namespace {}", path.display()), errno))?;
        work()
    })
    .await
}

async fn on_own_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let runtime = tokio::runtime::Handle::current();
    let (answer, answered) = oneshot::channel();
    std::thread::Builder::new()
        .name("namespace".to_owned())
        .spawn(move || {
            let _reactor = runtime.enter();
            // The receiver is gone when the caller was cancelled; nobody is left to tell.
            answer.send(work()).ok();
        })
        .map_err(|source| Error::system("start a thread", source))?;
    answered
        .await
        .unwrap_or_else(|_| Err(Error::system("finish in a namespace", std::io::Error::other("the thread panicked"))))
}

/// Makes the directory as `ip netns add` does, so that both can be used together. Its mounts are shared: otherwise
/// other mount namespaces (dockerd's, if systemd gives it one) would keep removed namespaces alive. The lock keeps
/// other processes out.
fn prepare_directory(directory: &Path) -> Result<Flock<File>, Error> {
    let failed = |verb: &str, source: std::io::Error| Error::system(format!("{verb} {}", directory.display()), source);
    DirBuilder::new().recursive(true).mode(0o755).create(directory).map_err(|source| failed("create", source))?;
    let file = File::open(directory).map_err(|source| failed("open", source))?;
    let lock = Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, errno)| failed("lock", errno.into()))?;
    let share = || mount(None::<&str>, directory, None::<&str>, MsFlags::MS_SHARED | MsFlags::MS_REC, None::<&str>);
    match share() {
        Ok(()) => return Ok(lock),
        // Not a mount point yet.
        Err(Errno::EINVAL) => {}
        Err(errno) => return Err(failed("share the mounts of", errno.into())),
    }
    mount(Some(directory), directory, None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>)
        .and_then(|()| share())
        .map_err(|errno| failed("share the mounts of", errno.into()))?;
    Ok(lock)
}

/// Names in `directory` that `select` makes something of; nothing when the directory is absent.
pub(super) fn names<T>(directory: &Path, select: impl Fn(&str) -> Option<T>) -> Result<Vec<T>, Error> {
    let failed = |source| Error::system(format!("list {}", directory.display()), source);
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(source) if source.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(failed(source)),
    };
    let names: Vec<PathBuf> =
        entries.map(|entry| entry.map(|entry| entry.file_name().into())).collect::<Result<_, _>>().map_err(failed)?;
    Ok(names.iter().filter_map(|name| name.to_str()).filter_map(select).collect())
}
