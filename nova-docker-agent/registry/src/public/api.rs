//! One request: who sends it, what it is about, and who answers it.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::{ALLOW, CONTENT_ENCODING, HeaderName, WWW_AUTHENTICATE};
use axum::http::request::Parts;
use axum::http::{Method, Request, StatusCode};
use axum::response::{IntoResponse, Response};
use uuid::Uuid;

use super::images::Images;
use super::name::InvalidName;
use super::push::Push;
use super::token::{CATALOG, Refused, Tokens};
use super::{Action, Bearer, Name, Reference, Repository};
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
        let method = request.method().clone();
        let refuse = |refused| self.challenge(refused, &endpoint, &method);
        let from = request.extensions().get::<Client>().map(|client| client.0);
        let visitor = self.tokens.check(request.headers(), from, request_id).map_err(refuse)?;
        *user = Some(visitor.user.clone());
        let answered = match &endpoint {
            Endpoint::Base | Endpoint::Catalog if !is_read(&method) => Err(not_allowed("GET, HEAD")),
            Endpoint::Base => Ok(json("{}")),
            Endpoint::Catalog => match &visitor.catalog {
                Some(user) => self.catalog(user, request_id, request.uri().query().unwrap_or_default()).await,
                None => Err(refuse(visitor.lacks())),
            },
            Endpoint::Repository(name, part) => {
                let name: Name = name.parse().map_err(|error| unnamed(name, error))?;
                match visitor.bearer.repository(&name, needed(part, &method)) {
                    Ok(at) => self.repository(request, &visitor.bearer, &at, part).await,
                    Err(_) => Err(refuse(visitor.lacks())),
                }
            }
            _ => Err(ApiError::new(Code::Unsupported, "no such end-point").with_status(StatusCode::NOT_FOUND)),
        };
        answered.map_err(|error| {
            if error.code != Code::Unauthorized || error.headers.contains_key(WWW_AUTHENTICATE) {
                return error;
            }
            // Glance does not take the user's keystone token any more: the client is to get a new one.
            self.tokens.logins.forget(&visitor.user_id);
            refuse(Refused::InvalidToken)
        })
    }

    async fn repository(
        &self,
        request: Request<Body>,
        bearer: &Bearer,
        at: &Repository,
        part: &Part,
    ) -> Result<Response, ApiError> {
        let (head, body) = request.into_parts();
        let (push, headers, query) = (&self.push, &head.headers, head.uri.query().unwrap_or_default());
        if !is_read(&head.method) {
            check_change(&at.name, &head)?;
        }
        match (part, head.method.as_str()) {
            (Part::Manifest(reference), "GET" | "HEAD") => self.manifest(at, &reference_of(reference)?, headers).await,
            (Part::Blob(digest), "GET" | "HEAD") => self.blob(at, &digest.parse()?, &head.method, headers).await,
            (Part::Tags, "GET" | "HEAD") => self.tags(at, query).await,
            (Part::Referrers(digest), "GET" | "HEAD") => self.referrers(at, &digest.parse()?, query).await,
            (Part::Uploads, "POST") => push.begin(bearer, at, query, headers, body).await,
            (Part::Upload(id), "PATCH") => push.patch(at, upload_of(id)?, headers, body).await,
            (Part::Upload(id), "PUT") => push.finish(at, upload_of(id)?, query, headers, body).await,
            (Part::Upload(id), "GET" | "HEAD") => push.status(at, upload_of(id)?).await,
            (Part::Upload(id), "DELETE") => push.cancel(at, upload_of(id)?).await,
            (Part::Manifest(reference), "PUT") => {
                let reference = reference_of(reference).map_err(|error| match error.code {
                    // What is no tag cannot be found; to push it is a mistake.
                    Code::ManifestUnknown => ApiError::new(Code::ManifestInvalid, error.message),
                    _ => error,
                })?;
                push.put_manifest(at, &reference, query, headers, body).await
            }
            (Part::Manifest(reference), "DELETE") => push.delete_manifest(at, &reference_of(reference)?).await,
            (Part::Blob(digest), "DELETE") => push.delete_blob(at, &digest.parse()?).await,
            (Part::Uploads, _) => Err(not_allowed("POST")),
            (Part::Upload(_), _) => Err(not_allowed("GET, HEAD, PATCH, PUT, DELETE")),
            (Part::Manifest(_), _) => Err(not_allowed("GET, HEAD, PUT, DELETE")),
            (Part::Blob(_), _) => Err(not_allowed("GET, HEAD, DELETE")),
            (Part::Tags | Part::Referrers(_), _) => Err(not_allowed("GET, HEAD")),
        }
    }

    fn challenge(&self, refused: Refused, endpoint: &Endpoint, method: &Method) -> ApiError {
        let scope = match endpoint {
            Endpoint::Catalog => CATALOG.to_owned(),
            Endpoint::Repository(name, part) if name.parse::<Name>().is_ok() => {
                // Whoever pushes, looks first.
                let more = match needed(part, method) {
                    Action::Pull => "",
                    Action::Push => ",push",
                    Action::Delete => ",delete",
                };
                format!("repository:{name}:pull{more}")
            }
            _ => String::new(),
        };
        self.tokens.challenge(refused, &scope)
    }
}

/// Whether a request may change the repository, as far as its head shows.
fn check_change(name: &Name, head: &Parts) -> Result<(), ApiError> {
    if let Some(encoding) = head.headers.get(CONTENT_ENCODING).filter(|encoding| *encoding != "identity") {
        let message = format!("content is taken as it is, not with the encoding {encoding:?}");
        return Err(ApiError::new(Code::Unsupported, message).with_status(StatusCode::UNSUPPORTED_MEDIA_TYPE));
    }
    if name.image_id().is_some() && head.method != Method::DELETE {
        let message = format!("{name}: an image is pulled by its id, and pushed by a name");
        return Err(ApiError::new(Code::NameInvalid, message));
    }
    Ok(())
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
