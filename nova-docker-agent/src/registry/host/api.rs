//! The registry's HTTP side: OCI distribution specification 1.1, pull.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::{
    ACCEPT_RANGES, ALLOW, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, IF_NONE_MATCH, IF_RANGE, RANGE,
    WWW_AUTHENTICATE,
};
use axum::http::{HeaderMap, Method, Request, StatusCode, response};
use axum::response::Response;
use bytes::Bytes;
use futures::{Stream, StreamExt, TryStreamExt};
use uuid::Uuid;

use super::lease::{LeasedLayer, Leases, OpenImage};
use super::path::Endpoint;
use crate::registry::archive::image::Document;
use crate::registry::digest::Digest;
use crate::registry::error::Error;
use crate::registry::http::auth::Secret;
use crate::registry::http::range::{self, Wanted};
use crate::registry::store::fetch::Fetcher;
use crate::registry::store::source::SourceError;
use crate::registry::store::stream::BlobRequest;

pub const DIGEST_HEADER: &str = "docker-content-digest";

/// What the handlers work on.
pub struct Service {
    pub secret: Secret,
    pub leases: Arc<Leases>,
    pub fetcher: Arc<Fetcher>,
}

/// The service as a tower of axum.
pub fn router(service: Arc<Service>) -> Router {
    Router::new().fallback(handle).with_state(service)
}

