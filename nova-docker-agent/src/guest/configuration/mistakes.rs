//! What is wrong with a configuration, told all at once and without its values.

use std::borrow::Cow;
use std::fmt;

/// Characters of a key, and mistakes, that a message has room for.
const SHOWN_OF_KEY: usize = 80;
const SHOWN_MISTAKES: usize = 20;

/// Something wrong with one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mistake {
    pub(super) key: String,
    pub(super) problem: Cow<'static, str>,
    pub(super) allowed: Allowed,
}

/// What would be right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Allowed {
    /// Values of the key.
    Values(&'static str),
    /// Other keys.
    Keys,
    /// The problem says it.
    Nothing,
}

impl fmt::Display for Mistake {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key: String = self.key.chars().take(SHOWN_OF_KEY).collect();
        write!(formatter, "{}: {}", key.escape_debug(), self.problem)?;
        match self.allowed {
            Allowed::Values(values) => write!(formatter, " (allowed: {values})"),
            Allowed::Keys | Allowed::Nothing => Ok(()),
        }
    }
}

/// All that is wrong; never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistakes(pub(super) Vec<Mistake>);

impl Mistakes {
    /// Each of them.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        self.0.iter().map(Mistake::to_string)
    }
}

impl std::error::Error for Mistakes {}

impl fmt::Display for Mistakes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown: Vec<String> = self.0.iter().take(SHOWN_MISTAKES).map(Mistake::to_string).collect();
        formatter.write_str(&shown.join("; "))?;
        if self.0.len() > shown.len() {
            write!(formatter, "; and {} more", self.0.len() - shown.len())?;
        }
        if self.0.iter().any(|mistake| mistake.allowed == Allowed::Keys) {
            formatter.write_str("; the keys are in docs/configuration.md")?;
        }
        Ok(())
    }
}
