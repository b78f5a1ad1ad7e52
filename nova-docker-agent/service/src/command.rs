//! `--config-file` and `--config-dir`, in the order of the command line.

use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use crate::config::Source;

const FILE: &str = "config-file";
const DIRECTORY: &str = "config-dir";

/// Adds both to a command.
#[must_use]
pub fn with_sources(command: Command, file_help: &str, directory_help: &str) -> Command {
    let argument = |name: &'static str, value: &'static str, help: &str| {
        let paths = Arg::new(name).long(name).value_name(value).action(ArgAction::Append);
        paths.value_parser(value_parser!(PathBuf)).help(help.to_owned())
    };
    command.arg(argument(FILE, "FILE", file_help)).arg(argument(DIRECTORY, "DIRECTORY", directory_help))
}

/// What the command line names, in its order.
pub fn named(matches: &ArgMatches) -> Vec<Source> {
    let of = |name: &str, source: fn(PathBuf) -> Source| {
        let places = matches.indices_of(name).into_iter().flatten();
        let paths = matches.get_many::<PathBuf>(name).into_iter().flatten().cloned();
        places.zip(paths.map(source)).collect::<Vec<_>>()
    };
    let mut all = of(FILE, Source::File);
    all.extend(of(DIRECTORY, Source::Directory));
    all.sort_by_key(|(place, _)| *place);
    all.into_iter().map(|(_, source)| source).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_and_directories_keep_the_order_of_the_command_line() {
        let words = ["agent", "--config-dir", "/d1", "--config-file=/a", "--config-dir=/d2", "--config-file", "/b"];
        let matches = with_sources(Command::new("agent"), "", "").try_get_matches_from(words).unwrap();
        let read = named(&matches);
        let paths: Vec<_> = read.iter().map(|source| source.path().display().to_string()).collect();
        assert_eq!(paths, ["/d1", "/a", "/d2", "/b"]);
        assert_eq!(read[0], Source::Directory("/d1".into()));
    }
}
