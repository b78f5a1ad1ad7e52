//! Keystone logins of users, kept for a short time: a pull asks for several tokens within seconds, and keystone takes its time
//! with passwords.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::http::header::RETRY_AFTER;
use ipnet::IpNet;
use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use ring::hmac;
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::{OnceCell, Semaphore};

use super::guesses::{Guesses, WINDOW};
use crate::public::Name;
use crate::turns::Turns;
use crate::{ApiError, Code};
use nova_docker_cloud::{self as cloud, Credentials, Keystone, Named, Project, UserLogin};

/// How long a login is kept without asking keystone. A new role or a revoked login takes effect after that at the
/// latest.
const KEPT: Duration = Duration::from_secs(60);
/// How long a valid keystone token proves the user before keystone must check the password again, which takes it a
/// third of a second. Keystone revokes the token when it changes a password; another system that changes it (LDAP)
/// cannot.
const PROVEN_FOR: Duration = Duration::from_secs(900);
/// Users whose logins are kept.
const MAX_LOGINS: u64 = 1024;

/// Logs users in.
pub struct Logins {
    keystone: Keystone,
    /// Of users who name none.
    domain: Named,
    /// Random, of this process: credentials are remembered as a hash under this key.
    secret: hmac::Key,
    known: Cache<[u8; 32], Arc<Login>>,
    /// Who asks keystone. Wrong passwords come no further, and push nobody out of those that are known.
    asking: Arc<Turns>,
    kept: Duration,
    guesses: Guesses,
}

/// A user who has logged in.
pub struct Login {
    pub user: UserLogin,
    /// When keystone saw the password.
    proven: Instant,
    /// When it was asked last.
    since: Instant,
    /// Where the user has a role.
    pub projects: Vec<Project>,
    /// By project id.
    scoped: Mutex<HashMap<String, Arc<OnceCell<UserLogin>>>>,
}

/// In which project, and as whom, a repository is reached.
pub struct Place {
    /// Keystone's id of the repository's project. Empty for a name that is no project of the user's: nothing can be there.
    pub owner: String,
    pub login: UserLogin,
}

impl Place {
    /// Whether the user has a role in the repository's project.
    pub fn is_member(&self) -> bool {
        self.login.project.as_ref().is_some_and(|project| project.id == self.owner)
    }
}

impl Logins {
    /// `shared`: addresses that speak for many clients.
    pub fn new(keystone: Keystone, domain: Named, shared: Vec<IpNet>) -> Self {
        let secret = hmac::Key::new(hmac::HMAC_SHA256, &rand::random::<[u8; 32]>());
        let known = Cache::builder().max_capacity(MAX_LOGINS).eviction_policy(EvictionPolicy::lru()).build();
        let asking = Turns::new(Semaphore::MAX_PERMITS, 1);
        Self { keystone, domain, secret, known, asking, kept: KEPT, guesses: Guesses::new(shared) }
    }

    /// The login for a user name and password, as the user types them: `USER`, `DOMAIN/USER`, or the id of an application
    /// credential and its secret. `address`: whose guess it is, where it may be one.
    ///
    /// # Errors
    /// [`Code::Unauthorized`], [`Code::TooManyRequests`] after too many wrong passwords, or [`Code::Unavailable`] when keystone
    /// cannot say.
    pub async fn log_in(
        &self,
        username: &str,
        password: &str,
        address: Option<IpAddr>,
        request_id: &str,
    ) -> Result<Arc<Login>, ApiError> {
        let ask = async |before: Option<Arc<Login>>| {
            if let Some(before) = before {
                match self.renew(&before, request_id).await {
                    Err(error) if !error.is_unavailable() => {}
                    renewed => return renewed.map_err(|error| refusal(&error)),
                }
            }
            let user = self.fingerprint(&["user", username]);
            let guess = self.guesses.begin(address, user).ok_or_else(too_many_guesses)?;
            let login = self.ask(username, password, request_id).await;
            if login.as_ref().is_err_and(is_refusal) {
                guess.was_wrong();
            }
            login.map_err(|error| refusal(&error))
        };
        self.once(&["password", username, password], ask).await
    }

