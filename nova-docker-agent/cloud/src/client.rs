//! The HTTP client under every service.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use serde::de::DeserializeOwned;
use url::Url;

use super::answer::{self, Asked};
use super::auth::AuthConfig;
use super::greeting::{Greeting, greeting};
use super::retry::{Failure, Retry};
use super::tls::{TlsConfig, http_client, reason};
use super::{Caller, Error, Identity, Session};

/// Long, because nobody knows what an abandoned call has changed; a dead peer is noticed much earlier.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(180);

/// How to find one service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointConfig {
    /// `placement`, `network`, `image`.
    pub service_type: String,
    pub service_name: Option<String>,
    pub region_name: Option<String>,
    /// Tried in this order: `internal`, `public`, `admin`.
    pub valid_interfaces: Vec<String>,
    /// Wins over the catalog.
    pub endpoint_override: Option<Url>,
    /// Addresses of several servers that do the same (`[glance] api_servers`), where no override is given: the next one is asked
    /// when one does not answer.
    pub servers: Vec<Url>,
}

/// How to find and talk to one service.
#[derive(Clone, Debug)]
pub struct ServiceConfig {
    /// The section's own identity; none means `[service_user]`.
    pub auth: Option<AuthConfig>,
    pub endpoint: EndpointConfig,
    pub tls: TlsConfig,
    /// Limit of one attempt; none means 180 s. Transfers of image data have no limit as long as data flows.
    pub timeout: Option<Duration>,
    /// Repetitions after failed connections, of requests that may be repeated.
    pub connect_retries: u32,
    /// Repetitions after 502, 503 and 504, of requests that may be repeated.
    pub status_code_retries: u32,
}

/// One service, with the identities that ask it.
#[derive(Clone)]
pub(super) struct Rest {
    service: &'static str,
    http: Client,
    session: Option<Session>,
    /// Whose token goes along as `X-Service-Token` with a user's.
    service_session: Option<Session>,
    endpoint: EndpointConfig,
    /// Which of several servers is asked, counted on and on.
    turn: Arc<AtomicUsize>,
    timeout: Duration,
    connect_retries: u32,
    status_code_retries: u32,
}

/// A request before it is sent; it can be sent several times.
#[derive(Clone, Debug)]
pub(super) struct Call {
    method: Method,
    path: String,
    query: Vec<(String, String)>,
    headers: HeaderMap,
    body: Option<Bytes>,
    repeatable: bool,
}

impl Call {
    fn new(method: Method, path: impl Into<String>) -> Self {
        let repeatable = method.is_idempotent();
        Self { method, path: path.into(), query: Vec::new(), headers: HeaderMap::new(), body: None, repeatable }
    }

    pub(super) fn get(path: impl Into<String>) -> Self {
        Self::new(Method::GET, path)
    }

    pub(super) fn post(path: impl Into<String>) -> Self {
        Self::new(Method::POST, path)
    }

    pub(super) fn put(path: impl Into<String>) -> Self {
        Self::new(Method::PUT, path)
    }

    pub(super) fn patch(path: impl Into<String>) -> Self {
        Self::new(Method::PATCH, path)
    }

    pub(super) fn delete(path: impl Into<String>) -> Self {
        Self::new(Method::DELETE, path)
    }

    pub(super) fn query(mut self, filters: &[(&str, &str)]) -> Self {
        self.query.extend(filters.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())));
        self
    }

    pub(super) fn header(mut self, name: &'static str, value: HeaderValue) -> Self {
        self.headers.insert(HeaderName::from_static(name), value);
        self
    }

    pub(super) fn json(self, body: &impl Serialize) -> Self {
        self.body(body, "application/json")
    }

    /// A JSON body under a content type of its own.
    pub(super) fn body(mut self, body: &impl Serialize, content_type: &'static str) -> Self {
        // Bodies are our own structs and JSON values, whose serialisation cannot fail.
        self.body = serde_json::to_vec(body).ok().map(Bytes::from);
        self.headers.insert(reqwest::header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        self
    }

    /// A PUT that must not be repeated, because the first one changes the generation that it names.
    pub(super) fn once(mut self) -> Self {
        self.repeatable = false;
        self
    }

    fn asked(&self, service: &'static str) -> Asked {
        let query: String = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(&self.query).finish();
        let path = if query.is_empty() { self.path.clone() } else { format!("{}?{query}", self.path) };
        Asked { service, method: self.method.to_string(), path }
    }
}

