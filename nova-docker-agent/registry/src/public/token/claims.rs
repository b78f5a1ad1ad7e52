//! What a token says. Only this registry reads it: it is sealed.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use super::Refused;
use crate::public::{Action, Bearer, Grant, Name};
use nova_docker_cloud::{Project, UserLogin};

/// The content of a token. It holds the user's keystone tokens, so that every process can act for the user without asking
/// keystone, and none keeps state.
#[derive(Serialize, Deserialize)]
pub struct Claims {
    /// Seconds since 1970 at which the token ends.
    pub end: u64,
    /// Keystone's id and name of the user.
    pub user: String,
    pub user_name: String,
    /// Keystone tokens, by the ids of their projects. That of no project has an empty one.
    tokens: BTreeMap<String, String>,
    access: Vec<Access>,
    catalog: Option<Catalog>,
    /// The user is the registry's own identity, for those who have not logged in.
    is_anonymous: bool,
}

#[derive(Serialize, Deserialize)]
struct Access {
    name: String,
    actions: BTreeSet<Action>,
    /// Keystone's id of the repository's project.
    owner: String,
    /// The user may push there, if asked for.
    is_pusher: bool,
    /// The project whose token is used.
    project: String,
}

/// The user, whose projects the catalog asks keystone for.
#[derive(Serialize, Deserialize)]
struct Catalog {
    /// Keystone's id of the user's domain.
    domain: String,
    /// The only project that the token can be used for, if there is one.
    project: Option<Project>,
}

/// Who sends a request, and what for.
pub struct Visitor {
    /// The user's name in keystone, for the log.
    pub user: String,
    /// Keystone's id of the user.
    pub user_id: String,
    pub bearer: Bearer,
    pub is_anonymous: bool,
    /// As whom the catalog is listed, if the token is for that.
    pub catalog: Option<UserLogin>,
}

impl Visitor {
    /// What is wrong with a request that the token is not for: whoever has not logged in can do so.
    pub fn lacks(&self) -> Refused {
        if self.is_anonymous { Refused::NoToken } else { Refused::InsufficientScope }
    }
}

impl Claims {
    pub fn new(user: &UserLogin, is_anonymous: bool) -> Self {
        let (user, user_name) = (user.user_id.clone(), user.user_name.clone());
        Self { end: 0, user, user_name, tokens: BTreeMap::new(), access: vec![], catalog: None, is_anonymous }
    }

    /// Grants actions in a repository of the project `owner`, done with the token of `login`.
    pub fn grant(&mut self, name: &Name, actions: BTreeSet<Action>, owner: &str, is_pusher: bool, login: &UserLogin) {
        let (project, name) = (self.keep_token(login), name.to_string());
        self.access.push(Access { name, actions, owner: owner.to_owned(), is_pusher, project });
    }

    /// Lets the catalog be listed.
    pub fn list(&mut self, login: &UserLogin) {
        self.keep_token(login);
        self.catalog = Some(Catalog { domain: login.user_domain_id.clone(), project: login.project.clone() });
    }

    fn keep_token(&mut self, login: &UserLogin) -> String {
        let project = id_of(login.project.as_ref());
        self.tokens.insert(project.clone(), login.token.expose_secret().to_owned());
        project
    }

    /// The user, for one request, at so many seconds since 1970; `client` is where it comes from, where that speaks for one alone.
    pub fn visitor(self, request_id: &str, client: Option<IpAddr>, now: u64) -> Visitor {
        let token = |project: &str| self.tokens.get(project).map(|token| SecretString::from(token.as_str()));
        let grant = |access: &Access| {
            let turns = match (self.is_anonymous, client) {
                (false, _) => access.project.clone(),
                (true, Some(client)) => format!("anonymous at {client}"),
                (true, None) => format!("anonymous in {}", access.owner),
            };
            Some(Grant {
                owner: access.owner.clone(),
                project: access.project.clone(),
                user: self.user.clone(),
                token: token(&access.project)?,
                request_id: request_id.to_owned(),
                is_pusher: access.is_pusher,
                is_anonymous: self.is_anonymous,
                turns,
            })
        };
        let access = self.access.iter().filter_map(|access| {
            Some((access.name.parse().ok()?, access.actions.iter().copied().collect(), grant(access)?))
        });
        let bearer = Bearer { access: access.collect() };
        let catalog = self.catalog.as_ref().and_then(|catalog| {
            Some(UserLogin {
                token: token(&id_of(catalog.project.as_ref()))?,
                user_id: self.user.clone(),
                user_name: self.user_name.clone(),
                user_domain_id: catalog.domain.clone(),
                project: catalog.project.clone(),
                roles: vec![],
                end: Instant::now() + Duration::from_secs(self.end.saturating_sub(now)),
            })
        });
        Visitor { user: self.user_name, user_id: self.user, bearer, is_anonymous: self.is_anonymous, catalog }
    }
}

fn id_of(project: Option<&Project>) -> String {
    project.map(|project| project.id.clone()).unwrap_or_default()
}
