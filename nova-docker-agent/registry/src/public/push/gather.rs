//! Finds everything that a manifest refers to.

use std::collections::HashSet;
use std::sync::Arc;

use serde_json::json;

use super::Push;
use super::archive::Part;
use super::manifest::{Document, Pointer, invalid};
use crate::manifest::{MAX_ALL_MANIFESTS, MAX_DEPTH, MAX_MANIFESTS};
use crate::public::Repository;
use crate::public::images::{Age, Blobs};
use crate::{ApiError, Code, Digest};

/// What an image is made of.
pub struct Parts {
    /// Manifests, then configurations, then everything else.
    pub all: Vec<Part>,
    /// Whether a server can be launched from it.
    pub runnable: bool,
    /// What its manifests say something about.
    pub subjects: Vec<Digest>,
}

impl Push {
    /// Finds the blobs and manifests that `root` refers to, in the repository or among what its project has uploaded.
    ///
    /// # Errors
    /// [`Code::ManifestBlobUnknown`], with the digests of what is missing.
    pub(super) async fn gather(&self, at: &Repository, root: &Document) -> Result<Parts, ApiError> {
        self.check_number(root)?;
        let manifests = self.manifests(at, root).await?;
        let runnable = manifests.iter().any(Document::is_runnable);
        let subjects = manifests.iter().filter_map(|document| document.subject).collect();
        let wanted = self.wanted(&manifests)?;
        let blobs = self.blobs(at, wanted.iter().map(|pointer| pointer.digest).collect()).await?;
        let in_memory = |document: &Document| Part::new(document.digest, Arc::new(document.bytes.clone()));
        let mut all: Vec<Part> = manifests.iter().map(in_memory).collect();
        let mut missing = vec![];
        for pointer in wanted {
            match blobs.get(&pointer.digest) {
                Some(blob) => {
                    check_size(pointer, blob.size())?;
                    all.push(Part::new(pointer.digest, blob.clone()));
                }
                None if pointer.is_foreign() => {}
                None => missing.push(pointer.digest),
            }
        }
        if missing.is_empty() { Ok(Parts { all, runnable, subjects }) } else { Err(unknown(&missing)) }
    }

    /// As they are listed: whoever reads the manifest goes through all of them.
    fn check_number(&self, document: &Document) -> Result<(), ApiError> {
        let Document { config, blobs, manifests, .. } = document;
        check_number(blobs.len() + usize::from(config.is_some()), "blobs", self.config.max_blobs)?;
        check_number(manifests.len(), "manifests", self.config.max_blobs.min(MAX_MANIFESTS))
    }

    /// The configurations of all these manifests, then the other blobs, each once.
    fn wanted<'a>(&self, manifests: &'a [Document]) -> Result<Vec<&'a Pointer>, ApiError> {
        let mut seen: HashSet<Digest> = manifests.iter().map(|document| document.digest).collect();
        let (mut configs, mut others) = (vec![], vec![]);
        for document in manifests {
            configs.extend(document.config.iter().filter(|config| seen.insert(config.digest)));
            others.extend(document.blobs.iter().filter(|blob| seen.insert(blob.digest)));
        }
        configs.append(&mut others);
        check_number(configs.len(), "blobs", self.config.max_blobs)?;
        Ok(configs)
    }

    /// Those of the blobs that the project has uploaded, or the repository's images have.
    async fn blobs(&self, at: &Repository, mut digests: Vec<Digest>) -> Result<Blobs, ApiError> {
        let mut found = self.all_staged(at, digests.clone()).await?;
        digests.retain(|digest| !found.contains_key(digest));
        if !digests.is_empty() {
            found.extend(self.images.blobs(at, digests, Age::Seconds).await?);
        }
        Ok(found)
    }

    /// The manifest itself, and, of an index, those that it refers to.
    async fn manifests(&self, at: &Repository, root: &Document) -> Result<Vec<Document>, ApiError> {
        let mut found = vec![root.clone()];
        let mut waiting: Vec<_> = root.manifests.iter().rev().map(|child| (child.clone(), 1)).collect();
        let mut missing = vec![];
        while let Some((pointer, depth)) = waiting.pop() {
            if found.iter().any(|known| known.digest == pointer.digest) || missing.contains(&pointer.digest) {
                continue;
            }
            let total: usize = found.iter().map(|document| document.bytes.len()).sum();
            if depth > MAX_DEPTH || found.len() + missing.len() > MAX_MANIFESTS || total as u64 > MAX_ALL_MANIFESTS {
                return Err(invalid("it refers to too many manifests"));
            }
            let Some(child) = self.manifest(at, &pointer).await? else {
                missing.push(pointer.digest);
                continue;
            };
            waiting.extend(child.manifests.iter().rev().map(|grandchild| (grandchild.clone(), depth + 1)));
            found.push(child);
        }
        if missing.is_empty() { Ok(found) } else { Err(unknown(&missing)) }
    }

    /// A manifest that was pushed before.
    async fn manifest(&self, at: &Repository, pointer: &Pointer) -> Result<Option<Document>, ApiError> {
        if let Some(staged) = self.staged_manifest(at, &pointer.digest).await? {
            check_size(pointer, staged.bytes.len() as u64)?;
            return Ok(Some(staged));
        }
        let found = self.images.holder(at, &pointer.digest, Age::Seconds).await?;
        let Some(content) = found else { return Ok(None) };
        let Some((media_type, bytes)) = content.manifests.get(&pointer.digest) else { return Ok(None) };
        check_size(pointer, bytes.len() as u64)?;
        let media_type = Some(media_type.as_str()).filter(|media_type| !media_type.is_empty());
        Document::parse(bytes.clone(), media_type, pointer.digest.algorithm()).map(Some)
    }
}

fn check_number(found: usize, what: &str, limit: usize) -> Result<(), ApiError> {
    if found <= limit {
        return Ok(());
    }
    Err(invalid(format!("it refers to {found} {what}, and at most {limit} are possible")))
}

fn check_size(pointer: &Pointer, found: u64) -> Result<(), ApiError> {
    if pointer.size == found {
        return Ok(());
    }
    Err(invalid(format!("{} has {found} bytes, and not the {} that it says", pointer.digest, pointer.size)))
}

fn unknown(missing: &[Digest]) -> ApiError {
    let detail: Vec<_> = missing.iter().map(|digest| json!({"digest": digest.to_string()})).collect();
    let message = format!("what the manifest refers to is not in the repository: {}", missing[0]);
    let message = if missing.len() > 1 { format!("{message} and {} more", missing.len() - 1) } else { message };
    ApiError::new(Code::ManifestBlobUnknown, message).with_detail(detail.into())
}
