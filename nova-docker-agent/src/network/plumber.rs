//! Plugging an instance: the namespace, its interfaces and their Open vSwitch ports.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::guest_side::{self, GuestSide};
use super::link::{Link, Links};
use super::names::Names;
use super::ovs::{NewPort, OpenVSwitch, Record};
use super::up::Up;
use super::{Counters, Error, Interface, NAMESPACE_DIRECTORY, namespace, offload};

const NAMESPACE_PREFIX: &str = "nova-";

/// Settings of a [`Plumber`].
#[derive(Clone, Debug)]
pub struct NetworkConfig {
    /// Open vSwitch's database: `tcp:127.0.0.1:6640`, `unix:/run/openvswitch/db.sock`, ...
    pub ovsdb_connection: String,
    /// How long one Open vSwitch transaction may take.
    pub ovsdb_timeout: Duration,
    /// New ports carry no traffic until Neutron's agent has wired them.
    pub isolates: bool,
    /// Networks in which IPv6 routers that are not Neutron's are heeded.
    pub accept_ra_networks: BTreeSet<Uuid>,
}

impl Default for NetworkConfig {
    fn default() -> Self {
        let ovsdb_connection = "tcp:127.0.0.1:6640".to_owned();
        let accept_ra_networks = BTreeSet::new();
        Self { ovsdb_connection, ovsdb_timeout: Duration::from_secs(120), isolates: false, accept_ra_networks }
    }
}

/// Makes and removes the host side of instances' networks.
#[derive(Clone, Debug)]
pub struct Plumber {
    ovs: Arc<OpenVSwitch>,
    accept_ra_networks: Arc<BTreeSet<Uuid>>,
}

impl Plumber {
    /// A plumber; nothing is opened until something is plugged.
    pub fn new(config: NetworkConfig) -> Self {
        let NetworkConfig { ovsdb_connection: connection, ovsdb_timeout: timeout, isolates, accept_ra_networks } =
            config;
        let ovs = Arc::new(OpenVSwitch { connection, timeout, isolates });
        Self { ovs, accept_ra_networks: Arc::new(accept_ra_networks) }
    }

    fn accepts_ra(&self, interface: &Interface) -> bool {
        interface.network_id.is_some_and(|network| self.accept_ra_networks.contains(&network))
    }

    /// Path of the namespace of an instance.
    pub fn namespace_path(instance: Uuid) -> PathBuf {
        Path::new(NAMESPACE_DIRECTORY).join(format!("{NAMESPACE_PREFIX}{instance}"))
    }

    /// Makes the instance's namespace with `lo` and every interface in it, and adds the host sides to their bridges in
    /// one transaction. What is there already is brought to what it shall be, and is not touched where it is right, so that
    /// plugging twice is plugging once. Interfaces that are not told stay. Returns the interfaces with the names that they have
    /// inside. After a failure whatever was made stays for [`unplug`](Self::unplug), or for the next try.
    pub async fn plug(&self, instance: Uuid, interfaces: &[Interface]) -> Result<Vec<Interface>, Error> {
        interfaces.iter().try_for_each(|interface| GuestSide::of(interface).map(drop))?;
        let path = Self::namespace_path(instance);
        let prepared = async {
            namespace::ensure(&path).await?;
            namespace::inside(&path, guest_side::prepare_settings).await
        };
        let recorded = async { if interfaces.is_empty() { Ok(Vec::new()) } else { self.ovs.records(instance).await } };
        let (userspace, recorded, ()) = tokio::try_join!(self.userspace_bridges(interfaces), recorded, prepared)?;
        let host = Links::of_host()?;
        let guest = Links::of_namespace(&path).await?;
        if let Some(lo) = guest.find("lo").await? {
            guest.bring_up(&lo, None, None).await?;
        }
        let file = File::open(&path).map_err(|source| Error::system(format!("open {}", path.display()), source))?;

        let interfaces = names(&host, &guest, interfaces, recorded).await?.assign(interfaces);
        let mut ports = Vec::with_capacity(interfaces.len());
        let mut sides = Vec::with_capacity(interfaces.len());
        let mut outer = Vec::with_capacity(interfaces.len());
        let mut some_have_more = false;
        for interface in &interfaces {
            let side = GuestSide::of(interface)?;
            let (link, stale) = ensure_pair(&host, &guest, &file, interface, &side).await?;
            outer.push((link, interface.mtu));
            if userspace.contains(interface.bridge.as_str()) {
                offload::disable(&path, interface).await?;
            }
            let (link, has_more) = side.configure(&guest).await?;
            sides.push((link, interface));
            some_have_more |= has_more;
            ports.push(NewPort { interface, stale });
        }
        let routers = interfaces.iter().map(|interface| (interface.name.clone(), self.accepts_ra(interface))).collect();
        namespace::inside(&path, move || guest_side::heed_routers(routers)).await?;
        let up = Up::of(instance);
        if some_have_more {
            up.forget_told().await?;
        }
        up.add(interfaces.iter().map(|interface| interface.devname.as_str())).await?;
        up.settle(&host, &outer).await?;
        guest_side::settle_routes(&guest, &sides).await?;
        self.ovs.add_ports(instance, &ports).await?;
        tracing::debug!(%instance, interfaces = interfaces.len(), "network is plugged");
        Ok(interfaces)
    }

