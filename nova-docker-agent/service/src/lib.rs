//! What the agent and the registry have in common as programs: how they are configured, what they log, how they start and stop.

pub mod command;
pub mod config;
mod program;
pub mod telemetry;

pub use program::{Program, runtime, show, shutdown_requested};
