//! Hosts for tests: each is a network and a mount namespace with a Docker and an Open vSwitch in it. A test has one for
//! itself, and tidies it up for the next; one that a test has spoilt is thrown away. So tests disturb neither each other nor
//! what else runs here, and few of them wait for a server to start.

use std::any::Any;
use std::panic::resume_unwind;
use std::process::Command;
use std::sync::{Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use tokio::runtime::Runtime;

use crate::docker::Dockerd;
use crate::inventory::{clean, inventory};
use crate::ovs::OpenVSwitch;
use crate::patience::until_within;

/// The servers of a host. Copies are of the same one.
#[derive(Clone, Debug)]
pub struct Host {
    docker: Dockerd,
    ovs: OpenVSwitch,
}

impl Host {
    async fn start() -> Self {
        let (docker, ovs) = tokio::join!(Dockerd::start(), OpenVSwitch::start());
        Self { docker, ovs }
    }

    /// Its Docker, with the test image.
    pub async fn docker(&self) -> Dockerd {
        self.docker.need_image().await;
        self.docker.clone()
    }

    /// Its Docker, with the test image or without.
    pub fn bare_docker(&self) -> Dockerd {
        self.docker.clone()
    }

    /// The same host with another Docker.
    pub fn with_docker(&self, docker: Dockerd) -> Self {
        Self { docker, ovs: self.ovs() }
    }

    /// Its Open vSwitch.
    pub fn ovs(&self) -> OpenVSwitch {
        self.ovs.clone()
    }

    /// Whether another test can have it.
    fn is_clean(&self) -> bool {
        !self.is_spoilt() && !self.docker.may_keep_layers()
    }

    /// Whether the test stopped a server. What it started then ends with its thread.
    fn is_spoilt(&self) -> bool {
        self.docker.was_stopped() || self.ovs.was_stopped()
    }
}

/// A thread that lives in the namespaces of a host, and starts each test in a thread that inherits them. The servers end with
/// the thread that started them, so it is this one.
struct Keeper {
    host: Host,
    jobs: mpsc::Sender<Job>,
    results: mpsc::Receiver<Result<(), Panic>>,
    thread: JoinHandle<()>,
}

type Panic = Box<dyn Any + Send>;
/// The name of a test, and what it does.
type Job = (String, Box<dyn FnOnce() + Send>);

/// Hosts that no test has.
static IDLE: Mutex<Vec<Keeper>> = Mutex::new(vec![]);

/// Runs `test` as root on a host. Tasks that it leaves behind end with it; the host holds nothing of it afterwards, or the test
/// has failed.
pub fn on_host(test: impl AsyncFnOnce(Host) + Send + 'static) {
    assert!(nix::unistd::geteuid().is_root(), "this test makes network namespaces: run it as root");
    let idle = IDLE.lock().unwrap_or_else(PoisonError::into_inner).pop();
    let keeper = idle.unwrap_or_else(Keeper::start);
    let host = keeper.host.clone();
    let result = keeper.run(move || {
        let ended = EndOfTest(host.clone());
        // One thread: what runs on another worker would not be in the namespaces.
        let runtime = runtime();
        runtime.block_on(test(host.clone()));
        drop(runtime);
        drop(ended);
        if !host.is_spoilt() {
            self::runtime().block_on(tidy(&host));
        }
    });
    match result {
        Ok(()) if keeper.host.is_clean() => IDLE.lock().unwrap_or_else(PoisonError::into_inner).push(keeper),
        Ok(()) => keeper.end(),
        Err(panic) => {
            keeper.end();
            resume_unwind(panic);
        }
    }
}

/// Ends the hosts that are left.
pub fn end_all() {
    let idle = std::mem::take(&mut *IDLE.lock().unwrap_or_else(PoisonError::into_inner));
    idle.into_iter().for_each(Keeper::end);
}

/// Removes what the test has made, and waits until the host holds nothing that it did not hold at first.
async fn tidy(host: &Host) {
    clean(&host.docker, &host.ovs).await;
    until_within(host.docker.pristine(), async || inventory(&host.docker, &host.ovs).await).await;
}

/// Ends a Docker whose server was started by the test, while the thread that started it lives.
struct EndOfTest(Host);

impl Drop for EndOfTest {
    fn drop(&mut self) {
        if self.0.is_spoilt() {
            self.0.docker.end();
        }
    }
}

impl Keeper {
    fn start() -> Self {
        let (jobs, of_jobs) = mpsc::channel::<Job>();
        let (of_results, results) = mpsc::channel();
        let (up, is_up) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            enter_new_namespaces();
            let host = runtime().block_on(async {
                let host = Host::start().await;
                host.docker.set_pristine(inventory(&host.docker, &host.ovs).await);
                host
            });
            up.send(host).expect("somebody waits");
            for (name, job) in of_jobs {
                let test = std::thread::Builder::new().name(name).spawn(job).expect("a thread");
                of_results.send(test.join()).expect("somebody waits");
            }
        });
        match is_up.recv() {
            Ok(host) => Self { host, jobs, results, thread },
            Err(_) => resume_unwind(thread.join().expect_err("it did not come up")),
        }
    }

    fn run(&self, job: impl FnOnce() + Send + 'static) -> Result<(), Panic> {
        let name = std::thread::current().name().unwrap_or("test").to_owned();
        self.jobs.send((name, Box::new(job))).expect("the keeper lives");
        self.results.recv().expect("the keeper lives")
    }

    fn end(self) {
        let Self { host, jobs, thread, .. } = self;
        host.docker.end();
        host.ovs.end();
        drop(jobs);
        thread.join().expect("no panic");
    }
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// Nothing of what happens in these is seen outside. `/run` is empty, and with it `/run/netns`.
fn enter_new_namespaces() {
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).expect("new namespaces");
    let nothing = None::<&str>;
    mount(nothing, "/", nothing, MsFlags::MS_REC | MsFlags::MS_PRIVATE, nothing).expect("private mounts");
    mount(Some("none"), "/run", Some("tmpfs"), MsFlags::empty(), Some("mode=755")).expect("a /run of our own");
    std::fs::create_dir_all("/run/netns").expect("/run/netns");
    // `ip netns` would make a mount of it.
    mount(Some("none"), "/run/netns", Some("tmpfs"), MsFlags::empty(), nothing).expect("a /run/netns of our own");
    let status = Command::new("ip").args(["link", "set", "lo", "up"]).status();
    assert!(status.expect("install the package iproute2").success());
}
