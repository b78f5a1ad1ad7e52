use super::*;
use crate::limits::extremes::{TEXTS, UNSIGNED};

const DOCS: &str = include_str!("../../../docs/configuration.md");

fn texts<const N: usize>(pairs: [(&str, &str); N]) -> BTreeMap<String, String> {
    pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).into()
}

fn of_user<const N: usize>(pairs: [(&str, &str); N]) -> Result<Configuration, Mistakes> {
    Configuration::parse(&Sources { metadata: texts(pairs), memory_mb: 64, ..Sources::default() })
}

fn of_image<const N: usize>(pairs: [(&str, &str); N]) -> Result<Configuration, Mistakes> {
    Configuration::parse(&Sources { properties: texts(pairs), memory_mb: 64, ..Sources::default() })
}

fn of_flavor<const N: usize>(pairs: [(&str, &str); N]) -> Result<Configuration, Mistakes> {
    Configuration::parse(&Sources { extra_specs: texts(pairs), memory_mb: 64, ..Sources::default() })
}

fn refused(key: &str, value: &str) -> String {
    let error = of_user([(key, value)]).expect_err(&format!("{key} = {value:?} was taken")).to_string();
    assert!(error.contains(key), "{error}");
    error
}

fn words(words: &[&str]) -> Option<Vec<String>> {
    Some(words.iter().map(|word| (*word).to_owned()).collect())
}

