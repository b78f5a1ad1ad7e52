//! An OCI runtime that puts a container into the network namespace that its instance already has, and leaves everything
//! else to the real runtime, which it becomes (`exec`).
//!
//! Docker starts it because of an entry in daemon.json:
//!
//! ```json
//! {"runtimes": {"nova": {"path": "/usr/local/bin/nova-docker-runtime", "runtimeArgs": ["--nova-runtime=crun"]}}}
//! ```
//!
//! On `create` and `run` it looks for a symbolic link named after the container's id, which the agent has put into
//! `--nova-links=DIR` (default `/run/nova-docker-agent/netns`), and writes the link's target into the bundle's
//! `config.json` as the path of the network namespace. Only root can write there; environment, labels and annotations of
//! the container, which a tenant may influence, are never looked at. A container without a link passes untouched: it is not
//! one of ours, or its instance has no network, and then Docker has made an empty namespace for it.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{ErrorKind, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use serde_json::{Value, json};

const DEFAULT_RUNTIME: &str = "runc";
/// The same as `network::LINK_DIRECTORY` of the agent; the agent stays out of this program, which every container starts.
const DEFAULT_LINKS: &str = "/run/nova-docker-agent/netns";

/// Options of runc, crun, youki and runsc that take the next argument as their value where it is not attached with `=`.
const VALUE_OPTIONS: [&str; 16] = [
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
    "preserve-fds",
    "r",
    "root",
    "rootless",
];

fn main() -> ExitCode {
    let invocation = Invocation::parse(std::env::args_os().skip(1));
    if let Err(message) = invocation.prepare() {
        return invocation.fail(&message);
    }
    let error = Command::new(&invocation.runtime).args(&invocation.arguments).exec();
    invocation.fail(&format!("cannot run {}: {error}", invocation.runtime.display()))
}

/// What Docker (containerd's shim) asks for.
#[derive(Debug)]
struct Invocation {
    runtime: PathBuf,
    links: PathBuf,
    /// Everything that the real runtime gets.
    arguments: Vec<OsString>,
    /// Where the runtime's log goes; Docker shows its last error to the user.
    log: Option<PathBuf>,
    create: Option<Create>,
}

/// A container about to be created.
#[derive(Debug, PartialEq)]
struct Create {
    bundle: PathBuf,
    id: OsString,
}

impl Invocation {
    fn parse(arguments: impl Iterator<Item = OsString>) -> Self {
        let mut runtime = PathBuf::from(DEFAULT_RUNTIME);
        let mut links = PathBuf::from(DEFAULT_LINKS);
        let mut passed = Vec::new();
        for argument in arguments {
            // Ours come before the subcommand, where the tenant has no say: what follows is the container's id at most.
            if let Some(value) = strip_prefix(&argument, "--nova-runtime=") {
                runtime = value.into();
            } else if let Some(value) = strip_prefix(&argument, "--nova-links=") {
                links = value.into();
            } else {
                passed.push(argument);
            }
        }
        let mut words = Words { arguments: &passed, next: 0, log: None, bundle: None };
        let create = match words.positional() {
            Some(command) if command == "create" || command == "run" => words
                .positional()
                .map(|id| id.to_owned())
                .map(|id| Create { id, bundle: words.finish().unwrap_or_else(|| ".".into()) }),
            _ => None,
        };
        let log = words.log;
        Self { runtime, links, arguments: passed, log, create }
    }

    /// Points the bundle at the instance's namespace, where there is one.
    fn prepare(&self) -> Result<(), String> {
        let Some(Create { bundle, id }) = &self.create else { return Ok(()) };
        let Some(namespace) = linked_namespace(&self.links, id)? else { return Ok(()) };
        let file = bundle.join("config.json");
        let failed = |verb: &str, error: &dyn std::fmt::Display| format!("cannot {verb} {}: {error}", file.display());
        let text = fs::read(&file).map_err(|error| failed("read", &error))?;
        let mut config: Value = serde_json::from_slice(&text).map_err(|error| failed("parse", &error))?;
        set_network_namespace(&mut config, &namespace).map_err(|error| failed("use", &error))?;
        let text = serde_json::to_vec(&config).map_err(|error| failed("encode", &error))?;
        // A new file under the old name: a crash must not leave half a configuration.
        let fresh = bundle.join("config.json.nova");
        fs::write(&fresh, text)
            .and_then(|()| fs::set_permissions(&fresh, fs::metadata(&file)?.permissions()))
            .and_then(|()| fs::rename(&fresh, &file))
            .map_err(|error| failed("replace", &error))
    }

