//! The Open vSwitch of a [`Host`](crate::Host), with its datapath in user space.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use nova_docker_agent::network::{NetworkConfig, Plumber};
use uuid::Uuid;

use crate::patience::PATIENCE;
use crate::process::{Server, attempt, require, run};

const PACKAGE: &str = "openvswitch-switch";
const SCHEMA: &str = "/usr/share/openvswitch/vswitch.ovsschema";
/// The integration bridge that is made at the start.
pub const BRIDGE: &str = "br-int";

/// A database and a switch. Copies are of the same ones.
#[derive(Clone, Debug)]
pub struct OpenVSwitch(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// Ended in this order: the switch, then its database.
    servers: Mutex<(Option<Server>, Option<Server>)>,
    was_stopped: AtomicBool,
    directory: tempfile::TempDir,
}

impl OpenVSwitch {
    /// Starts both and makes the bridge.
    pub async fn start() -> Self {
        require("ovs-vswitchd", PACKAGE);
        let directory = tempfile::tempdir().expect("a directory");
        let path = |name: &str| directory.path().join(name);
        let database_file = path("conf.db").display().to_string();
        run("ovsdb-tool", &["create", &database_file, SCHEMA]).await;
        let log = path("log");
        let own = |name: &str| -> Vec<String> {
            vec![
                format!("--pidfile={}", path(&format!("{name}.pid")).display()),
                format!("--unixctl={}", path(&format!("{name}.ctl")).display()),
            ]
        };
        let environment = [("OVS_RUNDIR", directory.path()), ("OVS_DBDIR", directory.path())];
        let socket = path("db.sock");
        let mut arguments = vec![database_file, format!("--remote=punix:{}", socket.display())];
        arguments.extend(own("db"));
        let mut database = Server::start("ovsdb-server", PACKAGE, &arguments, &environment, &log);
        let connection = format!("unix:{}", socket.display());
        let init = [&format!("--db={connection}"), "--no-wait", "init"];
        database.until_ready(&log, async || attempt("ovs-vsctl", &init).await.0).await;
        let mut arguments = vec![connection.clone()];
        arguments.extend(own("switch"));
        let mut switch = Server::start("ovs-vswitchd", PACKAGE, &arguments, &environment, &log);
        let database_option = format!("--db={connection}");
        let add = [&database_option, "--no-wait", "add-br", BRIDGE];
        let netdev = ["--", "set", "Bridge", BRIDGE, "datapath_type=netdev"];
        run("ovs-vsctl", &[add.as_slice(), &netdev].concat()).await;
        // The switch gives the bridge's own port its number once the devices are there.
        let is_there = [&database_option, "--timeout=2", "wait-until", "Interface", BRIDGE, "ofport=65534"];
        switch.until_ready(&log, async || attempt("ovs-vsctl", &is_there).await.0).await;
        let servers = Mutex::new((Some(switch), Some(database)));
        Self(Arc::new(Inner { servers, was_stopped: AtomicBool::new(false), directory }))
    }

    /// The database's address.
    pub fn connection(&self) -> String {
        format!("unix:{}", self.socket().display())
    }

    fn socket(&self) -> PathBuf {
        self.0.directory.path().join("db.sock")
    }

    /// A plumber for this switch.
    pub fn plumber(&self) -> Plumber {
        Plumber::new(self.network())
    }

    /// A plumber whose new ports reach nobody before Neutron's agent has wired them.
    pub fn isolating_plumber(&self) -> Plumber {
        Plumber::new(NetworkConfig { isolates: true, ..self.network() })
    }

    /// A plumber whose instances heed routers in one network that are not Neutron's.
    pub fn plumber_that_heeds_routers_of(&self, network: Uuid) -> Plumber {
        Plumber::new(NetworkConfig { accept_ra_networks: [network].into(), ..self.network() })
    }

    fn network(&self) -> NetworkConfig {
        NetworkConfig { ovsdb_connection: self.connection(), ovsdb_timeout: PATIENCE, ..NetworkConfig::default() }
    }

    /// Runs `ovs-vsctl`.
    pub async fn vsctl(&self, arguments: &[&str]) -> String {
        let (database, timeout) = (format!("--db={}", self.connection()), format!("--timeout={}", PATIENCE.as_secs()));
        let arguments: Vec<&str> = [database.as_str(), &timeout].into_iter().chain(arguments.iter().copied()).collect();
        run("ovs-vsctl", &arguments).await.trim().to_owned()
    }

    /// Takes the database away.
    pub fn stop_database(&self) {
        self.0.was_stopped.store(true, Ordering::SeqCst);
        self.0.servers.lock().unwrap_or_else(PoisonError::into_inner).1 = None;
    }

    /// Whether a test took the database away.
    pub fn was_stopped(&self) -> bool {
        self.0.was_stopped.load(Ordering::SeqCst)
    }

    /// Ends both.
    pub fn end(&self) {
        let mut servers = self.0.servers.lock().unwrap_or_else(PoisonError::into_inner);
        servers.0 = None;
        servers.1 = None;
    }
}
