//! The command line.

#[path = "nova-docker-agent/check.rs"]
mod check;
#[path = "nova-docker-agent/sources.rs"]
mod sources;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use base64::{Engine, engine::general_purpose::STANDARD};
use check::Check;
use clap::{Args, Parser, Subcommand};
use nova_docker_agent::config::{self, Config};
use nova_docker_agent::docker::Removed;
use nova_docker_agent::driver::Volumes;
use nova_docker_agent::guest::configuration::{self, ImageConfig};
use nova_docker_agent::messaging::LOG_DIRECTIVES;
use nova_docker_agent::registry::command::{EXAMPLES as EXAMPLES_OF_REGISTRY, Serve};
use nova_docker_agent::{compute, grpc};
use nova_docker_service::{Program, runtime, show, shutdown_requested};
use sources::Sources;

const PROGRAM: Program = Program { name: "nova-docker-agent", log_directives: &LOG_DIRECTIVES };

/// Run containers from the Nova API: an OpenStack compute service for Docker.
///
/// It takes the place of nova-compute on a host with dockerd, and reads the same nova.conf.
#[derive(Parser)]
#[command(version, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  Check a compute host and the cloud as seen from it, before anything is started:
    nova-docker-agent check --config-file /etc/nova/nova.conf

  Run the agent where nova-compute ran:
    nova-docker-agent run --config-file /etc/nova/nova.conf --config-file /etc/nova/nova-cpu.conf

  Only the container driver, for the stock nova-compute on this host (see python-shim/README.md):
    nova-docker-agent serve-driver --config-file /etc/nova/nova.conf

  The same with more to read, as JSON lines, without touching a file:
    OS_DEFAULT__DEBUG=true OS_DEFAULT__USE_JSON=true nova-docker-agent run

Exit status: 0 after a clean stop, 64 when the configuration is wrong (every mistake is listed), 1 for anything else.";

const EXPLAIN_EXAMPLES: &str = "\
Example:
  docker image inspect nginx > nginx.json
  nova-docker-agent explain --image-config nginx.json --user-data web.yaml --metadata docker:user=www-data

Exit status: 0, or 1 when there is a mistake.";

#[derive(Subcommand)]
enum Command {
    /// Run the compute service until SIGTERM or SIGINT, then finish running operations and exit.
    Run {
        #[command(flatten)]
        sources: Sources,
        /// Print the configuration first, like the command `config`.
        #[arg(long)]
        print_config: bool,
    },
    /// Serve the container driver over gRPC to a stock nova-compute, until SIGTERM or SIGINT. Use it in place of `run`.
    ServeDriver {
        #[command(flatten)]
        sources: Sources,
    },
    /// Serve the images of Glance as an OCI registry to the cloud's users: the same as the program nova-docker-registry.
    #[command(after_help = EXAMPLES_OF_REGISTRY)]
    Registry(Serve),
    /// List the named volumes of the projects on this host: their sizes, the servers that name them, since when they are unused.
    Volumes {
        #[command(flatten)]
        sources: Sources,
        /// Print a JSON list, with sizes in bytes.
        #[arg(long)]
        json: bool,
        #[command(subcommand)]
        action: Option<VolumesAction>,
    },
    /// Check the configuration and print every option with its value and its origin (secrets are hidden).
    Config {
        #[command(flatten)]
        sources: Sources,
    },
    /// Check this host and the cloud as seen from it: what was found, and what to do. Changes nothing.
    ///
    /// Works while the agent runs, and before its first start.
    Check(Check),
    /// Print what a container would get from a server's user data and the like, or every mistake.
    ///
    /// Each key with its value and the source that wins. Reads no configuration and asks nobody.
    #[command(after_help = EXPLAIN_EXAMPLES)]
    Explain(Explain),
}

/// What is said of one container.
#[derive(Args)]
struct Explain {
    /// A file with user data.
    #[arg(long, value_name = "FILE")]
    user_data: Option<PathBuf>,
    /// A file with the image's own configuration, as `docker image inspect` or `skopeo inspect --config` prints it.
    #[arg(long, value_name = "FILE")]
    image_config: Option<PathBuf>,
    /// Server metadata: docker:KEY=VALUE; may be given several times.
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    metadata: Vec<(String, String)>,
    /// An extra spec of the flavor: docker:KEY=VALUE; may be given several times.
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    extra_spec: Vec<(String, String)>,
    /// An image property: docker_KEY=VALUE; may be given several times.
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    property: Vec<(String, String)>,
    /// The flavor's memory in MiB, which bounds shm_size and tmpfs.
    #[arg(long, value_name = "MIB", default_value_t = 1024)]
    memory: u64,
    /// Print the values of environment variables too.
    #[arg(long)]
    show_values: bool,
}

