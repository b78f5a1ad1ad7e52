//! The life of named volumes: kept while a container names them and for a time after the last one has gone.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::Mutex;
use tracing::{info, warn};

use super::Error;
use super::unused::Record;
use crate::config::Config;
use crate::docker::{self, Removed, Volume};

mod listing;

pub use listing::{Listed, Listing};

/// Name of the record in `state_path`.
const FILE_NAME: &str = "docker-volumes.json";
/// For how long an unused volume is kept at least: nobody uses the volumes of a server while another container takes the place
/// of its container.
const REPLACEMENT: Duration = Duration::from_secs(600);

/// Why a guest is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Another container may take its place here, or it never was whole.
    Replaced,
    /// Its server is deleted.
    Deleted {
        /// Whether the user wants its named volumes to go too, unless another container names them.
        with_volumes: bool,
    },
}

/// The named volumes of this host, and since when nobody uses them.
#[derive(Debug)]
pub struct Volumes {
    docker: docker::Volumes,
    grace: Duration,
    record: Mutex<Record>,
}

impl Volumes {
    /// `state_path` is where the record is.
    pub fn new(docker: docker::Volumes, grace: Duration, state_path: &std::path::Path) -> Self {
        Self { docker, grace, record: Mutex::new(Record::new("volumes", state_path.join(FILE_NAME))) }
    }

    /// The volumes of the host that `config` is of, to look at while an agent runs.
    ///
    /// # Errors
    /// Docker does not answer.
    pub async fn connect(config: &Config) -> Result<Self, docker::Error> {
        let docker = docker::Volumes::connect(&config.docker.host_url, docker::DockerConfig::default().timeout).await?;
        Ok(Self::new(docker, config.docker.volume_grace, &config.state_path))
    }

    /// To be called when a container has gone, with Docker's names of the volumes that it named. What fails here is made up for
    /// by [`reap`](Self::reap).
    pub(super) async fn ended(&self, names: &[String], end: End) {
        if names.is_empty() {
            return;
        }
        self.record.lock().await.forget(names).await;
        let at_once = match end {
            End::Replaced => false,
            End::Deleted { with_volumes } => with_volumes || self.grace.is_zero(),
        };
        if at_once {
            for name in names {
                self.remove(name, "with the last server that named it").await;
            }
        }
        if let Err(error) = self.observe().await {
            warn!(%error, "cannot see which volumes are used; trying again later");
        }
    }

    /// Removes the volumes that nobody has used for as long as the grace.
    ///
    /// # Errors
    /// Docker's.
    pub async fn reap(&self) -> Result<(), Error> {
        let grace = self.grace.max(REPLACEMENT);
        for (volume, since) in self.observe().await? {
            let unused = Duration::try_from(since.duration_until(Timestamp::now())).unwrap_or_default();
            if unused >= grace {
                self.remove(&volume.docker_name, "nobody has used it for longer than volume_grace_days").await;
            }
        }
        Ok(())
    }

    /// Takes down which volumes are not used, and returns them with the times since when.
    async fn observe(&self) -> Result<Vec<(Volume, Timestamp)>, Error> {
        let mut record = self.record.lock().await;
        let unused: Vec<Volume> = self.docker.list().await?.into_iter().filter(|volume| !volume.is_used).collect();
        let names: BTreeSet<&str> = unused.iter().map(|volume| volume.docker_name.as_str()).collect();
        let since = record.update(&names, Timestamp::now()).await;
        let times = |volume: Volume| since.get(&volume.docker_name).copied().map(|since| (volume, since));
        Ok(unused.into_iter().filter_map(times).collect())
    }

    async fn remove(&self, name: &str, why: &str) {
        match self.docker.remove(name).await {
            Ok(Removed::Gone) => info!(volume = name, "removed a volume: {why}"),
            Ok(Removed::InUse | Removed::Absent) => {}
            Err(error) => warn!(volume = name, %error, "cannot remove a volume; trying again later"),
        }
    }

    /// The volumes, with their sizes and since when they are not used, as the agent has taken it down.
    ///
    /// # Errors
    /// Docker's.
    pub async fn listing(&self) -> Result<Listing, docker::Error> {
        let since = self.record.lock().await.read().await;
        Ok(Listing::of(self.docker.list().await?, &since).await)
    }

    /// Removes a volume unless a container names it.
    ///
    /// # Errors
    /// Docker's.
    pub async fn remove_named(&self, project: &str, name: &str) -> Result<Removed, docker::Error> {
        self.docker.remove_named(project, name).await
    }
}
