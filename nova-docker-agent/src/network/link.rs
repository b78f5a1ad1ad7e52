//! Changes of links, addresses and routes over rtnetlink, in the host's namespace or in an instance's.

use std::fs::File;
use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::path::Path;

use futures::TryStreamExt;
use ipnet::IpNet;
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags};
use rtnetlink::packet_route::link::{InfoData, InfoKind, InfoVeth, LinkAttribute, LinkMessage};
use rtnetlink::packet_route::route::{RouteAttribute, RouteMessage, RouteScope};
use rtnetlink::{Handle, LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder};
use tokio::task::JoinHandle;

use super::{Error, namespace};

/// A netlink socket in one namespace.
pub(super) struct Links {
    handle: Handle,
    connection: JoinHandle<()>,
}

impl Drop for Links {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

/// A link as far as plugging needs to know it.
pub(super) struct Link {
    /// Index in its namespace.
    pub(super) index: u32,
    /// Index of the other side of a veth pair, in the other side's namespace.
    pub(super) peer: Option<u32>,
}

/// A route to be.
pub(super) struct Hop {
    pub(super) destination: IpNet,
    pub(super) via: Option<IpAddr>,
    pub(super) onlink: bool,
}

impl Links {
    /// Opens a socket in the host's namespace.
    pub(super) fn of_host() -> Result<Self, Error> {
        let (connection, handle, _) =
            rtnetlink::new_connection().map_err(|source| Error::system("open a netlink socket", source))?;
        Ok(Self { handle, connection: tokio::spawn(connection) })
    }

    /// Opens a socket in the namespace at `path`; whichever thread uses it later, it stays in that namespace.
    pub(super) async fn of_namespace(path: &Path) -> Result<Self, Error> {
        namespace::inside(path, Self::of_host).await
    }

    /// The link of this name, if there is one.
    pub(super) async fn find(&self, name: &str) -> Result<Option<Link>, Error> {
        let mut found = self.handle.link().get().match_name(name.to_owned()).execute();
        match found.try_next().await {
            Ok(message) => Ok(message.map(|message| Link::of(&message))),
            Err(error) if is_errno(&error, nix::errno::Errno::ENODEV) => Ok(None),
            Err(error) => Err(Error::netlink(format!("look for link {name}"), error)),
        }
    }

    /// Deletes the link of this name, and the other side with it; no failure when it is absent.
    pub(super) async fn delete(&self, name: &str) -> Result<(), Error> {
        let Some(link) = self.find(name).await? else { return Ok(()) };
        match self.handle.link().del(link.index).execute().await {
            Err(error) if is_errno(&error, nix::errno::Errno::ENODEV) => Ok(()),
            other => other.map_err(|error| Error::netlink(format!("delete link {name}"), error)),
        }
    }

    /// Makes a veth pair whose other side is born inside `namespace`, under its final name and address, so that no
    /// half-made interface is ever seen on the host.
    pub(super) async fn add_pair(
        &self,
        name: &str,
        namespace: &File,
        peer: &str,
        mac: &[u8; 6],
        mtu: Option<u32>,
    ) -> Result<(), Error> {
        let mut inner = LinkMessageBuilder::<LinkUnspec>::default()
            .name(peer.to_owned())
            .address(mac.to_vec())
            .setns_by_fd(namespace.as_raw_fd());
        let mut outer = LinkMessageBuilder::<LinkVeth>::new_with_info_kind(InfoKind::Veth).name(name.to_owned());
        if let Some(mtu) = mtu {
            inner = inner.mtu(mtu);
            outer = outer.mtu(mtu);
        }
        let pair = outer.set_info_data(InfoData::Veth(InfoVeth::Peer(inner.build()))).build();
        self.handle
            .link()
            .add(pair)
            .execute()
            .await
            .map_err(|error| Error::netlink(format!("make veth pair {name} - {peer}"), error))
    }

    /// Sets MAC and MTU where given, and brings the link up.
    pub(super) async fn bring_up(
        &self,
        link: &Link,
        name: &str,
        mac: Option<&[u8; 6]>,
        mtu: Option<u32>,
    ) -> Result<(), Error> {
        let mut change = LinkUnspec::new_with_index(link.index).up();
        if let Some(mac) = mac {
            change = change.address(mac.to_vec());
        }
        if let Some(mtu) = mtu {
            change = change.mtu(mtu);
        }
        let changed = self.handle.link().change(change.build()).execute().await;
        changed.map_err(|error| Error::netlink(format!("bring up link {name}"), error))
    }

    /// Gives the link an address. IPv6 addresses are usable at once: Neutron has made sure that they are unique, and
    /// waiting for duplicate address detection would leave the first instruction without them.
    pub(super) async fn add_address(&self, link: &Link, address: IpNet) -> Result<(), Error> {
        let mut request = self.handle.address().add(link.index, address.addr(), address.prefix_len()).replace();
        if address.addr().is_ipv6() {
            request.message_mut().attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
        }
        request.execute().await.map_err(|error| Error::netlink(format!("add address {address}"), error))
    }

    /// Adds a route over the link, or replaces the one to the same destination.
    pub(super) async fn add_route(&self, link: &Link, path: &Hop) -> Result<(), Error> {
        let action = || match path.via {
            Some(via) => format!("add route to {} via {via}", path.destination),
            None => format!("add route to {} on the link", path.destination),
        };
        let message = route_message(link, path)
            .map_err(|reason| Error::system(action(), std::io::Error::new(std::io::ErrorKind::InvalidInput, reason)))?;
        self.handle.route().add(message).replace().execute().await.map_err(|error| Error::netlink(action(), error))
    }
}

fn route_message(link: &Link, path: &Hop) -> Result<RouteMessage, String> {
    let mut route = RouteMessageBuilder::<IpAddr>::new()
        .output_interface(link.index)
        .destination_prefix(path.destination.addr(), path.destination.prefix_len())
        .map_err(|error| error.to_string())?;
    match path.via {
        Some(via) => {
            if via.is_ipv4() != path.destination.addr().is_ipv4() {
                return Err("the next hop is of the other address family".to_owned());
            }
            route.get_mut().attributes.push(RouteAttribute::Gateway(via.into()));
        }
        None => route = route.scope(RouteScope::Link),
    }
    if path.onlink {
        route = route.onlink();
    }
    Ok(route.build())
}

impl Link {
    fn of(message: &LinkMessage) -> Self {
        let peer = message.attributes.iter().find_map(|attribute| match attribute {
            LinkAttribute::Link(index) => Some(*index),
            _ => None,
        });
        Self { index: message.header.index, peer }
    }
}

fn is_errno(error: &rtnetlink::Error, errno: nix::errno::Errno) -> bool {
    matches!(error, rtnetlink::Error::NetlinkError(message) if message.raw_code() == -(errno as i32))
}
