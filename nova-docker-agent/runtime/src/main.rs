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
//! `config.json` as the path of the network namespace; [`links`] says what else it finds there. Only root can write there;
//! environment, labels and annotations of the container, which a tenant may influence, are never looked at. A container of which the
//! agent has said nothing is refused: after a restart of the host, Docker may start it before the agent has made its network.
//! `checkpoint` and `restore` get what Docker does not ask for, and a directory of the agent's; see [`checkpoint`].

mod bundle;
mod checkpoint;
mod command_line;
mod links;
mod ports;

use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use serde_json::json;

use bundle::Bundle;
use checkpoint::{Checkpoint, Way};
use command_line::{Invocation, Request};
use links::{Given, Links};
use ports::Ports;

fn main() -> ExitCode {
    if std::env::args_os().nth(1).is_some_and(|argument| argument == "--nova-version") {
        println!("nova-docker-runtime {}", env!("CARGO_PKG_VERSION"));
        return ExitCode::SUCCESS;
    }
    let invocation = Invocation::parse(std::env::args_os().skip(1));
    let runtime = match invocation.prepare().and_then(|next| Ok((next, invocation.real_runtime()?))) {
        Ok((Next::Run, runtime)) => runtime,
        Ok((Next::Nothing, _)) => return ExitCode::SUCCESS,
        Ok((Next::Move(way, checkpoint), runtime)) => return invocation.run_checkpoint(way, &checkpoint, &runtime),
        Err(message) => return invocation.fail(&message),
    };
    let error = Command::new(&runtime).args(&invocation.arguments).exec();
    invocation.fail(&format!("cannot run {}: {error}", runtime.display()))
}

/// What is left to do.
#[derive(Debug, PartialEq)]
enum Next {
    /// To become the real runtime.
    Run,
    Nothing,
    /// To run it, and to see to what comes of it.
    Move(Way, Checkpoint),
}

impl Invocation {
    /// Brings the bundle of a container that is about to be created to what the agent says of it, and its instance's interfaces up
    /// or down.
    fn prepare(&self) -> Result<Next, String> {
        let (Request::Create { id, .. }
        | Request::Start { id }
        | Request::Exec { id }
        | Request::Pause { id }
        | Request::Resume { id }
        | Request::Delete { id }
        | Request::Checkpoint { id }
        | Request::Restore { id, .. }) = &self.request
        else {
            return Ok(Next::Run);
        };
        let Some(links) = Links::of(&self.links, id) else { return Ok(Next::Run) };
        match &self.request {
            // Its process waits for the start for as long as it is held, and keeps the file system mounted.
            Request::Start { .. } if links.is_held() => Ok(Next::Nothing),
            Request::Exec { .. } if links.is_held() => {
                Err("nothing runs in this container: it is held for a rescue".to_owned())
            }
            Request::Create { bundle, .. } => {
                if links.is_held() {
                    links.record_root(&Bundle::read(bundle)?.root()?)?;
                    return Ok(Next::Run);
                }
                complete(&links, bundle).map(|()| Next::Run)
            }
            Request::Checkpoint { .. } => Ok(links.checkpoint()?.map_or(Next::Run, |to| Next::Move(Way::ToDisk, to))),
            Request::Restore { bundle, .. } => {
                complete(&links, bundle)?;
                Ok(links.checkpoint()?.map_or(Next::Run, |from| Next::Move(Way::Back, from)))
            }
            Request::Start { .. } | Request::Resume { .. } => {
                if let Some(ports) = self.ports(&links, id)? {
                    ports.open()?;
                }
                Ok(Next::Run)
            }
            Request::Pause { .. } | Request::Delete { .. } => {
                // A container must end, or stop, all the same.
                if let Err(error) = self.ports(&links, id).and_then(|ports| ports.map_or(Ok(()), |ports| ports.shut()))
                {
                    eprintln!("nova-docker-runtime: {error}");
                }
                Ok(Next::Run)
            }
            Request::Exec { .. } | Request::Other => Ok(Next::Run),
        }
    }

    /// What this program becomes. Every command on a container must reach the runtime that made it, whatever command it is: the id is
    /// that argument of which the agent has said something.
    fn real_runtime(&self) -> Result<PathBuf, String> {
        for argument in &self.arguments {
            if let Some(links) = Links::of(&self.links, argument)
                && let Some(runtime) = links.runtime()?
            {
                return Ok(runtime);
            }
        }
        Ok(self.runtime.clone())
    }

