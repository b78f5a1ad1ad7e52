//! The container that makes room for another one of its instance: kept under a second name, to come back or to be removed.

use bollard::models::ContainerSummary;
use bollard::query_parameters::{ListContainersOptionsBuilder, RenameContainerOptionsBuilder};
use uuid::Uuid;

use super::{Docker, Error, labels, state::Found};

impl Docker {
    /// Gives the instance's container its second name, so that another one can take its place; no failure when it has it, or
    /// when the instance has no container.
    pub async fn set_aside(&self, uuid: Uuid) -> Result<(), Error> {
        let Some(found) = self.find(uuid).await? else { return Ok(()) };
        if let Some(aside) = self.find_aside(uuid).await? {
            if found.rescues {
                // The instance's own files are in the other one.
                self.remove_found(&found).await?;
                return self.release(&aside).await;
            }
            // It belongs to an operation that is over.
            self.keep_log(uuid, &aside).await;
            self.remove_found(&aside).await?;
        }
        self.rename(&found, &labels::aside_name(uuid)).await
    }

    /// Gives the container that was set aside its first name again, and removes the one that has taken its place. Returns
    /// whether there was one; without, nothing changes.
    pub async fn bring_back(&self, uuid: Uuid) -> Result<bool, Error> {
        let Some(aside) = self.find_aside(uuid).await? else { return Ok(false) };
        if let Some(found) = self.find(uuid).await? {
            self.remove_found(&found).await?;
        }
        self.release(&aside).await?;
        self.rename(&aside, &labels::container_name(uuid)).await?;
        Ok(true)
    }

    /// Removes the container that was set aside; no failure when there is none. Docker's names of the named volumes that stay.
    pub async fn remove_aside(&self, uuid: Uuid) -> Result<Vec<String>, Error> {
        match self.find_aside(uuid).await? {
            Some(aside) => {
                self.keep_log(uuid, &aside).await;
                let volumes = self.remove_found(&aside).await?;
                self.drop_files(uuid).await;
                Ok(volumes)
            }
            None => Ok(vec![]),
        }
    }

    /// Ends what an operation has left that is over: the instance has one container, its own. Docker's names of the named volumes
    /// that stay.
    pub async fn tidy_aside(&self, uuid: Uuid) -> Result<Vec<String>, Error> {
        if self.find_aside(uuid).await?.is_none() {
            return Ok(vec![]);
        }
        match self.find(uuid).await? {
            Some(found) if !found.rescues => self.remove_aside(uuid).await,
            _ => self.bring_back(uuid).await.map(|_| vec![]),
        }
    }

    /// Whether a container of the instance was set aside.
    pub async fn has_aside(&self, uuid: Uuid) -> Result<bool, Error> {
        Ok(self.find_aside(uuid).await?.is_some())
    }

    /// The instances of which a container was set aside by the compute service `compute_id`.
    pub async fn list_aside(&self, compute_id: &str) -> Result<Vec<Uuid>, Error> {
        let of = |(uuid, container): (Uuid, ContainerSummary)| {
            let is_ours = container.labels.as_ref()?.get(labels::COMPUTE).is_some_and(|id| id == compute_id);
            (is_ours && labels::has_name(&container, &labels::aside_name(uuid))).then_some(uuid)
        };
        Ok(self.list_all().await?.into_iter().filter_map(of).collect())
    }

    /// The instances that have any container, set aside or not.
    pub(super) async fn list_any(&self) -> Result<Vec<Uuid>, Error> {
        Ok(self.list_all().await?.into_iter().map(|(uuid, _)| uuid).collect())
    }

    pub(super) async fn list_all(&self) -> Result<Vec<(Uuid, ContainerSummary)>, Error> {
        let options = ListContainersOptionsBuilder::default().all(true).filters(&labels::filter()).build();
        let listed = self.engine().docker.list_containers(Some(options)).await;
        let listed = listed.map_err(|error| self.engine().error("list", "containers", error))?;
        let instance =
            |container: &ContainerSummary| Uuid::parse_str(container.labels.as_ref()?.get(labels::INSTANCE)?).ok();
        Ok(listed.into_iter().filter_map(|container| Some((instance(&container)?, container))).collect())
    }

    pub(super) async fn find_aside(&self, uuid: Uuid) -> Result<Option<Found>, Error> {
        self.find_named(uuid, &labels::aside_name(uuid)).await
    }

    async fn rename(&self, found: &Found, name: &str) -> Result<(), Error> {
        let options = RenameContainerOptionsBuilder::default().name(name).build();
        let renamed = self.engine().docker.rename_container(&found.id, options).await;
        renamed.map_err(|error| self.engine().error("rename container", &found.name, error))
    }
}