    /// Removes the instance's Open vSwitch ports (those named, and every other that carries its `vm-uuid`), its host
    /// interfaces and its namespace. Goes on past failures and reports them together; what is absent is no failure.
    pub async fn unplug(&self, instance: Uuid, devnames: &[String]) -> Result<(), Error> {
        let mut failures = Vec::new();
        let mut names: BTreeSet<String> = devnames.iter().cloned().collect();
        match self.ovs.ports_of(instance).await {
            Ok(found) => names.extend(found),
            Err(error) => failures.push(error),
        }
        let names: Vec<String> = names.into_iter().filter(|name| super::interface::is_device_name(name)).collect();
        // The ports go first: a bridge that loses a device under a port complains until the port has gone, too.
        failures.extend(self.ovs.delete_ports(&names).await.err());
        match Links::of_host() {
            Ok(host) => {
                for name in &names {
                    failures.extend(host.delete(name).await.err());
                }
            }
            Err(error) => failures.push(error),
        }
        failures.extend(namespace::remove(&Self::namespace_path(instance)).await.err());
        failures.extend(Up::of(instance).forget().await.err());
        if failures.is_empty() { Ok(()) } else { Err(Error::Incomplete { instance, failures }) }
    }

    /// Removes Neutron's `port` from an instance; no failure when it is not plugged, or into another instance. A default route
    /// that goes with it moves to another interface that has a gateway.
    pub async fn unplug_port(&self, instance: Uuid, port: Uuid) -> Result<(), Error> {
        let host = Links::of_host()?;
        for devname in self.ovs.devices_of(instance, port).await? {
            self.ovs.delete_ports(std::slice::from_ref(&devname)).await?;
            host.delete(&devname).await?;
            Up::of(instance).remove(&devname).await?;
        }
        let path = Self::namespace_path(instance);
        if !namespace::is_namespace(&path)? {
            return Ok(());
        }
        let guest = Links::of_namespace(&path).await?;
        let mut inner = guest.all().await?;
        let mut links = Vec::new();
        for record in self.ovs.records(instance).await? {
            let Some(outer) = host.find(&record.devname).await? else { continue };
            if let Some(position) = inner.iter().position(|link| link.is_peer_of(&outer)) {
                links.push((inner.swap_remove(position), record.gateways));
            }
        }
        links.sort_by_key(|(link, _)| link.index);
        guest_side::restore_ways_out(&guest, &links).await
    }

    /// Says whether a process of the instance runs, where that is not known: until its interfaces are plugged for the first time,
    /// and where they were before there was a record of it.
    pub async fn declare(&self, instance: Uuid, runs: bool) -> Result<(), Error> {
        Up::of(instance).declare(runs).await
    }

    /// Whether it is known whether a process of the instance runs.
    pub async fn is_declared(&self, instance: Uuid) -> Result<bool, Error> {
        Ok(Up::of(instance).is_up().await?.is_some())
    }

    /// Tells the neighbours which MAC addresses the instance's addresses have now. One that came from another instance would else
    /// be looked for at the old one, by a router for minutes. Of what they were told before they hear again only `anew`: when
    /// ports were wired, nobody may have heard it. Nothing without a namespace.
    pub async fn announce(&self, instance: Uuid, anew: bool) -> Result<(), Error> {
        let path = Self::namespace_path(instance);
        if !namespace::is_namespace(&path)? {
            return Ok(());
        }
        let up = Up::of(instance);
        if up.is_up().await? == Some(false) {
            // Nobody would hear it: whoever takes the host sides up says it.
            return up.forget_told().await;
        }
        let guest = Links::of_namespace(&path).await?;
        let told = up.told().await?;
        let mut now = BTreeSet::new();
        for link in guest.all().await?.iter().filter(|link| link.peer.is_some()) {
            let addresses = guest.addresses(link).await?;
            let lines: BTreeSet<String> =
                addresses.iter().map(|address| format!("{:x?} {address}", link.mac)).collect();
            if anew || !lines.is_subset(&told) {
                guest.announce(link.index, &link.mac).await?;
            }
            now.extend(lines);
        }
        if now != told {
            up.write_told(&now).await?;
        }
        Ok(())
    }

