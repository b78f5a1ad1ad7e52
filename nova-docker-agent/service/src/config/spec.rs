//! What an option is.

use super::kind::Kind;

/// One option.
#[derive(Clone, Debug)]
pub struct Spec {
    pub(super) section: String,
    pub(super) name: &'static str,
    /// Older names in the same section.
    pub(super) aliases: &'static [&'static str],
    pub(super) kind: Kind,
    pub(super) default: Option<String>,
    /// Must be set.
    pub(super) required: bool,
    pub(super) secret: bool,
    pub(super) help: &'static str,
}

impl Spec {
    pub fn new(section: &str, name: &'static str, kind: Kind, help: &'static str) -> Self {
        let section = section.to_owned();
        Self { section, name, aliases: &[], kind, default: None, required: false, secret: false, help }
    }

    pub fn or(mut self, default: impl Into<String>) -> Self {
        self.default = Some(default.into());
        self
    }

    pub fn aliases(mut self, aliases: &'static [&'static str]) -> Self {
        self.aliases = aliases;
        self
    }

    pub fn required(mut self) -> Self {
        self.required = true;
        self
    }

    pub fn secret(mut self) -> Self {
        self.secret = true;
        self
    }
}
