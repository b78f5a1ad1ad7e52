//! Blobs that need no upload, because the user can read them elsewhere.

use std::sync::Arc;

use axum::body::Body;

use super::Push;
use super::receive::receive;
use super::staging::{Area, Mount, StagingError, blocking};
use crate::public::images::ReadableBlob;
use crate::public::{Action, Bearer, Grant, Name, Repository};
use crate::{ApiError, Digest};

impl Push {
    /// Whether `name` has the blob now. Without `from`, wherever the repository or its project has it.
    pub(super) async fn mount(
        &self,
        bearer: &Bearer,
        at: &Repository,
        from: Option<&str>,
        digest: &Digest,
    ) -> Result<bool, ApiError> {
        let grant = &at.grant;
        if let Some(blob) = self.images.blob(at, digest).await?
            && self.stays(grant, &*blob).await
        {
            return Ok(true);
        }
        if let Some(blob) = self.staged(at, digest).await?
            && self.stays(grant, &*blob).await
        {
            self.renew(at, vec![*digest]).await?;
            return Ok(true);
        }
        let Some(from) = from.and_then(|from| from.parse::<Name>().ok()) else { return Ok(false) };
        // What the user may not pull is to be uploaded, as if nobody had it.
        let Ok(source) = bearer.repository(&from, Action::Pull) else { return Ok(false) };
        if source.grant.owner != grant.owner && source.grant.owner == source.grant.project {
            let (theirs, digest) = (self.area(&source)?, *digest);
            if self.on_disk(at, move |ours| ours.share(&theirs, &digest)).await? {
                return Ok(true);
            }
        }
        self.mount_from_image(at, &source, digest).await
    }

    async fn mount_from_image(&self, at: &Repository, source: &Repository, digest: &Digest) -> Result<bool, ApiError> {
        let (from, owner) = (&source.name, &source.grant.owner);
        // As a member of the repository's own project, as who the manifest will be pushed.
        let as_ours = Repository { name: from.clone(), grant: Grant { owner: owner.clone(), ..at.grant.clone() } };
        if let Some(blob) = self.images.blob(&as_ours, digest).await?
            && self.stays(&at.grant, &*blob).await
        {
            let mount = Mount { from: from.to_string(), owner: owner.clone() };
            let digest = *digest;
            self.on_disk(at, move |area| area.mount(&digest, &mount)).await?;
            return Ok(true);
        }
        // An image that only its own project sees, or that may soon be deleted: the blob is copied while the user can read it.
        let Some(blob) = self.images.blob(source, digest).await? else { return Ok(false) };
        match self.copy(at, blob, digest).await {
            Ok(()) => Ok(true),
            Err(error) => {
                tracing::info!(name = %at.name, %from, %digest, "a blob was not mounted: {error}");
                Ok(false)
            }
        }
    }

    async fn copy(&self, at: &Repository, blob: Arc<dyn ReadableBlob>, digest: &Digest) -> Result<(), StagingError> {
        let (digest, size) = (*digest, blob.size());
        let begin = move |area: &Area| {
            let session = area.begin(digest.algorithm(), false)?;
            session.admit(size).map(|()| session)
        };
        let session = self.on_disk(at, begin).await?;
        // What breaks off has another digest.
        let (session, _) = receive(session, Body::from_stream(blob.read(0..size)), &self.stop).await?;
        blocking(move || session.complete(&[digest])).await
    }
}
