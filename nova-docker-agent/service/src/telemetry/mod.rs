//! Logs.
//!
//! Everything goes to standard error, one line each, for people or (`[DEFAULT] use_json`) for machines. What belongs to an operation
//! carries its `request_id` and `instance`: they are fields of the operation's span, which every line shows.

mod lines;

use std::error::Error;
use std::io::IsTerminal;

use tracing_subscriber::filter::{ParseError, Targets};
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
    let wanted = std::env::var("RUST_LOG").unwrap_or_default();
    let registry = tracing_subscriber::registry().with(filter(&wanted, config.debug, directives)?);
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
fn default_filter(debug: bool) -> [&'static str; 2] {
    if debug { ["info", "nova_docker=debug"] } else { ["warn", "nova_docker=info"] }
}

/// What is wanted, where that is understood. Libraries that log the data they carry are silenced by `directives`, which come last and win.
fn filter(wanted: &str, debug: bool, directives: &[&str]) -> Result<Targets, ParseError> {
    // An empty directive would let everything in.
    let wanted: Vec<&str> = wanted.split(',').map(str::trim).filter(|directive| !directive.is_empty()).collect();
    let is_understood = !wanted.is_empty() && wanted.join(",").parse::<Targets>().is_ok();
    let first = if is_understood { wanted } else { default_filter(debug).to_vec() };
    [first.as_slice(), directives].concat().join(",").parse()
}

fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let backtrace = std::backtrace::Backtrace::capture();
        tracing::error!(%backtrace, "{panic}");
    }));
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    const SILENCED: [&str; 2] = ["lapin=warn", "lapin::returned_messages=off"];

    #[test]
    fn no_filter_lets_messages_into_the_log() {
        for wanted in ["trace", "lapin=trace", "lapin::returned_messages=trace", ""] {
            let filter = filter(wanted, true, &SILENCED).unwrap();
            assert!(!filter.would_enable("lapin::frames", &Level::DEBUG), "{wanted}");
            assert!(!filter.would_enable("lapin::returned_messages", &Level::ERROR), "{wanted}");
            assert!(filter.would_enable("lapin::frames", &Level::WARN), "{wanted}");
        }
    }

    #[test]
    fn all_crates_of_ours_log_and_libraries_warn_unless_the_environment_says_otherwise() {
        for wanted in ["", ",", "nova_docker=loud"] {
            for (debug, level) in [(false, Level::INFO), (true, Level::DEBUG)] {
                let filter = filter(wanted, debug, &SILENCED).unwrap();
                for ours in ["nova_docker_agent::compute", "nova_docker_cloud", "nova_docker_registry::public"] {
                    assert!(filter.would_enable(ours, &level), "{wanted}");
                    assert!(!filter.would_enable(ours, &Level::TRACE), "{wanted}");
                }
                assert!(!filter.would_enable("hyper", &level), "{wanted}");
            }
        }
        let filter = filter("error, nova_docker_cloud=trace,", true, &SILENCED).unwrap();
        assert!(filter.would_enable("nova_docker_cloud::session", &Level::TRACE));
        assert!(!filter.would_enable("nova_docker_agent", &Level::WARN));
    }
}