#[test]
fn a_user_sets_what_the_guide_says() {
    let made = of_user([
        ("docker:env:GREETING", "good day\nand = welcome"),
        ("docker:command", "sh -c 'a b'"),
        ("docker:entrypoint", r#"["/bin/e", "two words"]"#),
        ("docker:working_dir", "/srv/app"),
        ("docker:user", "1000:www-data"),
        ("docker:tty", "True"),
        ("docker:stdin_open", "on"),
        ("docker:stop_signal", "int"),
        ("docker:init", "1"),
        ("docker:shm_size", "16m"),
        ("docker:tmpfs", "/run:1m /var/tmp"),
        ("docker:label:role", "web"),
        ("docker:pids_limit", "100"),
        ("unrelated", "docker:nonsense"),
    ]);
    let expected = Configuration {
        environment: Environment(texts([("GREETING", "good day\nand = welcome")])),
        command: words(&["sh", "-c", "a b"]),
        entrypoint: words(&["/bin/e", "two words"]),
        working_dir: Some("/srv/app".to_owned()),
        user: Some("1000:www-data".to_owned()),
        tty: Some(true),
        stdin_open: Some(true),
        stop_signal: Some("SIGINT".to_owned()),
        init: Some(true),
        shm_size: Some(16 << 20),
        tmpfs: [("/run".to_owned(), 1 << 20), ("/var/tmp".to_owned(), 32 << 20)].into(),
        labels: texts([("role", "web")]),
        pids_limit: Some(100),
        ..Configuration::default()
    };
    assert_eq!(made.unwrap(), expected);
}

#[test]
fn the_image_may_say_the_same_and_the_user_wins_key_by_key() {
    let sources = Sources {
        properties: texts([("docker_env:A", "image"), ("docker_env:B", "image"), ("docker_user", "nobody")]),
        metadata: texts([("docker:env:A", "user"), ("docker:env:C", "user")]),
        environment: texts([("C", "caller")]),
        memory_mb: 64,
        ..Sources::default()
    };
    let made = Configuration::parse(&sources).unwrap();
    assert_eq!(made.environment.0, texts([("A", "user"), ("B", "image"), ("C", "caller")]));
    assert_eq!(made.user.as_deref(), Some("nobody"));
}

#[test]
fn a_property_is_no_metadata_and_metadata_is_no_property() {
    assert_eq!(of_user([("docker_user", "!"), ("os_command_line", "x")]).unwrap(), Configuration::default());
    assert_eq!(of_image([("docker:user", "!")]).unwrap(), Configuration::default());
}

#[test]
fn a_flavor_wins_over_the_image_and_the_user_over_both() {
    let sources = Sources {
        properties: texts([("docker_env:A", "image"), ("docker_env:B", "image"), ("docker_command", "of the image")]),
        extra_specs: texts([
            ("docker:env:B", "flavor"),
            ("docker:env:C", "flavor"),
            ("docker:init", "true"),
            ("docker:entrypoint", "/of/flavor"),
            ("hw:cpu_policy", "shared"),
        ]),
        metadata: texts([("docker:env:C", "user"), ("docker:init", "false")]),
        ..Sources::default()
    };
    let made = Configuration::parse(&sources).unwrap();
    assert_eq!(made.environment.0, texts([("A", "image"), ("B", "flavor"), ("C", "user")]));
    assert_eq!((made.init, made.entrypoint, made.command), (Some(false), words(&["/of/flavor"]), None));
}

#[test]
fn only_a_flavor_loosens_what_holds_a_container() {
    let made = of_flavor([
        ("docker:cap_add", "cap_net_admin, MKNOD"),
        ("docker:no_new_privileges", "False"),
        ("docker:pids_limit", "500"),
    ])
    .unwrap();
    assert_eq!(made.cap_add, ["NET_ADMIN", "MKNOD"]);
    assert_eq!((made.no_new_privileges, made.most_processes, made.pids_limit), (Some(false), Some(500), None));
    for key in ["cap_add", "no_new_privileges"] {
        let only = format!("{key}: only a flavor can set it");
        assert!(refused(&format!("docker:{key}"), "true").ends_with(&only));
        let error = of_image([(&format!("docker_{key}"), "true")]).unwrap_err().to_string();
        assert!(error.ends_with(&only), "{error}");
    }
}

#[test]
fn a_mistake_of_the_flavor_says_so() {
    for (key, value, problem) in [
        ("docker:cap_add", "NET_RAW,NOTHING", "there is no such capability (allowed: names"),
        ("docker:init", "perhaps", "it is neither true nor false"),
        ("docker:inti", "true", "there is no such key; the keys are"),
        ("docker:pids_limit", "0", "it is no positive number"),
    ] {
        let error = of_flavor([(key, value)]).unwrap_err().to_string();
        assert!(error.starts_with(&format!("flavor {key}: {problem}")), "{error}");
    }
}

#[test]
fn a_user_has_no_more_processes_than_the_flavor() {
    let parse = |asked| {
        Configuration::parse(&Sources {
            extra_specs: texts([("docker:pids_limit", "500")]),
            metadata: texts([("docker:pids_limit", asked)]),
            ..Sources::default()
        })
    };
    assert_eq!(parse("500").unwrap().pids_limit, Some(500));
    assert!(parse("501").unwrap_err().to_string().starts_with("docker:pids_limit: it is more than the flavor's"));
    for text in TEXTS {
        let limit = of_user([("docker:pids_limit", text)]).ok().and_then(|made| made.pids_limit);
        assert!(limit.is_none_or(|limit| (1..=4_194_304).contains(&limit)), "{text:?}: {limit:?}");
    }
}

#[test]
fn the_command_line_property_is_the_weakest_command() {
    assert_eq!(of_image([("os_command_line", "sh -c 'a b'")]).unwrap().command, words(&["sh", "-c", "a b"]));
    assert_eq!(of_image([("os_command_line", " ")]).unwrap().command, None);
    let both = of_image([("os_command_line", "weak"), ("docker_command", "strong")]);
    assert_eq!(both.unwrap().command, words(&["strong"]));
    let error = of_image([("os_command_line", "sh 'open")]).unwrap_err().to_string();
    assert!(error.starts_with("os_command_line: a quote is not closed"), "{error}");
}

#[test]
fn an_empty_entry_point_is_none_and_a_new_one_does_not_get_the_arguments_of_another() {
    for text in ["", " ", "[]", "[\"\"]", "''"] {
        assert_eq!(of_user([("docker:entrypoint", text)]).unwrap().entrypoint, Some(vec![]), "{text:?}");
    }
    let sources = |metadata| Sources {
        properties: texts([("docker_entrypoint", "/a"), ("docker_command", "of a")]),
        metadata,
        memory_mb: 64,
        ..Sources::default()
    };
    let made = Configuration::parse(&sources(texts([("docker:entrypoint", "/b")]))).unwrap();
    assert_eq!((made.entrypoint, made.command), (words(&["/b"]), None));
    let made = Configuration::parse(&sources(texts([("docker:command", "more")]))).unwrap();
    assert_eq!((made.entrypoint, made.command), (words(&["/a"]), words(&["more"])));
}

#[test]
fn all_mistakes_are_told_at_once_with_key_problem_and_what_is_allowed() {
    let sources = Sources {
        properties: texts([("docker_tty", "perhaps"), ("docker_nothing", "")]),
        metadata: texts([("docker:user", "a b"), ("docker:env:A=B", "1"), ("docker:envv:A", "1")]),
        environment: texts([("", "1")]),
        memory_mb: 64,
        ..Sources::default()
    };
    let error = Configuration::parse(&sources).unwrap_err().to_string();
    for part in [
        "docker_tty: it is neither true nor false (allowed: true or false)",
        "docker_nothing: there is no such key",
        "docker:user: a name has characters",
        "docker:env:A=B: the name has an equals sign",
        "docker:envv:A: there is no such key",
        "environment : the name is empty",
        "the keys are cap_add, command, entrypoint, env:NAME, init",
    ] {
        assert!(error.contains(part), "{part} is missing: {error}");
    }
}

#[test]
fn a_single_mistake_fits_into_a_fault() {
    for key in &KEYS {
        let bad = format!("docker:{}", if key.name == "label:" { "label:com.docker.x" } else { key.name });
        let error = refused(&bad, "\0");
        assert!(error.chars().count() <= 255, "{error}");
    }
    assert!(refused("docker:wrong", "x").chars().count() <= 255);
}

#[test]
fn hostile_values_are_refused_and_never_repeated() {
    let long_path = format!("/{}", "secret".repeat(800));
    let long = "secret".repeat(20_000);
    let hostile = [
        ("docker:command", "secret 'open"),
        ("docker:command", " "),
        ("docker:command", "[]"),
        ("docker:command", "[\"secret\", 1]"),
        ("docker:command", "[\"secret\""),
        ("docker:command", "[\"secret\\u0000\"]"),
        ("docker:entrypoint", "[\"\", \"secret\"]"),
        ("docker:env:A", "secret\0"),
        ("docker:env:A", &long),
        ("docker:label:org.openstack.nova.instance-uuid", "secret"),
        ("docker:label:ORG.openstack.nova.x", "secret"),
        ("docker:label:com.docker.compose.project", "secret"),
        ("docker:working_dir", "secret"),
        ("docker:working_dir", "/secret\n/x"),
        ("docker:working_dir", ""),
        ("docker:working_dir", &long_path),
        ("docker:user", ""),
        ("docker:user", "secret:"),
        ("docker:user", ":secret"),
        ("docker:user", "secret:x:y"),
        ("docker:user", "-secret"),
        ("docker:user", "secret\nroot"),
        ("docker:user", "4294967295"),
        ("docker:user", "2147483648"),
        ("docker:stop_signal", "SIGSECRET"),
        ("docker:stop_signal", "0"),
        ("docker:stop_signal", "65"),
        ("docker:stop_signal", "RTMIN+16"),
        ("docker:stop_signal", "RTMIN++1"),
        ("docker:stop_signal", ""),
        ("docker:shm_size", "65m"),
        ("docker:shm_size", "1gsecret"),
        ("docker:shm_size", "-1"),
        ("docker:tmpfs", "/"),
        ("docker:tmpfs", "/secret/../x"),
        ("docker:tmpfs", "/secret/"),
        ("docker:tmpfs", "//secret"),
        ("docker:tmpfs", "secret"),
        ("docker:tmpfs", "/secret:exec"),
        ("docker:tmpfs", "/secret:1m,mode=777"),
        ("docker:tmpfs", "/proc/secret"),
        ("docker:tmpfs", "/dev"),
        ("docker:tmpfs", "/secret /secret"),
    ];
    for (key, value) in hostile {
        let error = refused(key, value);
        assert!(!error.to_lowercase().contains("secret"), "{error}");
    }
}

#[test]
fn hostile_keys_are_refused_and_shown_short_and_without_control_characters() {
    let long = format!("docker:env:{}", "x".repeat(100_000));
    for key in
        ["docker:", "docker:env", "docker:env:", "docker:user:x", "docker:ENV:x", "docker: env:x", "docker:env:a\0b"]
    {
        assert!(of_user([(key, "1")]).is_err(), "{key:?}");
    }
    for key in ["docker:env:a\nb", "docker:\n", &long] {
        let error = of_user([(key, "1")]).unwrap_err().to_string();
        assert!(!error.contains('\n') && error.len() < 400, "{error:?}");
    }
    let many = (0..1000).map(|number| (format!("docker:no{number}"), String::new())).collect();
    let error = Configuration::parse(&Sources { metadata: many, ..Sources::default() }).unwrap_err().to_string();
    assert!(error.contains("; and 980 more") && error.len() < 2000, "{error}");
}

#[test]
fn all_together_is_bounded_too() {
    let variables =
        |count: usize| (0..count).map(|number| (format!("docker:env:V{number}"), "x".repeat(60_000))).collect();
    let parse = |count| Configuration::parse(&Sources { metadata: variables(count), ..Sources::default() });
    assert_eq!(parse(8).unwrap().environment.0.len(), 8);
    assert!(parse(9).unwrap_err().to_string().contains("longer than 524288 bytes"));
}

#[test]
fn extremes_are_refused_or_within_their_bounds_for_every_key() {
    let texts = TEXTS.iter().map(|text| (*text).to_owned());
    let sized = TEXTS.iter().flat_map(|text| ["k", "MB", "g"].map(|unit| format!("{text}{unit}")));
    let in_paths = TEXTS.iter().map(|text| format!("/a:{text}"));
    let values: Vec<String> = texts.chain(sized).chain(in_paths).collect();
    for (key, value) in KEYS.iter().flat_map(|key| values.iter().map(move |value| (key, value))) {
        for &memory_mb in UNSIGNED {
            let metadata =
                [(format!("docker:{}x", key.name).replace("sizex", "size").replace("tmpfsx", "tmpfs"), value.clone())];
            let Ok(made) =
                Configuration::parse(&Sources { metadata: metadata.into(), memory_mb, ..Sources::default() })
            else {
                continue;
            };
            let memory = memory_mb.saturating_mul(1 << 20);
            let sizes = made.shm_size.iter().chain(made.tmpfs.values());
            assert!(sizes.copied().all(|size| size > 0 && size <= memory), "{}{value:?}: {made:?}", key.name);
        }
    }
}

#[test]
fn signals_are_written_as_docker_reads_them() {
    let signal = |text| of_user([("docker:stop_signal", text)]).unwrap().stop_signal.unwrap();
    assert_eq!(
        ["TERM", "sigquit", "015", "RTMIN+3", "SIGRTMAX-14"].map(signal),
        ["SIGTERM", "SIGQUIT", "15", "SIGRTMIN+3", "SIGRTMAX-14"]
    );
}

#[test]
fn values_of_variables_are_not_in_what_is_logged() {
    let made = of_user([("docker:env:PASSWORD", "s3cret")]).unwrap();
    let shown = format!("{made:?}");
    assert!(shown.contains("PASSWORD") && !shown.contains("s3cret"), "{shown}");
}

#[test]
fn the_guide_has_the_same_keys_and_places() {
    let rows = DOCS.lines().filter(|line| line.starts_with("| `"));
    let cells = rows.map(|row| row.split(" | ").take(2).map(|cell| cell.trim_matches(['|', ' ', '`'])).collect());
    let documented: Vec<Vec<&str>> = cells.collect();
    let places = |key: &Key| if key.places == EVERYWHERE { "anywhere" } else { "flavor" };
    let names = names();
    let known: Vec<Vec<&str>> = names.iter().zip(&KEYS).map(|(name, key)| vec![name.as_str(), places(key)]).collect();
    assert_eq!(documented, known);
}
