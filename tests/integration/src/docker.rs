//! The Docker of a [`Host`](crate::Host): data, sockets and runtime of its own, no bridge and no iptables.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bollard::query_parameters::{CreateImageOptionsBuilder, EventsOptionsBuilder};
use futures::{StreamExt, TryStreamExt};
use nova_docker_agent::docker::{Docker, DockerConfig};
use nova_docker_agent::network::LINK_DIRECTORY;
use serde_json::json;
use tokio::time::timeout;
use uuid::Uuid;

use crate::disk::Disk;
use crate::patience::PATIENCE;
use crate::process::{Server, attempt, require, run};
use crate::programs::program;

const PACKAGE: &str = "docker.io";
/// Variable of the environment: the root of a tree with another Docker than the installed one.
const TREE: &str = "NOVA_DOCKER_TEST_DOCKER";
/// Variable of the environment: settings of daemon.json that every Docker has besides, as JSON.
const SETTINGS: &str = "NOVA_DOCKER_TEST_SETTINGS";
const BUSYBOX: &str = "/bin/busybox";
/// The last log line of a dockerd whose containerd did not answer within 15 s. No option changes this limit.
const SLOW_CONTAINERD: &str = "timeout waiting for containerd to start";
/// Directory of images and containers.
const DATA: &str = "data";
/// Directory of what a test makes.
const TEST: &str = "test";
/// Name under which the test image is imported.
pub const IMAGE: &str = "busybox:test";

/// A Docker Engine. Copies are of the same one.
#[derive(Clone, Debug)]
pub struct Dockerd(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    server: Mutex<Option<Server>>,
    was_stopped: AtomicBool,
    /// What its host held when it came up.
    pristine: OnceLock<BTreeSet<String>>,
    /// Of its data alone. It goes before the directory.
    disk: Option<Disk>,
    directory: tempfile::TempDir,
}

impl Dockerd {
    /// Starts it, with the runtime `nova` leading to our wrapper.
    pub async fn start() -> Self {
        Self::start_in(tempfile::tempdir().expect("a directory"), None).await
    }