    /// The login behind a keystone token that this registry, or another process of it, has put into a token of its own, with the
    /// user's projects as keystone knows them now.
    ///
    /// # Errors
    /// [`Code::Unauthorized`] when keystone takes the user's token no more, or [`Code::Unavailable`].
    pub async fn of_token(&self, user: &UserLogin, request_id: &str) -> Result<Arc<Login>, ApiError> {
        let ask = async |_| self.open(user.clone(), request_id).await.map_err(|error| refusal(&error));
        self.once(&["token", user.token.expose_secret()], ask).await
    }

    /// The login that is known for these secrets, or what keystone gives for them; all who have the same wait for one answer.
    async fn once<F: Future<Output = Result<Arc<Login>, ApiError>>>(
        &self,
        secrets: &[&str],
        ask: impl FnOnce(Option<Arc<Login>>) -> F,
    ) -> Result<Arc<Login>, ApiError> {
        let key = self.fingerprint(secrets);
        let fresh = || self.known.get(&key).filter(|login| login.is_fresh(Instant::now(), self.kept));
        if let Some(login) = fresh() {
            return Ok(login);
        }
        let _alone = self.asking.take(Some(&hex::encode(key))).await;
        // Whoever was first may have it now.
        if let Some(login) = fresh() {
            return Ok(login);
        }
        let before = self.known.get(&key).filter(|login| login.is_renewable(Instant::now(), self.kept));
        let login = ask(before).await;
        if let Ok(login) = &login {
            self.known.insert(key, login.clone());
        }
        login
    }

    /// Forgets the logins of a user, by its id, whose token Glance has refused, so that the next one is asked of keystone.
    pub fn forget(&self, user_id: &str) {
        for (key, login) in &self.known {
            if login.user.user_id == user_id {
                self.known.invalidate(&*key);
            }
        }
    }

    /// How the user reaches a repository's project.
    ///
    /// # Errors
    /// [`Code::Unavailable`], or [`Code::Denied`] for a user without any project.
    pub async fn place(&self, login: &Login, name: &Name, request_id: &str) -> Result<Place, ApiError> {
        let wanted = name.project();
        if let Some(project) = login.find(wanted)
            && let Some(scoped) = self.member(login, &project.id, request_id).await?
        {
            return Ok(Place { owner: project.id.clone(), login: scoped });
        }
        let own = login.projects.first();
        let own = own.ok_or_else(|| ApiError::new(Code::Denied, "you have no role in any project"))?;
        let scoped = self.scoped(login, &own.id, request_id).await.map_err(|error| refusal(&error))?;
        let owner = if is_id(wanted) { wanted.to_owned() } else { String::new() };
        Ok(Place { owner, login: scoped })
    }

    /// A token of the user's for a project of the user's; None when the role there has just been taken away.
    pub async fn member(
        &self,
        login: &Login,
        project_id: &str,
        request_id: &str,
    ) -> Result<Option<UserLogin>, ApiError> {
        match self.scoped(login, project_id, request_id).await {
            Ok(scoped) => Ok(Some(scoped)),
            Err(error) if error.is_forbidden() => Ok(None),
            Err(error) => Err(refusal(&error)),
        }
    }

    async fn scoped(&self, login: &Login, project_id: &str, request_id: &str) -> Result<UserLogin, cloud::Error> {
        if login.user.project.as_ref().is_some_and(|project| project.id == project_id) {
            return Ok(login.user.clone());
        }
        let cell = login.scoped().entry(project_id.to_owned()).or_default().clone();
        let ask = || self.keystone.for_project(&login.user.token, project_id, request_id);
        cell.get_or_try_init(ask).await.cloned()
    }

    async fn ask(&self, username: &str, password: &str, request_id: &str) -> Result<Arc<Login>, cloud::Error> {
        let credentials = self.credentials(username, password);
        let user = self.keystone.log_in(&credentials, request_id).await?;
        self.open(user, request_id).await
    }

    async fn open(&self, user: UserLogin, request_id: &str) -> Result<Arc<Login>, cloud::Error> {
        let now = Instant::now();
        let projects = match &user.project {
            Some(project) => vec![project.clone()],
            None => self.keystone.projects(&user.token, request_id).await?,
        };
        Ok(Arc::new(Login { user, proven: now, since: now, projects, scoped: Mutex::default() }))
    }

