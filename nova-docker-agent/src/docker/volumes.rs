//! Named volumes: a project's, on this host.
//!
//! In Docker a volume has a name that its project is part of, and both names as labels. Nothing else of a volume comes from a
//! user: it has Docker's local driver, without options. A volume without the labels is none of ours.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use bollard::models::{Mount, MountType, MountVolumeOptions, Volume as DockerVolume, VolumeCreateRequest};
use bollard::query_parameters::{ListContainersOptionsBuilder, ListVolumesOptionsBuilder, RemoveVolumeOptionsBuilder};
use tokio::sync::{OwnedRwLockReadGuard, RwLock};
use uuid::Uuid;

use super::engine::Engine;
use super::{Error, labels};
use crate::guest::Guest;

/// What Docker's names of our volumes begin with.
const PREFIX: &str = "nova-volume.";
const DRIVER: &str = "local";
/// How long Docker may take to remove the files of a volume.
const REMOVAL: Duration = Duration::from_secs(600);
/// Keystone's ids have 32 characters, those of other identity services up to 64.
const LONGEST_PROJECT: usize = 64;

/// Docker's named volumes. Cheap to clone; copies keep each other from removing what one of them is about to use.
#[derive(Clone, Debug)]
pub struct Volumes {
    engine: Engine,
    gates: Arc<Gates>,
}

/// By Docker's name of a volume: read from before the volume is looked for until a container uses it, written to remove it.
type Gates = Mutex<HashMap<String, Weak<RwLock<()>>>>;

/// A volume that a project has on this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// Docker's name of it.
    pub docker_name: String,
    /// Who owns it.
    pub project_id: String,
    /// Its name in the project.
    pub name: String,
    /// Where its files are on the host.
    pub directory: PathBuf,
    /// Instances whose containers name it, running or not.
    pub instances: BTreeSet<Uuid>,
    /// Whether any container names it, ours or not.
    pub is_used: bool,
}

/// What became of a volume that was to be removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removed {
    /// It is gone.
    Gone,
    /// A container names it.
    InUse,
    /// There was no such volume of ours.
    Absent,
}

/// Volumes of a container that is being made: until this is dropped they are not removed.
pub(super) struct Held<'a> {
    volumes: &'a Volumes,
    gates: Vec<OwnedRwLockReadGuard<()>>,
    /// Those that were not there before.
    made: Vec<String>,
}

impl Held<'_> {
    /// Removes the volumes that nobody else uses of those that were not there before. What cannot be removed goes as any unused
    /// volume does.
    pub(super) async fn discard(self) {
        let Self { volumes, made, gates } = self;
        drop(gates);
        for name in made {
            if let Err(error) = volumes.remove(&name).await {
                tracing::warn!(volume = name, %error, "a volume of a container that was not made stays for now");
            }
        }
    }
}

impl Volumes {
    pub(super) fn of(engine: Engine) -> Self {
        Self { engine, gates: Arc::default() }
    }

