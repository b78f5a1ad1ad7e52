//! The manifests of an index. A client pushes each by its digest, and the index last: until then a manifest is an image of its
//! own, since it has to be found by its digest for ever, also when no index comes. Then the index's image has it as well.

use std::collections::HashSet;

use super::Push;
use super::manifest::Document;
use super::tags::untagged_name;
use crate::Digest;
use crate::public::name::tags_of;
use crate::public::{Grant, Name, property};

impl Push {
    /// Deletes the images of their own that an index's manifests have; they are among `parts` of its image. Those that have a
    /// tag stay, and so do those that say something of another manifest: they belong to that, and must not go with the
    /// index. What cannot be deleted is in the way of nothing.
    pub(super) async fn delete_child_images(&self, grant: &Grant, name: &Name, index: &Document, parts: &[Digest]) {
        if index.manifests().is_empty() {
            return;
        }
        let records = match self.images.of_repository(grant, name).await {
            Ok(records) => records,
            Err(error) => return tracing::warn!(%name, "images of an index are left over: {}", error.message),
        };
        let children = parts.iter().filter(|part| **part != index.digest);
        let names: HashSet<String> = children.map(|digest| untagged_name(name, digest)).collect();
        for (record, _) in records {
            let is_child = record.name.as_ref().is_some_and(|name| names.contains(name))
                && tags_of(&record, name.repository()).is_empty()
                && record.owner.as_deref() == Some(grant.owner.as_str())
                && property::text(&record, property::SUBJECT).is_none();
            if is_child && let Err(error) = self.glance.delete(&grant.caller(), record.id).await {
                tracing::warn!(image = %record.id, %name, %error, "an image of an index is left over");
            }
        }
        self.images.changed(grant);
    }
}
