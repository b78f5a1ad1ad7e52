//! `shelve_instance`: the instance's files become an image. By default it leaves its host at once.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tracing::info;
use uuid::Uuid;

use crate::compute::{
    Compute,
    arguments::{Arguments, instance_uuid},
    duties::Duties,
    error::Error,
    instance::snapshot::Steps,
    operation::Method,
    reconcile::recovery::still,
};
use crate::{
    config::ShelvedOffload,
    limits::StopTimeout,
    messaging::Context,
    objects::{Expected, Instance, PowerState, TaskState, VmState},
};

/// Snapshots of one instance that are looked at.
const SNAPSHOTS: usize = 10_000;
const TASKS: &[TaskState] = &[
    TaskState::Shelving,
    TaskState::ShelvingImagePendingUpload,
    TaskState::ShelvingImageUploading,
    TaskState::ShelvingOffloading,
];

/// `shelve_instance`.
pub(in crate::compute) struct Shelve {
    instance: Instance,
    /// The queued image that the API has made.
    image: Uuid,
    /// The guest has time to end by itself.
    clean: bool,
}

impl Method for Shelve {
    fn parse(mut arguments: Arguments) -> Result<Self, Error> {
        let image = arguments.id("image_id")?;
        let clean = arguments.flag("clean_shutdown", true);
        Ok(Self { image, clean, instance: arguments.instance()? })
    }

    async fn run(self, compute: Arc<Compute>, context: &Context) -> Result<Value, Error> {
        compute.shelve(context, self).await.map(|()| Value::Null)
    }
}

impl Compute {
    /// Stops the instance and makes it an image. What fails deletes the image; the container is still there then, stopped.
    async fn shelve(&self, context: &Context, shelve: Shelve) -> Result<(), Error> {
        let Shelve { mut instance, image, clean } = shelve;
        let uuid = instance_uuid(&instance)?;
        let _lock = self.locks.lock(uuid).await;
        // A deletion does not wait for the upload.
        let cancelled = self.begin_build(uuid);
        let shelved = self
            .operate(context, uuid, Duties::of("compute_shelve_instance", TASKS), async {
                let shelved = self.make_shelved(context, &mut instance, image, clean, &cancelled).await;
                if shelved.is_err() {
                    self.discard_snapshot(context, image).await;
                }
                shelved?;
                if self.offloads_at_once() { self.offload(context, &mut instance).await } else { Ok(()) }
            })
            .await;
        self.end_build(uuid);
        shelved
    }

    pub(in crate::compute) fn offloads_at_once(&self) -> bool {
        self.config.shelved_offload == ShelvedOffload::AtOnce
    }

    async fn make_shelved(
        &self,
        context: &Context,
        instance: &mut Instance,
        image: Uuid,
        clean: bool,
        cancelled: &CancellationToken,
    ) -> Result<(), Error> {
        let uuid = instance_uuid(instance)?;
        let mut shelving = json!({"task_state": TaskState::Shelving});
        // The image is known from now on, whole or not: the request that names it is lost in a crash.
        let former = self.add_shelving_marks(context, uuid, image, &mut shelving).await?;
        self.save(context, instance, shelving, Expected::before(TaskState::Shelving)).await?;
        if let Some(former) = former {
            self.discard_former_image(context, former).await;
        }
        let shelved = self.fill_shelf(context, instance, image, clean, cancelled).await;
        if shelved.is_err() {
            self.forget_shelved_image(context, uuid).await;
        }
        shelved
    }

    async fn fill_shelf(
        &self,
        context: &Context,
        instance: &mut Instance,
        image: Uuid,
        clean: bool,
        cancelled: &CancellationToken,
    ) -> Result<(), Error> {
        let uuid = instance_uuid(instance)?;
        // Nova's rule: what is paused is not woken up to be asked.
        let clean = clean && instance.power_state() != Some(PowerState::Paused);
        let timeout = if clean { self.stop_timeout(instance) } else { StopTimeout::KILL };
        self.driver.stop(uuid, timeout).await?;
        let _slot = tokio::select! {
            biased;
            () = cancelled.cancelled() => return Err(Error::Deleting(uuid)),
            slot = self.snapshot_slots.acquire() => slot,
        };
        self.fill_image(context, instance, image, Steps::SHELVING, cancelled).await?;
        let next = self.offloads_at_once().then_some(TaskState::ShelvingOffloading);
        let mut state = json!({
            "power_state": self.power_state(uuid).await?, "vm_state": VmState::Shelved, "task_state": next,
        });
        self.add_shelving_marks(context, uuid, image, &mut state).await?;
        let expected = Expected::OneOf(vec![Some(TaskState::Shelving), Some(TaskState::ShelvingImageUploading)]);
        self.save(context, instance, state, expected).await?;
        info!(%image, "shelved");
        Ok(())
    }

    /// Gives up a shelving that a restart has cut short. The container is still there; if it is stopped, so is its instance, soon.
    pub(in crate::compute) async fn fail_interrupted_shelve(
        &self,
        context: &Context,
        instance: &Instance,
    ) -> Result<(), Error> {
        let uuid = instance_uuid(instance)?;
        let _lock = self.locks.lock(uuid).await;
        let error = Error::exception(
            "NovaException",
            "the compute service was restarted while it shelved the instance; shelve it again",
            Value::Null,
        );
        self.discard_unfinished_snapshots(context, uuid).await?;
        self.forget_shelved_image(context, uuid).await;
        self.record_fault(context, uuid, &error).await;
        self.finish_event(context, uuid, "compute_shelve_instance", Some(&error)).await;
        self.set_state(context, uuid, json!({"task_state": null}), &still(instance.task_state())).await;
        Ok(())
    }

    /// The request with the image's id is lost, but Glance knows whose snapshots are not whole.
    pub(in crate::compute) async fn discard_unfinished_snapshots(
        &self,
        context: &Context,
        uuid: Uuid,
    ) -> Result<(), Error> {
        let instance = uuid.to_string();
        for kind in ["snapshot", "backup"] {
            let filters = [("image_type", kind), ("instance_uuid", instance.as_str())];
            let snapshots = self.cloud.glance.list(&self.caller(context), &filters, SNAPSHOTS).await?;
            for image in snapshots.iter().filter(|image| matches!(image.status.as_str(), "queued" | "saving")) {
                self.discard_snapshot(context, image.id).await;
            }
        }
        Ok(())
    }
}
