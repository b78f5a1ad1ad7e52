//! What a container would get, for people.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::reader::Won;
use super::{Configuration, ImageConfig, Mistakes, Place, Sources};

const HIDDEN: &str = "(hidden)";
/// What keys begin with whose values are hidden.
const HIDES: [&str; 3] = ["config:", "env:", "secret:"];
const THE_IMAGE: &str = "the image itself";
const COMMAND: &str = "command";
const ENTRYPOINT: &str = "entrypoint";

/// A line for each key that is set: the key, its value and where it comes from. The image's own come from nowhere else. Values of
/// variables and files are hidden, unless `with_values`.
///
/// # Errors
/// As [`Configuration::parse`].
pub fn explain(sources: &Sources, image: &ImageConfig, with_values: bool) -> Result<String, Mistakes> {
    let (_, won) = Configuration::read(sources)?;
    // Another entry point does not get the image's words.
    let is_left = |key: &str| !won.contains_key(key) && (key != COMMAND || !won.contains_key(ENTRYPOINT));
    let own = image.0.iter().filter(|(key, _)| is_left(key)).map(|(key, value)| (key, (value, THE_IMAGE)));
    let said = won.iter().map(|(key, Won { place, value })| (key, (value, named(*place))));
    let all: BTreeMap<_, _> = own.chain(said).collect();
    let mut lines = String::new();
    for (key, (value, whose)) in all {
        let hidden = HIDES.iter().any(|kind| key.starts_with(kind)) && !with_values;
        let value = if hidden { HIDDEN.to_owned() } else { value.escape_debug().to_string() };
        // Writing to a string cannot fail.
        writeln!(lines, "{} = {value}    ({whose})", key.escape_debug()).ok();
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
        let shown = explain(&sources, &ImageConfig::default(), false).unwrap();
        let expected = "entrypoint = /e\\n    (extra spec of the flavor)\n\
            env:PASSWORD = (hidden)    (server metadata)\n\
            user = 8    (extra spec of the flavor)\n";
        assert_eq!(shown, expected);
        assert!(explain(&sources, &ImageConfig::default(), true).unwrap().contains("env:PASSWORD = s3cret "));
        let image = texts(&[
            ("command", "[\"of the image\"]"),
            ("env:PASSWORD", "weak"),
            ("env:PATH", "/bin"),
            ("user", "6"),
            ("working_dir", "/srv"),
        ]);
        let shown = explain(&sources, &ImageConfig(image), true).unwrap();
        let expected = "entrypoint = /e\\n    (extra spec of the flavor)\n\
            env:PASSWORD = s3cret    (server metadata)\n\
            env:PATH = /bin    (the image itself)\n\
            user = 8    (extra spec of the flavor)\n\
            working_dir = /srv    (the image itself)\n";
        assert_eq!(shown, expected);
        let wrong = Sources { metadata: texts(&[("docker:tty", "x"), ("docker:no", "x")]), ..Sources::default() };
        assert_eq!(explain(&wrong, &ImageConfig::default(), true).unwrap_err().lines().count(), 2);
    }
}
