//! Manifests that were pushed by their digest, and that nobody has named yet.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{Area, StagingError};
use crate::files::{self, At, FileError, entries, if_there, make_parent};
use crate::public::Repository;
use crate::public::push::Push;
use crate::public::push::manifest::Document;
use crate::{ApiError, Digest};

/// Of one project, at one time.
const MAX_MANIFESTS: usize = 4096;

/// The first line of a file; the manifest follows.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Head {
    media_type: String,
    subject: Option<String>,
}

impl Push {
    /// A manifest that waits for its name, for whoever may see what the project has uploaded.
    pub async fn staged_manifest(&self, at: &Repository, digest: &Digest) -> Result<Option<Document>, ApiError> {
        if !at.grant.sees_staged() {
            return Ok(None);
        }
        let digest = *digest;
        Ok(self.on_disk(at, move |area| area.manifest(&digest)).await?)
    }

    /// Lets one wait no more. Whether there was one.
    pub async fn drop_staged(&self, at: &Repository, digest: &Digest) -> Result<bool, StagingError> {
        let digest = *digest;
        self.on_disk(at, move |area| area.remove_manifest(&digest)).await
    }

    /// The digests of those that wait, and say something of one of these manifests.
    pub async fn staged_referrers(&self, at: &Repository, subjects: &[Digest]) -> Result<Vec<Digest>, ApiError> {
        if subjects.is_empty() || !at.grant.sees_staged() {
            return Ok(vec![]);
        }
        let subjects = subjects.iter().map(Digest::to_string).collect();
        Ok(self.on_disk(at, move |area| area.referrers(&subjects)).await?)
    }
}

impl Area {
    /// Keeps a manifest, on the disk when this returns.
    pub fn keep_manifest(&self, document: &Document) -> Result<(), StagingError> {
        let path = self.manifest_path(&document.digest);
        self.admit(document.bytes.len() as u64)?;
        make_parent(&path)?;
        if entries(path.parent().unwrap_or(&path))?.len() >= MAX_MANIFESTS && !path.exists() {
            let (what, advice) = ("manifests that have no tag and are in no index", "tag or delete some");
            return Err(StagingError::TooMany { limit: MAX_MANIFESTS, what, advice });
        }
        let subject = document.subject.map(|subject| subject.to_string());
        let head = Head { media_type: document.media_type.clone(), subject };
        let mut content = serde_json::to_vec(&head).map_err(io::Error::from).at("write", &path)?;
        content.push(b'\n');
        content.extend_from_slice(&document.bytes);
        Ok(files::write_durably(&path, &content)?)
    }

    /// A manifest of the repository that was kept.
    pub fn manifest(&self, digest: &Digest) -> Result<Option<Document>, StagingError> {
        Ok(read(&self.manifest_path(digest), digest)?)
    }

    /// Whether there was one.
    pub fn remove_manifest(&self, digest: &Digest) -> Result<bool, StagingError> {
        Ok(files::remove(&self.manifest_path(digest))?)
    }

    fn referrers(&self, subjects: &HashSet<String>) -> Result<Vec<Digest>, StagingError> {
        let mut found = vec![];
        for path in entries(&self.directory.join("manifests"))? {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let digest = name.strip_prefix(&self.prefix()).and_then(|rest| rest.replacen('-', ":", 1).parse().ok());
            let Some(digest) = digest else { continue };
            let subject = match open(&path) {
                Ok(head) => head.and_then(|(head, _)| head.subject),
                // One that is damaged is in the way of no other.
                Err(error) => {
                    tracing::warn!(%error, "a manifest that waits for its name cannot be read");
                    continue;
                }
            };
            if subject.is_some_and(|subject| subjects.contains(&subject)) {
                found.push(digest);
            }
        }
        Ok(found)
    }

    /// One directory for all repositories: they leave no empty ones behind.
    pub(super) fn manifest_path(&self, digest: &Digest) -> PathBuf {
        let name = format!("{}{}", self.prefix(), digest.to_string().replacen(':', "-", 1));
        self.directory.join("manifests").join(name)
    }

    /// Of the names of the repository's manifests.
    fn prefix(&self) -> String {
        format!("{}-", Digest::of(self.repository.as_bytes()).hex())
    }
}

fn read(path: &Path, digest: &Digest) -> Result<Option<Document>, FileError> {
    let Some((head, mut rest)) = open(path)? else { return Ok(None) };
    let mut bytes = vec![];
    rest.read_to_end(&mut bytes).at("read", path)?;
    let document = Document::parse(Bytes::from(bytes), Some(&head.media_type), digest.algorithm());
    match document {
        Ok(document) if document.digest == *digest => Ok(Some(document)),
        _ => Err(io::ErrorKind::InvalidData.into()).at("read", path),
    }
}

/// None where it is not there, or not any more.
fn open(path: &Path) -> Result<Option<(Head, BufReader<File>)>, FileError> {
    let read = || -> io::Result<_> {
        let mut file = BufReader::new(File::open(path)?);
        let mut line = String::new();
        file.read_line(&mut line)?;
        Ok((serde_json::from_str(&line)?, file))
    };
    if_there(read()).at("read", path)
}
