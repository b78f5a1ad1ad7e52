//! From raw settings to typed values, collecting everything that is wrong on the way.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;

use super::error::{ConfigError, Origin};
use super::kind::{boolean, list};
use super::settings::Settings;
use super::spec::Spec;

/// Deeper than any sensible chain of `$option` references.
const MAX_DEPTH: usize = 16;
/// Options of Nova that a value may refer to, though nothing else of them matters here.
const REFERENCE_ONLY: [(&str, &str); 2] = [("pybasedir", "/usr/lib/python3/dist-packages"), ("bindir", "/usr/bin")];

/// One option as it was understood.
#[derive(Clone, Debug)]
pub(super) struct Resolved {
    pub(super) spec: Spec,
    /// None: not set and without default.
    pub(super) text: Option<String>,
    pub(super) origin: Origin,
}

/// Reads options; remembers them for a listing, and what is wrong with them.
pub struct Reader<'a> {
    pub settings: &'a Settings,
    specs: BTreeMap<(String, &'static str), Spec>,
    pub(super) resolved: Vec<Resolved>,
    pub errors: Vec<ConfigError>,
}

impl<'a> Reader<'a> {
    pub fn new(settings: &'a Settings) -> Self {
        Self { settings, specs: BTreeMap::new(), resolved: Vec::new(), errors: Vec::new() }
    }

    /// Reads and checks these options. References may lead to each other and to options read before.
    pub fn read(&mut self, specs: Vec<Spec>) {
        for spec in &specs {
            self.specs.insert((spec.section.clone(), spec.name), spec.clone());
        }
        for spec in specs {
            let resolved = self.resolve(spec);
            self.resolved.push(resolved);
        }
    }

    fn resolve(&mut self, spec: Spec) -> Resolved {
        let names = [spec.name].into_iter().chain(spec.aliases.iter().copied());
        let setting = names.into_iter().find_map(|name| self.settings.get(&spec.section, name));
        let Some(setting) = setting else {
            if spec.required {
                self.missing(&spec.section, spec.name, spec.help);
            }
            return self.default_of(spec);
        };
        let origin = setting.origin.clone();
        let text = match self.substitute(&setting.text, &spec.section, 0) {
            Ok(text) => text,
            Err(reference) => {
                let named = if spec.secret { String::new() } else { format!(" (${reference} is none)") };
                let expected = format!("no reference to an unknown option{named}; write $$ for a dollar sign");
                self.wrong(&spec, &setting.text, origin, expected);
                return self.default_of(spec);
            }
        };
        // An empty value unsets an option that has no default.
        if text.trim().is_empty() && spec.default.is_none() && !spec.required {
            return Resolved { spec, text: None, origin };
        }
        if let Err(expected) = spec.kind.check(&text) {
            self.wrong(&spec, &text, origin, expected);
            return self.default_of(spec);
        }
        Resolved { spec, text: Some(text), origin }
    }

    fn default_of(&mut self, spec: Spec) -> Resolved {
        let text = spec.default.clone().map(|text| self.substitute(&text, &spec.section, 0).unwrap_or(text));
        Resolved { spec, text, origin: Origin::Default }
    }

    fn wrong(&mut self, spec: &Spec, value: &str, origin: Origin, expected: String) {
        let value = (!spec.secret).then(|| value.to_owned());
        let (section, option) = (spec.section.clone(), spec.name.to_owned());
        self.errors.push(ConfigError::Value { origin, section, option, value, expected });
    }

    pub fn missing(&mut self, section: &str, option: &str, expected: &str) {
        let (section, option, expected) = (section.to_owned(), option.to_owned(), expected.to_owned());
        self.errors.push(ConfigError::Missing { section, option, expected });
    }

    /// Says that a value which passed its own check is wrong for another reason.
    pub fn reject(&mut self, section: &str, option: &str, expected: impl Into<String>) {
        if let Some(Resolved { spec, text, origin }) = self.find(section, option).cloned() {
            self.wrong(&spec, &text.unwrap_or_default(), origin, expected.into());
        }
    }

