//! The command line of an OCI runtime: `[OPTION...] SUBCOMMAND [OPTION...] ID`, with options of our own before it.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

const DEFAULT_RUNTIME: &str = "runc";
/// The same as `network::LINK_DIRECTORY` of the agent; the agent stays out of this program, which every container starts.
const DEFAULT_LINKS: &str = "/run/nova-docker-agent/netns";
/// The same as `network::PORTS_DIRECTORY` of the agent.
const DEFAULT_PORTS: &str = "/run/nova-docker-agent/ports";

/// Options of runc, crun, youki and runsc that take the next argument as their value where it is not attached with `=`.
const VALUE_OPTIONS: [&str; 27] = [
    "b",
    "bundle",
    "c",
    "config",
    "cgroup-manager",
    "console-socket",
    "criu",
    "f",
    "file",
    "log",
    "log-format",
    "pid-file",
    "p",
    "preserve-fds",
    "process",
    "r",
    "root",
    "rootless",
    "image-path",
    "work-path",
    "parent-path",
    "page-server",
    "manage-cgroups-mode",
    "empty-ns",
    "status-fd",
    "lsm-profile",
    "lsm-mount-context",
];

/// What Docker (containerd's shim) asks for.
#[derive(Debug)]
pub struct Invocation {
    pub runtime: PathBuf,
    pub links: PathBuf,
    pub ports: PathBuf,
    /// Everything that the real runtime gets.
    pub arguments: Vec<OsString>,
    /// Where the runtime's log goes; Docker shows its last error to the user.
    pub log: Option<PathBuf>,
    /// Which of the arguments is the subcommand.
    pub subcommand: usize,
    pub request: Request,
}

/// What is asked for, as far as it is our business.
#[derive(Debug, PartialEq)]
pub enum Request {
    Create { bundle: PathBuf, id: OsString },
    Start { id: OsString },
    Exec { id: OsString },
    Pause { id: OsString },
    Resume { id: OsString },
    Delete { id: OsString },
    Checkpoint { id: OsString },
    Restore { bundle: PathBuf, id: OsString },
    Other,
}

impl Invocation {
    pub fn parse(arguments: impl Iterator<Item = OsString>) -> Self {
        let mut runtime = PathBuf::from(DEFAULT_RUNTIME);
        let mut links = PathBuf::from(DEFAULT_LINKS);
        let mut ports = PathBuf::from(DEFAULT_PORTS);
        let mut passed = Vec::new();
        for argument in arguments {
            // Ours come before the subcommand, where the tenant has no say: what follows is the container's id at most.
            if let Some(value) = strip_prefix(&argument, "--nova-runtime=") {
                runtime = value.into();
            } else if let Some(value) = strip_prefix(&argument, "--nova-links=") {
                links = value.into();
            } else if let Some(value) = strip_prefix(&argument, "--nova-ports=") {
                ports = value.into();
            } else {
                passed.push(argument);
            }
        }
        let mut words = Words { arguments: &passed, next: 0, log: None, bundle: None };
        let command = words.positional().map(OsStr::as_bytes);
        let subcommand = words.next.saturating_sub(1);
        let id = words.positional().map(OsStr::to_owned);
        let request = match (command, id) {
            (Some(b"create" | b"run"), Some(id)) => {
                Request::Create { id, bundle: words.finish().unwrap_or_else(|| ".".into()) }
            }
            (Some(b"start"), Some(id)) => Request::Start { id },
            (Some(b"exec"), Some(id)) => Request::Exec { id },
            (Some(b"pause"), Some(id)) => Request::Pause { id },
            (Some(b"resume"), Some(id)) => Request::Resume { id },
            (Some(b"delete"), Some(id)) => Request::Delete { id },
            (Some(b"checkpoint"), Some(id)) => Request::Checkpoint { id },
            (Some(b"restore"), Some(id)) => {
                Request::Restore { id, bundle: words.finish().unwrap_or_else(|| ".".into()) }
            }
            _ => Request::Other,
        };
        let log = words.log;
        Self { runtime, links, ports, arguments: passed, log, subcommand, request }
    }
}

/// Walks over a runtime's command line: `[OPTION...] SUBCOMMAND [OPTION...] ID`.
struct Words<'a> {
    arguments: &'a [OsString],
    next: usize,
    log: Option<PathBuf>,
    bundle: Option<PathBuf>,
}

impl<'a> Words<'a> {
    /// The next argument that is neither an option nor an option's value.
    fn positional(&mut self) -> Option<&'a OsStr> {
        loop {
            let word = self.take()?;
            if word == "--" {
                return self.take();
            }
            let Some(option) = option_name(word) else { return Some(word) };
            let (name, value) = match option.iter().position(|&byte| byte == b'=') {
                Some(at) => (&option[..at], Some(OsStr::from_bytes(&option[at + 1..]))),
                None if VALUE_OPTIONS.iter().any(|known| known.as_bytes() == option) => (option, self.take()),
                None => (option, None),
            };
            match name {
                b"log" => self.log = value.map(PathBuf::from),
                b"b" | b"bundle" => self.bundle = value.map(PathBuf::from),
                _ => {}
            }
        }
    }

    /// Options may also follow the id.
    fn finish(&mut self) -> Option<PathBuf> {
        while self.positional().is_some() {}
        self.bundle.take()
    }

    fn take(&mut self) -> Option<&'a OsStr> {
        let word = self.arguments.get(self.next)?;
        self.next += 1;
        Some(word)
    }
}

/// `bundle=X` of `--bundle=X` or `-bundle=X`; runc takes both.
fn option_name(word: &OsStr) -> Option<&[u8]> {
    let bytes = word.as_bytes();
    let name = bytes.strip_prefix(b"--").or_else(|| bytes.strip_prefix(b"-"))?;
    (!name.is_empty()).then_some(name)
}

fn strip_prefix<'a>(argument: &'a OsStr, prefix: &str) -> Option<&'a OsStr> {
    argument.as_bytes().strip_prefix(prefix.as_bytes()).map(OsStr::from_bytes)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn parse(line: &str) -> Invocation {
        Invocation::parse(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn create_is_found_between_the_options_of_containerds_shim() {
        let line = "--root /run/r --log /b/log.json --log-format json --systemd-cgroup create --bundle /b --pid-file /b/pid abc";
        let found = parse(line);
        assert_eq!(found.request, Request::Create { bundle: "/b".into(), id: "abc".into() });
        assert_eq!(found.log, Some("/b/log.json".into()));
        assert_eq!(found.arguments.len(), line.split_whitespace().count());
    }

    #[test]
    fn attached_values_and_options_after_the_id_are_understood() {
        let found = parse("--log=/l run -d abc -b=/b");
        assert_eq!(found.request, Request::Create { bundle: "/b".into(), id: "abc".into() });
    }

    #[test]
    fn the_current_directory_is_the_bundle_where_none_is_given() {
        assert_eq!(parse("create abc").request, Request::Create { bundle: ".".into(), id: "abc".into() });
    }

    #[test]
    fn other_commands_are_none_of_our_business() {
        for line in ["", "--version", "--root create state abc", "features"] {
            assert_eq!(parse(line).request, Request::Other, "{line}");
        }
    }

    #[test]
    fn our_own_options_are_kept_from_the_real_runtime() {
        let found = parse("--nova-runtime=/usr/bin/crun --nova-links=/l --root /r state abc");
        assert_eq!(found.runtime, Path::new("/usr/bin/crun"));
        assert_eq!(found.links, Path::new("/l"));
        assert_eq!(found.arguments, ["--root", "/r", "state", "abc"]);
    }
}