    /// Connects to Docker for its volumes alone.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn connect(host_url: &str, timeout: Duration) -> Result<Self, Error> {
        Ok(Self::of(Engine::connect(host_url, timeout).await?))
    }

    /// Makes the volumes of a guest that are not there.
    pub(super) async fn hold(&self, guest: &Guest) -> Result<Held<'_>, Error> {
        check(guest)?;
        let mut held = Held { volumes: self, gates: vec![], made: vec![] };
        // In the order of their names, so that no two guests wait for each other.
        for name in guest.configuration.volumes.keys() {
            held.gates.push(self.gate(&docker_name(&guest.project_id, name)).read_owned().await);
            match self.ensure(&guest.project_id, name).await {
                Ok(Some(made)) => held.made.push(made),
                Ok(None) => {}
                Err(error) => {
                    held.discard().await;
                    return Err(error);
                }
            }
        }
        Ok(held)
    }

    fn gate(&self, docker_name: &str) -> Arc<RwLock<()>> {
        let mut gates = self.gates.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(gate) = gates.get(docker_name).and_then(Weak::upgrade) {
            return gate;
        }
        gates.retain(|_, gate| gate.strong_count() > 0);
        let gate = Arc::new(RwLock::new(()));
        gates.insert(docker_name.to_owned(), Arc::downgrade(&gate));
        gate
    }

    /// Docker's name of the volume if it was not there.
    async fn ensure(&self, project: &str, name: &str) -> Result<Option<String>, Error> {
        let docker_name = docker_name(project, name);
        if let Some(found) = self.inspect(&docker_name).await? {
            return check_found(&found).map(|()| None);
        }
        let request = VolumeCreateRequest {
            name: Some(docker_name.clone()),
            driver: Some(DRIVER.to_owned()),
            labels: Some(labels_of(project, name)),
            ..Default::default()
        };
        let made = self.engine.docker.create_volume(request).await;
        let made = made.map_err(|error| self.engine.error("make volume", &docker_name, error))?;
        // Somebody may have been faster.
        check_found(&made)?;
        tracing::info!(volume = docker_name, "made a volume");
        Ok(Some(docker_name))
    }

    async fn inspect(&self, docker_name: &str) -> Result<Option<DockerVolume>, Error> {
        match self.engine.docker.inspect_volume(docker_name).await {
            Ok(found) => Ok(Some(found)),
            Err(error) => match self.engine.error("inspect volume", docker_name, error) {
                Error::NotFound { .. } => Ok(None),
                other => Err(other),
            },
        }
    }

    /// Every volume of ours.
    ///
    /// # Errors
    /// Docker's.
    pub async fn list(&self) -> Result<Vec<Volume>, Error> {
        let filters = HashMap::from([("label", vec![labels::VOLUME_PROJECT])]);
        let options = ListVolumesOptionsBuilder::default().filters(&filters).build();
        let listed = self.engine.docker.list_volumes(Some(options)).await;
        let listed = listed.map_err(|error| self.engine.error("list", "volumes", error))?.volumes;
        let mut users = self.users().await?;
        let ours = listed.into_iter().flatten().filter(|volume| check_found(volume).is_ok());
        let mut volumes: Vec<Volume> = ours
            .map(|volume| {
                let users = users.remove(&volume.name);
                let mut labels = volume.labels;
                Volume {
                    project_id: labels.remove(labels::VOLUME_PROJECT).unwrap_or_default(),
                    name: labels.remove(labels::VOLUME_NAME).unwrap_or_default(),
                    docker_name: volume.name,
                    directory: volume.mountpoint.into(),
                    is_used: users.is_some(),
                    instances: users.unwrap_or_default(),
                }
            })
            .collect();
        volumes.sort_by(|one, other| (&one.project_id, &one.name).cmp(&(&other.project_id, &other.name)));
        Ok(volumes)
    }

    /// The instances among the containers that name a volume, by Docker's name of it.
    async fn users(&self) -> Result<BTreeMap<String, BTreeSet<Uuid>>, Error> {
        let options = ListContainersOptionsBuilder::default().all(true).build();
        let listed = self.engine.docker.list_containers(Some(options)).await;
        let listed = listed.map_err(|error| self.engine.error("list", "containers", error))?;
        let mut users: BTreeMap<String, BTreeSet<Uuid>> = BTreeMap::new();
        for container in listed {
            let labels = container.labels.unwrap_or_default();
            let instance: Option<Uuid> = labels.get(labels::INSTANCE).and_then(|uuid| uuid.parse().ok());
            for volume in container.mounts.into_iter().flatten().filter_map(|mount| mount.name) {
                users.entry(volume).or_default().extend(instance);
            }
        }
        Ok(users)
    }

    /// Removes a volume of ours, by Docker's name, unless a container names it.
    ///
    /// # Errors
    /// Docker's.
    pub async fn remove(&self, docker_name: &str) -> Result<Removed, Error> {
        let gate = self.gate(docker_name);
        let _alone = gate.write().await;
        match self.inspect(docker_name).await? {
            Some(found) if check_found(&found).is_ok() => {}
            _ => return Ok(Removed::Absent),
        }
        self.remove_unused(docker_name).await
    }

    /// Removes the anonymous volume of a container that has gone, unless another one has it.
    pub(super) async fn remove_anonymous(&self, docker_name: &str) -> Result<Removed, Error> {
        self.remove_unused(docker_name).await
    }

    async fn remove_unused(&self, docker_name: &str) -> Result<Removed, Error> {
        let options = RemoveVolumeOptionsBuilder::default().build();
        match self.engine.patient(REMOVAL).remove_volume(docker_name, Some(options)).await {
            Ok(()) => Ok(Removed::Gone),
            Err(error) => match self.engine.error("remove volume", docker_name, error) {
                Error::NotFound { .. } => Ok(Removed::Absent),
                Error::Docker { status: 409, .. } => Ok(Removed::InUse),
                other => Err(other),
            },
        }
    }

    /// As [`remove`](Self::remove), by project and name.
    ///
    /// # Errors
    /// Docker's.
    pub async fn remove_named(&self, project: &str, name: &str) -> Result<Removed, Error> {
        if !is_project(project) {
            return Ok(Removed::Absent);
        }
        self.remove(&docker_name(project, name)).await
    }
}

