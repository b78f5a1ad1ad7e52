//! The servers that an instance is linked to, in its `/etc/hosts`: lines between two marks.
//!
//! What is between them is the agent's. Where its user has removed a mark, the file is the user's.

use uuid::Uuid;

use super::files::hosts_file;
use super::{Docker, Error, labels};
use crate::guest::configuration::{Links, link};
use crate::guest::{Exposed, Peers};
use crate::network::Interface;

const BEGIN: &str = "# nova-docker-agent keeps the links below as the servers are now; remove this line to stop it\n";
const END: &str = "# end of the links\n";

/// An instance that has links.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Linked {
    /// The instance.
    pub uuid: Uuid,
    /// Whose it is, and whose the servers are that it is linked to.
    pub project_id: String,
    /// What it asked for.
    pub links: Links,
}

impl Docker {
    /// Every instance whose container has links.
    pub async fn linked(&self) -> Result<Vec<Linked>, Error> {
        let of = |(uuid, container): &(Uuid, bollard::models::ContainerSummary)| {
            let labels = container.labels.as_ref()?;
            let links = labels.get(labels::LINKS).map(|text| link::read(text)).filter(|links| !links.is_empty())?;
            let project_id = labels.get(labels::PROJECT)?.clone();
            labels::has_name(container, &labels::container_name(*uuid)).then_some(Linked {
                uuid: *uuid,
                project_id,
                links,
            })
        };
        Ok(self.list_all().await?.iter().filter_map(of).collect())
    }

    /// The links of an instance; none when its container has none, or is not there.
    pub async fn links_of(&self, uuid: Uuid) -> Result<Option<Linked>, Error> {
        let found = self.find(uuid).await?.filter(|found| !found.links.is_empty());
        Ok(found.map(|found| Linked { uuid, project_id: found.project_id, links: found.links }))
    }

    /// The ports that an instance's image exposes; none when it has no container here.
    pub async fn exposed(&self, uuid: Uuid) -> Result<Option<Vec<Exposed>>, Error> {
        Ok(self.find(uuid).await?.map(|found| found.exposed))
    }

    /// Brings the links in `/etc/hosts` to where the servers are now, for an instance that is in `networks`.
    pub async fn update_links(&self, uuid: Uuid, networks: &[Uuid], peers: &Peers) -> Result<(), Error> {
        let found = self.get(uuid).await?;
        let Some(present) = self.read_text(&found.id, "/etc/hosts").await? else { return Ok(()) };
        let Some(wanted) = followed(&present, &peers.hosts(&found.links, networks)) else { return Ok(()) };
        tracing::info!(instance = %uuid, "the servers that it is linked to changed; writing them into its hosts file");
        self.upload(&found.id, &[hosts_file(wanted)]).await
    }
}

/// The networks that interfaces are in, where they are known.
pub(super) fn networks(interfaces: &[Interface]) -> Vec<Uuid> {
    interfaces.iter().filter_map(|interface| interface.network_id).collect()
}

/// The part of `/etc/hosts` that says where the linked servers are.
pub(super) fn block(links: &Links, peers: &Peers, interfaces: &[Interface]) -> String {
    if links.is_empty() {
        return String::new();
    }
    format!("{BEGIN}{}{END}", peers.hosts(links, &networks(interfaces)))
}

/// `/etc/hosts` with other lines between the marks; none where that changes nothing, or a mark is not there.
fn followed(present: &str, lines: &str) -> Option<String> {
    let (before, rest) = present.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    let wanted = format!("{before}{BEGIN}{lines}{END}{after}");
    (wanted != present).then_some(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_between_the_marks_follow_and_all_others_stay() {
        let present = format!("127.0.0.1\tlocalhost\n{BEGIN}10.0.0.7\tdb\n{END}192.0.2.1\tmine\n");
        let now = followed(&present, "10.0.0.8\tdb\n").unwrap();
        assert_eq!(now, present.replace("10.0.0.7", "10.0.0.8"));
        assert_eq!(followed(&now, "10.0.0.8\tdb\n"), None);
        let none = followed(&now, "").unwrap();
        assert_eq!(followed(&none, "10.0.0.8\tdb\n").unwrap(), now, "a server comes back");
    }

    #[test]
    fn a_file_without_a_mark_is_its_users() {
        for edited in ["", "10.0.0.7\tdb\n", BEGIN, &format!("10.0.0.7\tdb\n{END}")] {
            assert_eq!(followed(edited, "10.0.0.8\tdb\n"), None, "{edited:?}");
        }
    }

    #[test]
    fn what_was_asked_for_is_read_again_from_the_label() {
        let links: Links = [("db", "mariadb \"1\""), ("web", "@a b"), ("id", "6ff36a1a-8c2e-4b1c-859a-84bdd78d56c8")]
            .map(|(alias, target)| (alias.to_owned(), link::Target::parse(target).unwrap()))
            .into();
        assert_eq!(link::read(&link::written(&links)), links);
        for other in ["", "7", "{}", "[\"a\"]", r#"{"a": 1}"#, r#"{"a": "@"}"#] {
            assert!(link::read(other).is_empty(), "{other}");
        }
    }
}
