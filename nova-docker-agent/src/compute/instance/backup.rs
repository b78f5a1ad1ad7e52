//! `backup_instance`: a snapshot, and the oldest backups of the same kind that are one too many.

use std::sync::Arc;

use serde_json::Value;
use tracing::{info, warn};
use uuid::Uuid;

use crate::compute::{
    Compute,
    arguments::{Arguments, instance_uuid},
    duties::Duties,
    error::Error,
    instance::snapshot::Steps,
    operation::Method,
};
use crate::{
    messaging::Context,
    objects::{Instance, TaskState},
};

/// Backups of one server that are looked at; those beyond stay until there are fewer.
const MOST: usize = 10_000;
const TASKS: &[TaskState] = &[TaskState::ImageBackup, TaskState::ImagePendingUpload, TaskState::ImageUploading];

/// `backup_instance`.
pub(in crate::compute) struct Backup {
    instance: Instance,
    /// The queued image that the API has made.
    image: Uuid,
    /// The user's word for it: `daily`.
    kind: String,
    /// How many backups of this kind stay, the new one among them.
    rotation: usize,
}

impl Method for Backup {
    fn parse(mut arguments: Arguments) -> Result<Self, Error> {
        let image = arguments.id("image_id")?;
        let kind = arguments.text("backup_type")?.to_owned();
        let rotation = arguments.get("rotation").and_then(Value::as_u64).and_then(|count| usize::try_from(count).ok());
        let rotation = rotation.ok_or_else(|| arguments.bad("the argument `rotation` is not a count".to_owned()))?;
        Ok(Self { image, kind, rotation, instance: arguments.instance()? })
    }

    async fn run(self, compute: Arc<Compute>, context: &Context) -> Result<Value, Error> {
        compute.backup(context, self).await.map(|()| Value::Null)
    }
}

impl Compute {
    /// As a snapshot: without the lock, and what fails deletes the new image and no other.
    async fn backup(&self, context: &Context, backup: Backup) -> Result<(), Error> {
        let Backup { mut instance, image, kind, rotation } = backup;
        let uuid = instance_uuid(&instance)?;
        let _slot = self.snapshot_slots.acquire().await;
        self.operate(context, uuid, Duties::of("compute_backup_instance", TASKS), async {
            self.take_snapshot(context, &mut instance, image, Steps::BACKUP).await?;
            self.rotate_backups(context, &instance, &kind, rotation).await;
            Ok(())
        })
        .await
    }

    /// Deletes the oldest backups beyond `rotation`. One that cannot be deleted stays, and fails nothing.
    async fn rotate_backups(&self, context: &Context, instance: &Instance, kind: &str, rotation: usize) {
        let caller = self.caller(context);
        // The API has made the image in the project of whoever asked.
        let owner = context.project_id().or(instance.project_id()).unwrap_or_default();
        // The owner too: others may share images with this project, and put any property on them.
        let filters = [
            ("image_type", "backup"),
            ("backup_type", kind),
            ("instance_uuid", instance.uuid()),
            ("owner", owner),
            ("sort_key", "created_at"),
            ("sort_dir", "desc"),
        ];
        let mut backups = match self.cloud.glance.list(&caller, &filters, MOST).await {
            Ok(backups) => backups,
            Err(error) => {
                warn!(%error, kind, "cannot list the backups; none is rotated out");
                return;
            }
        };
        backups.retain(|backup| backup.status == "active");
        for old in backups.iter().skip(rotation).rev() {
            match self.cloud.glance.delete(&caller, old.id).await {
                Ok(_) => info!(image = %old.id, kind, "rotated a backup out"),
                Err(error) => warn!(%error, image = %old.id, kind, "cannot delete a backup that is one too many"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse(rotation: Value) -> Result<Backup, Error> {
        let instance = Instance::slim("6ff36a1a-8c2e-4b1c-859a-84bdd78d56c8").into_object().to_value();
        let arguments = json!({
            "instance": instance, "image_id": "5e6dc4bf-2f12-42e0-aa72-838721a7ffbf", "backup_type": "daily",
            "rotation": rotation,
        });
        Backup::parse(Arguments::new("backup_instance", arguments.as_object().unwrap().clone()))
    }

    #[test]
    fn a_backup_says_how_many_of_its_kind_stay() {
        let backup = parse(json!(0)).unwrap();
        assert_eq!((backup.kind.as_str(), backup.rotation), ("daily", 0));
        for nonsense in [json!(-1), json!(null), json!("two")] {
            assert!(matches!(parse(nonsense), Err(Error::BadRequest { .. })));
        }
    }
}
