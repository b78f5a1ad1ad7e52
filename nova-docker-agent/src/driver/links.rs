//! Links of guests to others.

use uuid::Uuid;

use super::{Driver, Error};
use crate::{
    docker::Linked,
    guest::{Exposed, Guest, Peers},
};

impl Driver {
    /// Every guest that has links.
    ///
    /// # Errors
    /// Docker's.
    pub async fn linked(&self) -> Result<Vec<Linked>, Error> {
        Ok(self.docker.linked().await?)
    }

    /// The links of a guest; none when it has none, or has no container.
    ///
    /// # Errors
    /// Docker's.
    pub async fn links_of(&self, uuid: Uuid) -> Result<Option<Linked>, Error> {
        Ok(self.docker.links_of(uuid).await?)
    }

    /// What a guest's image exposes; none when the guest has no container here.
    ///
    /// # Errors
    /// Docker's.
    pub async fn exposed(&self, uuid: Uuid) -> Result<Option<Vec<Exposed>>, Error> {
        Ok(self.docker.exposed(uuid).await?)
    }

    /// The guest, with what the images of linked servers on this host expose.
    ///
    /// # Errors
    /// Docker's.
    pub async fn with_exposed(&self, guest: &Guest) -> Result<Guest, Error> {
        let mut guest = guest.clone();
        for peer in guest.links.0.values_mut().flatten() {
            peer.ports = self.exposed(peer.uuid).await?.unwrap_or_default();
        }
        Ok(guest)
    }

    /// Brings a guest's links to where the servers are now; it is in `networks` itself.
    ///
    /// # Errors
    /// There is no such guest.
    pub async fn update_links(&self, uuid: Uuid, networks: &[Uuid], peers: &Peers) -> Result<(), Error> {
        // The same file has the guest's own address.
        let _lock = self.plugging.lock(uuid).await;
        Ok(self.docker.update_links(uuid, networks, peers).await?)
    }
}
