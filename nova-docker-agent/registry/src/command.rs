//! The command line of the registry for users, for its own program and for the agent's `registry`.

use std::error::Error;
use std::process::ExitCode;

use clap::Args;
use nova_docker_service::command::{Help, Sources};
use nova_docker_service::config::Source;
use nova_docker_service::{Program, runtime, show, shutdown_requested};

use crate::{config, public};

/// What the help ends with.
pub const EXAMPLES: &str = "\
The least configuration, for a trial on one host:
  [registry]
  listen = 127.0.0.1:5000
  state_directory = /var/lib/nova-docker-registry
  [keystone]
  auth_url = http://controller:5000/v3
  [glance]
  endpoint_override = http://controller:9292

For a cloud, add a certificate and the name that it is for:
  [registry]
  listen = 0.0.0.0:443
  public_url = https://registry.example.org
  tls_cert_file = /etc/nova-docker-agent/registry.crt
  tls_key_file = /etc/nova-docker-agent/registry.key

Check it, then run it:
  nova-docker-registry --config-file registry.conf --check
  nova-docker-registry --config-file registry.conf

Use it as a user of the project demo:
  docker login 127.0.0.1:5000
  docker pull 127.0.0.1:5000/demo/web:v1

Exit status: 0 after a clean stop, 64 when the configuration is wrong (every mistake is listed), 1 for anything else.";

#[derive(Debug)]
struct OwnFile;

impl Help for OwnFile {
    const FILE: &str = "Its configuration; may be given several times, later values win [default: \
        /etc/nova-docker-agent/registry.conf]";
    const DIRECTORY: &str =
        "A directory whose *.conf files are read in the order of their names, where it stands among the files";
}

/// How to serve it.
#[derive(Args)]
pub struct Serve {
    #[command(flatten)]
    sources: Sources<OwnFile>,
    /// Check the configuration, print every option with its value and its origin, and exit.
    #[arg(long)]
    check: bool,
}

impl Serve {
    /// Serves until SIGTERM or SIGINT.
    pub fn run(self, program: Program) -> ExitCode {
        let mut sources = self.sources.0;
        if sources.is_empty() {
            sources.push(Source::File(config::DEFAULT_FILE.into()));
        }
        let (options, listing) = match config::load(&sources) {
            Ok(loaded) => loaded,
            Err(errors) => return program.bad_configuration(&errors),
        };
        if self.check {
            return if show(&listing) { ExitCode::SUCCESS } else { ExitCode::FAILURE };
        }
        program.start(&options.log, || serve(options.registry))
    }
}

fn serve(config: public::Config) -> Result<(), Box<dyn Error>> {
    runtime("registry")?.block_on(async {
        let shutdown = shutdown_requested()?;
        Ok(public::run(config, shutdown).await?)
    })
}
