//! What operations write into an instance's system metadata for a later one to find. A save replaces all of them, so they are read
//! again just before.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tracing::warn;
use uuid::Uuid;

use crate::compute::{Compute, error::Error};
use crate::{
    messaging::Context,
    objects::{Expected, Instance, PowerState, TaskState, VmState},
};

const SHELVED_AT: &str = "shelved_at";
const SHELVED_IMAGE: &str = "shelved_image_id";
const SHELVED_HOST: &str = "shelved_host";
/// The state to which a suspended instance returns.
const OLD_VM_STATE: &str = "old_vm_state";

/// Since when an instance is shelved, as Nova writes it: `2026-11-22T14:11:25.307944`, in UTC.
pub(in crate::compute) fn shelved_at(metadata: &BTreeMap<String, String>) -> Option<String> {
    metadata.get(SHELVED_AT).map(|text| format!("{}Z", text.trim_end_matches('Z')))
}

/// The image that a shelved instance is in, or one that is on its way to the shelf, or back.
pub(in crate::compute) fn shelved_image(metadata: &BTreeMap<String, String>) -> Option<Uuid> {
    metadata.get(SHELVED_IMAGE).and_then(|id| Uuid::parse_str(id).ok())
}

/// Whether there is an image that the instance was to be shelved into, or came back from, and that nobody needs.
pub(in crate::compute) fn has_useless_image(instance: &Instance, actual: PowerState) -> bool {
    shelved_image(&instance.system_metadata()).is_some()
        && is_off_the_shelf(instance.vm_state(), instance.task_state(), actual)
}

/// Whether the image that an instance was shelved into is of no use: the instance has its files, or is being deleted. Where there is no
/// container, its state may be an operator's word, and the image all that there is.
fn is_off_the_shelf(vm_state: Option<VmState>, task: Option<TaskState>, actual: PowerState) -> bool {
    let in_use = matches!(vm_state, Some(VmState::Active | VmState::Stopped | VmState::Paused | VmState::Suspended));
    in_use && (task == Some(TaskState::Deleting) || (task.is_none() && actual != PowerState::NoState))
}

impl Compute {
    async fn system_metadata(&self, context: &Context, uuid: Uuid) -> Result<BTreeMap<String, String>, Error> {
        let instance = self.conductor.instance(context, &uuid.to_string(), &["system_metadata"]).await?;
        Ok(instance.system_metadata())
    }

    /// Adds the marks of a shelving to `state`, which is to be saved. The image of a former shelving, whose mark goes.
    pub(in crate::compute) async fn add_shelving_marks(
        &self,
        context: &Context,
        uuid: Uuid,
        image: Uuid,
        state: &mut Value,
    ) -> Result<Option<Uuid>, Error> {
        let mut metadata = self.system_metadata(context, uuid).await?;
        let former = shelved_image(&metadata).filter(|former| *former != image);
        let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S%.6f").to_string();
        let marks = [(SHELVED_AT, now), (SHELVED_IMAGE, image.to_string()), (SHELVED_HOST, self.host.clone())];
        metadata.extend(marks.map(|(key, value)| (key.to_owned(), value)));
        state["system_metadata"] = json!(metadata);
        Ok(former)
    }

    /// Takes the marks of a shelving out.
    async fn drop_shelving_marks(&self, context: &Context, uuid: Uuid) -> Result<(), Error> {
        let mut metadata = self.system_metadata(context, uuid).await?;
        metadata.retain(|key, _| ![SHELVED_AT, SHELVED_IMAGE, SHELVED_HOST].contains(&key.as_str()));
        self.set_state(context, uuid, json!({"system_metadata": metadata}), &Expected::Any).await;
        Ok(())
    }

    /// Deletes the image of an instance that is not on the shelf, and forgets it only then: what a crash leaves between is found by the
    /// next start. Without it nothing is amiss.
    pub(in crate::compute) async fn forget_shelved_image(&self, context: &Context, uuid: Uuid) {
        let forgotten = async {
            let Some(image) = shelved_image(&self.system_metadata(context, uuid).await?) else { return Ok(()) };
            self.cloud.glance.delete(&self.caller(context), image).await?;
            self.drop_shelving_marks(context, uuid).await
        };
        if let Err(error) = forgotten.await {
            warn!(%error, "the image that the instance was shelved into stays until the next start");
        }
    }

    /// Deletes the image of a former shelving, which could not be deleted then, and whose mark goes.
    pub(in crate::compute) async fn discard_former_image(&self, context: &Context, image: Uuid) {
        if let Err(error) = self.cloud.glance.delete(&self.caller(context), image).await {
            warn!(%error, %image, "the image of a former shelving stays, and no mark of it: delete it");
        }
    }

    /// Remembers in `state`, which is to be saved, the state that a suspended instance is to return to.
    pub(in crate::compute) async fn remember_vm_state(
        &self,
        context: &Context,
        uuid: Uuid,
        now: VmState,
        state: &mut Value,
    ) -> Result<(), Error> {
        let mut metadata = self.system_metadata(context, uuid).await?;
        metadata.insert(OLD_VM_STATE.to_owned(), now.as_str().to_owned());
        state["system_metadata"] = json!(metadata);
        Ok(())
    }

    /// The state that was remembered; it is forgotten in `state`, which is to be saved. Nova takes `active` where there is none.
    pub(in crate::compute) async fn recall_vm_state(
        &self,
        context: &Context,
        uuid: Uuid,
        state: &mut Value,
    ) -> Result<VmState, Error> {
        let mut metadata = self.system_metadata(context, uuid).await?;
        let Some(name) = metadata.remove(OLD_VM_STATE) else { return Ok(VmState::Active) };
        state["system_metadata"] = json!(metadata);
        Ok(match VmState::of(&name) {
            VmState::Unknown => VmState::Active,
            known => known,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_image_of_a_shelving_goes_once_the_instance_has_its_files_or_is_deleted_and_never_before() {
        let of = is_off_the_shelf;
        assert!(of(Some(VmState::Active), None, PowerState::Running), "killed after its way back");
        assert!(of(Some(VmState::Stopped), None, PowerState::Shutdown), "its shelving was given up");
        assert!(
            of(Some(VmState::Active), Some(TaskState::Deleting), PowerState::NoState),
            "Nova sees to shelved ones only"
        );
        assert!(
            !of(Some(VmState::Active), Some(TaskState::ShelvingImageUploading), PowerState::Shutdown),
            "on its way"
        );
        assert!(
            !of(Some(VmState::Active), None, PowerState::NoState),
            "called active by an operator, without its files"
        );
        for vm_state in [VmState::Shelved, VmState::ShelvedOffloaded, VmState::Error] {
            for task in [None, Some(TaskState::Spawning), Some(TaskState::Deleting)] {
                assert!(!of(Some(vm_state), task, PowerState::Shutdown), "{vm_state:?} {task:?}");
            }
        }
    }

    #[test]
    fn novas_time_of_a_shelving_is_read_with_and_without_its_zone() {
        let marks = |text: &str| BTreeMap::from([(SHELVED_AT.to_owned(), text.to_owned())]);
        for text in ["2026-11-22T14:11:25.307944", "2026-11-22T14:11:25Z"] {
            assert!(shelved_at(&marks(text)).unwrap().parse::<jiff::Timestamp>().is_ok(), "{text}");
        }
        assert_eq!(shelved_at(&BTreeMap::new()), None);
    }
}
