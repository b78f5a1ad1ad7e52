//! What a token says. Only this registry reads it: it is sealed.

use std::collections::BTreeSet;
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
    /// Keystone tokens, each with the id of its project.
    tokens: Vec<(String, String)>,
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
    /// Which of `tokens`.
    token: usize,
}

/// The user, whose projects the catalog asks keystone for.
#[derive(Serialize, Deserialize)]
struct Catalog {
    /// Which of `tokens`: as the user logged in.
    token: usize,
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
        Self { end: 0, user, user_name, tokens: vec![], access: vec![], catalog: None, is_anonymous }
    }

    /// Grants actions in a repository of the project `owner`, done with the token of `login`.
    pub fn grant(&mut self, name: &Name, actions: BTreeSet<Action>, owner: &str, is_pusher: bool, login: &UserLogin) {
        let (token, name) = (self.token(login), name.to_string());
        self.access.push(Access { name, actions, owner: owner.to_owned(), is_pusher, token });
    }

    /// Lets the catalog be listed.
    pub fn list(&mut self, login: &UserLogin) {
        let (token, domain) = (self.token(login), login.user_domain_id.clone());
        self.catalog = Some(Catalog { token, domain, project: login.project.clone() });
    }

    fn token(&mut self, login: &UserLogin) -> usize {
        let id = login.project.as_ref().map(|project| project.id.clone()).unwrap_or_default();
        let known = self.tokens.iter().position(|(known, _)| *known == id);
        known.unwrap_or_else(|| {
            self.tokens.push((id, login.token.expose_secret().to_owned()));
            self.tokens.len() - 1
        })
    }

    /// The user, for one request, at so many seconds since 1970; `client` is where it comes from, where that speaks for one alone.
    pub fn visitor(self, request_id: &str, client: Option<IpAddr>, now: u64) -> Visitor {
        let grant = |access: &Access| {
            let (project, token) = self.tokens.get(access.token)?;
            let turns = match (self.is_anonymous, client) {
                (false, _) => project.clone(),
                (true, Some(client)) => format!("anonymous at {client}"),
                (true, None) => format!("anonymous in {}", access.owner),
            };
            Some(Grant {
                owner: access.owner.clone(),
                project: project.clone(),
                user: self.user.clone(),
                token: SecretString::from(token.as_str()),
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
            let (_, token) = self.tokens.get(catalog.token)?;
            Some(UserLogin {
                token: SecretString::from(token.as_str()),
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
