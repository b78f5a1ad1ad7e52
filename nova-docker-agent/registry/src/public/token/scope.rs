//! What a client asks a token for.
//!
//! Source: distribution "Token Scope Documentation": `TYPE:NAME:ACTION[,ACTION]`.

use crate::public::{Action, Name};

/// More than any client asks for: a push asks for its repository and those that it mounts from.
const MAX_SCOPES: usize = 16;

/// One resource, and what shall be done with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    Repository(Name, Vec<Action>),
    Catalog,
}

impl Scope {
    /// The scopes in the values of the parameter `scope`, each of which may hold several. What is not understood is left out:
    /// nothing is granted for it.
    pub fn all<'a>(values: impl IntoIterator<Item = &'a str>) -> Vec<Self> {
        let scopes = values.into_iter().flat_map(str::split_whitespace);
        let mut found: Vec<Self> = vec![];
        for scope in scopes.take(MAX_SCOPES).filter_map(Self::parse) {
            let same = |known: &&mut Self| match (&**known, &scope) {
                (Self::Repository(name, _), Self::Repository(other, _)) => name == other,
                (known, scope) => known == scope,
            };
            match (found.iter_mut().find(same), scope) {
                (Some(Self::Repository(_, actions)), Self::Repository(_, more)) => {
                    let new: Vec<Action> = more.into_iter().filter(|action| !actions.contains(action)).collect();
                    actions.extend(new);
                }
                (Some(_), _) => {}
                (None, scope) => found.push(scope),
            }
        }
        found
    }

    fn parse(text: &str) -> Option<Self> {
        let (kind, rest) = text.split_once(':')?;
        let (name, actions) = rest.rsplit_once(':')?;
        match kind {
            "repository" => {
                let actions = actions_of(actions);
                let name = name.parse().ok()?;
                (!actions.is_empty()).then_some(Self::Repository(name, actions))
            }
            "registry" if name == "catalog" && actions.split(',').any(|action| action == "*") => Some(Self::Catalog),
            _ => None,
        }
    }
}

fn actions_of(text: &str) -> Vec<Action> {
    let mut actions = vec![];
    for word in text.split(',') {
        let meant: &[Action] = match word.trim() {
            "pull" => &[Action::Pull],
            "push" => &[Action::Push],
            "delete" => &[Action::Delete],
            "*" => &[Action::Pull, Action::Push, Action::Delete],
            _ => &[],
        };
        let new: Vec<Action> = meant.iter().filter(|action| !actions.contains(*action)).copied().collect();
        actions.extend(new);
    }
    actions
}

/// The word for an action in scopes.
pub fn word(action: Action) -> &'static str {
    match action {
        Action::Pull => "pull",
        Action::Push => "push",
        Action::Delete => "delete",
    }
}

#[cfg(test)]
mod tests;
