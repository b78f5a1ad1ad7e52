//! The second door with everything behind it: the gRPC service in this process, on a host's Docker and Open vSwitch and a
//! Glance of the test's own.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nova_docker_agent::config::{self, Config, Settings};
use nova_docker_agent::grpc::{ServeError, serve};
use nova_docker_agent::network::LINK_DIRECTORY;
use nova_docker_proto::v1;
use nova_docker_proto::v1::driver_service_client::DriverServiceClient;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};
use tonic_types::StatusExt;
use uuid::Uuid;

use crate::Host;
use crate::docker::Dockerd;
use crate::glance::{Glance, TOKEN};
use crate::images::{self, Stored};
use crate::ovs::{BRIDGE, OpenVSwitch};
use crate::patience::until_contains;
use crate::record::Recorded;

/// A client of the door; what it is answered is recorded.
pub type Client = DriverServiceClient<Recorded>;
/// An option of nova.conf (section and name) with its value.
pub type Setting<'a> = ((&'a str, &'a str), &'a str);

/// An open door.
pub struct Door {
    /// None: nobody listens.
    pub service: Option<Service>,
    /// The test image in Glance. Docker has forgotten it.
    pub image: v1::Image,
    /// Its file.
    pub stored: Arc<Stored>,
    pub glance: Glance,
    pub docker: Dockerd,
    pub ovs: OpenVSwitch,
    directory: tempfile::TempDir,
}

/// The service, and how it is asked to end.
pub struct Service {
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<(), ServeError>>,
}

impl Service {
    fn start(config: Config) -> Self {
        let (stop, stopped) = oneshot::channel();
        let shutdown = async move { stopped.await.unwrap_or_default() };
        Self { stop, task: tokio::spawn(serve(config, shutdown)) }
    }

    /// Asks it to end, and does not wait.
    pub fn stop(self) -> JoinHandle<Result<(), ServeError>> {
        self.stop.send(()).expect("the service runs");
        self.task
    }
}

impl Door {
    /// Opens it at [`socket`](Self::socket).
    pub async fn open(host: &Host) -> Self {
        Self::open_with(host, &[]).await
    }

    /// The same with more settings.
    pub async fn open_with(host: &Host, settings: &[Setting<'_>]) -> Self {
        let mut door = Self::closed(host).await;
        door.start(settings).await;
        door
    }

    /// Everything that is behind it, and nobody listens.
    pub async fn closed(host: &Host) -> Self {
        let (docker, ovs, glance) = (host.bare_docker(), host.ovs(), Glance::start().await);
        let stored = images::test_image(&docker).await;
        let image = glance.add(stored.0.clone());
        images::remove_all(&docker).await;
        // Other users come as far as the socket.
        let all = std::fs::Permissions::from_mode(0o755);
        let directory = tempfile::Builder::new().permissions(all).tempdir().expect("a directory");
        Self { service: None, image, stored, glance, docker, ovs, directory }
    }

    /// Starts the service and waits until it listens.
    pub async fn start(&mut self, settings: &[Setting<'_>]) {
        let service = Service::start(self.config(settings));
        // It binds its address before it waits for anything.
        tokio::task::yield_now().await;
        self.service = Some(service);
    }

    /// Its configuration.
    pub fn config(&self, settings: &[Setting<'_>]) -> Config {
        let all = self.settings(settings);
        let all = all.iter().map(|(section, option, value)| ((*section, *option), value.as_str()));
        let (config, _) = config::from_settings(&Settings::from_map(all), &[]).expect("a configuration");
        config
    }

    /// The same as a file.
    pub fn config_file(&self) -> PathBuf {
        let all = self.settings(&[]);
        let text: String =
            all.iter().map(|(section, option, value)| format!("[{section}]\n{option} = {value}\n")).collect();
        let path = self.path("nova.conf");
        std::fs::write(&path, text).expect("a file");
        path
    }

    fn settings<'a>(&self, more: &[Setting<'a>]) -> Vec<(&'a str, &'a str, String)> {
        let mut all = vec![
            ("DEFAULT", "transport_url", "rabbit://nobody:listens@127.0.0.1:1/".to_owned()),
            ("DEFAULT", "state_path", self.docker.path("state").display().to_string()),
            ("docker", "host_url", self.docker.host_url()),
            ("docker", "cache_directory", self.docker.path("cache").display().to_string()),
            ("docker_grpc", "listen", format!("unix://{}", self.socket().display())),
            ("os_vif_ovs", "ovsdb_connection", self.ovs.connection()),
            ("glance", "endpoint_override", self.glance.url()),
            ("glance", "num_retries", "0".to_owned()),
        ];
        for section in ["placement", "neutron"] {
            let identity = [
                ("auth_type", "password"),
                ("auth_url", "http://127.0.0.1:1/v3"),
                ("username", "nobody"),
                ("password", "secret"),
                ("user_domain_name", "Default"),
                ("project_name", "service"),
                ("project_domain_name", "Default"),
            ];
            all.extend(identity.map(|(option, value)| (section, option, value.to_owned())));
        }
        all.extend(more.iter().map(|((section, option), value)| (*section, *option, (*value).to_owned())));
        all
    }

    /// Where it listens unless told otherwise.
    pub fn socket(&self) -> PathBuf {
        self.path("driver.sock")
    }

    /// Something in the directory of the socket.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A connection to [`socket`](Self::socket).
    pub async fn channel(&self) -> Channel {
        connect(&self.socket()).await.expect("somebody listens")
    }

    /// A client with a connection of its own.
    pub async fn client(&self) -> Client {
        client(self.channel().await)
    }

    /// Takes the service out, to stop it.
    pub fn service(&mut self) -> Service {
        self.service.take().expect("the service runs")
    }

    /// Stops it and waits for its end.
    pub async fn close(mut self) {
        self.service().stop().await.expect("no panic").expect("a clean end");
    }

    /// A guest that runs `command` (a shell's line), made of [`image`](Self::image).
    pub fn guest(&self, command: &str, interfaces: &[v1::Interface]) -> v1::CreateGuestRequest {
        let mut image = self.image.clone();
        image.properties.insert("os_command_line".to_owned(), command.to_owned());
        let guest = v1::Guest {
            guest_id: Uuid::new_v4().to_string(),
            name: "test".to_owned(),
            hostname: "test-host".to_owned(),
            project_id: "project-of-the-test".to_owned(),
            user_id: "user-of-the-test".to_owned(),
            vcpus: 1,
            memory_mib: 64,
            root_gib: 1,
            owner: "compute-of-the-test".to_owned(),
            ..v1::Guest::default()
        };
        v1::CreateGuestRequest { guest: Some(guest), image: Some(image), interfaces: interfaces.to_vec() }
    }

    /// What Docker, the kernel and Open vSwitch have of guests: nothing, when nothing is left over.
    pub async fn leftovers(&self) -> Vec<String> {
        let containers = self.docker.docker(&["ps", "-a", "--format", "container {{.Names}}"]).await;
        let ports = self.ovs.vsctl(&["list-ports", BRIDGE]).await;
        let names = |directory: &Path| -> Vec<String> {
            let entries = std::fs::read_dir(directory).expect("a directory");
            entries.map(|entry| entry.expect("an entry").path().display().to_string()).collect()
        };
        let mut all: Vec<String> = containers.lines().chain(ports.lines()).map(str::to_owned).collect();
        all.extend(names(Path::new("/run/netns")));
        all.extend(names(Path::new(LINK_DIRECTORY)));
        all
    }
}

/// A client on a connection.
pub fn client(channel: Channel) -> Client {
    Client::new(Recorded::new(channel))
}

/// Connects to a socket.
pub async fn connect(socket: &Path) -> Result<Channel, tonic::transport::Error> {
    Endpoint::from_shared(format!("unix://{}", socket.display()))?.connect().await
}

/// A message with the token that Glance knows.
pub fn with_token<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("x-auth-token", TOKEN.parse().expect("a header"));
    request
}

