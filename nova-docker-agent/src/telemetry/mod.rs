//! Logs.
//!
//! Everything goes to standard error, one line each, for people or (`[DEFAULT] use_json`) for machines. What belongs to an operation
//! carries its `request_id` and `instance`: they are fields of the operation's span, which every line shows.

mod lines;

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

use self::lines::OneLine;
use crate::config::LogConfig;
use crate::messaging::LOG_DIRECTIVES;

/// Sets up the process's logging. `RUST_LOG` wins over `[DEFAULT] debug`. Panics are logged too.
///
/// # Errors
/// When logging was set up before.
pub fn init(config: &LogConfig) -> Result<(), TryInitError> {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default_filter(config.debug)));
    let registry = tracing_subscriber::registry().with(without_secrets(filter));
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

/// Silences libraries that log the data they carry, whatever the filter asks for.
fn without_secrets(filter: EnvFilter) -> EnvFilter {
    let directives = LOG_DIRECTIVES.iter().filter_map(|directive| directive.parse().ok());
    directives.fold(filter, EnvFilter::add_directive)
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
            let filter = without_secrets(EnvFilter::new(wanted)).to_string();
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