/// The tokens of one attempt.
struct Tokens {
    user: SecretString,
    service: Option<SecretString>,
}

impl Rest {
    pub(super) fn new(
        service: &'static str,
        session: Option<Session>,
        service_session: Option<Session>,
        config: &ServiceConfig,
    ) -> Result<Self, Error> {
        Ok(Self {
            service,
            http: http_client(service, &config.tls)?,
            session,
            service_session,
            endpoint: config.endpoint.clone(),
            // Not all hosts begin with the same one.
            turn: Arc::new(AtomicUsize::new(rand::random::<u16>().into())),
            timeout: config.timeout.unwrap_or(DEFAULT_TIMEOUT),
            connect_retries: config.connect_retries,
            status_code_retries: config.status_code_retries,
        })
    }

    /// Sends a call and reads the answer's JSON.
    pub(super) async fn json<T: DeserializeOwned>(&self, caller: &Caller, call: Call) -> Result<T, Error> {
        let asked = call.asked(self.service);
        let mut retry = Retry::new(self.connect_retries, 0);
        loop {
            match answer::json(self.send(caller, &call).await?, asked.clone()).await {
                // The connection broke within the answer.
                Err(error @ Error::Unreachable { .. }) => {
                    retry.wait_or_give_up(Failure::Connection(error), call.repeatable).await?;
                }
                result => return result,
            }
        }
    }

