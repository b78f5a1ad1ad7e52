//! `snapshot_instance`: the container's files, with its image's layers below them, as a new image in Glance. Backups and shelving
//! take their snapshots here too.

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

const TASKS: &[TaskState] = &[
    TaskState::ImageSnapshotPending,
    TaskState::ImageSnapshot,
    TaskState::ImagePendingUpload,
    TaskState::ImageUploading,
];

impl Compute {
    /// Fills the image that the API has made. On failure the image is deleted.
    async fn snapshot(&self, context: &Context, mut instance: Instance, image: Uuid) -> Result<(), Error> {
        let uuid = instance_uuid(&instance)?;
        // No lock: the task state keeps other operations away, and a deletion must not wait for an upload.
        let _slot = self.snapshot_slots.acquire().await;
        self.operate(context, uuid, Duties::of("compute_snapshot_instance", TASKS), async {
            self.take_snapshot(context, &mut instance, image, Steps::SNAPSHOT).await
        })
        .await
    }

    /// From the API's task to none, with the image filled or deleted.
    pub(in crate::compute) async fn take_snapshot(
        &self,
        context: &Context,
        instance: &mut Instance,
        image: Uuid,
        steps: Steps,
    ) -> Result<(), Error> {
        let taken = async {
            self.save(context, instance, json!({"task_state": steps.begun}), Expected::before(steps.begun)).await?;
            self.fill_image(context, instance, image, steps, &CancellationToken::new()).await?;
            match self.save(context, instance, json!({"task_state": null}), Expected::task(steps.uploading)).await {
                // The instance was deleted during the upload; its image is whole.
                Err(error) if error.is_gone() => Ok(()),
                saved => saved,
            }
        }
        .await;
        if taken.is_err() {
            self.discard_snapshot(context, image).await;
        }
        taken
    }

    /// Uploads the container's files into a queued image.
    pub(in crate::compute) async fn fill_image(
        &self,
        context: &Context,
        instance: &mut Instance,
        image: Uuid,
        steps: Steps,
        cancelled: &CancellationToken,
    ) -> Result<(), Error> {
        let uuid = instance_uuid(instance)?;
        let project = instance.project_id().map(str::to_owned);
        let caller = self.caller(context);
        let into = SnapshotImage { caller: &caller, id: image, owner: project.as_deref() };
        let mut states = SnapshotStates { compute: self, context, instance, steps };
        self.driver.snapshot(uuid, into, &mut states, cancelled).await
    }

    pub(in crate::compute) async fn discard_snapshot(&self, context: &Context, image: Uuid) {
        match self.cloud.glance.delete(&self.caller(context), image).await {
            Ok(_) => info!(%image, "deleted the image of the failed snapshot"),
            Err(error) => warn!(%error, %image, "cannot delete the image of the failed snapshot"),
        }
    }
}

/// The tasks that an instance passes while its snapshot is taken.
#[derive(Clone, Copy, Debug)]
pub(in crate::compute) struct Steps {
    begun: TaskState,
    pending: TaskState,
    uploading: TaskState,
}

impl Steps {
    pub const SNAPSHOT: Self = Self {
        begun: TaskState::ImageSnapshot,
        pending: TaskState::ImagePendingUpload,
        uploading: TaskState::ImageUploading,
    };
    pub const BACKUP: Self = Self { begun: TaskState::ImageBackup, ..Self::SNAPSHOT };
    pub const SHELVING: Self = Self {
        begun: TaskState::Shelving,
        pending: TaskState::ShelvingImagePendingUpload,
        uploading: TaskState::ShelvingImageUploading,
    };
}

/// Tells Nova which task a snapshot has come to.
struct SnapshotStates<'a> {
    compute: &'a Compute,
    context: &'a Context,
    instance: &'a mut Instance,
    steps: Steps,
}

impl SnapshotStates<'_> {
    async fn pass(&mut self, from: TaskState, to: TaskState) -> Result<(), Error> {
        self.compute.save(self.context, self.instance, json!({"task_state": to}), Expected::task(from)).await
    }
}

impl SnapshotProgress for SnapshotStates<'_> {
    type Error = Error;

    async fn captured(&mut self) -> Result<(), Error> {
        self.pass(self.steps.begun, self.steps.pending).await
    }

    async fn uploading(&mut self) -> Result<(), Error> {
        self.pass(self.steps.pending, self.steps.uploading).await
    }
}
