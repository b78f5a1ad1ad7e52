//! Links to other servers of the project: found through the conductor, and kept right.
//!
//! A change of a server's network on this host is followed at once, any other one by a periodic task.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _};
use serde_json::{Map, Value, json};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::warn;
use uuid::Uuid;

use crate::compute::{
    Compute,
    arguments::instance_uuid,
    defect::caught,
    error::Error,
    instance::{guest::guest, request::BuildRequest},
    ports::{NetworkInfo, cache::network_info},
};
use crate::{
    docker::Linked,
    driver,
    guest::{
        Exposed, Guest, Peer, Peers,
        configuration::{Links, Target},
    },
    messaging::Context,
    objects::{Instance, TaskState},
};

/// Between two looks at a server that is to come: no host is told of what happens on others.
const PAUSE: Duration = Duration::from_secs(2);
/// Questions to the conductor at a time.
const CONCURRENCY: usize = 4;
/// Key of the system metadata that tells other hosts what a server's image exposes. Nova makes it a property of the server's snapshots,
/// which must not look like a key of ours.
const EXPOSED: &str = "exposed_ports";

impl Compute {
    /// Waits for the servers that the instance links to, as long as its user wants to. Before a build takes one of the slots: the
    /// servers may want to be built here too.
    ///
    /// # Errors
    /// They do not come, or the instance is deleted.
    pub(in crate::compute) async fn await_links(
        &self,
        request: &BuildRequest,
        cancelled: &CancellationToken,
    ) -> Result<(), Error> {
        let guest = guest(&request.instance, &request.image, self.compute_id)?;
        let links = &guest.configuration.links;
        let (false, Some(patience)) = (links.is_empty(), guest.configuration.link_patience()) else { return Ok(()) };
        let deadline = Instant::now() + patience;
        loop {
            let peers = self.peers(guest.uuid, &guest.project_id, links).await?;
            peers.check_number(links).map_err(driver::Error::from)?;
            let Err(missing) = peers.check(links) else { return Ok(()) };
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(driver::Error::from(missing).into());
            }
            tokio::select! {
                () = cancelled.cancelled() => return Err(Error::Deleting(guest.uuid)),
                () = tokio::time::sleep(left.min(PAUSE)) => {}
            }
        }
    }

    /// Finds the servers that the links of a launch lead to.
    ///
    /// # Errors
    /// One of them is not there, unless its user does without.
    pub(in crate::compute) async fn link(&self, guest: &mut Guest) -> Result<(), Error> {
        self.link_what_is_there(guest).await?;
        let asked = &guest.configuration;
        guest.links.check_number(&asked.links).map_err(driver::Error::from)?;
        if asked.link_patience().is_some() {
            guest.links.check(&asked.links).map_err(driver::Error::from)?;
        }
        Ok(())
    }

    /// As [`link`](Self::link) for an instance that was launched before: what is not there now comes later.
    pub(in crate::compute) async fn link_what_is_there(&self, guest: &mut Guest) -> Result<(), Error> {
        guest.links = self.peers(guest.uuid, &guest.project_id, &guest.configuration.links).await?;
        Ok(())
    }

    /// Tells whoever keeps links that servers of this host have changed.
    pub(in crate::compute) fn links_changed(&self) {
        self.links_changed.notify_one();
    }

    /// Follows every change of servers on this host.
    pub(in crate::compute) async fn keep_links(self: Arc<Self>) {
        loop {
            self.links_changed.notified().await;
            if let Err(error) = caught(self.refresh_links()).await {
                warn!(%error, "cannot follow the servers that others are linked to; trying again later");
            }
        }
    }

    /// Brings the links of every instance on this host to where the servers are now.
    pub(in crate::compute) async fn refresh_links(&self) -> Result<(), Error> {
        for linked in self.driver.linked().await? {
            // One instance's trouble is not the others'.
            if let Err(error) = caught(self.refresh_links_of(&linked)).await {
                warn!(%error, instance = %linked.uuid, "cannot bring the instance's links up to date");
            }
        }
        Ok(())
    }

    /// The same for an instance that is about to be started, which it is whatever becomes of its links.
    pub(in crate::compute) async fn renew_links(&self, uuid: Uuid) {
        let renewed = caught(async {
            match self.driver.links_of(uuid).await? {
                Some(linked) => self.refresh_links_of(&linked).await,
                None => Ok(()),
            }
        });
        if let Err(error) = renewed.await {
            warn!(%error, instance = %uuid, "starting with the links from before");
        }
    }

    async fn refresh_links_of(&self, linked: &Linked) -> Result<(), Error> {
        let Linked { uuid, project_id, links } = linked;
        let own = self.conductor.instance(&Context::admin(), &uuid.to_string(), &["info_cache"]).await;
        let own = match own {
            Err(error) if error.class() == Some("InstanceNotFound") => return Ok(()),
            own => own?,
        };
        let networks: Vec<Uuid> = network_info(&own)?.0.iter().map(|vif| vif.network.id).collect();
        let peers = self.peers(*uuid, project_id, links).await?;
        Ok(self.driver.update_links(*uuid, &networks, &peers).await?)
    }

    /// The servers of the project that the links name, but for the instance itself.
    async fn peers(&self, own: Uuid, project: &str, links: &Links) -> Result<Peers, Error> {
        let targets: BTreeSet<Target> = links.values().cloned().collect();
        let found = futures::stream::iter(targets).map(|target| async move {
            let mut servers = self.servers(project, &target).await?;
            servers.retain(|server| is_target(server, own, project, &target));
            let mut peers = Vec::with_capacity(servers.len());
            for server in &servers {
                peers.push(self.peer(server).await?);
            }
            Ok::<_, Error>((target, peers))
        });
        Ok(Peers(found.buffer_unordered(CONCURRENCY).try_collect().await?))
    }

    async fn servers(&self, project: &str, target: &Target) -> Result<Vec<Instance>, Error> {
        let (filter, value) = target.filter();
        let value = if filter == "display_name" { json!(value) } else { json!([value]) };
        let filters = Map::from_iter([(filter.to_owned(), value)]);
        Ok(self.conductor.instances_of_project(&Context::admin(), project, filters, Target::MOST_LOOKED_AT).await?)
    }

    async fn peer(&self, server: &Instance) -> Result<Peer, Error> {
        let uuid = instance_uuid(server)?;
        let ports = match self.driver.exposed(uuid).await? {
            Some(ports) => ports,
            None => {
                Exposed::all(server.system_metadata().get(EXPOSED).into_iter().flat_map(|text| text.split_whitespace()))
            }
        };
        let text = |value: Option<&str>| value.unwrap_or_default().to_owned();
        Ok(Peer {
            uuid,
            name: text(server.display_name()),
            hostname: text(server.hostname()),
            // Nova's own services write the cache; one that cannot be read has no addresses.
            addresses: network_info(server).map(|network| addresses(&network)).unwrap_or_default(),
            ports,
        })
    }

    /// What the image of an instance of this host exposes is remembered for the other hosts.
    pub(in crate::compute) async fn remember_exposed(&self, instance: &Instance, fields: &mut Value) {
        let Ok(uuid) = instance_uuid(instance) else { return };
        let exposed = self.driver.exposed(uuid).await.ok().flatten().unwrap_or_default();
        let texts: Vec<String> = exposed.iter().map(Exposed::to_string).collect();
        let mut metadata = instance.system_metadata();
        let before = metadata.remove(EXPOSED).unwrap_or_default();
        let now = texts.join(" ");
        if now != before {
            if !now.is_empty() {
                metadata.insert(EXPOSED.to_owned(), now);
            }
            fields["system_metadata"] = json!(metadata);
        }
    }
}

