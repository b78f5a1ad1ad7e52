//! Keystone logins of users, kept for a short time: a pull asks for several tokens within seconds, and keystone takes its time
//! with passwords.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ring::hmac;
use secrecy::SecretString;
use tokio::sync::OnceCell;

use super::super::error::{ApiError, Code};
use super::super::name::Name;
use crate::cloud::{self, Credentials, Keystone, Named, Project, UserLogin};

/// How long keystone is not asked again. A changed password, or a new role, counts after that at the latest.
const KEPT: Duration = Duration::from_secs(60);
/// Users whose logins are kept.
const MAX_LOGINS: usize = 1024;

/// Logs users in.
pub struct Logins {
    keystone: Keystone,
    /// Of users who name none.
    domain: Named,
    /// Of this process alone: under it, credentials are remembered without being kept.
    secret: hmac::Key,
    known: Mutex<HashMap<[u8; 32], Known>>,
}

#[derive(Clone)]
struct Known {
    since: Instant,
    login: Arc<OnceCell<Arc<Login>>>,
}

/// A user who has proved to be one.
pub struct Login {
    pub user: UserLogin,
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
    pub fn new(keystone: Keystone, domain: Named) -> Self {
        let secret = hmac::Key::new(hmac::HMAC_SHA256, &rand::random::<[u8; 32]>());
        Self { keystone, domain, secret, known: Mutex::default() }
    }

    /// The login for a user name and password, as the user types them: `USER`, `DOMAIN/USER`, or the id of an application
    /// credential and its secret.
    ///
    /// # Errors
    /// [`Code::Unauthorized`], or [`Code::Unavailable`] when keystone cannot say.
    pub async fn log_in(&self, username: &str, password: &str, request_id: &str) -> Result<Arc<Login>, ApiError> {
        let known = self.known(username, password);
        let login = known.login.get_or_try_init(|| self.ask(username, password, request_id)).await;
        login.cloned().map_err(|error| refusal(&error))
    }

    /// Forgets the logins of a user whose token was refused, so that the next one is asked of keystone.
    pub fn forget(&self, user_id: &str) {
        let is_other = |known: &Known| known.login.get().is_none_or(|login| login.user.user_id != user_id);
        self.known.lock().unwrap_or_else(PoisonError::into_inner).retain(|_, known| is_other(known));
    }

    /// How the user reaches a repository's project.
    ///
    /// # Errors
    /// [`Code::Unavailable`], or [`Code::Denied`] for a user without any project.
    pub async fn place(&self, login: &Login, name: &Name, request_id: &str) -> Result<Place, ApiError> {
        let wanted = name.project();
        if let Some(project) = login.find(wanted) {
            match self.scoped(login, &project.id, request_id).await {
                Ok(scoped) => return Ok(Place { owner: project.id.clone(), login: scoped }),
                // The role has just been taken away.
                Err(error) if error.is_forbidden() => {}
                Err(error) => return Err(refusal(&error)),
            }
        }
        let own = login.projects.first();
        let own = own.ok_or_else(|| ApiError::new(Code::Denied, "you have no role in any project"))?;
        let scoped = self.scoped(login, &own.id, request_id).await.map_err(|error| refusal(&error))?;
        let owner = if is_id(wanted) { wanted.to_owned() } else { String::new() };
        Ok(Place { owner, login: scoped })
    }

    /// A token of the user's for a project of the user's.
    ///
    /// # Errors
    /// Keystone's.
    pub async fn scoped(&self, login: &Login, project_id: &str, request_id: &str) -> Result<UserLogin, cloud::Error> {
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
        let projects = match &user.project {
            Some(project) => vec![project.clone()],
            None => self.keystone.projects(&user.token, request_id).await?,
        };
        Ok(Arc::new(Login { user, projects, scoped: Mutex::default() }))
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

    fn known(&self, username: &str, password: &str) -> Known {
        let key = self.fingerprint(username, password);
        let now = Instant::now();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = known.get(&key).filter(|known| known.is_fresh(now)) {
            return known.clone();
        }
        if known.len() >= MAX_LOGINS {
            known.retain(|_, known| known.is_fresh(now));
        }
        if known.len() >= MAX_LOGINS {
            known.clear();
        }
        let new = Known { since: now, login: Arc::default() };
        known.insert(key, new.clone());
        new
    }

    fn fingerprint(&self, username: &str, password: &str) -> [u8; 32] {
        let mut context = hmac::Context::with_key(&self.secret);
        context.update(&(username.len() as u64).to_be_bytes());
        context.update(username.as_bytes());
        context.update(password.as_bytes());
        let mut fingerprint = [0; 32];
        fingerprint.copy_from_slice(context.sign().as_ref());
        fingerprint
    }
}

impl Known {
    fn is_fresh(&self, now: Instant) -> bool {
        let ends = self.login.get().is_some_and(|login| login.user.end < now + KEPT);
        now.duration_since(self.since) < KEPT && !ends
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

    /// What the user writes for a project, by its id.
    pub fn name_of(&self, project_id: &str) -> Option<&str> {
        let project = self.projects.iter().find(|project| project.id == project_id)?;
        (project.domain_id == self.user.user_domain_id).then_some(project.name.as_str())
    }

    fn scoped(&self) -> MutexGuard<'_, HashMap<String, Arc<OnceCell<UserLogin>>>> {
        self.scoped.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a text has the form of keystone's ids.
fn is_id(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

/// What keystone's answer means for the user.
fn refusal(error: &cloud::Error) -> ApiError {
    match error.status() {
        // An unknown application credential is sometimes told as not found, a user name with odd characters as a bad request.
        Some(400 | 401 | 403 | 404) => ApiError::new(Code::Unauthorized, "incorrect user name or password"),
        _ => {
            tracing::warn!(%error, "keystone cannot log a user in");
            ApiError::new(Code::Unavailable, "the identity service does not answer; try again")
        }
    }
}
