//! CRIU, which writes processes to disk and brings them back: whether this host has one that can.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use tokio::sync::Mutex;

/// Earlier ones cannot dump a process with an internet socket on Linux 6.16 and later.
const OLDEST: (u32, u32) = (4, 2);
const PATIENCE: Duration = Duration::from_secs(60);
/// The real OCI runtime looks for it by this name.
const NAME: &str = "criu";

/// A CRIU that can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Criu {
    pub program: PathBuf,
    pub version: String,
}

/// A CRIU that was found to be good. It is asked again when its program is another file.
#[derive(Debug, Default)]
pub(super) struct Known(Mutex<Option<(File, Criu)>>);

/// Which file a program is, and of when: device, inode, seconds and nanoseconds.
type File = (PathBuf, [u64; 2], [i64; 2]);

impl Known {
    /// As [`look`], which it remembers.
    pub(super) async fn look(&self, name: &str) -> Result<Criu, String> {
        let mut known = self.0.lock().await;
        let file = find_program(name).and_then(file);
        if let Some((of, criu)) = &*known
            && Some(of) == file.as_ref()
        {
            return Ok(criu.clone());
        }
        *known = None;
        let criu = look(name).await?;
        *known = file.map(|file| (file, criu.clone()));
        Ok(criu)
    }
}

fn file(program: PathBuf) -> Option<File> {
    let found = std::fs::metadata(&program).ok()?;
    Some((program, [found.dev(), found.ino()], [found.ctime(), found.ctime_nsec()]))
}

/// Looks for CRIU, by its path or by its name, and asks it for its version and whether the kernel has what it needs.
///
/// # Errors
/// Why there is none that can be used.
pub async fn look(name: &str) -> Result<Criu, String> {
    let program = find_program(name).ok_or_else(|| format!("this host has no program {name} ([docker] criu)"))?;
    if program.file_name().is_none_or(|name| name != NAME) {
        return Err(format!("{} must be called {NAME}: OCI runtimes look for that name", program.display()));
    }
    let said = ask(&program, "--version").await?;
    let version = version(&said).ok_or_else(|| format!("{} does not say its version", program.display()))?;
    if number(&version).is_none_or(|number| number < OLDEST) {
        let (major, minor) = OLDEST;
        return Err(format!("{} is of release {version}; {major}.{minor} or later is needed", program.display()));
    }
    ask(&program, "check").await?;
    Ok(Criu { program, version })
}

async fn ask(program: &Path, question: &str) -> Result<String, String> {
    let failed = |reason: String| format!("`{} {question}` failed: {reason}", program.display());
    let mut command = Command::new(program);
    command.arg(question).stdin(Stdio::null()).kill_on_drop(true);
    let asked = tokio::time::timeout(PATIENCE, command.output()).await;
    let output = asked.map_err(|_| failed("it does not end".to_owned()))?.map_err(|error| failed(error.to_string()))?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr);
        let last = words.lines().rfind(|line| line.contains("Error")).unwrap_or_default();
        return Err(failed(format!("{}; {last}", output.status)));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// `Version: 4.2.1`
fn version(said: &str) -> Option<String> {
    said.lines().find_map(|line| line.strip_prefix("Version:")).map(|version| version.trim().to_owned())
}

fn number(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.split('.').map(|part| part.parse().ok());
    Some((parts.next()??, parts.next().unwrap_or(Some(0))?))
}

/// A program by its path, or by its name as a shell finds it.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    if name.contains('/') {
        return Some(PathBuf::from(name)).filter(|path| is_program(path));
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|directory| directory.join(name)).find(|path| is_program(path))
}

fn is_program(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A program `criu` that says this of its version, and of whose `check` this comes.
    fn criu(version: &str, check: u8) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        let program = directory.path().join(NAME);
        let script = format!(
            "#!/bin/sh\n[ \"$1\" = check ] && {{ echo 'Error (criu): no kernel' >&2; exit {check}; }}\necho 'Version: {version}'\n"
        );
        std::fs::write(&program, script).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        directory
    }

    #[tokio::test]
    async fn one_that_is_old_or_does_not_fit_the_kernel_is_not_used_and_why_is_said() {
        let look = async |directory: &tempfile::TempDir| look(&directory.path().join(NAME).to_string_lossy()).await;
        let good = criu("4.2.1", 0);
        assert_eq!(look(&good).await.unwrap().version, "4.2.1");
        assert_eq!(look(&criu("5.0", 0)).await.unwrap().version, "5.0");
        assert!(look(&criu("4.1.1", 0)).await.unwrap_err().contains("4.1.1; 4.2 or later"));
        assert!(look(&criu("4.2", 1)).await.unwrap_err().ends_with("no kernel"));
        let other = good.path().join("other");
        std::fs::rename(good.path().join(NAME), &other).unwrap();
        assert!(super::look(&other.to_string_lossy()).await.unwrap_err().contains("must be called criu"));
        assert!(super::look("/nowhere/criu").await.unwrap_err().contains("no program"));
    }

    #[tokio::test]
    async fn a_good_one_is_asked_once_and_again_when_it_is_another_file() {
        let (directory, known) = (criu("4.2.1", 0), Known::default());
        let program = directory.path().join(NAME);
        let version = async || known.look(&program.to_string_lossy()).await.map(|criu| criu.version);
        let asked = directory.path().join("asked");
        let install = |version: &str, check: &str| {
            let script = format!(
                "#!/bin/sh\necho $1 >>{}\n[ $1 = --version ] || exit {check}\necho 'Version: {version}'\n",
                asked.display()
            );
            let new = directory.path().join("new");
            std::fs::write(&new, script).unwrap();
            std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o755)).unwrap();
            std::fs::rename(new, &program).unwrap();
        };
        let questions = || std::fs::read_to_string(&asked).unwrap().lines().count();
        install("4.2.1", "0");
        for _ in 0..2 {
            assert_eq!(version().await.as_deref(), Ok("4.2.1"));
        }
        assert_eq!(questions(), 2);
        // What was bad may be good by now.
        install("4.3", "1");
        for _ in 0..2 {
            version().await.unwrap_err();
        }
        install("4.3", "0");
        assert_eq!(version().await.as_deref(), Ok("4.3"));
        assert_eq!(questions(), 8);
        std::fs::remove_file(&program).unwrap();
        assert!(version().await.unwrap_err().contains("no program"));
    }

    #[test]
    fn a_program_is_found_on_the_path_and_by_its_path() {
        assert_eq!(find_program("/bin/sh"), Some("/bin/sh".into()));
        assert!(find_program("sh").is_some());
        assert_eq!(find_program("/etc/passwd"), None);
        assert_eq!(find_program("no-such-program"), None);
    }
}