fn pair(text: &str) -> Result<(String, String), &'static str> {
    let (key, value) = text.split_once('=').ok_or("there is no '='")?;
    Ok((key.to_owned(), value.to_owned()))
}

fn image_config(file: &Path) -> Result<ImageConfig, String> {
    std::fs::read(file).map_err(|error| error.to_string()).and_then(|text| ImageConfig::parse(&text))
}

impl Explain {
    fn run(self) -> ExitCode {
        let user_data = match self.user_data.as_ref().map(std::fs::read).transpose() {
            Ok(data) => STANDARD.encode(data.unwrap_or_default()),
            Err(error) => return PROGRAM.failed(format_args!("cannot read the user data: {error}")),
        };
        let image = match self.image_config.as_deref().map_or(Ok(ImageConfig::default()), image_config) {
            Ok(image) => image,
            Err(error) => return PROGRAM.failed(format_args!("cannot read the image's configuration: {error}")),
        };
        let sources = configuration::Sources {
            properties: self.property.into_iter().collect(),
            extra_specs: self.extra_spec.into_iter().collect(),
            metadata: self.metadata.into_iter().collect(),
            user_data,
            memory_mb: self.memory,
            ..configuration::Sources::default()
        };
        match configuration::explain(&sources, &image, self.show_values) {
            Ok(lines) if show(&lines) => ExitCode::SUCCESS,
            Ok(_) => ExitCode::FAILURE,
            Err(mistakes) => {
                mistakes.lines().for_each(|mistake| eprintln!("{mistake}"));
                ExitCode::FAILURE
            }
        }
    }
}

#[derive(Subcommand)]
enum VolumesAction {
    /// Remove a volume that no container names, with all its files.
    Rm {
        /// Id of the project.
        project: String,
        /// The volume's name in the project.
        name: String,
    },
}

/// Which service the process is.
#[derive(Clone, Copy)]
enum Door {
    ComputeService,
    ContainerDriver,
}

fn main() -> ExitCode {
    let (sources, print, door) = match Cli::parse().command {
        Command::Run { sources, print_config } => (sources, print_config, Some(Door::ComputeService)),
        Command::ServeDriver { sources } => (sources, false, Some(Door::ContainerDriver)),
        Command::Config { sources } => (sources, true, None),
        Command::Check(check) => return check.run(),
        Command::Explain(explain) => return explain.run(),
        Command::Volumes { sources, json, action } => return volumes(sources, json, action),
        Command::Registry(serve) => return serve.run(PROGRAM),
    };
    let (config, listing) = match config::load(&config::sources(sources.0)) {
        Ok(loaded) => loaded,
        Err(errors) => return PROGRAM.bad_configuration(&errors),
    };
    if print && !show(&listing) {
        return ExitCode::FAILURE;
    }
    let Some(door) = door else { return ExitCode::SUCCESS };
    let log = config.log.clone();
    PROGRAM.start(&log, || run(door, config))
}

fn volumes(sources: Sources, json: bool, action: Option<VolumesAction>) -> ExitCode {
    let (config, _) = match config::load(&config::sources(sources.0)) {
        Ok(loaded) => loaded,
        Err(errors) => return PROGRAM.bad_configuration(&errors),
    };
    let shown = runtime("volumes").map_err(Into::into).and_then(|runtime| {
        runtime.block_on(async {
            let volumes = Volumes::connect(&config).await?;
            match action {
                Some(VolumesAction::Rm { project, name }) => remove_volume(&volumes, &project, &name).await,
                None if json => Ok(serde_json::to_string_pretty(&volumes.listing().await?)? + "\n"),
                None => Ok(volumes.listing().await?.to_string()),
            }
        })
    });
    match shown {
        Ok(text) if show(&text) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => PROGRAM.failed(error),
    }
}

async fn remove_volume(volumes: &Volumes, project: &str, name: &str) -> Result<String, Box<dyn std::error::Error>> {
    match volumes.remove_named(project, name).await? {
        Removed::Gone => Ok(String::new()),
        Removed::InUse => Err(format!("volume {name:?} of project {project:?} is in use").into()),
        Removed::Absent => Err(format!("project {project:?} has no volume {name:?} on this host").into()),
    }
}

fn run(door: Door, config: Config) -> Result<(), Box<dyn std::error::Error>> {
    runtime("agent")?.block_on(async {
        let shutdown = shutdown_requested()?;
        match door {
            Door::ComputeService => {
                config.unmet.iter().for_each(|unmet| tracing::warn!("{unmet}"));
                Box::pin(compute::run(config, shutdown)).await?;
            }
            Door::ContainerDriver => Box::pin(grpc::serve(config, shutdown)).await?,
        }
        Ok(())
    })
}
