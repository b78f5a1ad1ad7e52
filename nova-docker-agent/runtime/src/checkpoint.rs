//! A container that goes to disk and comes back: the real runtime has CRIU do it, and this program says where and how.
//!
//! The agent names a directory of its own (`ID.checkpoint`). Docker would copy every byte of the images twice; it is left with a
//! mark instead. In the directory are:
//!
//! | name | what |
//! |---|---|
//! | `images` | what CRIU writes |
//! | `work` | its logs |
//! | `criu.conf` | what it is told beside its arguments |
//! | `whole` | there while the images are all of a container that does not run: made after the dump, removed after the restore |

use std::ffi::{OsStr, OsString};
use std::fs::{self, DirBuilder};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use nix::fcntl::{Flock, FlockArg};

/// What Docker does not ask for, and without which hardly a server can be dumped.
const FLAGS: [&str; 3] = ["--tcp-established", "--file-locks", "--ext-unix-sk"];
/// CRIU's own settings. It would lock the network namespace with rules that stay there when the container never comes back; this
/// program has the interfaces down instead.
const SETTINGS: &str = "network-lock skip\n";
const IMAGES: &str = "--image-path";
const WORK: &str = "--work-path";
/// Bytes of CRIU's log that are looked through.
const MOST_LOG: u64 = 16 << 20;
/// Bytes of CRIU's reason that Docker is told.
const MOST_REASON: usize = 300;

/// Which of both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    ToDisk,
    Back,
}

/// Where a container goes, or comes from.
#[derive(Debug, PartialEq)]
pub struct Checkpoint {
    pub directory: PathBuf,
    /// CRIU, where it is not found by its name alone.
    pub criu: Option<PathBuf>,
}

impl Checkpoint {
    /// Runs the real runtime and keeps the mark `whole` true. Its exit code, with CRIU's reason where there is one.
    pub fn run(
        &self,
        way: Way,
        runtime: &Path,
        arguments: &[OsString],
        subcommand: usize,
    ) -> Result<(u8, Option<String>), String> {
        let _lock = lock(&self.directory)?;
        let (arguments, dockers) = redirected(arguments, subcommand, &self.directory);
        for name in ["images", "work"] {
            make(&self.directory.join(name))?;
        }
        if way == Way::ToDisk
            && let Some(dockers) = dockers
        {
            mark(&dockers)?;
        }
        let settings = self.directory.join("criu.conf");
        fs::write(&settings, SETTINGS).map_err(|error| format!("cannot write {}: {error}", settings.display()))?;
        // Not of an earlier try.
        drop(fs::remove_file(self.log(way)));
        let mut command = Command::new(runtime);
        command.args(&arguments).env("CRIU_CONFIG_FILE", &settings);
        if let Some(path) = self.path_to_criu()? {
            command.env("PATH", path);
        }
        if way == Way::ToDisk {
            // Docker tells the first line only, and the real runtime's is no reason. Of a restore it is the container's.
            command.stderr(Stdio::piped());
        }
        let output = command.spawn().and_then(Child::wait_with_output);
        let Output { status, stderr, .. } =
            output.map_err(|error| format!("cannot run {}: {error}", runtime.display()))?;
        let reason = if status.success() { None } else { self.reason(way) };
        if reason.is_none() {
            io::stderr().write_all(&stderr).map_err(|error| format!("cannot write to stderr: {error}"))?;
        }
        if !status.success() {
            let code = status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1).max(1);
            return Ok((code, reason));
        }
        let whole = self.directory.join("whole");
        let done = match way {
            Way::ToDisk => on_disk(&self.directory.join("images")).and_then(|()| fs::write(&whole, "")),
            Way::Back => fs::remove_file(&whole),
        };
        done.map(|()| (0, None)).map_err(|error| format!("cannot make or remove {}: {error}", whole.display()))
    }

    /// `PATH` with the directory of CRIU before the others: the real runtime takes no other word of where it is.
    fn path_to_criu(&self) -> Result<Option<OsString>, String> {
        let Some(directory) = self.criu.as_deref().and_then(Path::parent) else { return Ok(None) };
        let others = std::env::var_os("PATH").unwrap_or_default();
        let all = [directory.to_owned()].into_iter().chain(std::env::split_paths(&others));
        std::env::join_paths(all)
            .map(Some)
            .map_err(|error| format!("{} cannot be in PATH: {error}", directory.display()))
    }

    /// The first error in CRIU's log; those after it follow from it.
    fn reason(&self, way: Way) -> Option<String> {
        let mut log = Vec::new();
        fs::File::open(self.log(way)).ok()?.take(MOST_LOG).read_to_end(&mut log).ok()?;
        reason_in(&String::from_utf8_lossy(&log))
    }

    fn log(&self, way: Way) -> PathBuf {
        self.directory.join("work").join(if way == Way::ToDisk { "dump.log" } else { "restore.log" })
    }
}

/// `(00.056789) Error (criu/sk-inet.c:188): ...`
fn reason_in(log: &str) -> Option<String> {
    let errors = log.lines().filter(|line| line.contains("Error (")).filter_map(|line| line.split_once("): "));
    // It goes on without more descriptors.
    let (_, reason) = errors.into_iter().find(|(_, reason)| !reason.starts_with("rlimit: "))?;
    Some(reason.chars().filter(|letter| !letter.is_control()).take(MOST_REASON).collect())
}

