//! What the agent is told to read.

use clap::{ArgMatches, Args, Command, Error, FromArgMatches};
use nova_docker_agent::config::Source;
use nova_docker_service::command::{named, with_sources};

const FILE: &str = "A nova.conf; may be given several times, later values win [default: nova.conf and nova-compute.conf, each from \
    the first of ~/.nova, ~, /etc/nova and /etc that has it]";
const DIRECTORY: &str = "A directory whose *.conf files are read in the order of their names, where it stands among the files \
    [default: nova.conf.d and nova-compute.conf.d, found like the files; read after the default files]";

/// Files and directories, in the order of the command line.
#[derive(Debug)]
pub(super) struct Sources(pub(super) Vec<Source>);

impl Args for Sources {
    fn augment_args(command: Command) -> Command {
        with_sources(command, FILE, DIRECTORY)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Sources {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        Ok(Self(named(matches)))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        self.0 = named(matches);
        Ok(())
    }
}
