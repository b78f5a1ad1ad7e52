//! User data that is to run as a script.

use base64::{Engine, engine::general_purpose::STANDARD};

use super::*;

fn made(user_data: &[u8], wanted: &str) -> Result<Option<Script>, Mistakes> {
    let metadata = texts([("docker:run_user_data", wanted)]);
    let sources = Sources { metadata, user_data: STANDARD.encode(user_data), ..Sources::default() };
    Configuration::parse(&sources).map(|made| made.script)
}

#[test]
fn the_first_line_names_the_program_and_what_follows_is_one_argument() {
    for (line, argv) in [
        ("#!/bin/sh", &["/bin/sh", SCRIPT_PATH][..]),
        ("#! /usr/bin/env  python3 -u \r", &["/usr/bin/env", "python3 -u", SCRIPT_PATH]),
        ("#!/bin/sh\t-e", &["/bin/sh", "-e", SCRIPT_PATH]),
    ] {
        let text = format!("{line}\necho s3cret\n");
        let script = made(text.as_bytes(), "true").unwrap().unwrap();
        assert_eq!(
            (script.argv.as_slice(), script.content.as_str()),
            (strings(argv).as_slice(), text.as_str()),
            "{line:?}"
        );
        assert!(!format!("{script:?}").contains("s3cret"));
    }
}

#[test]
fn a_script_is_left_alone_unless_it_is_asked_for_and_what_is_none_is_refused() {
    assert_eq!(made(b"#!/bin/sh\n", "false"), Ok(None));
    let alone = Sources { user_data: STANDARD.encode("#!/bin/sh\n"), ..Sources::default() };
    assert_eq!(Configuration::parse(&alone), Ok(Configuration::default()));
    let long = format!("#!/bin/sh {}\n", "secret".repeat(50));
    for (user_data, problem) in [
        (&b""[..], "the user data does not begin with #!"),
        (b"#cloud-config\nsecret: 1\n", "the user data does not begin with #!"),
        (b"#container-config\ntty: true\n", "the user data does not begin with #!"),
        (b"#!secret\n", "names no absolute path"),
        (b"#!\n", "names no absolute path"),
        (b"#!/bin/sh \x1b[secret\n", "names no absolute path"),
        (b"#!/bin/sh\n\xffsecret", "it is not UTF-8"),
        (long.as_bytes(), "is longer than 255 bytes"),
    ] {
        let error = made(user_data, "true").unwrap_err().to_string();
        assert!(error.starts_with("docker:run_user_data: ") && error.contains(problem), "{error}");
        assert!(!error.contains("secret"), "{error}");
    }
    let flavor = of_flavor([("docker:run_user_data", "true")]).unwrap_err().to_string();
    assert!(flavor.contains("only server metadata can set it"), "{flavor}");
}