    /// Replaces `$option`, `${option}` and `$section.option`; `$$` and `\$` are a dollar sign. The error is an unknown name.
    fn substitute(&self, text: &str, section: &str, depth: usize) -> Result<String, String> {
        let text = text.replace("\\$", "$$");
        let mut result = String::with_capacity(text.len());
        let mut rest = text.as_str();
        while let Some(dollar) = rest.find('$') {
            result.push_str(&rest[..dollar]);
            rest = &rest[dollar + 1..];
            if let Some(after) = rest.strip_prefix('$') {
                result.push('$');
                rest = after;
            } else if let Some((name, after)) = reference(rest) {
                result.push_str(&self.referred(name, section, depth)?);
                rest = after;
            } else {
                result.push('$');
            }
        }
        result.push_str(rest);
        Ok(result)
    }

    fn referred(&self, name: &str, section: &str, depth: usize) -> Result<String, String> {
        if depth >= MAX_DEPTH {
            return Err(name.to_owned());
        }
        let (sections, option) = match name.split_once('.') {
            Some((other, option)) => (vec![other], option),
            None => (vec![section, "DEFAULT"], name),
        };
        for section in sections {
            if let Some(setting) = self.settings.get(section, option) {
                return self.substitute(&setting.text, section, depth + 1);
            }
            let spec =
                self.specs.values().find(|spec| spec.section.eq_ignore_ascii_case(section) && spec.name == option);
            if let Some(spec) = spec {
                return self.substitute(spec.default.as_deref().unwrap_or_default(), section, depth + 1);
            }
        }
        let known = REFERENCE_ONLY.iter().find(|(known, _)| *known == name);
        known.map(|(_, value)| (*value).to_owned()).ok_or_else(|| name.to_owned())
    }

    fn find(&self, section: &str, option: &str) -> Option<&Resolved> {
        self.resolved.iter().rfind(|resolved| resolved.spec.section == section && resolved.spec.name == option)
    }

    pub fn text(&self, section: &str, option: &str) -> Option<String> {
        self.find(section, option)?.text.clone()
    }

    /// A text that has a default, or one that is required (then empty after the error).
    pub fn string(&self, section: &str, option: &str) -> String {
        self.text(section, option).unwrap_or_default()
    }

    pub fn secret(&self, section: &str, option: &str) -> Option<SecretString> {
        self.text(section, option).map(SecretString::from)
    }

    pub fn path(&self, section: &str, option: &str) -> Option<PathBuf> {
        self.text(section, option).map(PathBuf::from)
    }

    pub fn flag(&self, section: &str, option: &str) -> bool {
        self.text(section, option).and_then(|text| boolean(&text)).unwrap_or_default()
    }

    /// A value of any type that the option's kind guarantees to parse.
    pub fn parsed<T: std::str::FromStr>(&self, section: &str, option: &str) -> Option<T> {
        self.text(section, option)?.trim().parse().ok()
    }

    pub fn number<T: TryFrom<i64> + Default>(&self, section: &str, option: &str) -> T {
        self.parsed::<i64>(section, option).and_then(|number| T::try_from(number).ok()).unwrap_or_default()
    }

    pub fn seconds(&self, section: &str, option: &str) -> Duration {
        Duration::from_secs(self.number(section, option))
    }

    pub fn list(&self, section: &str, option: &str) -> Vec<String> {
        self.text(section, option).map(|text| list(&text)).unwrap_or_default()
    }
}

/// The name at the start of what follows a dollar sign, and what follows the name.
fn reference(text: &str) -> Option<(&str, &str)> {
    let is_start = |c: char| c == '_' || c.is_ascii_alphabetic();
    let is_part = |c: char| c == '.' || is_start(c) || c.is_ascii_digit();
    if let Some(braced) = text.strip_prefix('{') {
        let (name, after) = braced.split_once('}')?;
        return (name.starts_with(is_start) && name.chars().all(is_part)).then_some((name, after));
    }
    if !text.starts_with(is_start) {
        return None;
    }
    Some(text.split_at(text.find(|c| !is_part(c)).unwrap_or(text.len())))
}
