//! The end-points of blob uploads: OCI distribution specification 1.1, "Pushing blobs" and "Mounting a blob from
//! another repository".

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::receive::{Ending, receive};
use super::request::{algorithm, content_range, created, digests, out_of_order, progress};
use super::staging::{Session, Staging, StagingError, Uploader, blocking};
use super::{Push, uploader};
use crate::http::{content_length, parameters};
use crate::public::{Bearer, Name, Repository};
use crate::{ApiError, Code, Digest};

/// A client that lost its connection comes back before this side has noticed.
const WAIT_FOR_OTHERS: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(50);

impl Push {
    /// `POST /v2/NAME/blobs/uploads/`: begins an upload, or makes it all at once (`?digest=`), or spares it
    /// (`?mount=`).
    pub async fn begin(
        &self,
        bearer: &Bearer,
        at: &Repository,
        query: &str,
        headers: &HeaderMap,
        body: Body,
    ) -> Result<Response, ApiError> {
        let name = &at.name;
        if let Some(digest) = parameters(query, "mount").next().and_then(|digest| digest.parse::<Digest>().ok()) {
            let from = parameters(query, "from").next();
            if self.mount(bearer, at, from.as_deref(), &digest).await? {
                return Ok(created(name, "blobs", &digest));
            }
        }
        let (staging, uploader, algorithm) = (self.staging.clone(), uploader(at), algorithm(query)?);
        let digests = digests(query)?;
        let Some(digest) = digests.first().copied() else {
            let session = blocking(move || staging.begin(&uploader, algorithm, true)).await?;
            return Ok(progress(StatusCode::ACCEPTED, name, session.id, 0));
        };
        let (name, length, stop) = (name.clone(), content_length(headers), self.stop.clone());
        self.run(async move {
            let session = blocking(move || staging.begin(&uploader, digest.algorithm(), false));
            let session = Chunk { name: &name, range: None, length, body, stop: &stop }.append(session.await?).await?;
            complete(session, &digests).await?;
            Ok(created(&name, "blobs", &digest))
        })
        .await
    }

    /// `PATCH /v2/NAME/blobs/uploads/ID`: the next chunk, or all of the blob.
    ///
    /// # Errors
    /// [`ApiError`] for the client: 416 for a chunk that is not the next one.
    pub async fn patch(
        &self,
        at: &Repository,
        id: Uuid,
        headers: &HeaderMap,
        body: Body,
    ) -> Result<Response, ApiError> {
        let (uploader, name, headers) = (uploader(at), at.name.clone(), headers.clone());
        let (staging, stop) = (self.staging.clone(), self.stop.clone());
        self.run(async move {
            let session = resume(&staging, &uploader, id).await?;
            let session = Chunk::of(&name, &headers, body, &stop, &session)?.append(session).await?;
            let offset = session.offset();
            blocking(move || session.sync()).await?;
            Ok(progress(StatusCode::ACCEPTED, &name, id, offset))
        })
        .await
    }

    /// `PUT /v2/NAME/blobs/uploads/ID?digest=`: completes an upload, with a last chunk or without.
    ///
    /// # Errors
    /// [`ApiError`] for the client; an upload that has another digest is gone then.
    pub async fn finish(
        &self,
        at: &Repository,
        id: Uuid,
        query: &str,
        headers: &HeaderMap,
        body: Body,
    ) -> Result<Response, ApiError> {
        let (uploader, name, headers) = (uploader(at), at.name.clone(), headers.clone());
        let digests = digests(query)?;
        let missing = || ApiError::new(Code::DigestInvalid, "the digest is missing: PUT .../UPLOAD?digest=sha256:...");
        let digest = digests.first().copied().ok_or_else(missing)?;
        let (staging, stop) = (self.staging.clone(), self.stop.clone());
        self.run(async move {
            let session = resume(&staging, &uploader, id).await?;
            let session = Chunk::of(&name, &headers, body, &stop, &session)?.append(session).await?;
            complete(session, &digests).await?;
            Ok(created(&name, "blobs", &digest))
        })
        .await
    }

