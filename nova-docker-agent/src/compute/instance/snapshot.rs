//! `snapshot_instance`: the container's files, with its image's layers below them, as a new image in Glance.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use uuid::Uuid;

use crate::compute::{
    Compute,
    arguments::{Arguments, instance_uuid},
    duties::Duties,
    error::Error,
    operation::Method,
};
use crate::{
    driver::{SnapshotImage, SnapshotProgress},
    messaging::Context,
    objects::{Expected, Instance, TaskState},
};

/// `snapshot_instance`.
pub(in crate::compute) struct Snapshot {
    instance: Instance,
    /// The queued image that the API has made.
    image: Uuid,
}

impl Method for Snapshot {
    fn parse(mut arguments: Arguments) -> Result<Self, Error> {
        let image = arguments.id("image_id")?;
        Ok(Self { image, instance: arguments.instance()? })
    }

    async fn run(self, compute: Arc<Compute>, context: &Context) -> Result<Value, Error> {
        compute.snapshot(context, self.instance, self.image).await.map(|()| Value::Null)
    }
}

impl Compute {
    /// Fills the image that the API has made. On failure the image is deleted.
    async fn snapshot(&self, context: &Context, mut instance: Instance, image: Uuid) -> Result<(), Error> {
        let uuid = instance_uuid(&instance)?;
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
        let power = json!({"task_state": TaskState::ImageSnapshot, "power_state": self.power_state(uuid).await?});
        self.save(context, instance, power, Expected::before(TaskState::ImageSnapshot)).await?;
        let project = instance.project_id().map(str::to_owned);
        let caller = self.caller(context);
        let into = SnapshotImage { caller: &caller, id: image, owner: project.as_deref() };
        let mut states = SnapshotStates { compute: self, context, instance };
        self.driver.snapshot(uuid, into, &mut states, &CancellationToken::new()).await?;
        match self.save(context, instance, json!({"task_state": null}), Expected::task(TaskState::ImageUploading)).await
        {
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

/// The task states that the user sees while a snapshot is taken.
struct SnapshotStates<'a> {
    compute: &'a Compute,
    context: &'a Context,
    instance: &'a mut Instance,
}

impl SnapshotStates<'_> {
    async fn pass(&mut self, task: TaskState) -> Result<(), Error> {
        self.compute.save(self.context, self.instance, json!({"task_state": task}), Expected::before(task)).await
    }
}

impl SnapshotProgress for SnapshotStates<'_> {
    type Error = Error;

    async fn captured(&mut self) -> Result<(), Error> {
        self.pass(TaskState::ImagePendingUpload).await
    }

    async fn uploading(&mut self) -> Result<(), Error> {
        self.pass(TaskState::ImageUploading).await
    }
}