    /// Runs the real runtime for a container that goes to disk or comes back. The interfaces are down from before the dump until it
    /// is back: what came meanwhile would be lost, and the kernel would answer its peers that it knows of no such connection.
    fn run_checkpoint(&self, way: Way, checkpoint: &Checkpoint, runtime: &Path) -> ExitCode {
        if way == Way::ToDisk
            && let Err(message) = self.turn_ports(false)
        {
            // It runs on, with what has been taken down already.
            let opened = self.turn_ports(true).err().map(|error| format!("; {error}")).unwrap_or_default();
            return self.fail(&format!("{message}{opened}"));
        }
        let done = checkpoint.run(way, runtime, &self.arguments, self.subcommand);
        let is_done = matches!(done, Ok((0, _)));
        // It runs: again, or still.
        let opened = if is_done == (way == Way::Back) { self.turn_ports(true) } else { Ok(()) };
        match (done, opened) {
            (Ok((0, _)), Ok(())) => ExitCode::SUCCESS,
            (Ok((_, Some(reason))), _) => self.fail(&format!("CRIU: {reason}")),
            (Err(message), _) | (Ok((0, _)), Err(message)) => self.fail(&message),
            // The real runtime has said what it is.
            (Ok((code, None)), _) => ExitCode::from(code),
        }
    }

    fn turn_ports(&self, open: bool) -> Result<(), String> {
        let (Request::Checkpoint { id } | Request::Restore { id, .. }) = &self.request else { return Ok(()) };
        let Some(links) = Links::of(&self.links, id) else { return Ok(()) };
        let Some(ports) = self.ports(&links, id)? else { return Ok(()) };
        if open { ports.open() } else { ports.shut() }
    }

