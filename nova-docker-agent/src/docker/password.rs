//! An account's password, set from outside: no program of the image takes part.

use std::time::{SystemTime, UNIX_EPOCH};

use uuid::Uuid;

use super::files::File;
use super::read_file::{Found, Text};
use super::shadow::with_password;
use super::{Docker, Error};
use crate::guest::{Guest, Password};

const SHADOW: &str = "/etc/shadow";
const SECONDS_OF_A_DAY: u64 = 24 * 3600;

impl Docker {
    /// Sets the password of `user` in the instance's container.
    ///
    /// # Errors
    /// [`Error::Lacking`] when the container has no such account, or no file of passwords that can be written.
    pub async fn set_password(&self, uuid: Uuid, user: &str, password: &Password) -> Result<(), Error> {
        let found = self.get(uuid).await?;
        self.write_password(&found.id, user, password).await
    }

    /// The password that the instance is launched with. An image that has no passwords is launched without, as nova-compute does.
    pub(super) async fn put_password(&self, id: &str, guest: &Guest) -> Result<(), Error> {
        let Some(password) = guest.inside.password.as_ref().filter(|_| self.inner.config.inject_password) else {
            return Ok(());
        };
        match self.write_password(id, &guest.inside.admin_user, password).await {
            Err(Error::Lacking { reason }) => {
                tracing::warn!(instance = %guest.uuid, reason, "launching without the password");
                Ok(())
            }
            written => written,
        }
    }

    async fn write_password(&self, id: &str, user: &str, password: &Password) -> Result<(), Error> {
        let Text { content, owner, mode } = match self.read_file(id, SHADOW).await? {
            Found::Text(text) => text,
            Found::Absent => return Err(lacking(format!("the container has no {SHADOW}"))),
            // Whatever it leads to may be somebody else's to write.
            Found::Other => return Err(lacking(format!("{SHADOW} of the container is no plain file"))),
        };
        let today = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs()) / SECONDS_OF_A_DAY;
        let (user, password) = (user.to_owned(), password.clone());
        let changed = tokio::task::spawn_blocking(move || {
            let changed = with_password(&content, &user, password.expose(), today);
            changed.ok_or_else(|| lacking(format!("{SHADOW} of the container has no account {user:?}")))
        });
        let failed = |reason: String| Error::System {
            action: "make the hash of a password".to_owned(),
            source: std::io::Error::other(reason),
        };
        let changed = changed.await.map_err(|error| failed(error.to_string()))??.map_err(failed)?;
        self.upload(id, &[File::replacement("etc/shadow", owner, mode, changed)]).await
    }
}

fn lacking(reason: String) -> Error {
    Error::Lacking { reason: format!("a password cannot be set: {reason}") }
}
