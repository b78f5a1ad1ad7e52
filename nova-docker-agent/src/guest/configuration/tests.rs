mod given;
mod help;
mod hostile;
mod links;
mod privileges;
mod script;
mod service;
mod volumes;

use super::keys::{EVERYWHERE, KEYS, Key, PROVIDERS, SERVICE, USERS};
use super::*;
use crate::limits::extremes::TEXTS;

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

fn strings(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn words(words: &[&str]) -> Option<Vec<String>> {
    Some(strings(words))
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
        ("docker:cap_drop", "net_raw CAP_CHOWN"),
        ("docker:dns", "192.0.2.53 2001:db8::53"),
        ("docker:dns_opt", "ndots:2 rotate"),
        ("docker:dns_search", "a.example b.example."),
        ("docker:domainname", "shop.example."),
        ("docker:hostname", "web-1"),
        ("docker:logging:max-size", "1m"),
        ("docker:logging:max-file", "3"),
        ("docker:group_add", "audio, 44"),
        ("docker:healthcheck", r#"{"test": ["CMD", "true"], "interval": "1m30s", "retries": 5}"#),
        ("docker:host:db", "192.0.2.7 2001:db8::7"),
        ("docker:oneshot", "true"),
        ("docker:oom_score_adj", "500"),
        ("docker:read_only", "true"),
        ("docker:restart", "on-failure:3"),
        ("docker:stop_grace_period", "1m30s"),
        ("docker:sysctl:net.core.somaxconn", "1024"),
        ("docker:ulimit:nofile", "1024:2048"),
        ("docker:ulimit:core", "0"),
        ("docker:volume:data", "/var/lib/data"),
        ("docker:volume:Shared_1.x-y", "/srv/s:ro"),
        ("docker:volume:w", "/w:rw"),
        ("docker:remove_volumes", "yes"),
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
        oneshot: Some(true),
        init: Some(true),
        shm_size: Some(16 << 20),
        tmpfs: [("/run".to_owned(), 1 << 20), ("/var/tmp".to_owned(), 32 << 20)].into(),
        labels: texts([("role", "web")]),
        pids_limit: Some(100),
        cap_drop: strings(&["NET_RAW", "CHOWN"]),
        dns: vec!["192.0.2.53".parse().unwrap(), "2001:db8::53".parse().unwrap()],
        dns_opt: strings(&["ndots:2", "rotate"]),
        dns_search: strings(&["a.example", "b.example"]),
        domainname: Some("shop.example".to_owned()),
        hostname: Some("web-1".to_owned()),
        logging: Logging { size: Some(1 << 20), files: Some(3) },
        read_only: Some(true),
        restart: Some(Restart::OnFailure(Some(3))),
        stop_grace_period: Some(Duration::from_secs(90)),
        group_add: strings(&["audio", "44"]),
        health: Some(Health {
            test: strings(&["CMD", "true"]),
            interval: Duration::from_secs(90),
            timeout: Duration::from_secs(30),
            start_period: Duration::ZERO,
            retries: 5,
        }),
        hosts: [("db".to_owned(), vec!["192.0.2.7".parse().unwrap(), "2001:db8::7".parse().unwrap()])].into(),
        oom_score_adj: Some(500),
        sysctls: texts([("net.core.somaxconn", "1024")]),
        ulimits: [
            ("nofile".to_owned(), Ulimit { soft: 1024, hard: 2048 }),
            ("core".to_owned(), Ulimit { soft: 0, hard: 0 }),
        ]
        .into(),
        volumes: [
            ("data".to_owned(), Volume { path: "/var/lib/data".to_owned(), read_only: false }),
            ("Shared_1.x-y".to_owned(), Volume { path: "/srv/s".to_owned(), read_only: true }),
            ("w".to_owned(), Volume { path: "/w".to_owned(), read_only: false }),
        ]
        .into(),
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
    assert_eq!(made.cap_add.iter().collect::<Vec<_>>(), ["NET_ADMIN", "MKNOD"]);
    assert_eq!((made.no_new_privileges, made.most_processes, made.pids_limit), (Some(false), Some(500), None));
    for key in ["allow", "cap_add", "devices", "no_new_privileges", "privileged", "runtime", "host_mount:a"] {
        let only = format!("{key}: only a flavor can set it");
        assert!(refused(&format!("docker:{key}"), "true").ends_with(&only));
        let error = of_image([(&format!("docker_{key}"), "true")]).unwrap_err().to_string();
        assert!(error.ends_with(&only), "{error}");
    }
}

#[test]
fn a_flavors_limit_of_a_resource_takes_the_place_of_the_usual_one() {
    let parse = |flavor, asked| {
        Configuration::parse(&Sources {
            extra_specs: texts([("docker:ulimit:memlock", flavor)]),
            metadata: texts([("docker:ulimit:memlock", asked)]),
            ..Sources::default()
        })
        .map(|made| made.ulimits["memlock"])
    };
    assert_eq!(parse("0:-1", "unlimited"), Ok(Ulimit { soft: -1, hard: -1 }));
    assert_eq!(parse("1024", "512:1024"), Ok(Ulimit { soft: 512, hard: 1024 }));
    assert!(parse("1024", "1025").unwrap_err().to_string().contains("it is more than the flavor allows"));
}

#[test]
fn a_check_of_health_can_be_turned_off() {
    for text in [r#"{"disable": true}"#, r#"{"test": "true", "disable": "true"}"#, r#"{"test": ["NONE"]}"#] {
        assert_eq!(of_user([("docker:healthcheck", text)]).unwrap().health, None, "{text}");
    }
    let health = of_user([("docker:healthcheck", r#"{"test": "a && b", "disable": false}"#)]).unwrap().health;
    assert_eq!(health.unwrap().test, ["CMD-SHELL", "a && b"]);
}

#[test]
fn a_job_is_not_started_again_when_it_is_done() {
    for restart in ["always", "unless-stopped"] {
        let error = of_user([("docker:oneshot", "true"), ("docker:restart", restart)]).unwrap_err().to_string();
        assert!(error.starts_with("docker:oneshot: restart would start it again"), "{error}");
    }
    assert!(of_user([("docker:oneshot", "true"), ("docker:restart", "on-failure")]).is_ok());
    assert!(of_user([("docker:oneshot", "false"), ("docker:restart", "always")]).is_ok());
}

#[test]
fn a_mistake_of_the_flavor_says_so() {
    for (key, value, problem) in [
        ("docker:allow", "cap_add, cap_drop", "there is no such key to choose (allowed: KEY or KEY:VALUE"),
        ("docker:allow", "devices:/etc/shadow", "a device is not below /dev"),
        ("docker:allow", "cap_add:MKNOD SYS_ADMIN", "there is not one value after a key's colon"),
        ("docker:logging:max-size", "10k", "it is less than 16k"),
        ("docker:cap_add", "NET_RAW,NOTHING", "there is no such capability (allowed: names"),
        ("docker:init", "perhaps", "it is neither true nor false"),
        ("docker:inti", "true", "there is no such key; the keys are in docs"),
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
fn a_container_may_take_as_long_to_end_as_its_flavor_allows() {
    let grace = |flavor: Option<&str>, user: Option<&str>| {
        let of = |text: Option<&str>| {
            text.map(|text| ("docker:stop_grace_period".to_owned(), text.to_owned())).into_iter().collect()
        };
        let sources = Sources { extra_specs: of(flavor), metadata: of(user), ..Sources::default() };
        Configuration::parse(&sources).map(|made| made.grace().map(|time| time.as_secs()))
    };
    assert_eq!((grace(None, None), grace(None, Some("7"))), (Ok(None), Ok(Some(7))));
    assert_eq!((grace(Some("20s"), None), grace(Some("20s"), Some("0"))), (Ok(Some(20)), Ok(Some(0))));
    assert_eq!(grace(Some("1h"), Some("1h")), Ok(Some(3600)));
    let error = grace(Some("20s"), Some("21s")).unwrap_err().to_string();
    assert!(error.starts_with("docker:stop_grace_period: it is more than the flavor's"), "{error}");
    for text in TEXTS {
        assert!(grace(None, Some(text)).is_ok_and(|time| time <= Some(3600)) || grace(None, Some(text)).is_err());
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
        "; the keys are in docs/configuration.md",
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

/// The keys as the docs write them.
fn names() -> Vec<String> {
    KEYS.iter()
        .map(|key| if key.name.ends_with(':') { format!("{}NAME", key.name) } else { key.name.to_owned() })
        .collect()
}

#[test]
fn the_guide_has_the_same_keys_and_places() {
    let rows = DOCS.lines().filter(|line| line.starts_with("| `"));
    let cells = rows.map(|row| row.split(" | ").take(2).map(|cell| cell.trim_matches(['|', ' ', '`'])).collect());
    let documented: Vec<Vec<&str>> = cells.collect();
    let places = |key: &Key| match key.places {
        [Place::Metadata] => "metadata",
        places if places == EVERYWHERE => "anywhere",
        places if places == PROVIDERS => "image, flavor",
        places if places == SERVICE => "user data",
        places if places == USERS => "metadata, user data",
        _ => "flavor",
    };
    let names = names();
    let known: Vec<Vec<&str>> = names.iter().zip(&KEYS).map(|(name, key)| vec![name.as_str(), places(key)]).collect();
    assert_eq!(documented, known);
}
