//! One keystone identity: its token and its catalog.

use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use jiff::Timestamp;
use reqwest::{Client, Response, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::{Value, json};
use url::Url;

use super::Error;
use super::answer::{self, Asked};
use super::auth::{AuthConfig, Credentials, Named, Scope};
use super::catalog::Catalog;
use super::client::EndpointConfig;
use super::greeting::{Greeting, greeting};
use super::retry::{Failure, Retry};
use super::tls::{http_client, reason};

const SERVICE: &str = "keystone";
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60);
/// A token is renewed this long before its end, or after three quarters of a short life.
const MARGIN: Duration = Duration::from_secs(300);
/// A token with less life than this is not used for another call.
const LAST_MOMENT: Duration = Duration::from_secs(10);
/// How long a failed login is the answer to everybody who needs a token, at most; at least half of it. Keystone may lock
/// the user out after too many failures, and one that does not answer is asked once for all.
const FAILURE_KEPT: Duration = Duration::from_secs(5);
/// A keystone that cannot be reached, and is found so within this time, is asked again by whoever comes next: that costs
/// little, and it may be back.
const QUICK: Duration = Duration::from_secs(15);

/// A keystone identity that is logged in when needed. Cheap to clone; clones share the token.
#[derive(Clone)]
pub struct Session {
    inner: Arc<Inner>,
}

struct Inner {
    http: Client,
    auth: AuthConfig,
    tokens_url: Url,
    login: RwLock<Option<Arc<Login>>>,
    /// The last attempt to log in, which everybody shares who needs a token while it lasts.
    attempt: Mutex<Option<Attempt>>,
}

type Attempt = Shared<BoxFuture<'static, Result<Arc<Login>, FailedLogin>>>;

#[derive(Clone)]
struct FailedLogin {
    error: Error,
    /// From then on it is worth another attempt.
    until: Instant,
}

struct Login {
    token: SecretString,
    renew_at: Instant,
    end: Instant,
    catalog: Catalog,
}

impl Session {
    /// Makes a session; opens no connection.
    ///
    /// # Errors
    /// [`Error::Tls`] when a certificate or key file cannot be used.
    pub fn new(auth: AuthConfig) -> Result<Self, Error> {
        let http = http_client(SERVICE, &auth.tls)?;
        let tokens_url = tokens_url(&auth.auth_url);
        let (login, attempt) = (RwLock::new(None), Mutex::new(None));
        Ok(Self { inner: Arc::new(Inner { http, auth, tokens_url, login, attempt }) })
    }

    /// A valid token: the cached one, or a new one shortly before its expiry.
    ///
    /// # Errors
    /// [`Error`] of keystone.
    pub async fn token(&self) -> Result<SecretString, Error> {
        Ok(self.login().await?.token.clone())
    }

    /// Who logs in, and where.
    pub fn auth(&self) -> &AuthConfig {
        &self.inner.auth
    }

    /// What keystone says of itself to anybody.
    ///
    /// # Errors
    /// [`Error`] of keystone.
    pub async fn greeting(&self) -> Result<Greeting, Error> {
        let mut url = self.inner.tokens_url.clone();
        let path = url.path().trim_end_matches("/auth/tokens").to_owned();
        url.set_path(&path);
        greeting(SERVICE, &self.inner.http, url).await
    }

    /// Base URL of a service: the override, or the first interface of the list that the catalog has in the region.
    ///
    /// # Errors
    /// [`Error::Identity`] when the catalog has none, or keystone's refusal.
    pub async fn endpoint(&self, endpoint: &EndpointConfig) -> Result<Url, Error> {
        if let Some(url) = &endpoint.endpoint_override {
            return Ok(url.clone());
        }
        self.login().await?.catalog.endpoint(endpoint).map_err(|reason| Error::Identity { service: SERVICE, reason })
    }

    /// Forgets a token that a service has refused, so that the next call logs in again. Another token is left alone: somebody
    /// else has already renewed it.
    pub(super) fn forget(&self, token: &SecretString) {
        let mut login = self.inner.login.write().unwrap_or_else(PoisonError::into_inner);
        if login.as_ref().is_some_and(|login| login.token.expose_secret() == token.expose_secret()) {
            *login = None;
        }
    }

    /// Whether both log in as the same user, in the same place, for the same scope.
    pub(super) fn is_for(&self, auth: &AuthConfig) -> bool {
        self.inner.auth.same_as(auth)
    }