    /// Whether the instance has its namespace.
    pub fn is_plugged(&self, instance: Uuid) -> Result<bool, Error> {
        namespace::is_namespace(&Self::namespace_path(instance))
    }

    /// What the instance's interfaces have counted, in the order of their names inside; nothing without a namespace.
    pub async fn counters(&self, instance: Uuid) -> Result<Vec<Counters>, Error> {
        let path = Self::namespace_path(instance);
        if !namespace::is_namespace(&path)? {
            return Ok(Vec::new());
        }
        let mut counters = Links::of_namespace(&path).await?.counters().await?;
        counters.sort_by(|one, other| (one.name.len(), &one.name).cmp(&(other.name.len(), &other.name)));
        Ok(counters)
    }

    /// Every instance that has a namespace or an Open vSwitch port of ours on this host.
    pub async fn list(&self) -> Result<Vec<Uuid>, Error> {
        let named = |name: &str| Uuid::parse_str(name.strip_prefix(NAMESPACE_PREFIX)?).ok();
        let mut instances: BTreeSet<Uuid> =
            namespace::names(Path::new(NAMESPACE_DIRECTORY), named)?.into_iter().collect();
        instances.extend(self.ovs.instances().await?);
        Ok(instances.into_iter().collect())
    }

    async fn userspace_bridges<'a>(&self, interfaces: &'a [Interface]) -> Result<BTreeSet<&'a str>, Error> {
        let bridges: BTreeSet<&str> = interfaces.iter().map(|interface| interface.bridge.as_str()).collect();
        let mut userspace = BTreeSet::new();
        for bridge in bridges {
            if self.ovs.is_userspace(bridge).await? {
                userspace.insert(bridge);
            }
        }
        Ok(userspace)
    }
}

/// Makes the veth pair, unless it is there with both sides in their places. Returns the host side, and whether it was made: then
/// an Open vSwitch record of the same name is stale.
async fn ensure_pair(
    host: &Links,
    guest: &Links,
    namespace: &File,
    interface: &Interface,
    side: &GuestSide<'_>,
) -> Result<(Link, bool), Error> {
    let Interface { devname, name, mtu, .. } = interface;
    let outer = host.find(devname).await?;
    let inner = guest.find(name).await?;
    let whole = outer.zip(inner).is_some_and(|(outer, inner)| outer.is_peer_of(&inner));
    if !whole {
        host.delete(devname).await?;
        guest.delete(name).await?;
        host.add_pair(devname, namespace, name, &side.mac, *mtu).await?;
        keep_the_host_out(devname).await;
    }
    let Some(outer) = host.find(devname).await? else {
        return Err(Error::system(format!("find link {devname}"), nix::errno::Errno::ENODEV));
    };
    Ok((outer, !whole))
}

/// The host's own IPv6 is no neighbour of a tenant's network, not even by a link-local address.
async fn keep_the_host_out(devname: &str) {
    let path = format!("/proc/sys/net/ipv6/conf/{devname}/disable_ipv6");
    match tokio::fs::write(&path, "1").await {
        // A kernel without IPv6 has no such file.
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => tracing::debug!(path, %error, "cannot be set"),
        _ => {}
    }
}

/// What is known of the names of an instance's interfaces.
async fn names(host: &Links, guest: &Links, interfaces: &[Interface], recorded: Vec<Record>) -> Result<Names, Error> {
    let inner = guest.all().await?;
    let mut names = Names { taken: inner.iter().map(|link| link.name.clone()).collect(), ..Names::default() };
    for Interface { devname, .. } in interfaces {
        let Some(outer) = host.find(devname).await? else { continue };
        if let Some(link) = inner.iter().find(|link| link.is_peer_of(&outer)) {
            names.plugged.insert(devname.clone(), link.name.clone());
        }
    }
    names.recorded = recorded.into_iter().filter_map(|record| Some((record.devname, record.name?))).collect();
    Ok(names)
}