    fn ports<'a>(&self, links: &Links<'_>, id: &'a OsStr) -> Result<Option<Ports<'a>>, String> {
        let namespace = links.namespace()?;
        Ok(namespace.and_then(|namespace| Ports::of(&self.ports, &namespace, id)))
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

/// Brings the bundle of a container that is about to be made to what the agent says of it.
fn complete(links: &Links<'_>, bundle: &Path) -> Result<(), String> {
    let (namespace, rescued) = (links.namespace()?, links.rescued_root()?);
    if namespace.is_none() && !links.is_alone() {
        return Err("nova-docker-agent has not said what this container is, and starts it itself".to_owned());
    }
    let mut bundle = Bundle::read(bundle)?;
    if let Some(namespace) = namespace {
        bundle.set_network_namespace(&namespace)?;
    }
    if links.is_read_only() {
        bundle.set_read_only()?;
    }
    if let Some(root) = rescued {
        bundle.mount_rescued(&root)?;
    }
    let owner = bundle.owner();
    for file in links.given()? {
        hand_over(&file, owner)?;
        bundle.mount_file(&file.source, &file.path)?;
    }
    bundle.write()
}

/// Makes the file its owner's. Its directory keeps others on the host away.
fn hand_over(file: &Given, (user, group): (u32, u32)) -> Result<(), String> {
    let done = chown(&file.source, Some(file.user.unwrap_or(user)), Some(file.group.unwrap_or(group)))
        .and_then(|()| fs::set_permissions(&file.source, fs::Permissions::from_mode(file.mode)));
    done.map_err(|error| format!("cannot give {}: {error}", file.path))
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::os::unix::fs::MetadataExt;

    use serde_json::Value;

    use super::*;

    fn parse(line: &str) -> Invocation {
        Invocation::parse(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn a_checkpoint_and_a_restore_are_found_and_go_where_the_agent_says() {
        let directory = tempfile::tempdir().unwrap();
        let link = |ending: &str, target: &str| {
            std::os::unix::fs::symlink(target, directory.path().join(format!("abc{ending}"))).unwrap();
        };
        let line = format!("--nova-links={} --root /r checkpoint --image-path /d/c abc", directory.path().display());
        let found = parse(&line);
        assert_eq!((&found.request, found.subcommand), (&Request::Checkpoint { id: "abc".into() }, 2));
        assert_eq!(found.prepare(), Ok(Next::Run), "whoever asked for it, it was not the agent");
        link(".checkpoint", "/var/own");
        link(".criu", "/opt/criu/criu");
        let own = Checkpoint { directory: "/var/own".into(), criu: Some("/opt/criu/criu".into()) };
        assert_eq!(found.prepare(), Ok(Next::Move(Way::ToDisk, own)));
        let back = parse("restore --image-path /d/c --work-path /w --bundle /b --pid-file /p --detach abc");
        assert_eq!(back.request, Request::Restore { id: "abc".into(), bundle: "/b".into() });
    }

    #[test]
    fn every_command_on_a_container_reaches_the_runtime_that_it_needs() {
        let directory = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/usr/bin/crun", directory.path().join("abc.runtime")).unwrap();
        std::os::unix::fs::symlink("bin/crun", directory.path().join("bad.runtime")).unwrap();
        let of = |line: &str| {
            parse(&format!("--nova-runtime=/usr/bin/runc --nova-links={} {line}", directory.path().display()))
                .real_runtime()
        };
        for line in [
            "--root /run/r --log /l create --bundle /b --pid-file /p abc",
            "--root /run/r start abc",
            "kill --all abc 9",
            "ps --format json abc",
            "update --resources - abc",
            "delete --force abc",
            "exec --process /tmp/p --detach abc",
        ] {
            assert_eq!(of(line), Ok("/usr/bin/crun".into()), "{line}");
        }
        for line in ["create --bundle /b abd", "--version", "features", "delete ../abc", ""] {
            assert_eq!(of(line), Ok("/usr/bin/runc".into()), "{line}");
        }
        assert!(of("state bad").unwrap_err().contains("does not lead to an absolute path"));
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

    #[test]
    fn a_container_that_docker_starts_before_the_agent_has_spoken_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("config.json"), r#"{"root":{}}"#).unwrap();
        let path = directory.path().display();
        let asked = || parse(&format!("--nova-links={path} create --bundle {path} abc")).prepare();
        assert!(asked().unwrap_err().contains("nova-docker-agent has not said"));
        fs::write(directory.path().join("abc.alone"), "").unwrap();
        fs::write(directory.path().join("abc.readonly"), "").unwrap();
        assert_eq!(asked(), Ok(Next::Run));
        let config: Value = serde_json::from_slice(&fs::read(directory.path().join("config.json")).unwrap()).unwrap();
        assert_eq!(config["root"]["readonly"], true);
    }

    #[test]
    fn files_become_the_processs_own_and_are_mounted_last() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().display();
        let (netns, files) = (directory.path().join("netns"), directory.path().join("files/abc"));
        fs::create_dir(&netns).unwrap();
        fs::create_dir_all(&files).unwrap();
        fs::write(files.join("list.json"), r#"[{"path":"/run/secrets/a","mode":256}]"#).unwrap();
        fs::write(files.join("0"), "s3cret").unwrap();
        fs::write(netns.join("abc.alone"), "").unwrap();
        let owner = fs::metadata(files.join("0")).unwrap();
        let config =
            json!({"mounts": [{"destination": "/run"}], "process": {"user": {"uid": owner.uid(), "gid": owner.gid()}}});
        fs::write(directory.path().join("config.json"), config.to_string()).unwrap();
        parse(&format!("--nova-links={path}/netns create --bundle {path} abc")).prepare().unwrap();
        let config: Value = serde_json::from_slice(&fs::read(directory.path().join("config.json")).unwrap()).unwrap();
        assert_eq!(config["mounts"][1]["destination"], "/run/secrets/a");
        assert_eq!(config["mounts"][1]["source"], files.join("0").to_str().unwrap());
        assert_eq!(fs::metadata(files.join("0")).unwrap().mode() & 0o777, 0o400);
        assert!(!config.to_string().contains("s3cret"));
    }

    #[test]
    fn a_containers_interfaces_are_up_while_its_process_runs() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().display();
        let record = || fs::read_to_string(directory.path().join("net.up")).unwrap();
        let ask = |line: &str| parse(&format!("--nova-links={path} --nova-ports={path} --root /r {line}")).prepare();
        assert_eq!(ask("start abc"), Ok(Next::Run), "not a container of the agent's");
        std::os::unix::fs::symlink("/proc/self/ns/net", directory.path().join("abc")).unwrap();
        for (line, who) in [
            ("start abc", "abc"),
            ("pause abc", ""),
            ("resume abc", "abc"),
            ("kill --all abc 15", "abc"),
            ("exec --process /p abc", "abc"),
            ("delete --force abc", ""),
        ] {
            assert_eq!(ask(line), Ok(Next::Run));
            assert_eq!(record(), who, "{line}");
        }
    }

    #[test]
    fn a_container_that_is_held_is_created_as_it_is_and_never_started() {
        let directory = tempfile::tempdir().unwrap();
        let (links, bundle) = (directory.path().join("links"), directory.path().join("bundle"));
        fs::create_dir(&links).unwrap();
        fs::create_dir(&bundle).unwrap();
        let config = r#"{"root":{"path":"/merged"}}"#;
        fs::write(bundle.join("config.json"), config).unwrap();
        let asked = |line: &str| parse(&format!("--nova-links={} {line}", links.display())).prepare();
        assert_eq!(asked("start abc"), Ok(Next::Run));
        fs::write(links.join("abc.hold"), "").unwrap();
        std::os::unix::fs::symlink("/proc/self/ns/net", links.join("abc")).unwrap();
        assert_eq!(asked(&format!("create --bundle {} abc", bundle.display())), Ok(Next::Run));
        assert_eq!(fs::read_to_string(bundle.join("config.json")).unwrap(), config);
        assert_eq!(fs::read_to_string(links.join("abc.root")).unwrap(), "/merged");
        assert_eq!(asked("start abc"), Ok(Next::Nothing));
        assert_eq!(asked("kill abc"), Ok(Next::Run));
        assert!(asked("exec --process /p --detach --pid-file /f abc").unwrap_err().contains("held for a rescue"));
        assert_eq!(asked("exec --process /p other"), Ok(Next::Run));
    }
}
