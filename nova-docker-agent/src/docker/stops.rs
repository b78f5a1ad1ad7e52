//! Runs of containers that were asked to end. Many a process ends with a code of its own then (1, 2, 130), which alone says that it
//! failed.
//!
//! A file for each container that was stopped, with the time at which its last run began: Docker keeps no such mark.

use std::collections::HashSet;
use std::io::{self, ErrorKind};
use std::path::PathBuf;

use super::{Docker, Error, state::Found};

impl Docker {
    /// Takes down that the container's run is asked to end. Without it the end only looks like a failure.
    pub(super) async fn note_stop(&self, found: &Found) {
        let directory = &self.inner.config.stops_directory;
        let written = async {
            tokio::fs::create_dir_all(directory).await?;
            tokio::fs::write(directory.join(&found.id), &found.started_at).await
        };
        if let Err(error) = written.await {
            tracing::warn!(container = found.name, %error, "cannot note a stop; the container may be called crashed");
        }
    }

    /// Whether the run of a container that began at this time was asked to end.
    pub(super) async fn is_stop_noted(&self, id: &str, started_at: &str) -> bool {
        let noted = tokio::fs::read_to_string(self.note_of_stop(id)).await;
        noted.is_ok_and(|noted| noted == started_at)
    }

    /// To be called for a container that starts anew, or has gone. What fails is made up for at the next start.
    pub(super) async fn forget_stop(&self, id: &str) {
        match tokio::fs::remove_file(self.note_of_stop(id)).await {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                tracing::warn!(container = id, %error, "cannot remove the note of a stop");
            }
            _ => {}
        }
    }

    /// Removes the notes of containers that have gone.
    pub(super) async fn remove_stray_stops(&self) -> Result<(), Error> {
        let used: HashSet<String> =
            self.list_all().await?.into_iter().filter_map(|(_, container)| container.id).collect();
        let removed = async {
            let mut notes = match tokio::fs::read_dir(&self.inner.config.stops_directory).await {
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
                notes => notes?,
            };
            while let Some(note) = notes.next_entry().await? {
                if !note.file_name().to_str().is_some_and(|id| used.contains(id)) {
                    tokio::fs::remove_file(note.path()).await?;
                }
            }
            io::Result::Ok(())
        };
        removed.await.map_err(|source| Error::System { action: "look for notes of stops".to_owned(), source })
    }

    fn note_of_stop(&self, id: &str) -> PathBuf {
        self.inner.config.stops_directory.join(id)
    }
}