    fn current(&self) -> Option<Arc<Login>> {
        self.inner.login.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn login(&self) -> Result<Arc<Login>, Error> {
        let now = Instant::now();
        match self.current() {
            Some(login) if now < login.renew_at => Ok(login),
            // Still valid: nobody waits for the next token.
            Some(login) if now + LAST_MOMENT < login.end => {
                drop(self.attempt());
                Ok(login)
            }
            _ => self.attempt().await.map_err(|failed| failed.error),
        }
    }

    /// The attempt under way, or the last one if it failed a moment ago, or a new one. It goes on when nobody waits for it.
    fn attempt(&self) -> Attempt {
        let mut last = self.inner.attempt.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if let Some(attempt) = &*last {
            let counts = match attempt.peek() {
                None => true,
                Some(Err(failed)) => now < failed.until,
                // It may have ended between the caller's look at the token and this one.
                Some(Ok(_)) => self.current().is_some_and(|login| now < login.renew_at),
            };
            if counts {
                return attempt.clone();
            }
        }
        let session = self.clone();
        let task = tokio::spawn(async move { session.log_in().await });
        let attempt = async move {
            let broke_down =
                |error: tokio::task::JoinError| Error::Identity { service: SERVICE, reason: error.to_string() };
            task.await.unwrap_or_else(|error| Err(failed(broke_down(error))))
        };
        last.insert(attempt.boxed().shared()).clone()
    }

    async fn log_in(&self) -> Result<Arc<Login>, FailedLogin> {
        let begun = Instant::now();
        let login = self.authenticate().await.map_err(|error| {
            tracing::warn!(%error, "cannot log in to keystone");
            let is_cheap = matches!(error, Error::Unreachable { .. }) && begun.elapsed() < QUICK;
            if is_cheap { FailedLogin { error, until: Instant::now() } } else { failed(error) }
        })?;
        let login = Arc::new(login);
        *self.inner.login.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&login));
        Ok(login)
    }

    async fn authenticate(&self) -> Result<Login, Error> {
        let body = json!({ "auth": auth_body(&self.inner.auth.credentials, &self.inner.auth.scope) });
        let asked = Asked { service: SERVICE, method: "POST".into(), path: self.inner.tokens_url.path().into() };
        let mut retry = Retry::new(3, 3);
        loop {
            let started = Instant::now();
            let sent = self
                .inner
                .http
                .post(self.inner.tokens_url.clone())
                .timeout(self.inner.auth.timeout.unwrap_or(DEFAULT_TIMEOUT))
                .json(&body)
                .send()
                .await;
            let failure = match sent {
                Ok(response) if response.status() == StatusCode::CREATED => {
                    return read_login(response, &asked, started).await;
                }
                Ok(response) => {
                    Failure::Status(response.status().as_u16(), answer::refusal(response, asked.clone()).await)
                }
                Err(error) => Failure::Connection(asked.clone().unreachable(reason(&error.without_url()))),
            };
            // A login may be repeated: it only makes a token.
            retry.wait_or_give_up(failure, true).await?;
        }
    }
}

/// The agents of a cloud do not all ask again in the same moment.
fn failed(error: Error) -> FailedLogin {
    FailedLogin { error, until: Instant::now() + FAILURE_KEPT.mul_f64(0.5 + rand::random::<f64>() / 2.0) }
}

pub(super) fn tokens_url(auth_url: &Url) -> Url {
    let mut url = auth_url.clone();
    let base = url.path().trim_end_matches('/');
    let base = base.strip_suffix("/v3").or_else(|| base.strip_suffix("/v2.0")).unwrap_or(base);
    let path = format!("{base}/v3/auth/tokens");
    url.set_path(&path);
    url.set_query(None);
    url
}

fn named(name: &Named) -> Value {
    match name {
        Named::Id(id) => json!({ "id": id }),
        Named::Name(name) => json!({ "name": name }),
    }
}

fn with_domain(name: &Named, domain: Option<&Named>) -> Value {
    let mut value = named(name);
    if let (Named::Name(_), Some(domain)) = (name, domain) {
        value["domain"] = named(domain);
    }
    value
}

/// Identity API v3, "Password authentication" and "Authenticating with an application credential".
pub(super) fn auth_body(credentials: &Credentials, scope: &Scope) -> Value {
    let identity = match credentials {
        Credentials::Password { user, user_domain, password } => {
            let mut user = with_domain(user, user_domain.as_ref());
            user["password"] = json!(password.expose_secret());
            json!({ "methods": ["password"], "password": { "user": user } })
        }
        Credentials::ApplicationCredential { id, user, user_domain, secret } => {
            let mut credential = named(id);
            credential["secret"] = json!(secret.expose_secret());
            if let (Named::Name(_), Some(user)) = (id, user) {
                credential["user"] = with_domain(user, user_domain.as_ref());
            }
            json!({ "methods": ["application_credential"], "application_credential": credential })
        }
    };
    let mut body = json!({ "identity": identity });
    match scope {
        Scope::Unscoped => {}
        Scope::Project { project, domain } => {
            body["scope"] = json!({ "project": with_domain(project, domain.as_ref()) })
        }
        Scope::Domain(domain) => body["scope"] = json!({ "domain": named(domain) }),
        Scope::System => body["scope"] = json!({ "system": { "all": true } }),
    }
    body
}

#[derive(Deserialize)]
struct Envelope {
    token: TokenBody,
}

#[derive(Deserialize)]
struct TokenBody {
    expires_at: Timestamp,
    issued_at: Timestamp,
    #[serde(default)]
    catalog: Catalog,
}

async fn read_login(response: Response, asked: &Asked, started: Instant) -> Result<Login, Error> {
    let token = response
        .headers()
        .get("x-subject-token")
        .and_then(|value| value.to_str().ok())
        .map(SecretString::from)
        .ok_or_else(|| asked.clone().unexpected("no X-Subject-Token header"))?;
    let envelope: Envelope = answer::json(response, asked.clone()).await?;
    // The life is counted from our own clock, so that keystone's may be wrong.
    let life = envelope.token.expires_at.duration_since(envelope.token.issued_at);
    let life = Duration::try_from(life).unwrap_or_default();
    tracing::debug!(seconds = life.as_secs(), "logged in to keystone");
    Ok(Login {
        token,
        renew_at: started + life.saturating_sub(MARGIN.min(life / 4)),
        end: started + life,
        catalog: envelope.token.catalog,
    })
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
