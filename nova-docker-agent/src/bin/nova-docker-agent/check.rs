//! The command `check`.

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use nova_docker_agent::check::{Door, Report, Verdict, check, mistaken};
use nova_docker_agent::config;
use nova_docker_service::{runtime, show};

use super::{PROGRAM, Sources};

const EXIT_STATUS: &str = "\
Exit status: 0 when nothing failed (there may be warnings), 1 when something did, 2 for a wrong command line.";

#[derive(Args)]
#[command(after_help = EXIT_STATUS)]
pub(super) struct Check {
    #[command(flatten)]
    sources: Sources,
    /// Check for `serve-driver`: leave out what nova-compute asks for itself.
    #[arg(long)]
    serve_driver: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Check {
    pub(super) fn run(self) -> ExitCode {
        let json = self.json;
        match self.report().and_then(|report| Ok((text(&report, json)?, report.verdict()))) {
            Ok((text, verdict)) if show(&text) && verdict != Verdict::Failed => ExitCode::SUCCESS,
            Ok(_) => ExitCode::FAILURE,
            Err(error) => PROGRAM.failed(error),
        }
    }

    fn report(self) -> Result<Report, Box<dyn Error>> {
        let door = if self.serve_driver { Door::ContainerDriver } else { Door::ComputeService };
        let sources = config::sources(self.sources.0);
        let files: Vec<PathBuf> = sources.iter().map(|source| source.path().to_owned()).collect();
        let config = match config::load(&sources) {
            Ok((config, _)) => config,
            Err(mistakes) => return Ok(mistaken(&mistakes)),
        };
        let runtime = runtime("check")?;
        let report = runtime.block_on(check(config, &files, door));
        // A file system that hangs holds up nobody.
        runtime.shutdown_background();
        Ok(report)
    }
}

fn text(report: &Report, json: bool) -> serde_json::Result<String> {
    if json { Ok(serde_json::to_string_pretty(report)? + "\n") } else { Ok(report.to_string()) }
}
