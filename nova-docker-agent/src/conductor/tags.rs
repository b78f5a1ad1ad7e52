//! Tags of servers, each a row of its own: others write theirs at the same time.

use super::{Conductor, found, kwargs};
use crate::messaging::{CallError, Context};
use crate::objects::Object;

const CLASS: &str = "Tag";

impl Conductor {
    /// Gives an instance a tag; no failure when it has it.
    ///
    /// # Errors
    /// `InstanceNotFound` when it was deleted.
    pub async fn add_tag(&self, context: &Context, uuid: &str, tag: &str) -> Result<(), CallError> {
        let mut row = Object::new(CLASS, "1.1");
        row.set("resource_id", uuid);
        row.set("tag", tag);
        self.act(context, &mut row, "create").await
    }

    /// Takes a tag from an instance; no failure when it has none such.
    ///
    /// # Errors
    /// `InstanceNotFound` when it was deleted.
    pub async fn remove_tag(&self, context: &Context, uuid: &str, tag: &str) -> Result<(), CallError> {
        let args = vec![uuid.into(), tag.into()];
        let removed = self.class_action(context, CLASS, "destroy", args, kwargs([])).await;
        found(removed, &["InstanceTagNotFound"]).map(drop)
    }
}
