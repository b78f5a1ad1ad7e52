//! What the agent is told to read.

use nova_docker_service::command::{self, Help};

/// Files and directories, in the order of the command line.
pub(super) type Sources = command::Sources<NovaConf>;

#[derive(Debug)]
pub(super) struct NovaConf;

impl Help for NovaConf {
    const FILE: &str = "A nova.conf; may be given several times, later values win [default: nova.conf and nova-compute.conf, each \
        from the first of ~/.nova, ~, /etc/nova and /etc that has it]";
    const DIRECTORY: &str = "A directory whose *.conf files are read in the order of their names, where it stands among the files [default: \
        nova.conf.d and nova-compute.conf.d, found like the files; read after the default files]";
}