    /// One that has its data on a btrfs of its own, beside the host's. Whoever started it [ends](Self::end) it.
    pub async fn start_on_btrfs() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let disk = Disk::btrfs(&directory.path().join("disk"), directory.path().join(DATA), 8).await;
        Self::start_in(directory, Some(disk)).await
    }

    async fn start_in(directory: tempfile::TempDir, disk: Option<Disk>) -> Self {
        require("dockerd", PACKAGE);
        let runtime = program("nova-docker-runtime");
        let inner = Inner {
            server: Mutex::default(),
            was_stopped: AtomicBool::new(false),
            pristine: OnceLock::new(),
            disk,
            directory,
        };
        let dockerd = Self(Arc::new(inner));
        let own = |name: &str| dockerd.own(name);
        let mut configuration = json!({
            "hosts": [dockerd.host_url()],
            "data-root": own(DATA), "exec-root": own("exec"), "pidfile": own("docker.pid"),
            "group": "root", "bridge": "none", "iptables": false, "ip6tables": false, "ip-forward": false,
            "shutdown-timeout": 1, "live-restore": false, "experimental": true,
            "runtimes": {"nova": {"path": runtime, "runtimeArgs": [format!("--nova-links={}", dockerd.links().display())]}},
        });
        configuration.as_object_mut().expect("an object").extend(given_settings());
        if dockerd.0.disk.is_some() {
            // From 23 on Docker has overlay2 there unless it is told. The containerd image store holds nobody to a size.
            configuration["storage-driver"] = "btrfs".into();
            configuration["features"]["containerd-snapshotter"] = false.into();
        }
        std::fs::write(own("daemon.json"), configuration.to_string()).expect("a configuration file");
        for directory in [dockerd.links(), own(TEST)] {
            std::fs::create_dir_all(directory).expect("a directory");
        }
        dockerd.start_server().await;
        dockerd
    }

    fn own(&self, name: &str) -> PathBuf {
        self.0.directory.path().join(name)
    }

    /// Path of something that a test makes. It is gone after the test.
    pub fn path(&self, name: &str) -> PathBuf {
        self.own(TEST).join(name)
    }

    /// Removes everything that [`path`](Self::path) leads to.
    pub fn empty_directory(&self) {
        let directory = self.own(TEST);
        std::fs::remove_dir_all(&directory).and_then(|()| std::fs::create_dir(&directory)).expect("a directory");
    }

    /// Where containers are linked to their networks: in memory, and this host's own.
    pub fn links(&self) -> PathBuf {
        LINK_DIRECTORY.into()
    }

    /// Where the configs and secrets of containers are.
    pub fn given(&self) -> PathBuf {
        self.links().with_file_name("files")
    }

    /// Its socket.
    pub fn socket(&self) -> PathBuf {
        self.own("docker.sock")
    }

    /// Where it keeps images and containers.
    pub fn data(&self) -> PathBuf {
        self.own(DATA)
    }

    /// Whether it may keep layers of images that are gone: it gets them by no further pull. Docker 26 does so after it has saved an
    /// image that has a layer twice, as tests of pulls have it do.
    pub fn may_keep_layers(&self) -> bool {
        // What it knows of registries.
        let pulled = self.data().join("image/overlay2/distribution/v2metadata-by-diffid/sha256");
        std::env::var_os(TREE).is_some() && std::fs::read_dir(pulled).is_ok_and(|layers| layers.count() > 0)
    }

    /// Whether it has images in containerd's store, and not in its own.
    pub async fn has_image_store(&self) -> bool {
        let info = self.client().info().await.expect("Docker answers");
        let mut status = info.driver_status.unwrap_or_default().into_iter().flatten();
        status.any(|word| word.starts_with("io.containerd.snapshotter"))
    }

    /// What it has written into its log so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.own("log")).expect("a log")
    }

    /// What the host held when this Docker came up.
    pub fn pristine(&self) -> &BTreeSet<String> {
        self.0.pristine.get().expect("the host is up")
    }

    /// See [`pristine`](Self::pristine).
    pub fn set_pristine(&self, inventory: BTreeSet<String>) {
        self.0.pristine.set(inventory).expect("once");
    }

    /// Whether a test stopped the server.
    pub fn was_stopped(&self) -> bool {
        self.0.was_stopped.load(Ordering::SeqCst)
    }

    /// Its address.
    pub fn host_url(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// Settings of a driver for this Docker.
    pub fn driver_config(&self) -> DockerConfig {
        DockerConfig {
            host_url: self.host_url(),
            link_directory: self.links(),
            config_drive_directory: self.path("config-drives"),
            stops_directory: self.path("stops"),
            past_logs_directory: self.path("past-logs"),
            checkpoint_directory: self.path("checkpoints"),
            criu: crate::programs::criu(),
            ..DockerConfig::default()
        }
    }

    /// A driver for this Docker.
    pub async fn driver(&self) -> Docker {
        Docker::connect(self.driver_config()).await.expect("Docker runs")
    }

    /// A plain client, to look behind the driver's back.
    pub fn client(&self) -> bollard::Docker {
        bollard::Docker::connect_with_host(&self.host_url()).expect("an address")
    }

    /// Runs the `docker` command.
    pub async fn docker(&self, arguments: &[&str]) -> String {
        let host = self.host_url();
        let arguments: Vec<&str> = ["-H", host.as_str()].into_iter().chain(arguments.iter().copied()).collect();
        run("docker", &arguments).await.trim().to_owned()
    }

    /// Runs a shell's line in an instance; whether it was happy, and what it wrote.
    pub async fn inside(&self, instance: &str, line: &str) -> (bool, String) {
        let container = format!("nova-{instance}");
        attempt("docker", &["-H", &self.host_url(), "exec", &container, "sh", "-c", line]).await
    }

    /// Sends a signal to an instance's first process.
    pub async fn signal(&self, instance: Uuid, signal: &str) {
        self.docker(&["kill", "-s", signal, &format!("nova-{instance}")]).await;
    }

    /// Waits until Docker has said that a process of an instance was killed for want of memory.
    pub async fn until_out_of_memory(&self, instance: Uuid) {
        let filters = [("event", vec!["oom".to_owned()]), ("container", vec![format!("nova-{instance}")])];
        let options = EventsOptionsBuilder::default().since("1").filters(&filters.into()).build();
        let client = self.client();
        let said = timeout(PATIENCE, client.events(Some(options)).next()).await;
        said.expect("Docker says so").expect("Docker answers").expect("an event");
    }

    /// Ends the server; its containers end with it.
    pub fn stop_server(&self) {
        drop(self.take_server());
    }

    /// Ends the server as a restart of the host does: nothing is left of what is in memory only. See
    /// [`start_server`](Self::start_server).
    pub fn lose_memory(&self) {
        self.stop_server();
        let of_agent = self.links().parent().expect("a directory of the agent").to_owned();
        for directory in [self.own("exec"), of_agent] {
            std::fs::remove_dir_all(directory).expect("files that can be removed");
        }
    }

    /// Kills the server; its containers run on until the next one is started, which ends them.
    pub fn kill_server(&self) {
        if let Some(mut server) = self.take_server() {
            server.kill();
            std::fs::remove_file(self.containerd_pid()).expect("dockerd's containerd");
        }
    }

    /// Whether containers outlive the server (`live-restore`), from its next start on.
    pub fn restore_live(&self, restores: bool) {
        let file = self.own("daemon.json");
        let text = std::fs::read_to_string(&file).expect("a configuration file");
        let mut configuration: serde_json::Value = serde_json::from_str(&text).expect("a configuration");
        configuration["live-restore"] = restores.into();
        std::fs::write(file, configuration.to_string()).expect("a configuration file");
    }

    fn take_server(&self) -> Option<Server> {
        self.0.was_stopped.store(true, Ordering::SeqCst);
        self.0.server.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Removes all containers and ends the server, if it runs.
    pub fn end(&self) {
        let Some(server) = self.take_server() else { return };
        let host = self.host_url();
        let script = "docker -H \"$1\" ps -aq | xargs -r docker -H \"$1\" rm -fv >/dev/null 2>&1";
        // Docker gives each container that still runs ten seconds to end.
        let status = std::process::Command::new("sh").args(["-c", script, "sh", &host]).status();
        status.expect("sh");
        drop(server);
    }

    /// A containerd ends with its dockerd, but looks alive to the next one where process 1 collects no children, unless this
    /// file is removed.
    fn containerd_pid(&self) -> PathBuf {
        self.own("exec/containerd/containerd.pid")
    }

    /// Starts it (again).
    pub async fn start_server(&self) {
        let mut attempts = 1;
        while let Err(reason) = self.try_start_server().await {
            assert!(attempts < 3 && reason.contains(SLOW_CONTAINERD), "{reason}");
            attempts += 1;
            // dockerd itself may have come to it.
            std::fs::remove_file(self.containerd_pid()).unwrap_or_default();
        }
    }

    async fn try_start_server(&self) -> Result<(), String> {
        let log = self.own("log");
        let arguments = [format!("--config-file={}", self.own("daemon.json").display())];
        let path = search_path();
        let mut server = Server::start("dockerd", PACKAGE, &arguments, &[("PATH", Path::new(&path))], &log);
        // There is no client before there is a socket.
        let host = self.host_url();
        let client = || bollard::Docker::connect_with_host(&host).ok();
        server.try_until_ready(&log, async || answers(client()).await).await?;
        *self.0.server.lock().unwrap_or_else(PoisonError::into_inner) = Some(server);
        Ok(())
    }

    /// Imports the test image unless it is there.
    pub async fn need_image(&self) {
        if self.client().inspect_image(IMAGE).await.is_err() {
            self.import(IMAGE, &[]).await;
        }
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

impl Drop for Inner {
    fn drop(&mut self) {
        let mut server = self.server.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(server.take().is_none() || std::thread::panicking(), "nobody has ended this Docker");
    }
}

/// Settings of daemon.json that the environment names.
fn given_settings() -> serde_json::Map<String, serde_json::Value> {
    let given = std::env::var(SETTINGS).unwrap_or_else(|_| "{}".to_owned());
    serde_json::from_str(&given).unwrap_or_else(|error| panic!("{SETTINGS} is no JSON object: {error}"))
}

/// Where dockerd is, and what it starts: in the tree that the environment names, then as installed.
fn search_path() -> OsString {
    let installed = std::env::var_os("PATH").expect("PATH");
    let Some(tree) = std::env::var_os(TREE) else { return installed };
    let directories = ["usr/sbin", "usr/bin"].map(|directory| Path::new(&tree).join(directory));
    assert!(
        directories[0].join("dockerd").exists(),
        "{TREE} names a tree without usr/sbin/dockerd: {}",
        tree.display()
    );
    std::env::join_paths(directories.into_iter().chain(std::env::split_paths(&installed))).expect("a search path")
}

async fn answers(client: Option<bollard::Docker>) -> bool {
    match client {
        Some(client) => client.ping().await.is_ok(),
        None => false,
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
