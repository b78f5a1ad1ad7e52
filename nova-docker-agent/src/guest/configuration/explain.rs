//! What a container would get, for people.

use std::fmt::Write;

use super::reader::Won;
use super::{Configuration, Mistakes, Place, Sources};

const HIDDEN: &str = "(hidden)";
/// What keys begin with whose values are hidden.
const HIDES: [&str; 3] = ["config:", "env:", "secret:"];

/// A line for each key that is set: the key, its value and where it comes from. Values of variables and files are hidden, unless
/// `with_values`.
///
/// # Errors
/// As [`Configuration::parse`].
pub fn explain(sources: &Sources, with_values: bool) -> Result<String, Mistakes> {
    let (_, won) = Configuration::read(sources)?;
    let mut lines = String::new();
    for (key, Won { place, value }) in &won {
        let hidden = HIDES.iter().any(|kind| key.starts_with(kind)) && !with_values;
        let value = if hidden { HIDDEN.to_owned() } else { value.escape_debug().to_string() };
        // Writing to a string cannot fail.
        writeln!(lines, "{} = {value}    ({})", key.escape_debug(), named(*place)).ok();
    }
    Ok(lines)
}

fn named(place: Place) -> &'static str {
    match place {
        Place::Image => "image property",
        Place::Flavor => "extra spec of the flavor",
        Place::Metadata => "server metadata",
        Place::UserData => "user data",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_is_shown_once_with_its_winner_and_variables_without_their_values() {
        let texts = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
        };
        let sources = Sources {
            properties: texts(&[("docker_command", "lost"), ("docker_user", "7")]),
            extra_specs: texts(&[("docker:entrypoint", "/e\n"), ("docker:user", "8")]),
            metadata: texts(&[("docker:env:PASSWORD", "s3cret")]),
            ..Sources::default()
        };
        let shown = explain(&sources, false).unwrap();
        let expected = "entrypoint = /e\\n    (extra spec of the flavor)\n\
            env:PASSWORD = (hidden)    (server metadata)\n\
            user = 8    (extra spec of the flavor)\n";
        assert_eq!(shown, expected);
        assert!(explain(&sources, true).unwrap().contains("env:PASSWORD = s3cret "));
        let wrong = Sources { metadata: texts(&[("docker:tty", "x"), ("docker:no", "x")]), ..Sources::default() };
        assert_eq!(explain(&wrong, true).unwrap_err().lines().count(), 2);
    }
}
