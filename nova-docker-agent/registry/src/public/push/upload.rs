//! The end-points of blob uploads: OCI distribution specification 1.1, "Pushing blobs" and "Mounting a blob from
//! another repository".

use std::ops::RangeInclusive;
use std::time::Duration;

use axum::body::Body;
use axum::http::header::CONTENT_RANGE;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::Push;
use super::receive::{Ending, receive};
use super::request::{algorithm, content_range, created, digests, out_of_order, progress};
use super::staging::{Area, Session, StagingError, blocking};
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
        let (area, algorithm, digests) = (self.area(at)?, algorithm(query)?, digests(query)?);
        let Some(digest) = digests.first().copied() else {
            let session = blocking(move || area.begin(algorithm, true)).await?;
            return Ok(progress(StatusCode::ACCEPTED, name, session.id, 0));
        };
        let (name, stop, mut headers) = (name.clone(), self.stop.clone(), headers.clone());
        // It brings all of the blob, whatever it says.
        headers.remove(CONTENT_RANGE);
        self.run(async move {
            let session = blocking(move || area.begin(digest.algorithm(), false)).await?;
            let session = append(session, &name, &headers, body, &stop).await?;
            blocking(move || session.complete(&digests)).await?;
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
        let (area, name, stop, headers) = (self.area(at)?, at.name.clone(), self.stop.clone(), headers.clone());
        self.run(async move {
            let session = append(resume(&area, id).await?, &name, &headers, body, &stop).await?;
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
        let digests = digests(query)?;
        let missing = || ApiError::new(Code::DigestInvalid, "the digest is missing: PUT .../UPLOAD?digest=sha256:...");
        let digest = digests.first().copied().ok_or_else(missing)?;
        let (area, name, stop, headers) = (self.area(at)?, at.name.clone(), self.stop.clone(), headers.clone());
        self.run(async move {
            let session = append(resume(&area, id).await?, &name, &headers, body, &stop).await?;
            blocking(move || session.complete(&digests)).await?;
            Ok(created(&name, "blobs", &digest))
        })
        .await
    }

    /// `GET /v2/NAME/blobs/uploads/ID`: how much has come.
    pub async fn status(&self, at: &Repository, id: Uuid) -> Result<Response, ApiError> {
        let received = self.on_disk(at, move |area| area.received(id)).await?;
        Ok(progress(StatusCode::NO_CONTENT, &at.name, id, received))
    }

    /// `DELETE /v2/NAME/blobs/uploads/ID`: gives an upload up.
    pub async fn cancel(&self, at: &Repository, id: Uuid) -> Result<Response, ApiError> {
        let session = resume(&self.area(at)?, id).await?;
        blocking(move || {
            session.cancel();
            Ok(())
        })
        .await?;
        Ok(StatusCode::NO_CONTENT.into_response())
    }
}

/// Takes up an upload, when the request before has left it.
async fn resume(area: &Area, id: Uuid) -> Result<Session, StagingError> {
    let deadline = Instant::now() + WAIT_FOR_OTHERS;
    loop {
        let area = area.clone();
        match blocking(move || area.session(id)).await {
            // The other request may be another process's: there is nothing to wait for but the lock.
            Err(StagingError::Busy) if Instant::now() < deadline => tokio::time::sleep(POLL).await,
            result => return result,
        }
    }
}

/// Appends what a request brings to its upload. Of what breaks off, everything that has come is kept; of what is refused, nothing.
async fn append(
    session: Session,
    name: &Name,
    headers: &HeaderMap,
    body: Body,
    stop: &CancellationToken,
) -> Result<Session, ApiError> {
    let (id, before) = (session.id, session.offset());
    let is_next = |range: &RangeInclusive<u64>| *range.start() == before;
    let range = content_range(headers).ok().filter(|range| range.as_ref().is_none_or(is_next));
    let range = range.ok_or_else(|| out_of_order(name, id, before))?;
    let (ranged, length) = (range.map(|range| range.end() - range.start() + 1), content_length(headers));
    if let (Some(ranged), Some(length)) = (ranged, length)
        && ranged != length
    {
        return Err(wrong_size(ranged, length));
    }
    let announced = ranged.or(length);
    let session = blocking(move || session.admit(announced.unwrap_or(0)).map(|()| session)).await?;
    let (session, ending) = receive(session, body, stop).await?;
    let received = session.offset() - before;
    match (ending, announced) {
        // HTTP's own length was not reached: not the client's word against its deed, but a connection that ended.
        (Ending::Whole, Some(announced)) if received != announced && length != Some(announced) => {
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

fn wrong_size(announced: u64, found: u64) -> ApiError {
    ApiError::new(Code::SizeInvalid, format!("the chunk has {found} bytes where {announced} were announced"))
}