    /// Sends a deletion; whether there was something.
    pub(super) async fn delete(&self, caller: &Caller, path: String) -> Result<bool, Error> {
        match self.send(caller, &Call::delete(path)).await {
            Ok(_) => Ok(true),
            Err(error) if error.is_not_found() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Sends a call within the service's time limit (body included); an error status is an error.
    pub(super) async fn send(&self, caller: &Caller, call: &Call) -> Result<Response, Error> {
        Box::pin(self.repeat(caller, call, |request| request.timeout(self.timeout))).await
    }

    /// Sends a call whose answer is long: the time limit is only for its head, which `most` bounds too.
    pub(super) async fn open(&self, caller: &Caller, call: &Call, most: Duration) -> Result<Response, Error> {
        let limit = self.timeout.min(most);
        let head = Box::pin(self.repeat(caller, call, |request| request));
        match tokio::time::timeout(limit, head).await {
            Ok(result) => result,
            Err(_) => Err(call.asked(self.service).unreachable(format!("no answer within {limit:?}"))),
        }
    }

    /// Sends a request with a body that can be read only once, and no time limit.
    pub(super) async fn upload(&self, caller: &Caller, call: Call, body: reqwest::Body) -> Result<(), Error> {
        let asked = call.asked(self.service);
        let tokens = self.tokens(caller).await?;
        let request = self.request(caller, &call, &tokens).await?.body(body);
        let turn = self.turn.load(Ordering::Relaxed);
        let response = request.send().await.map_err(|error| {
            self.next_server(turn);
            asked.clone().unreachable(reason(&error.without_url()))
        })?;
        if response.status().is_success() { Ok(()) } else { Err(answer::refusal(response, asked).await) }
    }

    async fn repeat(
        &self,
        caller: &Caller,
        call: &Call,
        limit: impl Fn(RequestBuilder) -> RequestBuilder,
    ) -> Result<Response, Error> {
        let mut retry = Retry::new(self.connect_retries, self.status_code_retries);
        let mut renewed = false;
        loop {
            let tokens = self.tokens(caller).await?;
            let turn = self.turn.load(Ordering::Relaxed);
            let request = limit(self.request(caller, call, &tokens).await?);
            let started = Instant::now();
            let asked = call.asked(self.service);
            let failure = match request.send().await {
                Ok(response) => {
                    let status = response.status();
                    let ms = started.elapsed().as_millis();
                    tracing::debug!(service = self.service, method = %call.method, path = asked.path, %status, ms, "REST call");
                    if status.is_success() {
                        return Ok(response);
                    }
                    if status == StatusCode::UNAUTHORIZED && !renewed && self.forget(caller, &tokens) {
                        renewed = true;
                        continue;
                    }
                    Failure::Status(status.as_u16(), answer::refusal(response, asked).await)
                }
                Err(error) => {
                    let not_connected = error.is_connect();
                    let error = asked.unreachable(reason(&error.without_url()));
                    if not_connected { Failure::NotConnected(error) } else { Failure::Connection(error) }
                }
            };
            if !matches!(failure, Failure::Status(..=501 | 505.., _)) {
                self.next_server(turn);
            }
            retry.wait_or_give_up(failure, call.repeatable).await?;
        }
    }

    /// The server whose turn it was does not answer. Somebody else may have found that out already.
    fn next_server(&self, turn: usize) {
        let next = self.turn.compare_exchange(turn, turn.wrapping_add(1), Ordering::Relaxed, Ordering::Relaxed);
        if next.is_ok() && self.endpoint.servers.len() > 1 {
            tracing::warn!(service = self.service, "a server does not answer; asking the next one");
        }
    }

    /// The address that is configured, if any is.
    fn configured(&self) -> Option<&Url> {
        let servers = &self.endpoint.servers;
        let turn = self.turn.load(Ordering::Relaxed).checked_rem(servers.len());
        self.endpoint.endpoint_override.as_ref().or_else(|| servers.get(turn?))
    }

    async fn request(&self, caller: &Caller, call: &Call, tokens: &Tokens) -> Result<RequestBuilder, Error> {
        let url = self.url(call).await?;
        let mut request = self
            .http
            .request(call.method.clone(), url)
            .header("accept", "application/json")
            .headers(call.headers.clone())
            .header("x-auth-token", sensitive(&tokens.user, self.service)?)
            .header("x-openstack-request-id", caller.request_id.as_str());
        if let Some(token) = &tokens.service {
            request = request.header("x-service-token", sensitive(token, self.service)?);
        }
        if let Some(body) = &call.body {
            request = request.body(body.clone());
        }
        Ok(request)
    }

    /// What the service says of itself to anybody.
    pub(super) async fn greeting(&self) -> Result<Greeting, Error> {
        let mut url = self.base().await?;
        let path = format!("{}/", without_version(url.path()));
        url.set_path(&path);
        greeting(self.service, &self.http, url).await
    }

    async fn base(&self) -> Result<Url, Error> {
        match (self.configured(), &self.session) {
            (Some(url), _) => Ok(url.clone()),
            (None, Some(session)) => session.endpoint(&self.endpoint).await,
            (None, None) => Err(self.no_identity("and no endpoint_override either")),
        }
    }

    async fn url(&self, call: &Call) -> Result<Url, Error> {
        let mut url = self.base().await?;
        let path = format!("{}{}", without_version(url.path()), call.path);
        url.set_path(&path);
        if !call.query.is_empty() {
            url.query_pairs_mut().clear().extend_pairs(&call.query);
        }
        Ok(url)
    }

    async fn tokens(&self, caller: &Caller) -> Result<Tokens, Error> {
        match &caller.identity {
            Identity::Service => {
                let session = self.session.as_ref().ok_or_else(|| self.no_identity("to act as the agent"))?;
                Ok(Tokens { user: session.token().await?, service: None })
            }
            Identity::User(token) => {
                let service = match &self.service_session {
                    Some(session) => Some(session.token().await?),
                    None => None,
                };
                Ok(Tokens { user: token.clone(), service })
            }
        }
    }

    /// Forgets the agent's token after a 401, and says whether asking again with a new one makes sense.
    fn forget(&self, caller: &Caller, tokens: &Tokens) -> bool {
        let (session, token) = match &caller.identity {
            Identity::Service => (&self.session, Some(&tokens.user)),
            Identity::User(_) => (&self.service_session, tokens.service.as_ref()),
        };
        match (session, token) {
            (Some(session), Some(token)) => {
                session.forget(token);
                true
            }
            _ => false,
        }
    }

    fn no_identity(&self, purpose: &str) -> Error {
        Error::Identity { service: self.service, reason: format!("no identity is configured {purpose}") }
    }
}

fn sensitive(token: &SecretString, service: &'static str) -> Result<HeaderValue, Error> {
    let mut value = HeaderValue::from_str(token.expose_secret()).map_err(|_| Error::Identity {
        service,
        reason: "the token holds characters that no header can carry".into(),
    })?;
    value.set_sensitive(true);
    Ok(value)
}

/// An endpoint's path without a trailing slash and without a version (`/v2.0`), which some catalogs have and some have not.
fn without_version(path: &str) -> &str {
    let path = path.trim_end_matches('/');
    match path.rsplit_once('/') {
        Some((base, last)) if is_version(last) => base.trim_end_matches('/'),
        _ => path,
    }
}

fn is_version(segment: &str) -> bool {
    segment.strip_prefix('v').is_some_and(|number| {
        number.starts_with(|c: char| c.is_ascii_digit()) && number.chars().all(|c| c.is_ascii_digit() || c == '.')
    })
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
