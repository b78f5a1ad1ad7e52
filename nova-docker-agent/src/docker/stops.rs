//! Runs of containers that were asked to end. Many a process ends with a code of its own then (1, 2, 130), which alone says that it
//! failed.
//!
//! A note for each container that was stopped, with the time at which its last run began: Docker keeps no such mark.

use std::collections::HashSet;

use super::{Docker, Error, state::Found};

impl Docker {
    /// Takes down that the container's run is asked to end. Without it the end only looks like a failure.
    pub(super) async fn note_stop(&self, found: &Found) {
        if let Err(error) = self.inner.stops.write(&found.id, found.started_at.clone().into()).await {
            tracing::warn!(container = found.name, %error, "cannot note a stop; the container may be called crashed");
        }
    }

    /// Whether the run of a container that began at this time was asked to end.
    pub(super) async fn is_stop_noted(&self, id: &str, started_at: &str) -> bool {
        self.inner.stops.read(id).await.is_some_and(|noted| noted == started_at.as_bytes())
    }

    /// To be called for a container that starts anew, or has gone. What fails is made up for at the next start.
    pub(super) async fn forget_stop(&self, id: &str) {
        self.inner.stops.remove(id).await;
    }

    /// Removes the notes of containers that have gone.
    pub(super) async fn remove_stray_stops(&self) -> Result<(), Error> {
        let used: HashSet<String> =
            self.list_all().await?.into_iter().filter_map(|(_, container)| container.id).collect();
        self.inner.stops.retain(|id| used.contains(id)).await
    }
}
