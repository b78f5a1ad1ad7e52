//! What the requests of a push say in their query and headers, and what they are answered.

use std::ops::RangeInclusive;

use axum::http::header::{CONTENT_RANGE, LOCATION, RANGE};
use axum::http::{HeaderMap, HeaderName, StatusCode};
use axum::response::{IntoResponse, Response};
use uuid::Uuid;

use crate::http::content::CONTENT_DIGEST;
use crate::http::parameters;
use crate::public::Name;
use crate::{Algorithm, ApiError, Code, Digest};

/// An upload's id, which dockerd logs.
const UPLOAD_ID: HeaderName = HeaderName::from_static("docker-upload-uuid");

/// The `digest` parameters, each once. Several may name the same content, by an algorithm each.
pub fn digests(query: &str) -> Result<Vec<Digest>, ApiError> {
    let mut found: Vec<Digest> = vec![];
    for text in parameters(query, "digest") {
        let digest: Digest = text.parse()?;
        match found.iter().find(|known| known.algorithm() == digest.algorithm()) {
            None => found.push(digest),
            Some(known) if *known == digest => {}
            Some(known) => {
                let message = format!("no content has both {known} and {digest}");
                return Err(ApiError::new(Code::DigestInvalid, message));
            }
        }
    }
    Ok(found)
}

/// By what the client is going to name the digest (1.2, `digest-algorithm`).
pub fn algorithm(query: &str) -> Result<Algorithm, ApiError> {
    let Some(name) = parameters(query, "digest-algorithm").next() else { return Ok(Algorithm::Sha256) };
    Algorithm::named(&name).ok_or_else(|| ApiError::new(Code::DigestInvalid, "digests are by sha256 or sha512"))
}

/// Which bytes of the blob the body has: `FIRST-LAST`, in HTTP's own form too (`bytes FIRST-LAST/*`).
///
/// # Errors
/// There is such a header, and it is not understood.
pub fn content_range(headers: &HeaderMap) -> Result<Option<RangeInclusive<u64>>, ()> {
    let Some(value) = headers.get(CONTENT_RANGE) else { return Ok(None) };
    let text = value.to_str().map_err(|_| ())?.trim();
    let text = text.strip_prefix("bytes").map_or(text, |rest| rest.trim_start_matches(['=', ' ']));
    let (first, last) = text.split('/').next().and_then(|range| range.split_once('-')).ok_or(())?;
    let number = |text: &str| text.trim().parse::<u64>().map_err(|_| ());
    let (first, last) = (number(first)?, number(last)?);
    if first <= last && last < u64::MAX { Ok(Some(first..=last)) } else { Err(()) }
}

/// Where an upload stands: on every answer about one.
pub fn progress(status: StatusCode, name: &Name, id: Uuid, offset: u64) -> Response {
    (status, progress_headers(name, id, offset)).into_response()
}

/// A chunk that does not begin where the last one ended: 416, with where that is.
pub fn out_of_order(name: &Name, id: Uuid, offset: u64) -> ApiError {
    let message = format!("the upload has {offset} bytes: the next chunk has to begin there");
    let error = ApiError::new(Code::BlobUploadInvalid, message).with_status(StatusCode::RANGE_NOT_SATISFIABLE);
    progress_headers(name, id, offset).into_iter().fold(error, |error, (name, value)| error.with_header(name, value))
}

fn progress_headers(name: &Name, id: Uuid, offset: u64) -> [(HeaderName, String); 3] {
    // The last byte that is there. There is no way to say that there is none: clients know 0-0 for it.
    let range = format!("0-{}", offset.saturating_sub(1));
    [(LOCATION, format!("/v2/{name}/blobs/uploads/{id}")), (RANGE, range), (UPLOAD_ID, id.to_string())]
}

/// What is to be found under its digest now: `kind` is `blobs` or `manifests`.
pub fn created(name: &Name, kind: &str, digest: &Digest) -> Response {
    let headers = [(LOCATION, format!("/v2/{name}/{kind}/{digest}")), (CONTENT_DIGEST, digest.to_string())];
    (StatusCode::CREATED, headers).into_response()
}

#[cfg(test)]
mod tests;
