//! A program from its start to its end.

use std::error::Error;
use std::fmt::Display;
use std::io::{ErrorKind, Write};
use std::process::ExitCode;

use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::config::ConfigError;
use crate::telemetry::{self, LogConfig};

/// `EX_USAGE` of sysexits.h: the configuration is wrong, and starting again will not help.
const BAD_CONFIGURATION: u8 = 64;

/// A program, as it speaks to its operator.
#[derive(Clone, Copy, Debug)]
pub struct Program {
    /// Precedes what it says before there are logs.
    pub name: &'static str,
    /// What its log filter needs whatever else it says.
    pub log_directives: &'static [&'static str],
}

impl Program {
    /// Says every mistake. The exit code is 64.
    pub fn bad_configuration(self, errors: &[ConfigError]) -> ExitCode {
        let name = self.name;
        for error in errors {
            eprintln!("{name}: {error}");
        }
        eprintln!("{name}: {} mistake(s) in the configuration; nothing was started", errors.len());
        ExitCode::from(BAD_CONFIGURATION)
    }

    /// Says what went wrong. The exit code is 1.
    pub fn failed(self, error: impl Display) -> ExitCode {
        eprintln!("{}: {error}", self.name);
        ExitCode::FAILURE
    }

    /// Sets logging up, then runs; a failure is logged.
    pub fn start(self, log: &LogConfig, run: impl FnOnce() -> Result<(), Box<dyn Error>>) -> ExitCode {
        if let Err(error) = telemetry::init(log, self.log_directives) {
            return self.failed(format_args!("cannot set logging up: {error}"));
        }
        match run() {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                tracing::error!("{error}");
                ExitCode::FAILURE
            }
        }
    }
}

/// Prints. A reader of the beginning (head, a pager) closes the pipe: that is no error.
pub fn show(text: &impl Display) -> bool {
    let printed = write!(std::io::stdout(), "{text}");
    !printed.is_err_and(|error| error.kind() != ErrorKind::BrokenPipe)
}

/// What the stack of a thread may grow to. An operation's future is polled through all of its callers, and without
/// optimisation each of them has copies on its stack. Large futures lie on the heap (clippy's `large_futures`); this is a margin
/// beyond the usual 2 MiB. Memory is taken as it is used.
const STACK: usize = 8 << 20;

/// What its tasks run on; `name` is that of its threads.
///
/// # Errors
/// When there are no threads to be had.
pub fn runtime(name: &str) -> std::io::Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().thread_name(name).thread_stack_size(STACK).build()
}

/// Completes at the first SIGTERM or SIGINT. The second one ends the process: its sender does not want to wait.
///
/// # Errors
/// When the signals cannot be caught.
pub fn shutdown_requested() -> std::io::Result<impl Future<Output = ()> + Send + 'static> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        let name = first(&mut terminate, &mut interrupt).await;
        tracing::info!("{name}: stopping as soon as running operations have ended; a second signal ends them");
        tokio::spawn(async move {
            let name = first(&mut terminate, &mut interrupt).await;
            tracing::warn!("{name} again: leaving at once");
            std::process::exit(1);
        });
    })
}

async fn first(terminate: &mut Signal, interrupt: &mut Signal) -> &'static str {
    tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    }
}
