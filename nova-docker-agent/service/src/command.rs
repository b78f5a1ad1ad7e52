//! `--config-file` and `--config-dir`, in the order of the command line.

use std::marker::PhantomData;
use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, Args, Command, Error, FromArgMatches, value_parser};

use crate::config::Source;

const FILE: &str = "config-file";
const DIRECTORY: &str = "config-dir";

/// What the help says of them.
pub trait Help {
    /// Of `--config-file`.
    const FILE: &'static str;
    /// Of `--config-dir`.
    const DIRECTORY: &'static str;
}

/// What the command line names, in its order.
#[derive(Debug)]
pub struct Sources<H>(pub Vec<Source>, PhantomData<H>);

impl<H: Help> Args for Sources<H> {
    fn augment_args(command: Command) -> Command {
        let argument = |name: &'static str, value: &'static str, help: &'static str| {
            let paths = Arg::new(name).long(name).value_name(value).action(ArgAction::Append);
            paths.value_parser(value_parser!(PathBuf)).help(help)
        };
        command.arg(argument(FILE, "FILE", H::FILE)).arg(argument(DIRECTORY, "DIRECTORY", H::DIRECTORY))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl<H> FromArgMatches for Sources<H> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        Ok(Self(named(matches), PhantomData))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        self.0 = named(matches);
        Ok(())
    }
}

fn named(matches: &ArgMatches) -> Vec<Source> {
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

    #[derive(Debug)]
    struct Any;

    impl Help for Any {
        const FILE: &str = "";
        const DIRECTORY: &str = "";
    }

    #[test]
    fn files_and_directories_keep_the_order_of_the_command_line() {
        let words = ["agent", "--config-dir", "/d1", "--config-file=/a", "--config-dir=/d2", "--config-file", "/b"];
        let matches = Sources::<Any>::augment_args(Command::new("agent")).try_get_matches_from(words).unwrap();
        let Sources(read, _) = Sources::<Any>::from_arg_matches(&matches).unwrap();
        let paths: Vec<_> = read.iter().map(|source| source.path().display().to_string()).collect();
        assert_eq!(paths, ["/d1", "/a", "/d2", "/b"]);
        assert_eq!(read[0], Source::Directory("/d1".into()));
    }
}
