//! Keystone, for users who bring their own credentials: logins that are nobody's session.

use std::fmt;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use reqwest::{Client, Response, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use url::Url;

use super::Error;
use super::answer::{self, Asked};
use super::auth::{Credentials, Scope};
use super::retry::{Failure, Retry};
use super::session::{auth_body, tokens_url};
use super::tls::{TlsConfig, http_client, reason};

const SERVICE: &str = "keystone";
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);

/// Where keystone is.
#[derive(Clone, Debug)]
pub struct KeystoneConfig {
    /// With or without `/v3`.
    pub auth_url: Url,
    pub tls: TlsConfig,
    /// Limit of one call; none means 30 s.
    pub timeout: Option<Duration>,
}

/// A client of keystone without an identity of its own.
#[derive(Clone)]
pub struct Keystone {
    http: Client,
    tokens_url: Url,
    projects_url: Url,
    timeout: Duration,
}

/// A project in which a user has a role.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Project {
    pub id: String,
    pub name: String,
    #[serde(default)]
    pub domain_id: String,
}

/// What a login gave.
#[derive(Clone)]
pub struct UserLogin {
    pub token: SecretString,
    pub user_id: String,
    pub user_name: String,
    /// Keystone's id of the domain that the user belongs to.
    pub user_domain_id: String,
    /// What the token is scoped to.
    pub project: Option<Project>,
    /// The names of the user's roles there, those that others imply among them.
    pub roles: Vec<String>,
    /// When the token ends, by our own clock.
    pub end: Instant,
}

impl fmt::Debug for UserLogin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UserLogin").field("user", &self.user_id).field("project", &self.project).finish_non_exhaustive()
    }
}

impl Keystone {
    /// Makes the client; opens no connection.
    ///
    /// # Errors
    /// [`Error::Tls`] when a certificate or key file cannot be used.
    pub fn new(config: &KeystoneConfig) -> Result<Self, Error> {
        let http = http_client(SERVICE, &config.tls)?;
        let tokens_url = tokens_url(&config.auth_url);
        let mut projects_url = tokens_url.clone();
        projects_url.set_path(&tokens_url.path().replace("/auth/tokens", "/auth/projects"));
        Ok(Self { http, tokens_url, projects_url, timeout: config.timeout.unwrap_or(DEFAULT_TIMEOUT) })
    }

    /// Logs a user in without a project, or by an application credential in the project of that.
    ///
    /// # Errors
    /// [`Error`] of keystone; 401 for wrong credentials.
    pub async fn log_in(&self, credentials: &Credentials, request_id: &str) -> Result<UserLogin, Error> {
        let mut body = auth_body(credentials, &Scope::Unscoped);
        if let Credentials::Password { .. } = credentials {
            // Otherwise it would be the user's default project.
            body["scope"] = json!("unscoped");
        }
        self.token(body, request_id).await
    }

    /// A token of the same user for a project.
    ///
    /// # Errors
    /// [`Error`] of keystone; 401 when the user has no role there.
    pub async fn for_project(
        &self,
        token: &SecretString,
        project_id: &str,
        request_id: &str,
    ) -> Result<UserLogin, Error> {
        let identity = json!({ "methods": ["token"], "token": { "id": token.expose_secret() } });
        self.token(json!({ "identity": identity, "scope": { "project": { "id": project_id } } }), request_id).await
    }

    /// The enabled projects in which the token's user has a role.
    ///
    /// # Errors
    /// [`Error`] of keystone.
    pub async fn projects(&self, token: &SecretString, request_id: &str) -> Result<Vec<Project>, Error> {
        #[derive(Deserialize)]
        struct Projects {
            projects: Vec<Project>,
        }
        let asked = self.asked("GET", &self.projects_url);
        let request = || self.http.get(self.projects_url.clone()).header("x-auth-token", token.expose_secret());
        let response = self.send(request, StatusCode::OK, request_id, &asked).await?;
        Ok(answer::json::<Projects>(response, asked).await?.projects)
    }

    async fn token(&self, auth: Value, request_id: &str) -> Result<UserLogin, Error> {
        let started = Instant::now();
        let asked = self.asked("POST", &self.tokens_url);
        let body = json!({ "auth": auth });
        let request = || self.http.post(self.tokens_url.clone()).json(&body);
        let response = self.send(request, StatusCode::CREATED, request_id, &asked).await?;
        read(response, &asked, started).await
    }

    async fn send(
        &self,
        request: impl Fn() -> reqwest::RequestBuilder,
        expected: StatusCode,
        request_id: &str,
        asked: &Asked,
    ) -> Result<Response, Error> {
        let mut retry = Retry::new(1, 1);
        loop {
            let sent = request().timeout(self.timeout).header("x-openstack-request-id", request_id).send().await;
            let failure = match sent {
                Ok(response) if response.status() == expected => return Ok(response),
                Ok(response) => {
                    Failure::Status(response.status().as_u16(), answer::refusal(response, asked.clone()).await)
                }
                Err(error) => Failure::Connection(asked.clone().unreachable(reason(&error.without_url()))),
            };
            retry.wait_or_give_up(failure, true).await?;
        }
    }

    fn asked(&self, method: &str, url: &Url) -> Asked {
        Asked { service: SERVICE, method: method.into(), path: url.path().into() }
    }
}

#[derive(Deserialize)]
struct Envelope {
    token: Body,
}

#[derive(Deserialize)]
struct Body {
    expires_at: Timestamp,
    issued_at: Timestamp,
    user: User,
    #[serde(default)]
    project: Option<ScopedProject>,
    #[serde(default)]
    roles: Vec<Role>,
}

#[derive(Deserialize)]
struct Role {
    name: String,
}

#[derive(Deserialize)]
struct User {
    id: String,
    name: String,
    #[serde(default)]
    domain: Option<Domain>,
}

#[derive(Deserialize)]
struct ScopedProject {
    id: String,
    name: String,
    #[serde(default)]
    domain: Option<Domain>,
}

#[derive(Deserialize)]
struct Domain {
    id: String,
}

async fn read(response: Response, asked: &Asked, started: Instant) -> Result<UserLogin, Error> {
    let token = response.headers().get("x-subject-token").and_then(|value| value.to_str().ok());
    let token = token.map(SecretString::from);
    let token = token.ok_or_else(|| asked.clone().unexpected("no X-Subject-Token header"))?;
    let body = answer::json::<Envelope>(response, asked.clone()).await?.token;
    // The life is counted from our own clock, so that keystone's may be wrong.
    let life = Duration::try_from(body.expires_at.duration_since(body.issued_at)).unwrap_or_default();
    let id = |domain: Option<Domain>| domain.map(|domain| domain.id).unwrap_or_default();
    let project =
        body.project.map(|project| Project { id: project.id, name: project.name, domain_id: id(project.domain) });
    Ok(UserLogin {
        token,
        user_id: body.user.id,
        user_name: body.user.name,
        user_domain_id: id(body.user.domain),
        project,
        roles: body.roles.into_iter().map(|role| role.name).collect(),
        end: started + life,
    })
}

#[cfg(test)]
#[path = "keystone_tests.rs"]
mod tests;
