//! The agent's programs, which are built before the tests.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Names the directory with the programs; without it they are looked for where cargo puts them, beside this test.
const DIRECTORY: &str = "NOVA_DOCKER_BIN_DIR";
const HOW: &str = "build it with `cargo build --workspace --bins`, or name its directory in NOVA_DOCKER_BIN_DIR";

/// Where a program is. Fails when it is missing, or older than one of its sources.
pub fn program(name: &str) -> PathBuf {
    let directory = std::env::var_os(DIRECTORY).map_or_else(beside_this_test, PathBuf::from);
    let path = directory.join(name);
    assert!(path.exists(), "{} is missing: {HOW}", path.display());
    let list = path.with_extension("d");
    if let Some(newer) = std::fs::read_to_string(list).ok().and_then(|list| newer_source(&list, modified(&path))) {
        panic!("{} is older than {}: {HOW}", path.display(), newer.display());
    }
    path
}

/// CRIU, by its path or its name: of the cloud that `devstack/mini` makes, where it has one.
pub fn criu() -> String {
    let state = std::env::var("STATE_DIR").unwrap_or_else(|_| "/var/lib/nova-docker-mini".to_owned());
    let fetched = Path::new(&state).join("criu/criu");
    if fetched.exists() { fetched.to_string_lossy().into_owned() } else { "criu".to_owned() }
}

fn beside_this_test() -> PathBuf {
    // As it was called: where the kernel sees the file, it may be out of reach of a process in another mount namespace.
    let test = std::path::absolute(std::env::args_os().next().expect("a name")).expect("a path");
    test.ancestors().nth(2).expect("target/PROFILE/deps/TEST").to_owned()
}

/// A source that was changed after `built`. The list is cargo's: `PROGRAM: SOURCE SOURCE...`, blanks in names after a `\`.
fn newer_source(list: &str, built: Option<SystemTime>) -> Option<PathBuf> {
    let (_, sources) = list.split_once(": ")?;
    let sources = sources.trim_end().replace("\\ ", "\0");
    let mut sources = sources.split(' ').map(|source| PathBuf::from(source.replace('\0', " ")));
    sources.find(|source| modified(source) > built)
}

fn modified(path: &Path) -> Option<SystemTime> {
    std::fs::metadata(path).and_then(|found| found.modified()).ok()
}