    /// Reports the failure where Docker looks for it: as an entry of the runtime's log, and on stderr.
    fn fail(&self, message: &str) -> ExitCode {
        let message = format!("nova-docker-runtime: {message}");
        eprintln!("{message}");
        if let Some(log) = &self.log {
            let written = fs::OpenOptions::new()
                .create(true)
                .append(true)
                .open(log)
                .and_then(|mut file| writeln!(file, "{}", json!({"level": "error", "msg": message})));
            if let Err(error) = written {
                eprintln!("nova-docker-runtime: cannot write {}: {error}", log.display());
            }
        }
        ExitCode::FAILURE
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

/// The namespace that the agent has linked to this container. A link that leads nowhere is an error: without its network
/// the instance must not run.
fn linked_namespace(links: &Path, id: &OsStr) -> Result<Option<String>, String> {
    let plain = |&byte: &u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
    if id.is_empty() || !id.as_bytes().iter().all(plain) {
        return Ok(None);
    }
    let link = links.join(id);
    let target = match fs::read_link(&link) {
        Ok(target) => target,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(format!("cannot read {}: {error}", link.display())),
    };
    if !target.is_absolute() {
        return Err(format!("{} does not lead to an absolute path", link.display()));
    }
    if let Err(error) = fs::metadata(&target) {
        return Err(format!("network namespace {} of this instance is not there: {error}", target.display()));
    }
    match target.into_os_string().into_string() {
        Ok(target) => Ok(Some(target)),
        Err(_) => Err(format!("{} leads to a path that is not UTF-8", link.display())),
    }
}

/// Sets the path of the network namespace in an OCI runtime configuration, and adds the namespace where it is absent.
fn set_network_namespace(config: &mut Value, path: &str) -> Result<(), &'static str> {
    let root = config.as_object_mut().ok_or("it is no JSON object")?;
    let linux = root.entry("linux").or_insert_with(|| json!({}));
    let linux = linux.as_object_mut().ok_or("its \"linux\" is no JSON object")?;
    let namespaces = linux.entry("namespaces").or_insert_with(|| json!([]));
    let namespaces = namespaces.as_array_mut().ok_or("its \"linux.namespaces\" is no JSON array")?;
    namespaces.retain(|namespace| namespace.get("type").and_then(Value::as_str) != Some("network"));
    namespaces.push(json!({"type": "network", "path": path}));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Invocation {
        Invocation::parse(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn create_is_found_between_the_options_of_containerds_shim() {
        let line = "--root /run/r --log /b/log.json --log-format json --systemd-cgroup create --bundle /b --pid-file /b/pid abc";
        let found = parse(line);
        assert_eq!(found.create, Some(Create { bundle: "/b".into(), id: "abc".into() }));
        assert_eq!(found.log, Some("/b/log.json".into()));
        assert_eq!(found.arguments.len(), line.split_whitespace().count());
    }

    #[test]
    fn attached_values_and_options_after_the_id_are_understood() {
        let found = parse("--log=/l run -d abc -b=/b");
        assert_eq!(found.create, Some(Create { bundle: "/b".into(), id: "abc".into() }));
    }

    #[test]
    fn the_current_directory_is_the_bundle_where_none_is_given() {
        assert_eq!(parse("create abc").create, Some(Create { bundle: ".".into(), id: "abc".into() }));
    }

    #[test]
    fn other_commands_are_none_of_our_business() {
        for line in ["", "--version", "start abc", "--root create delete abc", "exec abc create", "features"] {
            assert_eq!(parse(line).create, None, "{line}");
        }
    }

    #[test]
    fn our_own_options_are_kept_from_the_real_runtime() {
        let found = parse("--nova-runtime=/usr/bin/crun --nova-links=/l --root /r state abc");
        assert_eq!(found.runtime, Path::new("/usr/bin/crun"));
        assert_eq!(found.links, Path::new("/l"));
        assert_eq!(found.arguments, ["--root", "/r", "state", "abc"]);
    }

    #[test]
    fn the_namespace_is_replaced_or_added_and_the_rest_stays() {
        let mut config =
            json!({"root": {}, "linux": {"namespaces": [{"type": "pid"}, {"type": "network"}], "seccomp": 1}});
        set_network_namespace(&mut config, "/run/netns/n").unwrap();
        let expected = json!([{"type": "pid"}, {"type": "network", "path": "/run/netns/n"}]);
        assert_eq!(config["linux"]["namespaces"], expected);
        assert_eq!(config["linux"]["seccomp"], 1);

        let mut config = json!({});
        set_network_namespace(&mut config, "/run/netns/n").unwrap();
        assert_eq!(config["linux"]["namespaces"], json!([{"type": "network", "path": "/run/netns/n"}]));
    }

    #[test]
    fn a_container_without_a_link_passes_untouched_and_a_dangling_link_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(linked_namespace(directory.path(), OsStr::new("abc")), Ok(None));
        std::os::unix::fs::symlink(directory.path().join("gone"), directory.path().join("abc")).unwrap();
        assert!(linked_namespace(directory.path(), OsStr::new("abc")).unwrap_err().contains("is not there"));
    }

    #[test]
    fn an_id_cannot_lead_out_of_the_directory_of_links() {
        let directory = tempfile::tempdir().unwrap();
        let links = directory.path().join("links");
        fs::create_dir(&links).unwrap();
        std::os::unix::fs::symlink("/", directory.path().join("abc")).unwrap();
        assert_eq!(linked_namespace(&links, OsStr::new("../abc")), Ok(None));
    }

    #[test]
    fn the_bundle_is_rewritten_in_place() {
        let directory = tempfile::tempdir().unwrap();
        let (links, bundle) = (directory.path().join("links"), directory.path().join("bundle"));
        fs::create_dir(&links).unwrap();
        fs::create_dir(&bundle).unwrap();
        fs::write(bundle.join("config.json"), r#"{"linux":{"namespaces":[{"type":"network"}]}}"#).unwrap();
        std::os::unix::fs::symlink("/proc/self/ns/net", links.join("abc")).unwrap();
        parse(&format!("--nova-links={} create --bundle {} abc", links.display(), bundle.display())).prepare().unwrap();
        let config: Value = serde_json::from_slice(&fs::read(bundle.join("config.json")).unwrap()).unwrap();
        assert_eq!(config["linux"]["namespaces"][0]["path"], "/proc/self/ns/net");
        assert_eq!(fs::read_dir(&bundle).unwrap().count(), 1);
    }
}
