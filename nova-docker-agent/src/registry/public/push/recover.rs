//! Pushes that were cut off: what is half-made in Glance goes; what had become whole stays.

use std::time::Duration;

use super::super::grant::Grant;
use super::super::property;
use super::Push;
use super::journal::Open;
use super::staging::{StagingError, blocking};
use crate::cloud::glance::Patch;
use crate::cloud::{Caller, Error};

/// Tokens do not live as long as this: after it, nobody but the project's members can remove the image.
const GIVE_UP: Duration = Duration::from_secs(7 * 24 * 3600);

impl Push {
    /// Cleans up after pushes that were cut off, with the tokens of the users who made them.
    pub(super) async fn recover(&self) -> Result<(), StagingError> {
        let journal = self.journal.clone();
        for open in blocking(move || journal.left(None)).await? {
            match open.entry.token(&*self.sealer) {
                Some(token) => self.clean_up(&Caller::user(token, Caller::own().request_id), open).await,
                None => give_up_if_old(open, "its token cannot be read"),
            }
        }
        Ok(())
    }

    /// The same for the pushes to one project, with the token of a member who is there now: those of long ago have expired.
    pub(super) async fn recover_project(&self, grant: &Grant) -> Result<(), StagingError> {
        let (journal, owner) = (self.journal.clone(), grant.owner.clone());
        for open in blocking(move || journal.left(Some(&owner))).await? {
            self.clean_up(&grant.caller(), open).await;
        }
        Ok(())
    }

    /// Removes one image, if it is not complete.
    pub(super) async fn clean_up(&self, caller: &Caller, open: Open) {
        let id = open.entry.image;
        let result = match self.glance.image(caller, id).await {
            Err(error) if error.is_not_found() => Ok("was not made"),
            Err(error) => Err(error),
            Ok(record) if record.status == "active" => self.glance_finish(caller, id).await.map(|()| "is complete"),
            Ok(_) => self.glance.delete(caller, id).await.map(|_| "was removed"),
        };
        let name = &open.entry.name;
        match result {
            Ok(what) => {
                tracing::info!(image = %id, name, "an unfinished push: its image {what}");
                open.close();
            }
            Err(error) => give_up_if_old(open, &error.to_string()),
        }
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

/// The entry stays for the next attempt.
fn give_up_if_old(open: Open, reason: &str) {
    let (image, project, name) = (open.entry.image, open.entry.owner.clone(), open.entry.name.clone());
    if open.age() < GIVE_UP {
        tracing::info!(%image, project, name, "an unfinished push cannot be cleaned up yet: {reason}");
        return;
    }
    tracing::error!(%image, project, name, "an unfinished push was never cleaned up ({reason}): delete the image by hand");
    open.close();
}
