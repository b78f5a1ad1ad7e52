//! A Docker of a test's own: its data, sockets and runtime, no bridge and no iptables. To be started inside
//! [`isolated`](crate::isolated).

use std::io::Read;
use std::path::{Path, PathBuf};

use bollard::Docker;
use bollard::query_parameters::CreateImageOptionsBuilder;
use futures::TryStreamExt;
use nova_docker_agent::docker::{Docker as Driver, DockerConfig as DriverConfig};
use serde_json::json;
use uuid::Uuid;

use crate::process::{Server, attempt, require, run};

const PACKAGE: &str = "docker.io";
const BUSYBOX: &str = "/bin/busybox";
/// The last words of a dockerd to which its containerd did not answer within 15 s, which no option changes.
const SLOW_CONTAINERD: &str = "timeout waiting for containerd to start";
/// Name under which the test image is imported.
pub const IMAGE: &str = "busybox:test";

/// A Docker Engine; ends when this is dropped.
#[derive(Debug)]
pub struct Dockerd {
    server: Option<Server>,
    directory: tempfile::TempDir,
}

impl Dockerd {
    /// Starts it, with the runtime `nova` leading to our wrapper, and the test image imported.
    pub async fn start() -> Self {
        require("dockerd", PACKAGE);
        let directory = tempfile::tempdir().expect("a directory");
        let path = |name: &str| directory.path().join(name);
        let runtime = build("nova-docker-runtime").await;
        let configuration = json!({
            "hosts": [format!("unix://{}", path("docker.sock").display())],
            "data-root": path("data"), "exec-root": path("exec"), "pidfile": path("docker.pid"),
            "group": "root", "bridge": "none", "iptables": false, "ip6tables": false, "ip-forward": false,
            "shutdown-timeout": 1, "live-restore": false,
            "runtimes": {"nova": {"path": runtime, "runtimeArgs": [format!("--nova-links={}", path("links").display())]}},
        });
        std::fs::write(path("daemon.json"), configuration.to_string()).expect("a configuration file");
        let mut dockerd = Self { server: None, directory };
        dockerd.start_server().await;
        dockerd.import(IMAGE, &[]).await;
        dockerd
    }

    /// Path of something in the directory of this Docker.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Its address.
    pub fn host_url(&self) -> String {
        format!("unix://{}", self.path("docker.sock").display())
    }

    /// Settings of a driver for this Docker.
    pub fn driver_config(&self) -> DriverConfig {
        DriverConfig { host_url: self.host_url(), link_directory: self.path("links"), ..DriverConfig::default() }
    }

    /// A driver for this Docker.
    pub async fn driver(&self) -> Driver {
        Driver::connect(self.driver_config()).await.expect("Docker runs")
    }

    /// A plain client, to look behind the driver's back.
    pub fn client(&self) -> Docker {
        Docker::connect_with_host(&self.host_url()).expect("an address")
    }

    /// Runs the `docker` command.
    pub async fn docker(&self, arguments: &[&str]) -> String {
        let host = self.host_url();
        let arguments: Vec<&str> = ["-H", host.as_str()].into_iter().chain(arguments.iter().copied()).collect();
        run("docker", &arguments).await.trim().to_owned()
    }

    /// Sends a signal to an instance's first process.
    pub async fn signal(&self, instance: Uuid, signal: &str) {
        self.docker(&["kill", "-s", signal, &format!("nova-{instance}")]).await;
    }

    /// Ends the server; its containers end with it.
    pub fn stop_server(&mut self) {
        self.server = None;
    }

    /// Kills the server; its containers run on until the next one is started, which ends them.
    pub fn kill_server(&mut self) {
        if let Some(mut server) = self.server.take() {
            server.kill();
            std::fs::remove_file(self.containerd_pid()).expect("dockerd's containerd");
        }
    }

    /// A containerd ends with its dockerd, but looks alive to the next one where process 1 collects no children, unless this
    /// file is removed.
    fn containerd_pid(&self) -> PathBuf {
        self.path("exec/containerd/containerd.pid")
    }

    /// Starts it (again).
    pub async fn start_server(&mut self) {
        let mut attempts = 1;
        while let Err(reason) = self.try_start_server().await {
            assert!(attempts < 3 && reason.contains(SLOW_CONTAINERD), "{reason}");
            attempts += 1;
            // dockerd itself may have come to it.
            std::fs::remove_file(self.containerd_pid()).unwrap_or_default();
        }
    }