    /// `GET /v2/NAME/blobs/uploads/ID`: how much has come.
    pub async fn status(&self, at: &Repository, id: Uuid) -> Result<Response, ApiError> {
        let (uploader, staging) = (uploader(at), self.staging.clone());
        let received = blocking(move || staging.received(&uploader, id)).await?;
        Ok(progress(StatusCode::NO_CONTENT, &at.name, id, received))
    }

    /// `DELETE /v2/NAME/blobs/uploads/ID`: gives an upload up.
    pub async fn cancel(&self, at: &Repository, id: Uuid) -> Result<Response, ApiError> {
        let session = resume(&self.staging, &uploader(at), id).await?;
        blocking(move || {
            session.cancel();
            Ok(())
        })
        .await?;
        Ok(StatusCode::NO_CONTENT.into_response())
    }
}

/// Takes up an upload, when the request before has left it.
async fn resume(staging: &Arc<Staging>, uploader: &Uploader, id: Uuid) -> Result<Session, StagingError> {
    let deadline = Instant::now() + WAIT_FOR_OTHERS;
    loop {
        let (staging, uploader) = (staging.clone(), uploader.clone());
        match blocking(move || staging.session(&uploader, id)).await {
            // The other request may be another process's: there is nothing to wait for but the lock.
            Err(StagingError::Busy) if Instant::now() < deadline => tokio::time::sleep(POLL).await,
            result => return result,
        }
    }
}

/// What a request brings.
struct Chunk<'a> {
    name: &'a Name,
    /// Which bytes of the blob it says to bring.
    range: Option<std::ops::RangeInclusive<u64>>,
    /// How many bytes it says to bring.
    length: Option<u64>,
    body: Body,
    stop: &'a CancellationToken,
}

impl<'a> Chunk<'a> {
    /// What is to be appended to `session`.
    fn of(
        name: &'a Name,
        headers: &HeaderMap,
        body: Body,
        stop: &'a CancellationToken,
        session: &Session,
    ) -> Result<Self, ApiError> {
        let range = content_range(headers).map_err(|()| out_of_order(name, session.id, session.offset()))?;
        Ok(Self { name, range, length: content_length(headers), body, stop })
    }

    /// Appends the chunk to its upload. Of one that breaks off, what has come is kept; of one that is refused, nothing.
    async fn append(self, session: Session) -> Result<Session, ApiError> {
        let (id, before) = (session.id, session.offset());
        if self.range.as_ref().is_some_and(|range| *range.start() != before) {
            return Err(out_of_order(self.name, id, before));
        }
        let ranged = self.range.map(|range| range.end() - range.start() + 1);
        if let (Some(ranged), Some(length)) = (ranged, self.length)
            && ranged != length
        {
            return Err(wrong_size(ranged, length));
        }
        let announced = ranged.or(self.length);
        let session = blocking(move || session.admit(announced.unwrap_or(0)).map(|()| session)).await?;
        let (session, received) = receive(session, self.body, self.stop).await;
        let (received, ending) = received?;
        let mut session = session.ok_or(StagingError::ShuttingDown)?;
        match (ending, announced) {
            // HTTP's own length was not reached: not the client's word against its deed, but a connection that ended.
            (Ending::Whole, Some(announced)) if received != announced && self.length != Some(announced) => {
                blocking(move || session.roll_back()).await?;
                Err(wrong_size(announced, received))
            }
            (Ending::Whole, announced) if announced.is_none_or(|announced| announced == received) => Ok(session),
            _ => {
                let message = format!("the transfer broke off; {received} bytes of it were kept");
                Err(ApiError::new(Code::BlobUploadInvalid, message))
            }
        }
    }
}

fn wrong_size(announced: u64, found: u64) -> ApiError {
    ApiError::new(Code::SizeInvalid, format!("the chunk has {found} bytes where {announced} were announced"))
}

/// Makes a blob of an upload that has all of these digests.
async fn complete(session: Session, digests: &[Digest]) -> Result<(), StagingError> {
    let digests = digests.to_vec();
    blocking(move || session.complete(&digests)).await
}