    /// A login that keystone still stands by, without the password.
    async fn renew(&self, login: &Login, request_id: &str) -> Result<Arc<Login>, cloud::Error> {
        let (user, since) = (login.user.clone(), Instant::now());
        let all = self.keystone.projects(&user.token, request_id).await?;
        let projects = user.project.as_ref().map_or(all, |only| vec![only.clone()]);
        let mut scoped = login.scoped().clone();
        scoped.retain(|id, _| projects.iter().any(|project| project.id == *id));
        Ok(Arc::new(Login { user, proven: login.proven, since, projects, scoped: Mutex::new(scoped) }))
    }

    fn credentials(&self, username: &str, password: &str) -> Credentials {
        let password = SecretString::from(password);
        if is_id(username) {
            let id = Named::Id(username.to_owned());
            return Credentials::ApplicationCredential { id, user: None, user_domain: None, secret: password };
        }
        let (domain, user) = match username.split_once('/') {
            Some((domain, user)) => (Named::Name(domain.to_owned()), user),
            None => (self.domain.clone(), username),
        };
        Credentials::Password { user: Named::Name(user.to_owned()), user_domain: Some(domain), password }
    }

    fn fingerprint(&self, secrets: &[&str]) -> [u8; 32] {
        let mut context = hmac::Context::with_key(&self.secret);
        for secret in secrets {
            context.update(&(secret.len() as u64).to_be_bytes());
            context.update(secret.as_bytes());
        }
        let mut fingerprint = [0; 32];
        fingerprint.copy_from_slice(context.sign().as_ref());
        fingerprint
    }
}

impl Login {
    /// A project of the user's: by its id, or by its name in the user's own domain.
    fn find(&self, wanted: &str) -> Option<&Project> {
        let by_id = self.projects.iter().find(|project| project.id == wanted);
        let domain = &self.user.user_domain_id;
        let named = |project: &&Project| project.name == wanted && project.domain_id == *domain;
        by_id.or_else(|| self.projects.iter().find(named))
    }

    /// What the user writes for projects, by their ids.
    pub fn names(&self) -> HashMap<&str, &str> {
        let written = self.projects.iter().filter(|project| project.domain_id == self.user.user_domain_id);
        written.map(|project| (project.id.as_str(), project.name.as_str())).collect()
    }

    /// Whether keystone need not be asked yet.
    fn is_fresh(&self, now: Instant, kept: Duration) -> bool {
        now.duration_since(self.since) < kept && !self.ends(now)
    }

    /// Whether keystone's token proves the user for a while yet.
    fn is_renewable(&self, now: Instant, kept: Duration) -> bool {
        now.duration_since(self.proven) + kept < PROVEN_FOR && !self.ends(now)
    }

    /// Whether keystone's token ends soon.
    fn ends(&self, now: Instant) -> bool {
        self.user.end < now + KEPT
    }

    fn scoped(&self) -> MutexGuard<'_, HashMap<String, Arc<OnceCell<UserLogin>>>> {
        self.scoped.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a text has the form of keystone's ids.
fn is_id(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

/// Whether keystone does not take the credentials. An unknown application credential is sometimes told as not found, a user name
/// with odd characters as a bad request.
fn is_refusal(error: &cloud::Error) -> bool {
    matches!(error.status(), Some(400 | 401 | 403 | 404))
}

/// What keystone's answer means for the user.
fn refusal(error: &cloud::Error) -> ApiError {
    if is_refusal(error) {
        return ApiError::new(Code::Unauthorized, "incorrect user name or password");
    }
    tracing::warn!(%error, "keystone cannot log a user in");
    ApiError::new(Code::Unavailable, "the identity service does not answer; try again")
}

fn too_many_guesses() -> ApiError {
    let message = "too many wrong passwords came from your address; try again in a minute";
    ApiError::new(Code::TooManyRequests, message).with_header(RETRY_AFTER, WINDOW.as_secs().to_string())
}

#[cfg(test)]
mod tests;
