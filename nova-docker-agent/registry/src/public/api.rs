//! One request: who sends it, what it is about, and who answers it.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::{ALLOW, CONTENT_ENCODING, HeaderName, WWW_AUTHENTICATE};
use axum::http::{Method, Request, StatusCode};
use axum::response::{IntoResponse, Response};
use uuid::Uuid;

use super::images::Images;
use super::name::InvalidName;
use super::push::Push;
use super::token::{Refused, Tokens, Visitor};
use super::{Action, Name, Reference};
use crate::http::access_log::Entry;
use crate::http::endpoint::{Endpoint, Part};
use crate::http::listener::{Client, Limits};
use crate::http::{API_VERSION, is_read, json, unread_body};
use crate::{ApiError, Code};

/// Under which a client finds its request in the logs of all services.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-openstack-request-id");

/// What the end-points work on.
pub struct Api {
    pub tokens: Tokens,
    pub images: Arc<Images>,
    pub push: Arc<Push>,
    pub limits: Limits,
}

/// The end-points.
pub fn router(api: Arc<Api>) -> Router {
    Router::new().fallback(handle).with_state(api)
}

async fn handle(State(api): State<Arc<Api>>, request: Request<Body>) -> Response {
    let request_id = format!("req-{}", Uuid::new_v4());
    let mut entry = Entry::new(request.method(), request.uri().path(), &request_id);
    let (request, unread) = unread_body::share(request, api.limits.pace);
    let answered = Box::pin(api.answer(request, &request_id, &mut entry.user)).await;
    // Of a client that takes too long to send its request, the rest is not waited for.
    if answered.as_ref().is_err_and(|error| error.status != StatusCode::REQUEST_TIMEOUT) {
        unread.discard(unread_body::LONGEST).await;
    }
    if let Err(error) = &answered
        && error.status.is_server_error()
    {
        tracing::warn!(request_id, "{}", error.message);
    }
    entry.follow(([API_VERSION], [(REQUEST_ID, request_id)], answered).into_response())
}

impl Api {
    async fn answer(
        &self,
        request: Request<Body>,
        request_id: &str,
        user: &mut Option<String>,
    ) -> Result<Response, ApiError> {
        let path = request.uri().path().to_owned();
        let endpoint = Endpoint::of(&path);
        match endpoint {
            Endpoint::Token => return self.tokens.answer(request, self.limits.header, request_id, user).await,
            Endpoint::Health => return Ok("OK\n".into_response()),
            _ => {}
        }
        let from = request.extensions().get::<Client>().map(|client| client.0);
        let visitor = self.tokens.check(request.headers(), from, request_id);
        let visitor = visitor.map_err(|refused| self.challenge(refused, &endpoint, request.method()))?;
        *user = Some(visitor.user.clone());
        let (is_read, query) = (is_read(request.method()), request.uri().query().unwrap_or_default().to_owned());
        match &endpoint {
            Endpoint::Base if is_read => Ok(json("{}")),
            Endpoint::Catalog if is_read => {
                let user = visitor.catalog.as_ref();
                let user = user.ok_or_else(|| self.tokens.catalog_challenge(visitor.lacks()))?;
                let listed = self.catalog(user, request_id, &query).await;
                let challenge = || self.tokens.catalog_challenge(Refused::InvalidToken);
                listed.map_err(|error| self.log_in_again(error, &visitor.user_id, challenge))
            }
            Endpoint::Base | Endpoint::Catalog => Err(not_allowed("GET, HEAD")),
            Endpoint::Repository(name, part) => {
                let name: Name = name.parse().map_err(|error| unnamed(name, error))?;
                let action = needed(part, request.method());
                if visitor.bearer.grant(&name, action).is_err() {
                    return Err(self.tokens.challenge(visitor.lacks(), &[(&name, actions(action))]));
                }
                let answered = self.repository(request, &visitor, &name, part, &query).await;
                let challenge = || self.tokens.challenge(Refused::InvalidToken, &[(&name, actions(action))]);
                answered.map_err(|error| self.log_in_again(error, &visitor.user_id, challenge))
            }
            _ => Err(ApiError::new(Code::Unsupported, "no such end-point").with_status(StatusCode::NOT_FOUND)),
        }
    }

    async fn repository(
        &self,
        request: Request<Body>,
        visitor: &Visitor,
        name: &Name,
        part: &Part,
        query: &str,
    ) -> Result<Response, ApiError> {
        let (method, headers) = (request.method().clone(), request.headers().clone());
        if !is_read(&method) || matches!(part, Part::Upload(_) | Part::Uploads) {
            return self.write(request, visitor, name, part, query).await;
        }
        let grant = visitor.bearer.grant(name, Action::Pull)?;
        match part {
            Part::Manifest(reference) => self.manifest(grant, name, &reference_of(reference)?, &headers).await,
            Part::Blob(digest) => self.blob(grant, name, &digest.parse()?, &method, &headers).await,
            Part::Tags => self.tags(grant, name, query).await,
            Part::Referrers(digest) => self.referrers(grant, name, &digest.parse()?, query).await,
            Part::Upload(_) | Part::Uploads => Err(not_allowed("POST")),
        }
    }