/// Whether a guest's project can have volumes, where it asks for any.
///
/// # Errors
/// The project's id is no part of a name.
pub fn check(guest: &Guest) -> Result<(), Error> {
    if guest.configuration.volumes.is_empty() || is_project(&guest.project_id) {
        return Ok(());
    }
    let reason = "the project's id cannot be part of a volume's name".to_owned();
    Err(Error::Invalid { what: "docker:volume:NAME".to_owned(), reason })
}

/// The mounts of a guest's volumes, which are [held](Volumes::hold). Docker would make one that is missing by now: with the labels,
/// as all others.
pub(super) fn mounts(guest: &Guest) -> Vec<Mount> {
    let project = &guest.project_id;
    let volumes = guest.configuration.volumes.iter();
    let mount = |(name, volume): (&String, &crate::guest::configuration::Volume)| Mount {
        typ: Some(MountType::VOLUME),
        source: Some(docker_name(project, name)),
        target: Some(volume.path.clone()),
        read_only: Some(volume.read_only),
        volume_options: Some(MountVolumeOptions { labels: Some(labels_of(project, name)), ..Default::default() }),
        ..Default::default()
    };
    volumes.map(mount).collect()
}

/// Two projects have no name in common: a project's id has no dot.
fn docker_name(project: &str, name: &str) -> String {
    format!("{PREFIX}{project}.{name}")
}

/// Whether a volume's name in Docker is like those of named volumes of ours.
pub(super) fn is_named(docker_name: &str) -> bool {
    docker_name.starts_with(PREFIX)
}

fn is_project(id: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
    (1..=LONGEST_PROJECT).contains(&id.len()) && id.bytes().all(plain)
}

fn labels_of(project: &str, name: &str) -> HashMap<String, String> {
    let labels = [(labels::VOLUME_PROJECT, project), (labels::VOLUME_NAME, name)];
    labels.map(|(label, value)| (label.to_owned(), value.to_owned())).into()
}

/// A volume that has the name of one of ours may be somebody else's: a network file system, a directory of the host.
fn check_found(found: &DockerVolume) -> Result<(), Error> {
    let label = |name| found.labels.get(name).map_or("", String::as_str);
    let expected = docker_name(label(labels::VOLUME_PROJECT), label(labels::VOLUME_NAME));
    if found.name == expected && found.driver == DRIVER && found.options.is_empty() {
        return Ok(());
    }
    Err(Error::Docker {
        action: format!("use volume {}", found.name),
        status: 409,
        message: "it was not made by this service".to_owned(),
    })
}

#[cfg(test)]
#[path = "volumes_tests.rs"]
mod tests;
