//! The end-points that dockerd pulls from: OCI distribution specification 1.1, "Pull".

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::{ALLOW, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, Method, Request, StatusCode};
use axum::response::{IntoResponse, Response};
use futures::StreamExt;
use uuid::Uuid;

use super::NAMESPACE;
use super::lease::{LeasedLayer, Leases};
use crate::http::auth::Secret;
use crate::http::content::{self, document};
use crate::http::endpoint::{Endpoint, Part};
use crate::http::{API_VERSION, is_read, json};
use crate::store::{Fetcher, read_blob};
use crate::{ApiError, Code, Digest};

/// What the handlers work on.
pub struct Service {
    pub secret: Secret,
    pub leases: Arc<Leases>,
    pub fetcher: Arc<Fetcher>,
}

pub fn router(service: Arc<Service>) -> Router {
    Router::new().fallback(handle).with_state(service)
}

async fn handle(State(service): State<Arc<Service>>, request: Request<Body>) -> Response {
    ([API_VERSION], service.answer(request.method(), request.uri().path(), request.headers()).await).into_response()
}

impl Service {
    async fn answer(&self, method: &Method, path: &str, headers: &HeaderMap) -> Result<Response, ApiError> {
        // Before anything else, so that nobody learns which images are open.
        if !self.secret.admits(headers) {
            let refusal = ApiError::new(Code::Unauthorized, "authentication required");
            return Err(refusal.with_header(WWW_AUTHENTICATE, "Basic realm=\"nova-docker-agent\""));
        }
        if !is_read(method) {
            let refusal = ApiError::new(Code::Unsupported, "this registry can only be pulled from");
            return Err(refusal.with_header(ALLOW, "GET, HEAD"));
        }
        match Endpoint::of(path) {
            Endpoint::Base => Ok(json("{}")),
            Endpoint::Repository(name, Part::Manifest(reference)) => {
                let image = image_of(name)?;
                if !reference.contains(':') {
                    return Err(ApiError::new(Code::ManifestUnknown, "images have no tags here, only digests"));
                }
                self.manifest(image, reference.parse()?, headers)
            }
            Endpoint::Repository(name, Part::Blob(digest)) => {
                self.blob(image_of(name)?, digest.parse()?, (method, headers)).await
            }
            _ => Err(ApiError::new(Code::Unsupported, "no such end-point").with_status(StatusCode::NOT_FOUND)),
        }
    }

    fn manifest(&self, image: Uuid, digest: Digest, headers: &HeaderMap) -> Result<Response, ApiError> {
        let open = self.leases.find(image, |image| image.manifest.digest == digest);
        let open = open.first().ok_or_else(|| ApiError::new(Code::ManifestUnknown, "no such image is open"))?;
        let manifest = &open.image.manifest;
        Ok(document(headers, digest, &manifest.media_type, manifest.bytes.clone()))
    }

    async fn blob(&self, image: Uuid, digest: Digest, request: (&Method, &HeaderMap)) -> Result<Response, ApiError> {
        if let Some(open) = self.leases.find(image, |image| image.config.digest == digest).first() {
            let config = &open.image.config;
            return Ok(document(request.1, digest, &config.media_type, config.bytes.clone()));
        }
        let unknown = || ApiError::new(Code::BlobUnknown, "no open image of that name has this blob");
        let open = self.leases.with_layer(image, &digest).into_iter().next().ok_or_else(unknown)?;
        let size = open.image.layer(&digest).ok_or_else(unknown)?.size;
        if let Some(error) = open.known_bad() {
            return Err(content::unreadable(&error));
        }
        let layer = LeasedLayer { leases: self.leases.clone(), open, digest };
        content::blob(request, digest, size, |range| read_blob(self.fetcher.clone(), digest, layer, range).boxed())
            .await
    }
}

/// The image of a repository, `glance/IMAGE_ID`. The id has only the one form that references are written in.
fn image_of(name: &str) -> Result<Uuid, ApiError> {
    let id = name.strip_prefix(NAMESPACE).and_then(|name| name.strip_prefix('/')).unwrap_or_default();
    let image = id.parse().ok().filter(|image: &Uuid| image.to_string() == id);
    image.ok_or_else(|| ApiError::new(Code::NameUnknown, "no such image is open"))
}
