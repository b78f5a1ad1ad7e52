//! Snapshots: the container as an image, read as a `docker save` archive.

use std::time::Duration;

use bollard::models::{ContainerConfig, HealthConfig, ImageConfig};
use bollard::query_parameters::CommitContainerOptionsBuilder;
use bytes::Bytes;
use futures::{Stream, TryStreamExt};
use uuid::Uuid;

use super::engine::Engine;
use super::state::Found;
use super::{Docker, Error, image, labels, saved, scrub};

/// Repository of the temporary images. The tag is random, and says nothing of the instance.
pub(super) const REPOSITORY: &str = "nova-snapshot";
const UNTOLD: &str = "Docker lacks layers of the image that the server was made of, and tells nothing of it; it has them when \
    another server of that image was launched on this host";
/// A commit of a large container copies all that it has written.
pub(super) const COMMIT: Duration = Duration::from_secs(4 * 3600);

impl Docker {
    /// Commits the container to a temporary image, frozen meanwhile, to be read as a `docker save` archive. What belongs to
    /// this instance alone (labels, host name, the variables and the command that the instance gave) does not get into it.
    /// Cancelling leaves nothing behind.
    pub async fn snapshot(&self, uuid: Uuid) -> Result<Snapshot, Error> {
        let found = self.get(uuid).await?;
        let docker = self.clone();
        // On a task of its own: when the caller is gone, the commit still ends and its image is dropped. Docker would finish
        // it anyway, after we have looked for something to remove.
        let committed = tokio::spawn(async move { docker.commit(uuid, &found).await }).await;
        committed.unwrap_or_else(|error| {
            Err(Error::Docker { action: format!("commit instance {uuid}"), status: 0, message: error.to_string() })
        })
    }

    async fn commit(&self, uuid: Uuid, found: &Found) -> Result<Snapshot, Error> {
        let base = self.base_config(found).await?;
        let tag = Uuid::new_v4().simple().to_string();
        let options = CommitContainerOptionsBuilder::default()
            .container(&found.id)
            .repo(REPOSITORY)
            .tag(&tag)
            .pause(true)
            .build();
        let config = neutral_config(&base, found);
        let committed = self.engine().patient(COMMIT).commit_container(options, config).await;
        let name = labels::container_name(uuid);
        let id = committed.map_err(|error| self.engine().error("commit container", &name, error))?.id;
        let image = TemporaryImage { engine: self.engine().clone(), name: Some(format!("{REPOSITORY}:{tag}")) };
        Ok(Snapshot { image, id, base: scrub::Base::of(&base) })
    }

    /// What the image was configured with that the container was made from.
    pub(super) async fn base_config(&self, found: &Found) -> Result<ImageConfig, Error> {
        self.image_config(found.base()).await?.ok_or_else(|| Error::Lacking { reason: UNTOLD.to_owned() })
    }
}

/// A container's image as a `docker save` archive. Its temporary image is removed by [`finish`](Self::finish), or when this
/// is dropped.
#[derive(Debug)]
pub struct Snapshot {
    image: TemporaryImage,
    id: String,
    base: scrub::Base,
}

impl Snapshot {
    /// The archive's bytes. To be read while this lives.
    pub fn stream(&self) -> impl Stream<Item = Result<Bytes, Error>> + Send + use<> {
        let engine = self.image.engine.clone();
        let archive = engine.patient(COMMIT).export_image(&self.id);
        let archive = archive.map_err(move |error| engine.error("save", "the snapshot", error));
        saved::scrubbed(archive, self.base.clone())
    }

    /// Removes the temporary image, and waits for it.
    pub async fn finish(mut self) -> Result<(), Error> {
        match self.image.name.take() {
            Some(name) => image::remove(&self.image.engine, &name).await.map(drop),
            None => Ok(()),
        }
    }
}

#[derive(Debug)]
struct TemporaryImage {
    engine: Engine,
    /// None once it was removed.
    name: Option<String>,
}

impl Drop for TemporaryImage {
    fn drop(&mut self) {
        let Some(name) = self.name.take() else { return };
        // Without a runtime the process is ending; the next connect removes the image.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let engine = self.engine.clone();
        runtime.spawn(async move {
            if let Err(error) = image::remove(&engine, &name).await {
                tracing::warn!(image = name, %error, "the image of a snapshot stays until the next start");
            }
        });
    }
}

/// Whether it is the name of a temporary image.
pub(super) fn is_temporary(name: &str) -> bool {
    name.strip_prefix(REPOSITORY).is_some_and(|tag| tag.starts_with(':'))
}

/// The configuration that a commit starts from: Docker adds whatever the container has and this has not, so every name that
/// the instance brought is there, with the image's value or an empty one.
pub(super) fn neutral_config(base: &ImageConfig, found: &Found) -> ContainerConfig {
    let original = base.env.clone().unwrap_or_default();
    let known = |variable: &String| original.iter().any(|other| name_of(other) == name_of(variable));
    let added = found.environment.iter().filter(|variable| !known(variable));
    let added: Vec<String> = added.map(|variable| format!("{}=", name_of(variable))).collect();
    let original_labels = base.labels.clone().unwrap_or_default();
    let ours = labels::ALL.iter().map(|&label| (label.to_owned(), String::new()));
    ContainerConfig {
        env: Some(original.into_iter().chain(added).collect()),
        labels: Some(original_labels.into_iter().chain(ours).collect()),
        cmd: base.cmd.clone(),
        healthcheck: base.healthcheck.clone().or_else(|| Some(no_check())),
        ..Default::default()
    }
}

/// No check at all, where Docker would take none for the container's.
fn no_check() -> HealthConfig {
    HealthConfig { test: Some(vec!["NONE".to_owned()]), ..Default::default() }
}

fn name_of(variable: &str) -> &str {
    variable.split_once('=').map_or(variable, |(name, _)| name)
}
