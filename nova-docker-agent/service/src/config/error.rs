//! What can be wrong with a configuration.

use std::fmt;
use std::path::PathBuf;

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    File {
        path: PathBuf,
        line: usize,
    },
    /// An environment variable, by name.
    Environment(String),
    /// A map, in tests.
    Given,
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Environment(name) => write!(f, "${name}"),
            Self::Given => f.write_str("given"),
            Self::Default => f.write_str("default"),
        }
    }
}

/// One thing that is wrong. Its `Display` is a line for the operator, which never shows a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    #[error("{}: cannot read it: {reason}", path.display())]
    Unreadable { path: PathBuf, reason: String },
    #[error("{}:{line}: {problem}", path.display())]
    Syntax { path: PathBuf, line: usize, problem: String },
    #[error("{origin}: [{section}] {option}{}: expected {expected}", shown(value))]
    Value {
        origin: Origin,
        section: String,
        option: String,
        /// None for secrets.
        value: Option<String>,
        expected: String,
    },
    #[error("[{section}] {option} is not set: expected {expected}")]
    Missing { section: String, option: String, expected: String },
    #[error("{origin}: [{section}] has no option {option}{}", hint.as_ref().map(|hint| format!("; did you mean {hint}?")).unwrap_or_default())]
    Unknown { origin: Origin, section: String, option: String, hint: Option<String> },
}

fn shown(value: &Option<String>) -> String {
    value.as_ref().map(|value| format!(" = {value:?}")).unwrap_or_default()
}

impl ConfigError {
    pub(super) fn is_about(&self, wanted_section: &str, wanted_option: &str) -> bool {
        match self {
            Self::Value { section, option, .. } | Self::Missing { section, option, .. } => {
                section == wanted_section && option == wanted_option
            }
            _ => false,
        }
    }
}
