//! `GetLinks`, and the servers that a client has found for it.

use nova_docker_proto::v1;
use tonic::Status;
use uuid::Uuid;

use super::{
    convert,
    status::{failure, invalid},
};
use crate::{
    driver::{Driver, Error},
    guest::{
        Guest, Peer, Peers,
        configuration::{Links, Target},
    },
};

/// The servers that a client has found; those that are not meant are left out.
pub(super) fn peers(own: Uuid, links: v1::Links) -> Result<Peers, Status> {
    let mut peers = Peers::default();
    for v1::LinkTarget { target, servers } in links.targets {
        let target = Target::parse(&target).map_err(|problem| invalid("links.target", problem))?;
        let found = servers.into_iter().map(peer).collect::<Result<Vec<_>, _>>()?;
        let meant = found.into_iter().filter(|peer| peer.uuid != own && target.is_met_by(peer.uuid, &peer.name));
        peers.0.insert(target.clone(), meant.collect());
    }
    Ok(peers)
}

fn peer(server: v1::LinkedServer) -> Result<Peer, Status> {
    let addresses = server.addresses.into_iter().map(|v1::LinkedAddress { network_id, address }| {
        let parsed =
            address.parse().map_err(|_| invalid("links.address", format_args!("{address:?} is no IP address")))?;
        Ok::<_, Status>((Some(convert::uuid("links.network_id", &network_id)?), parsed))
    });
    Ok(Peer {
        uuid: convert::uuid("links.server_id", &server.server_id)?,
        addresses: addresses.collect::<Result<_, _>>()?,
        name: server.name,
        hostname: server.hostname,
        ports: vec![],
    })
}

/// Checks that what the guest is linked to was looked up, and is there unless its user does without.
pub(super) fn check(guest: &Guest, were_looked_up: bool, is_launch: bool) -> Result<(), Error> {
    let asked = &guest.configuration;
    if !asked.links.is_empty() && !were_looked_up {
        let problem =
            "docker:link:*: the client is too old to look servers up that are linked; upgrade nova-docker-shim";
        return Err(Error::Unsupported(problem.to_owned()));
    }
    guest.links.check_number(&asked.links)?;
    if is_launch && asked.link_patience().is_some() {
        guest.links.check(&asked.links)?;
    }
    Ok(())
}

/// What a client is to ask Nova for.
pub(super) fn asked(links: &Links) -> Vec<v1::LinkQuery> {
    let targets: std::collections::BTreeSet<&Target> = links.values().collect();
    let query = |target: &Target| {
        let (filter, value) = target.filter();
        let limit = u32::try_from(Target::MOST_LOOKED_AT).unwrap_or(u32::MAX);
        v1::LinkQuery { target: target.to_string(), filter: filter.to_owned(), value, limit }
    };
    targets.into_iter().map(query).collect()
}

/// The answer of `GetLinks`.
pub(super) async fn get(driver: &Driver, request: v1::GetLinksRequest) -> Result<v1::GetLinksResponse, Status> {
    let Some(guest) = request.guest else {
        let guest = convert::uuid("guest_id", &request.guest_id)?;
        let linked = driver.links_of(guest).await.map_err(|error| failure(&error, guest, None))?;
        let queries = linked.map(|linked| asked(&linked.links)).unwrap_or_default();
        return Ok(v1::GetLinksResponse { queries, ..v1::GetLinksResponse::default() });
    };
    let guest = convert::guest(guest, &request.image.unwrap_or_default())?;
    let missing = guest.links.check(&guest.configuration.links).err();
    let patience = guest.configuration.link_patience().and_then(|time| prost_types::Duration::try_from(time).ok());
    Ok(v1::GetLinksResponse {
        queries: asked(&guest.configuration.links),
        patience,
        missing: missing.map(|missing| missing.to_string()).unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(id: u128, name: &str) -> v1::LinkedServer {
        let address = v1::LinkedAddress { network_id: Uuid::nil().to_string(), address: "10.0.0.7".to_owned() };
        v1::LinkedServer {
            server_id: Uuid::from_u128(id).to_string(),
            name: name.to_owned(),
            hostname: String::new(),
            addresses: vec![address],
        }
    }

    fn found(target: &str, servers: Vec<v1::LinkedServer>) -> v1::Links {
        v1::Links { targets: vec![v1::LinkTarget { target: target.to_owned(), servers }] }
    }

    #[test]
    fn servers_that_match_without_being_meant_are_left_out() {
        let own = Uuid::from_u128(9);
        let of = |target: &str, servers| -> Vec<Uuid> {
            let peers = peers(own, found(target, servers)).unwrap();
            peers.0.into_values().flatten().map(|peer| peer.uuid).collect()
        };
        assert_eq!(of("db", vec![server(1, "DB"), server(2, "db"), server(9, "db")]), [Uuid::from_u128(2)]);
        assert_eq!(of("@db", vec![server(1, "x"), server(9, "y")]), [Uuid::from_u128(1)]);
        let id = Uuid::from_u128(2).to_string();
        assert_eq!(of(&id, vec![server(1, &id), server(2, "db")]), [Uuid::from_u128(2)]);
    }

    #[test]
    fn what_is_no_address_or_no_id_is_named() {
        let address = v1::LinkedAddress { network_id: Uuid::nil().to_string(), address: "db".to_owned() };
        let bad = v1::LinkedServer { addresses: vec![address], ..server(1, "db") };
        let refused = |server| peers(Uuid::nil(), found("db", vec![server])).unwrap_err().message().to_owned();
        assert!(refused(bad).starts_with("links.address: \"db\""));
        assert!(
            refused(v1::LinkedServer { server_id: "7".to_owned(), ..server(1, "db") }).starts_with("links.server_id")
        );
        assert!(peers(Uuid::nil(), found("@", vec![])).is_err());
    }
}
