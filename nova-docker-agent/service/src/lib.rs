//! What the agent and the registry have in common as programs: how they are configured, what they log, how they start and stop.
//!
//! | module | what |
//! |---|---|
//! | [`command`] | which files of options a command line names |
//! | [`config`] | these files: how they are read and checked |
//! | [`telemetry`] | logs |
//! | `program` | a program from its start to its end |

pub mod command;
pub mod config;
mod program;
pub mod telemetry;

pub use program::{Program, runtime, show, shutdown_requested};