/// The arguments with directories of ours and with [`FLAGS`], and Docker's own directory of images.
fn redirected(arguments: &[OsString], subcommand: usize, directory: &Path) -> (Vec<OsString>, Option<PathBuf>) {
    let mut dockers = None;
    let (before, after) = arguments.split_at((subcommand + 1).min(arguments.len()));
    let mut all = before.to_vec();
    all.extend(FLAGS.map(OsString::from));
    for (name, own) in [(IMAGES, "images"), (WORK, "work")] {
        all.extend([name.into(), directory.join(own).into()]);
    }
    let mut after = after.iter();
    while let Some(argument) = after.next() {
        let (name, attached) = match argument.as_bytes().iter().position(|&byte| byte == b'=') {
            Some(at) => (&argument.as_bytes()[..at], Some(OsStr::from_bytes(&argument.as_bytes()[at + 1..]))),
            None => (argument.as_bytes(), None),
        };
        if name != IMAGES.as_bytes() && name != WORK.as_bytes() {
            all.push(argument.clone());
            continue;
        }
        let value = attached.or_else(|| after.next().map(OsString::as_os_str));
        if name == IMAGES.as_bytes() {
            dockers = value.map(PathBuf::from);
        }
    }
    (all, dockers)
}

/// What Docker keeps in place of the images. It takes two of the same content for one, and then refuses.
fn mark(directory: &Path) -> Result<(), String> {
    let unique = fs::read("/proc/sys/kernel/random/uuid");
    fs::create_dir_all(directory)
        .and_then(|()| fs::write(directory.join("nova"), unique?))
        .map_err(|error| format!("cannot write into {}: {error}", directory.display()))
}

/// The images are whole also after a power failure.
fn on_disk(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        fs::File::open(entry?.path())?.sync_all()?;
    }
    fs::File::open(directory)?.sync_all()
}

/// The agent removes nothing meanwhile.
fn lock(directory: &Path) -> Result<Flock<fs::File>, String> {
    let failed = |error: io::Error| format!("cannot open {}: {error}", directory.display());
    let file = fs::File::open(directory).map_err(failed)?;
    Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, errno)| failed(errno.into()))
}

/// The images have whatever was in memory.
fn make(directory: &Path) -> Result<(), String> {
    match DirBuilder::new().mode(0o700).create(directory) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            Err(format!("cannot make {}: {error}", directory.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split_whitespace().map(OsString::from).collect()
    }

    #[test]
    fn the_images_go_where_the_agent_says_and_established_connections_with_them() {
        for paths in ["--image-path /d/c --work-path /d/w", "--image-path=/d/c --work-path=/d/w"] {
            let (all, dockers) = redirected(&words(&format!("--root /r checkpoint {paths} abc")), 2, Path::new("/own"));
            let expected = "--root /r checkpoint --tcp-established --file-locks --ext-unix-sk --image-path /own/images \
                            --work-path /own/work abc";
            assert_eq!(all, words(expected));
            assert_eq!(dockers, Some("/d/c".into()));
        }
    }

    #[test]
    fn the_first_error_of_the_log_is_the_reason() {
        let log = "(00.1) Warn (criu/a.c:1): odd\n(00.1) Error (criu/util.c:9): rlimit: no\n\
                   (00.2) Error (criu/sk-inet.c:188): inet: \x1bno\n(00.3) Error (b.c:2): x\n";
        assert_eq!(reason_in(log).as_deref(), Some("inet: no"));
        assert_eq!(reason_in("(00.1) all is well\n"), None);
    }

    #[test]
    fn images_are_whole_after_a_dump_until_they_are_restored() {
        let directory = tempfile::tempdir().unwrap();
        let checkpoint = Checkpoint { directory: directory.path().to_owned(), criu: Some("/opt/criu/criu".into()) };
        let run = |way, program: &str| checkpoint.run(way, Path::new(program), &words("checkpoint abc"), 0).unwrap();
        let is_whole = || directory.path().join("whole").exists();
        assert_eq!(run(Way::ToDisk, "/bin/false"), (1, None));
        assert!(!is_whole());
        assert_eq!(run(Way::ToDisk, "/bin/true"), (0, None));
        assert!(is_whole());
        fs::write(directory.path().join("work/restore.log"), "(0) Error (x.c:1): of an earlier try\n").unwrap();
        assert_eq!(run(Way::Back, "/bin/false"), (1, None));
        assert!(is_whole());
        let criu = directory.path().join("fails");
        let log = directory.path().join("work/restore.log");
        let settings = "test \"$(cat $CRIU_CONFIG_FILE)\" = 'network-lock skip'";
        let script = format!("#!/bin/sh\n{settings} && echo '(0) Error (x.c:1): no room' >{}\nexit 1\n", log.display());
        fs::write(&criu, script).unwrap();
        fs::set_permissions(&criu, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        assert_eq!(run(Way::Back, criu.to_str().unwrap()), (1, Some("no room".to_owned())));
        assert!(is_whole());
        assert_eq!(run(Way::Back, "/bin/true"), (0, None));
        assert!(!is_whole());
        assert!(checkpoint.path_to_criu().unwrap().unwrap().as_bytes().starts_with(b"/opt/criu:"));
    }
}
