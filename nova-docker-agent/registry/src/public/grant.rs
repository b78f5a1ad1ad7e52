//! What a request may do, and as whom.

use std::fmt;

use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use super::Name;
use crate::{ApiError, Code};
use nova_docker_cloud::Caller;
use nova_docker_cloud::glance::ImageMeta;

/// What a token's scope lists after the repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    Pull,
    Push,
    Delete,
}

impl Action {
    pub const ALL: [Self; 3] = [Self::Pull, Self::Push, Self::Delete];

    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Pull => "pull",
            Self::Push => "push",
            Self::Delete => "delete",
        }
    }
}

/// A user, in the project that a repository belongs to, or, where the user has no role there, in the user's own.
#[derive(Clone)]
pub struct Grant {
    /// Keystone's id of the repository's project: the `owner` of its images.
    pub owner: String,
    /// Keystone's id of the project that `token` is scoped to. Only where it is `owner`, something may be pushed.
    pub project: String,
    /// Keystone's id of the user.
    pub user: String,
    /// The user's own Keystone token.
    pub token: SecretString,
    /// `req-<uuid>`, of the client's request.
    pub request_id: String,
    /// The user's roles in that project are for pushes, whatever this request's token is for.
    pub is_pusher: bool,
    /// Nobody has logged in: of what the token can see, only public images are shown.
    pub is_anonymous: bool,
    /// Who takes turns in listing and opening images: the users of a project together, and each client that has not logged in.
    pub turns: String,
}

impl Grant {
    /// A user with a role in a project, for its repositories.
    pub fn of_member(project: &str, user: String, token: SecretString, request_id: &str, is_pusher: bool) -> Self {
        let [owner, project, turns] = [(); 3].map(|()| project.to_owned());
        Self { owner, project, user, token, request_id: request_id.to_owned(), is_pusher, is_anonymous: false, turns }
    }

    /// Whether an image that Glance shows to the token is for whoever sends the request.
    pub fn may_see(&self, image: &ImageMeta) -> bool {
        !self.is_anonymous || image.visibility.as_deref() == Some("public")
    }

    /// Whether what was pushed to the repository's project, and is in no image yet, is for whoever sends the request.
    pub fn sees_staged(&self) -> bool {
        self.is_pusher && self.project == self.owner
    }

    /// Whether an image is one of the repository's project.
    pub fn owns(&self, image: &ImageMeta) -> bool {
        image.owner.as_ref() == Some(&self.owner)
    }

    /// The user, to Glance.
    pub fn caller(&self) -> Caller {
        Caller::user(self.token.clone(), self.request_id.clone())
    }
}

impl fmt::Debug for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grant").field("owner", &self.owner).field("user", &self.user).finish_non_exhaustive()
    }
}

/// A repository, and as whom it is reached.
#[derive(Clone, Debug)]
pub struct Repository {
    pub name: Name,
    pub grant: Grant,
}

/// What the bearer of a request's token may do.
#[derive(Clone, Debug, Default)]
pub struct Bearer {
    /// By repository, with the actions that were granted.
    pub access: Vec<(Name, Vec<Action>, Grant)>,
}

impl Bearer {
    /// The repository `name`, as whoever may do `action` there: to change it, with a role in its project.
    ///
    /// # Errors
    /// [`Code::Denied`] when the token is not for that. The HTTP side makes a challenge for the missing scope of it.
    pub fn repository(&self, name: &Name, action: Action) -> Result<Repository, ApiError> {
        let found = self.access.iter().find(|(known, actions, grant)| {
            known == name && actions.contains(&action) && (action == Action::Pull || grant.project == grant.owner)
        });
        let denied = || ApiError::new(Code::Denied, format!("the token is not for this in {name}"));
        found.map(|(name, _, grant)| Repository { name: name.clone(), grant: grant.clone() }).ok_or_else(denied)
    }
}
