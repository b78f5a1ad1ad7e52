//! Logs.
//!
//! Everything goes to standard error, one line each, for people or (`[DEFAULT] use_json`) for machines. What belongs to an operation
//! carries its `request_id` and `instance`: they are fields of the operation's span, which every line shows.

mod lines;

use std::error::Error;
use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use self::lines::OneLine;

/// `[DEFAULT] debug`, `use_json`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogConfig {
    pub debug: bool,
    pub json: bool,
}

/// Sets up the process's logging. `RUST_LOG` wins over `[DEFAULT] debug`, and `directives` over both. Panics are logged too.
///
/// # Errors
/// When logging was set up before, or a directive is none.
pub fn init(config: &LogConfig, directives: &[&str]) -> Result<(), Box<dyn Error>> {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default_filter(config.debug)));
    let registry = tracing_subscriber::registry().with(filter_with(filter, directives)?);
    if config.json {
        let lines = tracing_subscriber::fmt::layer().json().flatten_event(true).with_current_span(false);
        registry.with(lines.with_writer(std::io::stderr)).try_init()?;
    } else {
        let lines = tracing_subscriber::fmt::layer().with_ansi(std::io::stderr().is_terminal()).with_target(false);
        registry.with(lines.with_writer(|| OneLine(std::io::stderr()))).try_init()?;
    }
    log_panics();
    Ok(())
}

/// Our own lines, of all crates whose names begin so, and only warnings of libraries.
fn default_filter(debug: bool) -> &'static str {
    if debug { "info,nova_docker=debug" } else { "warn,nova_docker=info" }
}

/// Libraries that log the data they carry are silenced so, whatever the filter asks for.
fn filter_with(filter: EnvFilter, directives: &[&str]) -> Result<EnvFilter, ParseError> {
    directives.iter().try_fold(filter, |filter, directive| Ok(filter.add_directive(directive.parse()?)))
}

fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let backtrace = std::backtrace::Backtrace::capture();
        tracing::error!(%backtrace, "{panic}");
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_filter_lets_messages_into_the_log() {
        for wanted in ["trace", "lapin=trace", "lapin::returned_messages=trace", default_filter(true)] {
            let directives = ["lapin=warn", "lapin::returned_messages=off"];
            let filter = filter_with(EnvFilter::new(wanted), &directives).unwrap().to_string();
            assert!(filter.contains("lapin=warn") && filter.contains("lapin::returned_messages=off"), "{filter}");
            assert!(!filter.contains("lapin=trace") && !filter.contains("returned_messages=trace"), "{filter}");
        }
    }

    #[test]
    fn both_default_filters_are_understood() {
        for debug in [false, true] {
            let filter = EnvFilter::builder().parse(default_filter(debug)).unwrap();
            assert_eq!(filter.to_string().contains("nova_docker=debug"), debug);
        }
    }
}
