//! Ends the whole run when one test hangs, and says which: what waits in a test gives up much earlier by itself.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, PoisonError, mpsc};
use std::thread::spawn;
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(600);

static RUNNING: Mutex<BTreeMap<&str, Instant>> = Mutex::new(BTreeMap::new());

/// A test that runs until this is dropped.
#[derive(Debug)]
pub struct Running(&'static str);

impl Running {
    /// The test `name` begins.
    pub fn new(name: &'static str) -> Self {
        RUNNING.lock().unwrap_or_else(PoisonError::into_inner).insert(name, Instant::now());
        Self(name)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        RUNNING.lock().unwrap_or_else(PoisonError::into_inner).remove(self.0);
    }
}

/// Watches all tests from now on.
pub fn start() {
    spawn(|| {
        // Nobody sends anything.
        let (_never, tick) = mpsc::channel::<()>();
        while tick.recv_timeout(Duration::from_secs(5)).is_err() {
            let running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
            let hung: Vec<&str> =
                running.iter().filter(|(_, since)| since.elapsed() > LIMIT).map(|(name, _)| *name).collect();
            if !hung.is_empty() {
                eprintln!("error: hangs for {} s: {}", LIMIT.as_secs(), hung.join(", "));
                eprintln!("The threads, and what they wait for:\n{}", threads());
                let arguments = ["-e", "-o", "pid,ppid,stat,wchan:24,etime,args", "--forest", "ww"];
                if let Err(error) = Command::new("ps").args(arguments).status() {
                    eprintln!("error: ps: {error}: install the package procps");
                }
                std::process::exit(1);
            }
        }
    });
}

fn threads() -> String {
    let read = |path: &Path, name| std::fs::read_to_string(path.join(name)).unwrap_or_default();
    let directories = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten().map(|entry| entry.path());
    directories.map(|path| format!("{} {}\n", read(&path, "comm").trim(), read(&path, "wchan"))).collect()
}
