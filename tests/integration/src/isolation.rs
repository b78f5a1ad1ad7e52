//! A network and a mount namespace of a test's own, so that tests disturb neither each other nor what else runs here.

use std::future::Future;
use std::process::Command;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

/// Runs `test` on a thread of its own, as root in new namespaces, with an empty `/run/netns`. Servers that it starts end
/// with the thread.
pub fn isolated<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send + 'static) {
    assert!(nix::unistd::geteuid().is_root(), "this test makes network namespaces: run it as root");
    let thread = std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).expect("new namespaces");
        let nothing = None::<&str>;
        mount(nothing, "/", nothing, MsFlags::MS_REC | MsFlags::MS_PRIVATE, nothing).expect("private mounts");
        std::fs::create_dir_all("/run/netns").expect("/run/netns");
        mount(Some("none"), "/run/netns", Some("tmpfs"), MsFlags::empty(), nothing).expect("a /run/netns of our own");
        let status = Command::new("ip").args(["link", "set", "lo", "up"]).status();
        assert!(status.expect("install the package iproute2").success());
        // One thread: what runs on another worker would be in the namespaces of whoever started it first.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(test());
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}
