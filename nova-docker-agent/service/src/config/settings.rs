//! The raw settings, from wherever they come.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::error::{ConfigError, Origin};
use super::ini;
use super::source::Source;

/// One raw value and its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    pub text: String,
    pub origin: Origin,
}

/// Raw values by section and option; later ones have replaced earlier ones.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    sections: BTreeMap<String, BTreeMap<String, Setting>>,
}

impl Settings {
    /// Reads the sources in order.
    pub fn read(sources: &[Source]) -> (Self, Vec<ConfigError>) {
        let mut settings = Self::default();
        let mut errors = Vec::new();
        for source in sources {
            match source {
                Source::File(file) => settings.read_file(file, &mut errors),
                Source::Directory(directory) => match conf_files(directory) {
                    Ok(files) => files.iter().for_each(|file| settings.read_file(file, &mut errors)),
                    Err(reason) => errors.push(ConfigError::Unreadable { path: directory.clone(), reason }),
                },
            }
        }
        (settings, errors)
    }

    fn read_file(&mut self, path: &Path, errors: &mut Vec<ConfigError>) {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) => {
                errors.push(ConfigError::Unreadable { path: path.to_owned(), reason: error.to_string() });
                return;
            }
        };
        let (assignments, problems) = ini::parse(&text);
        for ini::Assignment { section, option, value, line } in assignments {
            self.insert(
                &section,
                &option,
                Setting { text: value, origin: Origin::File { path: path.to_owned(), line } },
            );
        }
        errors.extend(problems.into_iter().map(|ini::SyntaxError { line, problem }| ConfigError::Syntax {
            path: path.to_owned(),
            line,
            problem,
        }));
    }

    /// Adds oslo.config's environment variables, `OS_<SECTION>__<OPTION>`, which win over files.
    pub fn add_environment(&mut self, variables: impl IntoIterator<Item = (String, String)>) {
        for (name, text) in variables {
            let Some((section, option)) = name.strip_prefix("OS_").and_then(|rest| rest.split_once("__")) else {
                continue;
            };
            let origin = Origin::Environment(name.clone());
            self.insert(section, &option.to_lowercase(), Setting { text, origin });
        }
    }

    /// Settings of a map of (section, option) to value.
    pub fn from_map<'a>(map: impl IntoIterator<Item = ((&'a str, &'a str), &'a str)>) -> Self {
        let mut settings = Self::default();
        for ((section, option), value) in map {
            settings.insert(section, option, Setting { text: value.to_owned(), origin: Origin::Given });
        }
        settings
    }

    fn insert(&mut self, section: &str, option: &str, setting: Setting) {
        self.sections.entry(normal(section)).or_default().insert(option.replace('-', "_"), setting);
    }

    pub fn get(&self, section: &str, option: &str) -> Option<&Setting> {
        self.sections.get(&normal(section))?.get(option)
    }

    /// Options of a section, by name.
    pub(super) fn section(&self, section: &str) -> impl Iterator<Item = (&String, &Setting)> {
        self.sections.get(&normal(section)).into_iter().flatten()
    }
}

/// Section names are case-insensitive.
fn normal(section: &str) -> String {
    section.to_lowercase()
}

fn conf_files(directory: &Path) -> Result<Vec<PathBuf>, String> {
    let entries = fs::read_dir(directory).map_err(|error| error.to_string())?;
    let mut files = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| error.to_string())?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.ends_with(".conf") && !name.starts_with('.') {
            files.push(entry.path());
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_sources_win_whether_they_are_files_or_directories() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        fs::create_dir(at("d")).unwrap();
        fs::write(at("a"), "[DEFAULT]\nx = a\ny = a\nz = a\n").unwrap();
        fs::write(at("b"), "[DEFAULT]\ny = b\nz = b\n").unwrap();
        fs::write(at("d/2.conf"), "[DEFAULT]\nz = two\n").unwrap();
        fs::write(at("d/1.conf"), "[DEFAULT]\nz = one\n").unwrap();
        fs::write(at("d/3.conf.bak"), "[DEFAULT]\nz = bak\n").unwrap();
        let (a, b, d) = (Source::File(at("a")), Source::File(at("b")), Source::Directory(at("d")));
        let (settings, errors) = Settings::read(&[a.clone(), b.clone(), d.clone()]);
        assert_eq!(errors, []);
        let text = |option| settings.get("DEFAULT", option).unwrap().text.as_str();
        assert_eq!((text("x"), text("y"), text("z")), ("a", "b", "two"));
        let origin = &settings.get("default", "z").unwrap().origin;
        assert_eq!(origin.to_string(), format!("{}:2", at("d/2.conf").display()));
        let (settings, _) = Settings::read(&[a, d, b]);
        assert_eq!(settings.get("DEFAULT", "z").unwrap().text, "b", "a file after a directory");
    }

    #[test]
    fn what_cannot_be_read_is_reported_with_the_rest() {
        let missing = [Source::File("/nonexistent/a".into()), Source::Directory("/nonexistent/d".into())];
        let (_, errors) = Settings::read(&missing);
        assert_eq!(errors.len(), 2);
        assert!(errors[0].to_string().starts_with("/nonexistent/a: cannot read it"));
    }

    #[test]
    fn the_environment_wins() {
        let mut settings = Settings::from_map([(("neutron", "ovs_bridge"), "br-a")]);
        settings
            .add_environment([("OS_NEUTRON__OVS_BRIDGE".to_owned(), "br-b".to_owned()), ("PATH".into(), "/".into())]);
        let setting = settings.get("neutron", "ovs_bridge").unwrap();
        assert_eq!((setting.text.as_str(), setting.origin.to_string().as_str()), ("br-b", "$OS_NEUTRON__OVS_BRIDGE"));
    }
}
