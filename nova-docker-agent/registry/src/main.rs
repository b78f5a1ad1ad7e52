//! The registry of a cloud, for its users, as a program.

use std::process::ExitCode;

use clap::Parser;
use nova_docker_registry::command::{EXAMPLES, Serve};
use nova_docker_service::Program;

const PROGRAM: Program = Program { name: "nova-docker-registry", log_directives: &[] };

/// Serve the images of Glance as an OCI registry to the cloud's users, until SIGTERM or SIGINT.
///
/// Users log in with `docker login`: with their Keystone user (USER or DOMAIN/USER) and password, or with the id
/// and secret of an application credential. They pull and push PROJECT/REPOSITORY:TAG. The registry needs neither
/// Nova nor Docker nor RabbitMQ.
#[derive(Parser)]
#[command(version, after_help = EXAMPLES)]
struct Cli {
    #[command(flatten)]
    serve: Serve,
}

fn main() -> ExitCode {
    Cli::parse().serve.run(PROGRAM)
}
