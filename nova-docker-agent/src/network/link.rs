//! Changes of links, addresses and routes over rtnetlink, in the host's namespace or in an instance's.

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsRawFd;
use std::path::Path;

use futures::TryStreamExt;
use ipnet::IpNet;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags, AddressMessage};
use rtnetlink::packet_route::link::{InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkMessage};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope,
};
use rtnetlink::{Handle, LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder};
use tokio::task::JoinHandle;

use super::routes::Hop;
use super::{Counters, Error, namespace};

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
#[derive(Default)]
pub(super) struct Link {
    /// Index in its namespace.
    pub(super) index: u32,
    pub(super) name: String,
    pub(super) mac: Vec<u8>,
    mtu: Option<u32>,
    is_up: bool,
    /// Index of the other side of a veth pair, in the other side's namespace.
    pub(super) peer: Option<u32>,
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

    /// Every link of the namespace.
    pub(super) async fn all(&self) -> Result<Vec<Link>, Error> {
        Ok(self.messages("list links").await?.iter().map(Link::of).collect())
    }

    /// What every link of the namespace but `lo` has counted.
    pub(super) async fn counters(&self) -> Result<Vec<Counters>, Error> {
        let found = self.messages("read what links have counted").await?;
        let is_lo = |message: &&LinkMessage| message.header.flags.contains(LinkFlags::Loopback);
        Ok(found.iter().filter(|message| !is_lo(message)).map(Counters::of).collect())
    }

    /// What the kernel says of every link. `purpose` is for the error.
    async fn messages(&self, purpose: &str) -> Result<Vec<LinkMessage>, Error> {
        let found = self.handle.link().get().execute().try_collect().await;
        found.map_err(|error| Error::netlink(purpose, error))
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

    /// Sets MAC and MTU where they are given and others, and brings the link up where it is down: each of these would make the
    /// kernel forget its neighbours.
    pub(super) async fn bring_up(&self, link: &Link, mac: Option<&[u8; 6]>, mtu: Option<u32>) -> Result<(), Error> {
        let mac = mac.filter(|mac| link.mac != mac[..]);
        let mtu = mtu.filter(|mtu| link.mtu != Some(*mtu));
        if mac.is_none() && mtu.is_none() && link.is_up {
            return Ok(());
        }
        let mut change = LinkUnspec::new_with_index(link.index).up();
        if let Some(mac) = mac {
            change = change.address(mac.to_vec());
        }
        if let Some(mtu) = mtu {
            change = change.mtu(mtu);
        }
        let changed = self.handle.link().change(change.build()).execute().await;
        changed.map_err(|error| Error::netlink(format!("bring up link {}", link.name), error))
    }

    /// Takes the link down, and gives it the MTU.
    pub(super) async fn take_down(&self, link: &Link, mtu: Option<u32>) -> Result<(), Error> {
        let mtu = mtu.filter(|mtu| link.mtu != Some(*mtu));
        let mut change = LinkUnspec::new_with_index(link.index).down();
        if let Some(mtu) = mtu {
            change = change.mtu(mtu);
        }
        let changed = self.handle.link().change(change.build()).execute().await;
        changed.map_err(|error| Error::netlink(format!("take down link {}", link.name), error))
    }

    /// Has the kernel tell the neighbours of the link's addresses (gratuitous ARP, unsolicited neighbour advertisements): it does so
    /// when the MAC address is set, also to what it is (see `arp_notify` and `ndisc_notify` in the namespace's settings).
    pub(super) async fn announce(&self, index: u32, mac: &[u8]) -> Result<(), Error> {
        let change = LinkUnspec::new_with_index(index).address(mac.to_vec());
        let changed = self.handle.link().change(change.build()).execute().await;
        changed.map_err(|error| Error::netlink(format!("announce the addresses of link {index}"), error))
    }

    /// The link's addresses, but those that the kernel makes itself for the link alone.
    pub(super) async fn addresses(&self, link: &Link) -> Result<Vec<IpNet>, Error> {
        let found = self.address_messages(link).await?;
        Ok(found.iter().filter_map(address_of).filter(|address| !is_link_local(address.addr())).collect())
    }

    async fn address_messages(&self, link: &Link) -> Result<Vec<AddressMessage>, Error> {
        let found = self.handle.address().get().set_link_index_filter(link.index).execute().try_collect().await;
        found.map_err(|error| Error::netlink(format!("list the addresses of link {}", link.name), error))
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

    /// Takes an address from the link; no failure when it is absent.
    pub(super) async fn remove_address(&self, link: &Link, address: IpNet) -> Result<(), Error> {
        for message in self.address_messages(link).await? {
            if address_of(&message) == Some(address) {
                match self.handle.address().del(message).execute().await {
                    Err(error) if is_errno(&error, nix::errno::Errno::EADDRNOTAVAIL) => {}
                    other => other.map_err(|error| Error::netlink(format!("remove address {address}"), error))?,
                }
            }
        }
        Ok(())
    }

    /// The routes that were made here, which are neither the kernel's nor the instance's own.
    pub(super) async fn routes(&self) -> Result<Vec<Hop>, Error> {
        let messages = self.route_messages().await?;
        Ok(messages.iter().filter_map(hop_of).collect())
    }

    async fn route_messages(&self) -> Result<Vec<RouteMessage>, Error> {
        let mut messages: Vec<RouteMessage> = Vec::new();
        for all in [RouteMessageBuilder::<Ipv4Addr>::new().build(), RouteMessageBuilder::<Ipv6Addr>::new().build()] {
            let found = self.handle.route().get(all).execute().try_collect::<Vec<_>>().await;
            messages.extend(found.map_err(|error| Error::netlink("list routes", error))?);
        }
        Ok(messages)
    }

    /// Adds a route, or replaces the one to the same destination. `onlink`: the kernel need not know that the next hop is on the
    /// link.
    pub(super) async fn add_route(&self, hop: &Hop, onlink: bool) -> Result<(), Error> {
        let action = || format!("add route to {} {}", hop.destination, way(hop));
        let message = route_message(hop, onlink)
            .map_err(|reason| Error::system(action(), std::io::Error::new(std::io::ErrorKind::InvalidInput, reason)))?;
        self.handle.route().add(message).replace().execute().await.map_err(|error| Error::netlink(action(), error))
    }

    /// Removes a route; no failure when it is absent.
    pub(super) async fn remove_route(&self, hop: &Hop) -> Result<(), Error> {
        for message in self.route_messages().await? {
            if hop_of(&message).as_ref() == Some(hop) {
                match self.handle.route().del(message).execute().await {
                    Err(error) if is_errno(&error, nix::errno::Errno::ESRCH) => {}
                    other => other.map_err(|error| {
                        Error::netlink(format!("remove route to {} {}", hop.destination, way(hop)), error)
                    })?,
                }
            }
        }
        Ok(())
    }
}

fn way(hop: &Hop) -> String {
    hop.via.map_or("on the link".to_owned(), |via| format!("via {via}"))
}

fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local())
}

