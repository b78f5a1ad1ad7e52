//! What operations write into an instance's system metadata for a later one to find. A save replaces all of them, so they are read
//! again just before.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tracing::warn;
use uuid::Uuid;

use crate::compute::{Compute, error::Error};
use crate::{messaging::Context, objects::VmState};

const SHELVED_AT: &str = "shelved_at";
const SHELVED_IMAGE: &str = "shelved_image_id";
const SHELVED_HOST: &str = "shelved_host";
/// The state to which a suspended instance returns.
const OLD_VM_STATE: &str = "old_vm_state";

/// Since when an instance is shelved, as Nova writes it: `2026-11-22T14:11:25.307944`, in UTC.
pub(in crate::compute) fn shelved_at(metadata: &BTreeMap<String, String>) -> Option<String> {
    metadata.get(SHELVED_AT).map(|text| format!("{}Z", text.trim_end_matches('Z')))
}

/// The image that a shelved instance is in.
pub(in crate::compute) fn shelved_image(metadata: &BTreeMap<String, String>) -> Option<Uuid> {
    metadata.get(SHELVED_IMAGE).and_then(|id| Uuid::parse_str(id).ok())
}

impl Compute {
    async fn system_metadata(&self, context: &Context, uuid: Uuid) -> Result<BTreeMap<String, String>, Error> {
        let instance = self.conductor.instance(context, &uuid.to_string(), &["system_metadata"]).await?;
        Ok(instance.system_metadata())
    }

    /// Adds the marks of a shelving to `state`, which is to be saved.
    pub(in crate::compute) async fn add_shelving_marks(
        &self,
        context: &Context,
        uuid: Uuid,
        image: Uuid,
        state: &mut Value,
    ) -> Result<(), Error> {
        let mut metadata = self.system_metadata(context, uuid).await?;
        let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S%.6f").to_string();
        let marks = [(SHELVED_AT, now), (SHELVED_IMAGE, image.to_string()), (SHELVED_HOST, self.host.clone())];
        metadata.extend(marks.map(|(key, value)| (key.to_owned(), value)));
        state["system_metadata"] = json!(metadata);
        Ok(())
    }

    /// Takes the marks of a shelving out in `state`, which is to be saved. Returns the image that the instance was shelved into.
    pub(in crate::compute) async fn drop_shelving_marks(
        &self,
        context: &Context,
        uuid: Uuid,
        state: &mut Value,
    ) -> Result<Option<Uuid>, Error> {
        let mut metadata = self.system_metadata(context, uuid).await?;
        let image = metadata.get(SHELVED_IMAGE).and_then(|id| Uuid::parse_str(id).ok());
        let marks = metadata.len();
        metadata.retain(|key, _| ![SHELVED_AT, SHELVED_IMAGE, SHELVED_HOST].contains(&key.as_str()));
        if metadata.len() != marks {
            state["system_metadata"] = json!(metadata);
        }
        Ok(image)
    }

    /// The image of an instance that is back from the shelf. Without it nothing is amiss.
    pub(in crate::compute) async fn delete_shelved_image(&self, context: &Context, image: Uuid) {
        if let Err(error) = self.cloud.glance.delete(&self.caller(context), image).await {
            warn!(%error, %image, "cannot delete the image that the instance was shelved into");
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
    fn novas_time_of_a_shelving_is_read_with_and_without_its_zone() {
        let marks = |text: &str| BTreeMap::from([(SHELVED_AT.to_owned(), text.to_owned())]);
        for text in ["2026-11-22T14:11:25.307944", "2026-11-22T14:11:25Z"] {
            assert!(shelved_at(&marks(text)).unwrap().parse::<jiff::Timestamp>().is_ok(), "{text}");
        }
        assert_eq!(shelved_at(&BTreeMap::new()), None);
    }
}
