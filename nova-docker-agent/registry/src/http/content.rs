//! Answers that carry content: manifests and blobs, each known by its digest.

use std::ops::Range;

use axum::body::Body;
use axum::http::header::{
    ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderName, IF_NONE_MATCH, IF_RANGE, RANGE,
};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::{Stream, StreamExt};

use super::header;
use crate::{ApiError, Code, Digest, Error, SourceError};

pub const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

/// A manifest or a configuration, whole.
pub fn document(headers: &HeaderMap, digest: Digest, media_type: &str, bytes: Bytes) -> Response {
    if is_unchanged(headers, digest) {
        return (StatusCode::NOT_MODIFIED, identity(digest)).into_response();
    }
    let described = [(CONTENT_TYPE, media_type.to_owned()), (CONTENT_LENGTH, bytes.len().to_string())];
    (identity(digest), described, bytes).into_response()
}

/// A blob of `size` bytes, or the part of it that the request asks for. The answer begins when `read` has given its first
/// bytes, so that a status can report what fails at once.
pub async fn blob<S>(
    (method, headers): (&Method, &HeaderMap),
    digest: Digest,
    size: u64,
    read: impl FnOnce(Range<u64>) -> S,
) -> Result<Response, ApiError>
where
    S: Stream<Item = Result<Bytes, Error>> + Send + Unpin + 'static,
{
    if is_unchanged(headers, digest) {
        return Ok((StatusCode::NOT_MODIFIED, identity(digest)).into_response());
    }
    let (range, part) = match wanted(headers, digest, size) {
        Wanted::All => (0..size, None),
        Wanted::Part(range) => (range.clone(), Some(format!("bytes {}-{}/{size}", range.start, range.end - 1))),
        Wanted::Unsatisfiable => {
            let end = [(CONTENT_RANGE, format!("bytes */{size}"))];
            return Ok((StatusCode::RANGE_NOT_SATISFIABLE, identity(digest), end).into_response());
        }
    };
    let status = if part.is_some() { StatusCode::PARTIAL_CONTENT } else { StatusCode::OK };
    let described = [
        (CONTENT_TYPE, "application/octet-stream".to_owned()),
        (CONTENT_LENGTH, (range.end - range.start).to_string()),
        (ACCEPT_RANGES, "bytes".to_owned()),
    ];
    let head = (identity(digest), described, part.map(|part| [(CONTENT_RANGE, part)]));
    if method == Method::HEAD {
        return Ok((status, head, ()).into_response());
    }
    let mut bytes = read(range);
    let first = bytes.next().await.transpose().map_err(|error| unreadable(&error))?;
    let body = Body::from_stream(futures::stream::iter(first.map(Ok)).chain(bytes));
    Ok((status, head, body).into_response())
}

/// Why a blob cannot be read. No text names an image: dockerd lets pulls of several images wait for one layer, and repeats to
/// each what the first was told. The codes decide whether a client tries again.
pub fn unreadable(error: &Error) -> ApiError {
    match error {
        Error::BadImage { problem, .. } => ApiError::new(Code::Unsupported, format!("the image is damaged: {problem}"))
            .with_status(StatusCode::UNPROCESSABLE_ENTITY),
        Error::Source { cause: SourceError::Forbidden(_), .. } => {
            ApiError::new(Code::Denied, "the image service does not let you read this image")
        }
        Error::Source { cause: SourceError::NotFound(_), .. } => {
            ApiError::new(Code::BlobUnknown, "the blob is no longer in the image service")
        }
        Error::NoSpace { .. } => ApiError::new(Code::Unknown, "there is no room for the blob"),
        _ => {
            tracing::warn!("a blob cannot be read: {error}");
            ApiError::new(Code::Unavailable, "the blob cannot be read now; try again")
        }
    }
}

/// The headers of every answer about content with this digest.
fn identity(digest: Digest) -> [(HeaderName, String); 2] {
    [(CONTENT_DIGEST, digest.to_string()), (ETAG, etag(digest))]
}

fn etag(digest: Digest) -> String {
    format!("\"{digest}\"")
}

/// Whether the client already has this content.
fn is_unchanged(headers: &HeaderMap, digest: Digest) -> bool {
    header(headers, IF_NONE_MATCH)
        .is_some_and(|known| known == "*" || known.split(',').any(|tag| tag.trim() == etag(digest)))
}

/// The part of content with this digest and size that a request asks for.
fn wanted(headers: &HeaderMap, digest: Digest, size: u64) -> Wanted {
    match header(headers, IF_RANGE) {
        Some(tag) if tag != etag(digest) => Wanted::All,
        _ => Wanted::of(header(headers, RANGE), size),
    }
}

/// What a request asks for of some content: one range of bytes (RFC 9110, section 14), as clients of a registry do.
#[derive(Debug, PartialEq, Eq)]
enum Wanted {
    All,
    Part(Range<u64>),
    /// A range that begins after the end: 416.
    Unsatisfiable,
}

impl Wanted {
    /// The part of `size` bytes that the header asks for. A header that is not understood is ignored, as the RFC wants it.
    fn of(header: Option<&str>, size: u64) -> Self {
        let Some((first, last)) = header.and_then(|header| header.strip_prefix("bytes=")?.split_once('-')) else {
            return Self::All;
        };
        let number = |text: &str| text.trim().parse::<u64>().ok();
        match (number(first), number(last)) {
            (Some(first), _) if last.trim().is_empty() => Self::part(first, size, size),
            (Some(first), Some(last)) if first <= last => Self::part(first, last.saturating_add(1).min(size), size),
            (None, Some(0)) if first.trim().is_empty() => Self::Unsatisfiable,
            (None, Some(length)) if first.trim().is_empty() => Self::part(size.saturating_sub(length), size, size),
            _ => Self::All,
        }
    }

    fn part(start: u64, end: u64, size: u64) -> Self {
        if start >= size { Self::Unsatisfiable } else { Self::Part(start..end) }
    }
}

#[cfg(test)]
mod tests;
