//! `snapshot_instance`: the container's files, with its image's layers below them, as a new image in Glance.

use serde_json::json;
use tracing::{info, warn};
use uuid::Uuid;

use crate::compute::{Compute, arguments::instance_uuid, error::Error, operation::Duties};
use crate::{messaging::Context, objects::Instance};

impl Compute {
    /// Fills the image that the API has made. On failure the image is deleted.
    pub(in crate::compute) async fn snapshot(
        &self,
        context: &Context,
        mut instance: Instance,
        image_id: String,
    ) -> Result<(), Error> {
        let uuid = instance_uuid(&instance)?;
        let image = Uuid::parse_str(&image_id).map_err(|_| Error::BadRequest {
            method: "snapshot_instance".to_owned(),
            problem: format!("image {image_id:?} is not a UUID"),
        })?;
        // No lock: the task state keeps other operations away, and a deletion must not wait for an upload.
        let _slot = self.snapshot_slots.acquire().await;
        self.operate(context, uuid, Duties::of("compute_snapshot_instance"), async {
            let taken = self.take_snapshot(context, &mut instance, image).await;
            if taken.is_err() {
                self.discard_snapshot(context, image).await;
            }
            taken
        })
        .await
    }

    async fn take_snapshot(&self, context: &Context, instance: &mut Instance, image: Uuid) -> Result<(), Error> {
        let uuid = instance_uuid(instance)?;
        let states = ["image_snapshot_pending", "image_snapshot", "image_pending_upload", "image_uploading"];
        let [requested, taking, pending, uploading] = states;
        let power = json!({"task_state": taking, "power_state": self.power_state(uuid).await?});
        self.save(context, instance, power, Some(&[Some(requested)])).await?;
        let snapshot = self.driver.docker.snapshot(uuid).await?;
        self.save(context, instance, json!({"task_state": pending}), Some(&[Some(taking)])).await?;
        let caller = self.caller(context);
        self.driver.describe_snapshot(&caller, image, instance.project_id()).await?;
        self.save(context, instance, json!({"task_state": uploading}), Some(&[Some(pending)])).await?;
        self.driver.upload_snapshot(&caller, image, snapshot).await?;
        info!(%image, "the snapshot is in Glance");
        match self.save(context, instance, json!({"task_state": null}), Some(&[Some(uploading)])).await {
            // The instance was deleted during the upload; its image is whole.
            Err(error) if error.is_gone() => Ok(()),
            saved => saved,
        }
    }

    async fn discard_snapshot(&self, context: &Context, image: Uuid) {
        match self.cloud.glance.delete(&self.caller(context), image).await {
            Ok(_) => info!(%image, "deleted the image of the failed snapshot"),
            Err(error) => warn!(%error, %image, "cannot delete the image of the failed snapshot"),
        }
    }
}