/// A port of Neutron with one address, `10.9.number.host/24`.
pub fn port(number: u8, host: u8) -> v1::Interface {
    let subnet = v1::Subnet {
        cidr: format!("10.9.{number}.0/24"),
        addresses: vec![format!("10.9.{number}.{host}")],
        ..v1::Subnet::default()
    };
    v1::Interface {
        port_id: Uuid::new_v4().to_string(),
        mac_address: format!("fa:16:3e:00:{number:02x}:{host:02x}"),
        vif_type: "ovs".to_owned(),
        bridge: BRIDGE.to_owned(),
        mtu: Some(1450),
        subnets: vec![subnet],
        ..v1::Interface::default()
    }
}

/// Creates a guest; the stages that were told, or the failure.
pub async fn create(client: &mut Client, request: v1::CreateGuestRequest) -> Result<Vec<v1::CreateStage>, Status> {
    let mut stream = client.create_guest(with_token(request)).await?.into_inner();
    let mut stages = vec![];
    while let Some(answer) = stream.message().await? {
        stages.push(answer.stage());
    }
    Ok(stages)
}

/// Creates a guest and starts it; its id.
pub async fn launch(client: &mut Client, request: v1::CreateGuestRequest) -> String {
    let id = request.guest.as_ref().expect("a guest").guest_id.clone();
    let interfaces = request.interfaces.clone();
    create(client, request).await.expect("a guest");
    let start = v1::StartGuestRequest { guest_id: id.clone(), interfaces, user_data: None };
    client.start_guest(start).await.expect("a guest that runs");
    id
}

/// The console log of a guest.
pub async fn console(client: &mut Client, id: &str, tail_lines: Option<u32>) -> String {
    let asked = v1::GetConsoleOutputRequest { guest_id: id.to_owned(), tail_lines };
    let mut stream = client.get_console_output(asked).await.expect("a console log").into_inner();
    let mut text = vec![];
    while let Some(answer) = stream.message().await.expect("a console log") {
        text.extend(answer.chunk);
    }
    String::from_utf8(text).expect("text")
}

/// Waits until the console log of a guest has `text` in it.
pub async fn until_logged(client: &mut Client, id: &str, text: &str) {
    until_contains(text, async || console(client, id, None).await).await;
}

/// Code, reason and metadata of a failure.
pub fn reason(status: &Status) -> (tonic::Code, String, std::collections::HashMap<String, String>) {
    let info = status.get_details_error_info().unwrap_or_else(|| panic!("no ErrorInfo in {status:?}"));
    assert_eq!(info.domain, "nova-docker-agent");
    (status.code(), info.reason, info.metadata)
}