async fn handle(State(service): State<Arc<Service>>, request: Request<Body>) -> Response {
    // Before anything else, so that nobody learns which images are open.
    if !service.secret.admits(request.headers()) {
        let challenge = "Basic realm=\"nova-docker-agent\"";
        return refuse(
            StatusCode::UNAUTHORIZED,
            "UNAUTHORIZED",
            "authentication required",
            &[(WWW_AUTHENTICATE, challenge)],
        );
    }
    let endpoint = Endpoint::of(request.uri().path());
    if request.method() != Method::GET && request.method() != Method::HEAD {
        let message = "this registry can only be pulled from";
        return refuse(StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED", message, &[(ALLOW, "GET, HEAD")]);
    }
    let headers = request.headers();
    match endpoint {
        Endpoint::Base => json(started(StatusCode::OK), "{}"),
        Endpoint::Manifest { image, digest } => service.manifest(image, digest, headers),
        Endpoint::Blob { image, digest } => service.blob(image, digest, request.method(), headers).await,
        Endpoint::InvalidDigest => refuse(StatusCode::BAD_REQUEST, "DIGEST_INVALID", "not a sha256 digest", &[]),
        Endpoint::UnknownName => unknown("NAME_UNKNOWN", "no such image is open"),
        Endpoint::Other => unknown("UNSUPPORTED", "no such end-point"),
    }
}

impl Service {
    fn manifest(&self, id: Uuid, digest: Option<Digest>, headers: &HeaderMap) -> Response {
        let Some(digest) = digest else { return unknown("MANIFEST_UNKNOWN", "images have no tags here, only digests") };
        match self.leases.find(id, |image| image.manifest.digest == digest).first() {
            Some(open) => document(&open.image.manifest, headers),
            None => unknown("MANIFEST_UNKNOWN", "no such image is open"),
        }
    }

    async fn blob(&self, id: Uuid, digest: Digest, method: &Method, headers: &HeaderMap) -> Response {
        if let Some(open) = self.leases.find(id, |image| image.config.digest == digest).first() {
            return document(&open.image.config, headers);
        }
        match self.leases.with_layer(id, &digest).into_iter().next() {
            Some(open) => self.layer(open, digest, method, headers).await,
            None => unknown("BLOB_UNKNOWN", "no open image of that name has this blob"),
        }
    }

    async fn layer(&self, open: Arc<OpenImage>, digest: Digest, method: &Method, headers: &HeaderMap) -> Response {
        if unchanged(headers, digest) {
            return empty(described(StatusCode::NOT_MODIFIED, digest));
        }
        if let Some(error) = open.known_bad() {
            return failed(&error);
        }
        let Some(size) = open.image.layers.get(&digest).map(|layer| layer.size()) else {
            return unknown("BLOB_UNKNOWN", "no open image of that name has this blob");
        };
        let (response, range) = match ranged(headers, digest, size) {
            Wanted::All => (described(StatusCode::OK, digest), 0..size),
            Wanted::Part(range) => {
                let part = format!("bytes {}-{}/{size}", range.start, range.end - 1);
                (described(StatusCode::PARTIAL_CONTENT, digest).header(CONTENT_RANGE, part), range)
            }
            Wanted::Unsatisfiable => {
                let status = StatusCode::RANGE_NOT_SATISFIABLE;
                return empty(described(status, digest).header(CONTENT_RANGE, format!("bytes */{size}")));
            }
        };
        let response = response
            .header(CONTENT_TYPE, "application/octet-stream")
            .header(CONTENT_LENGTH, range.end - range.start)
            .header(ACCEPT_RANGES, "bytes");
        if method == Method::HEAD {
            return empty(response);
        }
        let layer = LeasedLayer::new(self.leases.clone(), open, digest);
        let request = BlobRequest::new(self.fetcher.clone(), digest, layer);
        stream(response, request.stream(range)).await
    }
}

/// Answers when the first bytes are there, so that whatever fails at once can be told by a status.
async fn stream(
    response: response::Builder,
    bytes: impl Stream<Item = Result<Bytes, Error>> + Send + 'static,
) -> Response {
    let mut bytes = Box::pin(bytes);
    match bytes.next().await {
        Some(Err(error)) => failed(&error),
        first => body(response, Body::from_stream(futures::stream::iter(first).chain(bytes).into_stream())),
    }
}

/// A manifest or a configuration.
fn document(document: &Document, headers: &HeaderMap) -> Response {
    if unchanged(headers, document.digest) {
        return empty(described(StatusCode::NOT_MODIFIED, document.digest));
    }
    let response = described(StatusCode::OK, document.digest)
        .header(CONTENT_TYPE, &document.media_type)
        .header(CONTENT_LENGTH, document.bytes.len());
    body(response, document.bytes.clone().into())
}

/// The entity tag of content with this digest.
pub fn etag(digest: Digest) -> String {
    format!("\"{digest}\"")
}

/// Whether the client says that it has this content already.
pub fn unchanged(headers: &HeaderMap, digest: Digest) -> bool {
    let known = headers.get(IF_NONE_MATCH).and_then(|value| value.to_str().ok());
    known.is_some_and(|known| known == "*" || known.split(',').any(|tag| tag.trim() == etag(digest)))
}

/// Which part of content with this digest and size a request asks for.
pub fn ranged(headers: &HeaderMap, digest: Digest, size: u64) -> Wanted {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    match text(IF_RANGE) {
        Some(tag) if tag != etag(digest) => Wanted::All,
        _ => range::wanted(text(RANGE), size),
    }
}

/// The head of every answer.
pub fn started(status: StatusCode) -> response::Builder {
    // dockerd tells by this header that it talks to a registry.
    Response::builder().status(status).header("docker-distribution-api-version", "registry/2.0")
}

/// The head of an answer about content with this digest.
pub fn described(status: StatusCode, digest: Digest) -> response::Builder {
    started(status).header(DIGEST_HEADER, digest.to_string()).header(ETAG, etag(digest))
}

/// An answer without a body.
pub fn empty(response: response::Builder) -> Response {
    body(response, Body::empty())
}

fn json(response: response::Builder, text: impl Into<Body>) -> Response {
    body(response.header(CONTENT_TYPE, "application/json"), text.into())
}

/// Headers that cannot be sent come from the image only (a media type); the answer is then an error of its own.
pub fn body(response: response::Builder, body: Body) -> Response {
    response.body(body).unwrap_or_else(|error| {
        let mut response = Response::new(error.to_string().into());
        *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        response
    })
}

fn unknown(code: &str, message: &str) -> Response {
    refuse(StatusCode::NOT_FOUND, code, message, &[])
}

/// An error of the registry, by the codes that decide whether dockerd tries again. The texts name no image: dockerd lets
/// pulls of several images wait for one layer, and repeats to each what it was told for the first.
fn failed(error: &Error) -> Response {
    let (status, code, message) = match error {
        Error::BadImage { problem, .. } => (StatusCode::UNPROCESSABLE_ENTITY, "UNSUPPORTED", problem.to_string()),
        Error::Source { cause: SourceError::Forbidden(_), .. } => {
            (StatusCode::FORBIDDEN, "DENIED", "the image service refused to give the layer".into())
        }
        Error::Source { cause: SourceError::NotFound(_), .. } => {
            (StatusCode::NOT_FOUND, "BLOB_UNKNOWN", "the layer is no longer in the image service".into())
        }
        Error::NoSpace { .. } => (StatusCode::INSUFFICIENT_STORAGE, "UNKNOWN", "the host has no room for it".into()),
        _ => (StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE", "the layer cannot be read now".into()),
    };
    refuse(status, code, &message, &[])
}

fn refuse(
    status: StatusCode,
    code: &str,
    message: &str,
    headers: &[(axum::http::HeaderName, &'static str)],
) -> Response {
    let errors = serde_json::json!({"errors": [{"code": code, "message": message}]});
    let response = headers.iter().fold(started(status), |response, (name, value)| response.header(name, *value));
    json(response, errors.to_string())
}
