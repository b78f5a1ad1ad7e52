//! A guest's container makes room for another one: its network stays, and it comes back when the other one cannot be had.

use uuid::Uuid;

use super::image::ImagesInUse;
use super::{Driver, End, Error, Image};
use crate::{guest::Guest, network::Interface, registry::Lease};

/// An image that is on the host, for a container that is to be made of it. It stays there as long as this lives.
pub struct Prepared<'a> {
    _images: ImagesInUse<'a>,
    lease: Lease,
}

impl Driver {
    /// Gets the image of a container that is to take the place of another one, which runs on meanwhile.
    ///
    /// # Errors
    /// The image's, or the guest's volumes cannot be had.
    pub async fn prepare(&self, guest: &Guest, image: Image<'_>) -> Result<Prepared<'_>, Error> {
        self.check_asked(guest)?;
        let images = self.use_images().await;
        let most_gb = image.most_gb(guest);
        let lease = self.pull(image.caller, image.descriptor, most_gb).await?;
        Ok(Prepared { _images: images, lease })
    }

    /// Makes a new container of a guest in the place of the one that there is, which is set aside: [`settle`](Self::settle) removes
    /// it, [`restore`](Self::restore) brings it back. The guest is to be stopped; the new container is not started.
    ///
    /// # Errors
    /// Docker's, or an interface cannot be plugged; the container that was there is there again.
    pub async fn replace(&self, guest: &Guest, prepared: &Prepared<'_>, interfaces: &[Interface]) -> Result<(), Error> {
        let image = &prepared.lease.reference.name;
        let uuid = guest.uuid;
        self.docker.set_aside(uuid).await?;
        let made = async {
            self.plug_new(uuid, interfaces).await?;
            Ok::<_, Error>(self.docker.create(guest, image, interfaces).await?)
        };
        let Err(error) = made.await else { return Ok(()) };
        match self.restore(uuid).await {
            Ok(_) => Err(error),
            Err(cleanup) => Err(Error::Cleanup { error: Box::new(error), cleanup: cleanup.to_string() }),
        }
    }

    /// Makes the container of a guest anew, with its files and volumes; the one that there is, which is to be stopped, is set aside as
    /// by [`replace`](Self::replace). The new one is not started.
    ///
    /// # Errors
    /// Docker's, or an interface cannot be plugged; the container that was there is there again.
    pub async fn recreate(&self, guest: &Guest, interfaces: &[Interface]) -> Result<(), Error> {
        self.check_asked(guest)?;
        self.plug_new(guest.uuid, interfaces).await?;
        Ok(self.docker.recreate(guest, interfaces).await?)
    }

    /// Removes the container that was set aside; no failure when there is none.
    ///
    /// # Errors
    /// Docker's.
    pub async fn settle(&self, uuid: Uuid) -> Result<(), Error> {
        let volumes = self.docker.remove_aside(uuid).await?;
        self.volumes.ended(&volumes, End::Replaced).await;
        Ok(())
    }

    /// Ends what an earlier operation has left: the guest has one container, its own, which a rescue's is not.
    ///
    /// # Errors
    /// Docker's.
    pub async fn tidy(&self, uuid: Uuid) -> Result<(), Error> {
        let volumes = self.docker.tidy_aside(uuid).await?;
        self.volumes.ended(&volumes, End::Replaced).await;
        Ok(())
    }

    /// Brings the container that was set aside back in the place of the one that there is. Returns whether there was one; without,
    /// nothing changes.
    ///
    /// # Errors
    /// Docker's.
    pub async fn restore(&self, uuid: Uuid) -> Result<bool, Error> {
        Ok(self.docker.bring_back(uuid).await?)
    }

    /// Whether a container of the guest was set aside.
    ///
    /// # Errors
    /// Docker's.
    pub async fn has_aside(&self, uuid: Uuid) -> Result<bool, Error> {
        Ok(self.docker.has_aside(uuid).await?)
    }

    /// The guests of which a container was set aside for the compute service `compute_id`.
    ///
    /// # Errors
    /// Docker's.
    pub async fn asides(&self, compute_id: &str) -> Result<Vec<Uuid>, Error> {
        Ok(self.docker.list_aside(compute_id).await?)
    }
}
