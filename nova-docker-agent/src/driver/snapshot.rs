//! Snapshots into Glance: the container's files, with its image's layers below them, as a new image.

use serde_json::Value;
use tokio_util::sync::CancellationToken;
use tracing::info;
use uuid::Uuid;

use super::{Driver, Error};
use crate::{
    cloud::{
        Caller,
        glance::{ImageMeta, Patch},
    },
    docker::Snapshot,
};

/// The image of Glance that a snapshot goes into, written with the rights of its caller.
pub struct SnapshotImage<'a> {
    pub caller: &'a Caller,
    pub id: Uuid,
    /// The project that it belongs to, where that is known.
    pub owner: Option<&'a str>,
}

/// What a door does while a snapshot is taken.
pub trait SnapshotProgress {
    type Error: From<Error>;

    /// The container's files are kept aside; it may change again.
    fn captured(&mut self) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Glance is about to be sent the data.
    fn uploading(&mut self) -> impl Future<Output = Result<(), Self::Error>> + Send;
}

impl Driver {
    /// Whether an image of Glance has a snapshot of the guest already. Of one that cannot be read its upload tells more.
    pub async fn has_snapshot(&self, guest: Uuid, image: &SnapshotImage<'_>) -> bool {
        self.glance.image(image.caller, image.id).await.is_ok_and(|record| is_snapshot(&record, guest))
    }

    /// Fills a queued image of Glance with a guest's files, for the project `owner`.
    ///
    /// # Errors
    /// Docker's, Glance's, or those of `progress`; [`Error::Cancelled`] once `stop` is. Nothing stays in Docker.
    pub async fn snapshot<P: SnapshotProgress>(
        &self,
        uuid: Uuid,
        into: SnapshotImage<'_>,
        progress: &mut P,
        stop: &CancellationToken,
    ) -> Result<(), P::Error> {
        let snapshot = self.docker.snapshot(uuid).await.map_err(Error::from)?;
        progress.captured().await?;
        let upload = async {
            self.describe_snapshot(&into).await?;
            progress.uploading().await?;
            self.upload_snapshot(&into, snapshot).await?;
            Ok::<_, P::Error>(())
        };
        tokio::select! {
            // Dropped in the middle, the upload ends, and the temporary image goes with it.
            () = stop.cancelled() => return Err(Error::Cancelled(uuid).into()),
            uploaded = upload => uploaded?,
        }
        info!(image = %into.id, "the snapshot is in Glance");
        Ok(())
    }

    /// Gives a queued image of Glance the properties of a snapshot. Without both formats Glance takes no data.
    ///
    /// # Errors
    /// Glance refuses or does not answer.
    async fn describe_snapshot(&self, into: &SnapshotImage<'_>) -> Result<(), Error> {
        let mut patch = vec![
            Patch::set("container_format", "docker"),
            Patch::set("disk_format", "raw"),
            Patch::set("img_hv_type", "docker"),
            Patch::set("image_location", "snapshot"),
            Patch::set("image_state", "available"),
        ];
        if let Some(owner) = into.owner {
            patch.push(Patch::set("owner_id", owner));
        }
        self.glance.update(into.caller, into.id, &patch).await?;
        Ok(())
    }

    /// Uploads a snapshot into an image that is described, and removes it from Docker, in either case.
    ///
    /// # Errors
    /// The upload's, or that of the removal.
    async fn upload_snapshot(&self, into: &SnapshotImage<'_>, snapshot: Snapshot) -> Result<(), Error> {
        let uploaded = self.glance.upload(into.caller, into.id, snapshot.stream()).await;
        let finished = snapshot.finish().await;
        uploaded?;
        finished?;
        Ok(())
    }
}

/// Whether an image is whole, as [`Driver::snapshot`] leaves it. Nova writes down which server it is of, others may not.
fn is_snapshot(image: &ImageMeta, guest: Uuid) -> bool {
    let property = |name| image.properties.get(name).and_then(Value::as_str);
    image.status == "active"
        && property("image_location") == Some("snapshot")
        && property("instance_uuid").is_none_or(|of| of == guest.to_string())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_image_is_a_guests_snapshot_only_when_it_is_whole_and_of_no_other_guest() {
        let (guest, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let is = |status: &str, location: &str, of: Option<Uuid>| {
            let record = json!({"id": Uuid::nil(), "status": status, "image_location": location, "instance_uuid": of});
            is_snapshot(&serde_json::from_value(record).unwrap(), guest)
        };
        assert!(is("active", "snapshot", Some(guest)) && is("active", "snapshot", None));
        assert!(!is("queued", "snapshot", Some(guest)) && !is("saving", "snapshot", Some(guest)));
        assert!(!is("active", "elsewhere", Some(guest)) && !is("active", "snapshot", Some(other)));
    }
}
