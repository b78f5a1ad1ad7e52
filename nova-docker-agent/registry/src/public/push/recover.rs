//! Pushes that were cut off: what is half-made in Glance goes; what had become whole stays, and has its tags or none.

use std::time::Duration;

use super::Push;
use super::journal::{Entry, Open};
use super::staging::{StagingError, blocking};
use crate::public::{Grant, Repository, Tag, property};
use nova_docker_cloud::glance::{ImageMeta, Patch};
use nova_docker_cloud::{Caller, Error};

/// The pauses between attempts to undo a push that has just failed; after them it is left to the periodic clean-up.
const PAUSES: [u64; 8] = [1, 2, 5, 10, 20, 30, 60, 120];
/// A request that was cut off may still reach Glance so much later, and make the image that was not there before.
const STILL_COMING: Duration = Duration::from_secs(120);
/// Tokens do not live as long as this: after it, nobody but the project's members can remove the image.
const GIVE_UP: Duration = Duration::from_secs(7 * 24 * 3600);

impl Push {
    /// Cleans up after pushes that were cut off: after those to one project with the token of a member who is there now, or after
    /// all with the tokens of the users who made them. Those of long ago have expired.
    pub(super) async fn recover(&self, member: Option<&Grant>) -> Result<(), StagingError> {
        let (journal, owner) = (self.journal.clone(), member.map(|grant| grant.owner.clone()));
        for open in blocking(move || journal.left(owner.as_deref())).await? {
            let of_maker = |token| {
                let request_id = Caller::own().request_id;
                Grant::of_member(&open.entry.owner, String::new(), token, &request_id, true)
            };
            match member.cloned().or_else(|| open.entry.token(&self.key).map(of_maker)) {
                Some(grant) => drop(self.clean_up(&grant, open).await),
                None => drop(give_up_if_old(open, "its token cannot be read").await),
            }
        }
        Ok(())
    }

    /// Undoes a push that has just failed, as soon as Glance can be asked again.
    pub(super) async fn clean_up_soon(&self, grant: &Grant, mut open: Open) {
        for pause in PAUSES {
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = tokio::time::sleep(Duration::from_secs(pause)) => {}
            }
            match self.clean_up(grant, open).await {
                Some(left) => open = left,
                None => return,
            }
        }
    }

    /// Removes one image, if it is not complete. Returns the entry if it is to be tried again.
    async fn clean_up(&self, grant: &Grant, open: Open) -> Option<Open> {
        let (id, caller) = (open.entry.image, grant.caller());
        let told = |error: Error| error.to_string();
        let result = match self.glance.image(&caller, id).await {
            Err(error) if error.is_not_found() && open.age() < STILL_COMING => Err(told(error)),
            Err(error) if error.is_not_found() => Ok("was not made"),
            Err(error) => Err(told(error)),
            Ok(record) if record.status == "active" => self.complete(grant, &record, &open.entry).await,
            // An operator has locked it: it was complete.
            Ok(record) if record.status == "deactivated" => Err("the image is deactivated".to_owned()),
            Ok(_) => self.glance.delete(&caller, id).await.map(|_| "was removed").map_err(told),
        };
        match result {
            Ok(what) => {
                tracing::info!(image = %id, name = open.entry.name, "an unfinished push: its image {what}");
                close(open).await;
                None
            }
            Err(error) => give_up_if_old(open, &error).await,
        }
    }

    async fn complete(&self, grant: &Grant, record: &ImageMeta, entry: &Entry) -> Result<&'static str, String> {
        if property::text(record, property::PUSH).is_some() {
            self.glance_finish(&grant.caller(), record.id).await.map_err(|error| error.to_string())?;
        }
        let tags: Vec<Tag> = entry.tags.iter().filter_map(|tag| tag.parse().ok()).collect();
        if let Ok(name) = entry.repository.parse() {
            let at = Repository { name, grant: grant.clone() };
            self.settle_tags(&at, &tags).await.map_err(|error| error.message)?;
        }
        Ok("is complete")
    }

    /// Takes the mark of an image in the making away.
    pub(super) async fn glance_finish(&self, caller: &Caller, id: uuid::Uuid) -> Result<(), Error> {
        let patch = [Patch::Remove { path: format!("/{}", property::PUSH) }];
        match self.glance.update(caller, id, &patch).await {
            // It has gone already.
            Err(error) if error.is_conflict() => Ok(()),
            result => result.map(|_| ()),
        }
    }
}

/// The entry stays for the next attempt, and is returned for it.
async fn give_up_if_old(open: Open, reason: &str) -> Option<Open> {
    let (image, project, name) = (open.entry.image, &open.entry.owner, &open.entry.name);
    if open.age() < GIVE_UP {
        tracing::info!(%image, project, name, "an unfinished push cannot be cleaned up yet: {reason}");
        return Some(open);
    }
    tracing::error!(%image, project, name, "an unfinished push was never cleaned up ({reason}): delete the image by hand");
    close(open).await;
    None
}

/// Nothing is left to be undone.
pub(super) async fn close(open: Open) {
    // If this does not come to be done, the next start finds nothing to be undone.
    if let Err(error) = blocking(move || open.close()).await {
        tracing::warn!("unfinished pushes: {error}");
    }
}