fn is_target(server: &Instance, own: Uuid, project: &str, target: &Target) -> bool {
    let is_going = matches!(server.task_state(), Some(TaskState::Deleting | TaskState::SoftDeleting));
    let is_meant = |uuid| uuid != own && target.is_met_by(uuid, server.display_name().unwrap_or_default());
    let is_of_project = !project.is_empty() && server.project_id() == Some(project);
    is_of_project && !is_going && Uuid::parse_str(server.uuid()).is_ok_and(is_meant)
}

fn addresses(network: &NetworkInfo) -> Vec<(Option<Uuid>, std::net::IpAddr)> {
    let of_vif = network.0.iter().flat_map(|vif| {
        let ips = vif.network.subnets.iter().flat_map(|subnet| &subnet.ips);
        ips.map(move |ip| (Some(vif.network.id), ip))
    });
    of_vif.filter_map(|(network, ip)| Some((network, ip.address.parse().ok()?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "6ff36a1a-8c2e-4b1c-859a-84bdd78d56c8";

    fn server(name: &str, project: &str, task: Value) -> Instance {
        let mut server = Instance::slim(ID);
        server.set("display_name", name);
        server.set("project_id", project);
        server.set("task_state", task);
        server
    }

    #[test]
    fn only_a_server_of_the_project_that_stays_and_is_another_one_is_linked() {
        let db = Target::parse("db").unwrap();
        let is_linked = |server: &Instance, own: Uuid| is_target(server, own, "p", &db);
        assert!(is_linked(&server("db", "p", Value::Null), Uuid::nil()));
        assert!(is_linked(&server("db", "p", "rebooting".into()), Uuid::nil()));
        for other in [
            server("db", "other", Value::Null),
            server("DB", "p", Value::Null),
            server("db2", "p", Value::Null),
            server("db", "p", "deleting".into()),
            server("db", "p", "soft-deleting".into()),
        ] {
            assert!(!is_linked(&other, Uuid::nil()), "{other:?}");
        }
        assert!(!is_linked(&server("db", "p", Value::Null), ID.parse().unwrap()), "itself");
        assert!(!is_target(&server("db", "", Value::Null), Uuid::nil(), "", &db), "of no project");
    }

    #[test]
    fn the_addresses_of_every_interface_are_read_with_their_networks() {
        let text = include_str!("../../../../tests/wire/rest/network_info.json");
        let network = NetworkInfo::parse(Some(text)).unwrap();
        let found = addresses(&network);
        assert!(!found.is_empty());
        assert!(found.iter().all(|(id, _)| *id == Some(network.0[0].network.id)));
    }
}
