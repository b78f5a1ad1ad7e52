//! Options that nobody reads, where that is a mistake.

use super::error::ConfigError;
use super::reader::Reader;
use super::spelling::closest;

impl Reader<'_> {
    /// In a section that is ours alone, an option that nobody reads is a mistake.
    pub fn refuse_unknown(&mut self, section: &str) {
        let read = self.resolved.iter().filter(|option| option.spec.section == section);
        let known: Vec<&str> = read.map(|option| option.spec.name).collect();
        let unknown = self.settings.section(section).filter(|(option, _)| !known.contains(&option.as_str()));
        let errors: Vec<ConfigError> = unknown
            .map(|(option, setting)| ConfigError::Unknown {
                origin: setting.origin.clone(),
                section: section.to_owned(),
                option: option.clone(),
                hint: closest(option, &known).map(str::to_owned),
            })
            .collect();
        self.errors.extend(errors);
    }
}