    async fn try_start_server(&mut self) -> Result<(), String> {
        let log = self.path("log");
        let arguments = [format!("--config-file={}", self.path("daemon.json").display())];
        let mut server = Server::start("dockerd", PACKAGE, &arguments, &[], &log);
        let host = self.host_url();
        server.try_until_ready(&log, async || attempt("docker", &["-H", &host, "version"]).await.0).await?;
        self.server = Some(server);
        Ok(())
    }

    /// Imports an image of busybox alone, with a `sh` as its command and the given changes (Dockerfile's words).
    pub async fn import(&self, name: &str, changes: &[&str]) {
        let changes: Vec<String> = ["CMD [\"sh\"]"].iter().chain(changes).map(|&change| change.to_owned()).collect();
        let options = CreateImageOptionsBuilder::default().from_src("-").repo(name).changes(changes).build();
        let body = bollard::body_full(busybox_archive().await.into());
        let imported: Result<Vec<_>, _> =
            self.client().create_image(Some(options), Some(body), None).try_collect().await;
        imported.expect("an import");
    }
}

impl Drop for Dockerd {
    fn drop(&mut self) {
        let host = self.host_url();
        let script = "docker -H \"$1\" ps -aq | xargs -r docker -H \"$1\" rm -fv >/dev/null 2>&1";
        // Docker gives each container that still runs ten seconds to end.
        let status = std::process::Command::new("sh").args(["-c", script, "sh", &host]).status();
        status.expect("sh");
        self.server = None;
    }
}

/// A root file system with busybox, and every applet as a link to it.
async fn busybox_archive() -> Vec<u8> {
    assert!(
        Path::new(BUSYBOX).exists(),
        "{BUSYBOX} is missing: apt-get install --no-install-recommends busybox-static"
    );
    let applets = run(BUSYBOX, &["--list"]).await;
    let mut busybox = Vec::new();
    std::fs::File::open(BUSYBOX).and_then(|mut file| file.read_to_end(&mut busybox)).expect("busybox");
    let mut archive = tar::Builder::new(Vec::new());
    let mut append = |path: &str, kind: tar::EntryType, mode: u32, content: &[u8], target: Option<&str>| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(content.len() as u64);
        match target {
            Some(target) => archive.append_link(&mut header, path, target),
            None => archive.append_data(&mut header, path, content),
        }
        .expect("an archive in memory");
    };
    for directory in ["bin/", "etc/", "proc/", "sys/", "root/", "var/"] {
        append(directory, tar::EntryType::Directory, 0o755, &[], None);
    }
    append("tmp/", tar::EntryType::Directory, 0o1777, &[], None);
    append("bin/busybox", tar::EntryType::Regular, 0o4755, &busybox, None);
    append(
        "etc/passwd",
        tar::EntryType::Regular,
        0o644,
        b"root:x:0:0::/root:/bin/sh\nuser:x:1000:1000::/:/bin/sh\n",
        None,
    );
    for applet in applets.lines().filter(|&applet| applet != "busybox") {
        append(&format!("bin/{applet}"), tar::EntryType::Symlink, 0o777, &[], Some("busybox"));
    }
    archive.into_inner().expect("an archive in memory")
}

/// A program of the agent as it stands in the sources, built beside this test.
pub async fn build(program: &str) -> PathBuf {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    // As it was called: where the kernel sees the file, it may be out of reach of a process in another mount namespace.
    let test = PathBuf::from(std::env::args_os().next().expect("a name"));
    let profile = test.ancestors().nth(2).expect("target/PROFILE/deps/TEST");
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../Cargo.toml");
    let manifest = manifest.display().to_string();
    let mut arguments = vec!["build", "-q", "--manifest-path", &manifest, "-p", "nova-docker-agent"];
    arguments.extend(["--bin", program]);
    if profile.ends_with("release") {
        arguments.push("--release");
    }
    let mut build = tokio::process::Command::new(&cargo);
    build.args(&arguments);
    // What cargo sets for a test makes build scripts run again, here and then again in the next build outside.
    let ours = |name: &str| name.starts_with("CARGO_MANIFEST_") || name.starts_with("CARGO_PKG_");
    std::env::vars().filter(|(name, _)| ours(name)).for_each(|(name, _)| {
        build.env_remove(name);
    });
    let built = build.status().await.expect("cargo");
    assert!(built.success(), "{cargo} {arguments:?}: {built}");
    profile.join(program)
}
