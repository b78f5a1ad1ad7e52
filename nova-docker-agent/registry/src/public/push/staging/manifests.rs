//! Manifests that were pushed by their digest, and that nobody has named yet.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{Staging, StagingError};
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
        let (name, digest) = (at.name.clone(), *digest);
        Ok(self
            .on_disk(&at.grant, move |staging, project| staging.manifest(project, name.repository(), &digest))
            .await?)
    }

    /// Lets one wait no more. Whether there was one.
    pub async fn drop_staged(&self, at: &Repository, digest: &Digest) -> Result<bool, StagingError> {
        let (name, digest) = (at.name.clone(), *digest);
        self.on_disk(&at.grant, move |staging, project| staging.remove_manifest(project, name.repository(), &digest))
            .await
    }

    /// The digests of those that wait, and say something of one of these manifests.
    pub async fn staged_referrers(&self, at: &Repository, subjects: &[Digest]) -> Result<Vec<Digest>, ApiError> {
        if subjects.is_empty() || !at.grant.sees_staged() {
            return Ok(vec![]);
        }
        let (name, subjects) = (at.name.clone(), subjects.iter().map(Digest::to_string).collect());
        let find = move |staging: &Staging, project: &str| staging.referrers(project, name.repository(), &subjects);
        Ok(self.on_disk(&at.grant, find).await?)
    }
}

impl Staging {
    /// Keeps a manifest, on the disk when this returns.
    pub fn keep_manifest(&self, project: &str, repository: &str, document: &Document) -> Result<(), StagingError> {
        let path = self.manifest_path(project, repository, &document.digest)?;
        self.admit(project, document.bytes.len() as u64)?;
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
    pub fn manifest(&self, project: &str, repository: &str, digest: &Digest) -> Result<Option<Document>, StagingError> {
        Ok(read(&self.manifest_path(project, repository, digest)?, digest)?)
    }

    /// Whether there was one.
    pub fn remove_manifest(&self, project: &str, repository: &str, digest: &Digest) -> Result<bool, StagingError> {
        Ok(files::remove(&self.manifest_path(project, repository, digest)?)?)
    }

    fn referrers(
        &self,
        project: &str,
        repository: &str,
        subjects: &HashSet<String>,
    ) -> Result<Vec<Digest>, StagingError> {
        let mut found = vec![];
        for path in entries(&self.project(project)?.join("manifests"))? {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let digest =
                name.strip_prefix(&prefix(repository)).and_then(|rest| rest.replacen('-', ":", 1).parse().ok());
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
    pub(super) fn manifest_path(
        &self,
        project: &str,
        repository: &str,
        digest: &Digest,
    ) -> Result<PathBuf, StagingError> {
        let name = format!("{}{}", prefix(repository), digest.to_string().replacen(':', "-", 1));
        Ok(self.project(project)?.join("manifests").join(name))
    }
}

/// Of the names of a repository's manifests.
fn prefix(repository: &str) -> String {
    format!("{}-", Digest::of(repository.as_bytes()).hex())
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