/// An address with its prefix length. `IFA_LOCAL` is the address itself where IPv4 has both.
fn address_of(message: &AddressMessage) -> Option<IpNet> {
    let local = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(address) => Some(*address),
        _ => None,
    });
    let plain = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Address(address) => Some(*address),
        _ => None,
    });
    IpNet::new(local.or(plain)?, message.header.prefix_len).ok()
}

/// The route, if it is one of ours.
fn hop_of(message: &RouteMessage) -> Option<Hop> {
    let header = &message.header;
    if header.protocol != RouteProtocol::Static || header.table != RouteHeader::RT_TABLE_MAIN {
        return None;
    }
    let (mut link, mut destination, mut via) = (None, None, None);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Oif(index) => link = Some(*index),
            RouteAttribute::Destination(address) => destination = ip_of(address),
            RouteAttribute::Gateway(address) => via = ip_of(address),
            _ => {}
        }
    }
    let everything = match header.address_family {
        AddressFamily::Inet => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        _ => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let destination = IpNet::new(destination.unwrap_or(everything), header.destination_prefix_length).ok()?;
    Some(Hop { link: link?, destination, via })
}

fn ip_of(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(v4) => Some(IpAddr::V4(*v4)),
        RouteAddress::Inet6(v6) => Some(IpAddr::V6(*v6)),
        _ => None,
    }
}

fn route_message(hop: &Hop, onlink: bool) -> Result<RouteMessage, String> {
    let mut route = RouteMessageBuilder::<IpAddr>::new()
        .output_interface(hop.link)
        .destination_prefix(hop.destination.addr(), hop.destination.prefix_len())
        .map_err(|error| error.to_string())?;
    match hop.via {
        Some(via) => {
            if via.is_ipv4() != hop.destination.addr().is_ipv4() {
                return Err("the next hop is of the other address family".to_owned());
            }
            route.get_mut().attributes.push(RouteAttribute::Gateway(via.into()));
        }
        None => route = route.scope(RouteScope::Link),
    }
    if onlink {
        route = route.onlink();
    }
    Ok(route.build())
}

impl Link {
    fn of(message: &LinkMessage) -> Self {
        let is_up = message.header.flags.contains(LinkFlags::Up);
        let mut link = Self { index: message.header.index, is_up, ..Self::default() };
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name.clone_from(name),
                LinkAttribute::Address(mac) => link.mac.clone_from(mac),
                LinkAttribute::Mtu(mtu) => link.mtu = Some(*mtu),
                LinkAttribute::Link(index) => link.peer = Some(*index),
                _ => {}
            }
        }
        link
    }

    /// Whether the two are the sides of one pair, each seen from its own namespace.
    pub(super) fn is_peer_of(&self, other: &Self) -> bool {
        self.peer == Some(other.index) && other.peer == Some(self.index)
    }
}

fn is_errno(error: &rtnetlink::Error, errno: nix::errno::Errno) -> bool {
    matches!(error, rtnetlink::Error::NetlinkError(message) if message.raw_code() == -(errno as i32))
}
