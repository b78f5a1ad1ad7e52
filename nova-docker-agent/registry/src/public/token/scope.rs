//! What a client asks a token for.
//!
//! Source: distribution "Token Scope Documentation": `TYPE:NAME:ACTION[,ACTION]`.

use std::collections::{BTreeMap, BTreeSet};

use crate::public::{Action, Name};

/// More than any client asks for: a push asks for its repository and those that it mounts from.
const MAX_SCOPES: usize = 16;

/// What shall be done.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Scopes {
    pub repositories: BTreeMap<Name, BTreeSet<Action>>,
    pub catalog: bool,
}

impl Scopes {
    /// Those in the values of the parameter `scope`, each of which may hold several. What is not understood is left out: nothing is
    /// granted for it.
    pub fn of<'a>(values: impl IntoIterator<Item = &'a str>) -> Self {
        let mut found = Self::default();
        for scope in values.into_iter().flat_map(str::split_whitespace).take(MAX_SCOPES) {
            let Some((resource, actions)) = scope.rsplit_once(':') else { continue };
            let words = || actions.split(',').map(str::trim);
            if resource == "registry:catalog" {
                found.catalog |= words().any(|word| word == "*");
            } else if let Some(Ok(name)) = resource.strip_prefix("repository:").map(str::parse) {
                let meant = |action: &Action| words().any(|word| word == "*" || word == action.word());
                let actions: BTreeSet<Action> = Action::ALL.into_iter().filter(meant).collect();
                if !actions.is_empty() {
                    found.repositories.entry(name).or_default().extend(actions);
                }
            }
        }
        found
    }
}

#[cfg(test)]
mod tests;
