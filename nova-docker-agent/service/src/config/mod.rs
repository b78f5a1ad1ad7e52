//! Files of options, by oslo.config's rules: how they are read and checked. Which options there are, each program says itself.
//!
//! ```text
//! settings    raw values of files (source, ini) and of the environment
//! reader      checks them (kind) against what an option is (spec), and collects every mistake (error, unknown, spelling)
//!   identity    sections with a keystone identity and a service
//! listing     all options as text
//! ```

mod error;
mod identity;
mod ini;
mod kind;
mod listing;
mod reader;
mod settings;
mod source;
mod spec;
mod spelling;
mod unknown;

pub use error::{ConfigError, Origin};
pub use kind::{Kind, named_directories, ports, programs};
pub use listing::Listing;
pub use reader::Reader;
pub use settings::{Setting, Settings};
pub use source::Source;
pub use spec::Spec;

/// Reads the sources in order, and makes a configuration of them; later values win, and oslo.config's environment variables
/// (`OS_<SECTION>__<OPTION>`) win over all.
///
/// # Errors
/// Everything that is wrong, all at once.
pub fn load<T>(
    sources: &[Source],
    build: impl FnOnce(&Settings) -> Result<T, Vec<ConfigError>>,
) -> Result<T, Vec<ConfigError>> {
    let (mut settings, mut errors) = Settings::read(sources);
    settings.add_environment(std::env::vars());
    match build(&settings) {
        Ok(loaded) if errors.is_empty() => Ok(loaded),
        Ok(_) => Err(errors),
        Err(more) => {
            errors.extend(more);
            Err(errors)
        }
    }
}