    /// What changes a repository, and the state of uploads.
    async fn write(
        &self,
        request: Request<Body>,
        visitor: &Visitor,
        name: &Name,
        part: &Part,
        query: &str,
    ) -> Result<Response, ApiError> {
        if let Some(encoding) = request.headers().get(CONTENT_ENCODING).filter(|encoding| *encoding != "identity") {
            let message = format!("content is taken as it is, not with the encoding {encoding:?}");
            let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
            return Err(ApiError::new(Code::Unsupported, message).with_status(status));
        }
        if name.image_id().is_some() && request.method() != Method::DELETE && !is_read(request.method()) {
            let message = format!("{name}: an image is pulled by its id, and pushed by a name");
            return Err(ApiError::new(Code::NameInvalid, message));
        }
        let (head, body) = request.into_parts();
        let (push, bearer, headers) = (&self.push, &visitor.bearer, &head.headers);
        match (part, head.method.as_str()) {
            (Part::Uploads, "POST") => push.begin(bearer, name, query, headers, body).await,
            (Part::Upload(id), "PATCH") => push.patch(bearer, name, upload_of(id)?, headers, body).await,
            (Part::Upload(id), "PUT") => push.finish(bearer, name, upload_of(id)?, query, headers, body).await,
            (Part::Upload(id), "GET" | "HEAD") => push.status(bearer, name, upload_of(id)?).await,
            (Part::Upload(id), "DELETE") => push.cancel(bearer, name, upload_of(id)?).await,
            (Part::Manifest(reference), "PUT") => {
                let reference = reference_of(reference).map_err(|error| match error.code {
                    // What is no tag cannot be found; to push it is a mistake.
                    Code::ManifestUnknown => ApiError::new(Code::ManifestInvalid, error.message),
                    _ => error,
                })?;
                push.put_manifest(bearer, name, &reference, query, headers, body).await
            }
            (Part::Manifest(reference), "DELETE") => {
                push.delete_manifest(bearer, name, &reference_of(reference)?).await
            }
            (Part::Blob(digest), "DELETE") => push.delete_blob(bearer, name, &digest.parse()?).await,
            (Part::Uploads, _) => Err(not_allowed("POST")),
            (Part::Upload(_), _) => Err(not_allowed("GET, HEAD, PATCH, PUT, DELETE")),
            (Part::Manifest(_), _) => Err(not_allowed("GET, HEAD, PUT, DELETE")),
            (Part::Blob(_), _) => Err(not_allowed("GET, HEAD, DELETE")),
            (Part::Tags | Part::Referrers(_), _) => Err(not_allowed("GET, HEAD")),
        }
    }

    /// Where Glance does not take the user's keystone token any more: a challenge, so that the client gets a new one.
    fn log_in_again(&self, error: ApiError, user_id: &str, challenge: impl FnOnce() -> ApiError) -> ApiError {
        if error.code != Code::Unauthorized || error.headers.contains_key(WWW_AUTHENTICATE) {
            return error;
        }
        self.tokens.refused(user_id);
        challenge()
    }

    fn challenge(&self, refused: Refused, endpoint: &Endpoint, method: &Method) -> ApiError {
        match endpoint {
            Endpoint::Catalog => self.tokens.catalog_challenge(refused),
            Endpoint::Repository(name, part) => match name.parse::<Name>() {
                Ok(name) => self.tokens.challenge(refused, &[(&name, actions(needed(part, method)))]),
                Err(_) => self.tokens.challenge(refused, &[]),
            },
            _ => self.tokens.challenge(refused, &[]),
        }
    }
}

/// What a request needs to be granted.
fn needed(part: &Part, method: &Method) -> Action {
    match part {
        Part::Uploads | Part::Upload(_) => Action::Push,
        _ if method == Method::DELETE => Action::Delete,
        _ if is_read(method) => Action::Pull,
        _ => Action::Push,
    }
}

/// What a client should ask for then: whoever pushes, looks first.
fn actions(action: Action) -> &'static [Action] {
    match action {
        Action::Pull => &[Action::Pull],
        Action::Push => &[Action::Pull, Action::Push],
        Action::Delete => &[Action::Pull, Action::Delete],
    }
}

fn reference_of(text: &str) -> Result<Reference, ApiError> {
    if text.contains(':') {
        return Ok(Reference::Digest(text.parse()?));
    }
    let tag =
        text.parse().map_err(|error| ApiError::new(Code::ManifestUnknown, format!("there is no such tag: {error}")));
    tag.map(Reference::Tag)
}

fn upload_of(text: &str) -> Result<Uuid, ApiError> {
    text.parse().map_err(|_| ApiError::new(Code::BlobUploadUnknown, "there is no such upload"))
}

fn unnamed(name: &str, error: InvalidName) -> ApiError {
    let name: String = name.chars().take(64).collect();
    match error {
        InvalidName::NoProject => ApiError::new(Code::NameUnknown, format!("{name}: {error}")),
        _ => ApiError::new(Code::NameInvalid, format!("{name}: {error}")),
    }
}

fn not_allowed(allowed: &'static str) -> ApiError {
    ApiError::new(Code::Unsupported, format!("only {allowed} here")).with_header(ALLOW, allowed)
}
