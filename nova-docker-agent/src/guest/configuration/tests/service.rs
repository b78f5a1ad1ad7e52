//! A service of Compose in user data.

use base64::{Engine, engine::general_purpose::STANDARD};

use super::*;

pub(super) fn sources(service: &str) -> Sources {
    let user_data = STANDARD.encode(format!("#container-config\n{service}"));
    Sources { user_data, memory_mb: 64, ..Sources::default() }
}

pub(super) fn of_service(service: &str) -> Result<Configuration, Mistakes> {
    Configuration::parse(&sources(service))
}

pub(super) fn mistakes(service: &str) -> String {
    of_service(service).expect_err(service).to_string()
}

const WHOLE: &str = r#"
cap_drop: [NET_RAW]
command: sh -c 'a b'
configs: {app.conf: "a = b", other: {content: x, target: /etc/other, mode: 0440}}
dns: [192.0.2.53]
dns_opt: [ndots:2]
dns_search: a.example
domainname: shop.example
entrypoint: ["/bin/e", "two words"]
environment: {TZ: Europe/Berlin, COUNT: 1.10, EMPTY: ""}
extra_hosts: ["db:192.0.2.7", "six=2001:db8::7"]
group_add: [audio, 44]
healthcheck: {test: [CMD, "true"], interval: 90s, retries: 5}
hostname: web-1
init: true
labels: [role=web, bare]
oneshot: true
links: ["mariadb:db"]
link_wait: 90
logging: {driver: json-file, options: {max-size: 1m, max-file: 3}}
oom_score_adj: 500
pids_limit: 100
read_only: true
restart: on-failure
secrets: {password: s3cret}
shm_size: 16mb
stdin_open: true
stop_grace_period: 1m30s
stop_signal: SIGINT
sysctls: {net.core.somaxconn: 1024}
tmpfs: ["/run:size=1m", "/var/tmp"]
tty: true
ulimits: {core: 0, nofile: {soft: 1024, hard: 2048}}
user: 1000:44
volumes: ["data:/data", "shared:/srv/shared:ro"]
working_dir: /srv/app
x-note: for others
"#;

#[test]
fn a_service_says_the_same_as_metadata() {
    let mut expected = of_user([
        ("docker:cap_drop", "NET_RAW"),
        ("docker:command", "sh -c 'a b'"),
        ("docker:dns", "192.0.2.53"),
        ("docker:dns_opt", "ndots:2"),
        ("docker:dns_search", "a.example"),
        ("docker:domainname", "shop.example"),
        ("docker:entrypoint", r#"["/bin/e", "two words"]"#),
        ("docker:env:TZ", "Europe/Berlin"),
        ("docker:env:COUNT", "1.10"),
        ("docker:env:EMPTY", ""),
        ("docker:host:db", "192.0.2.7"),
        ("docker:host:six", "2001:db8::7"),
        ("docker:group_add", "audio 44"),
        ("docker:healthcheck", r#"{"test": ["CMD", "true"], "interval": "90s", "retries": 5}"#),
        ("docker:hostname", "web-1"),
        ("docker:init", "true"),
        ("docker:label:role", "web"),
        ("docker:label:bare", ""),
        ("docker:oneshot", "true"),
        ("docker:link:db", "mariadb"),
        ("docker:link_wait", "90"),
        ("docker:logging:max-size", "1m"),
        ("docker:logging:max-file", "3"),
        ("docker:oom_score_adj", "500"),
        ("docker:pids_limit", "100"),
        ("docker:read_only", "true"),
        ("docker:restart", "on-failure"),
        ("docker:shm_size", "16m"),
        ("docker:stdin_open", "true"),
        ("docker:stop_grace_period", "90"),
        ("docker:stop_signal", "SIGINT"),
        ("docker:sysctl:net.core.somaxconn", "1024"),
        ("docker:tmpfs", "/run:1m /var/tmp"),
        ("docker:tty", "true"),
        ("docker:ulimit:core", "0"),
        ("docker:ulimit:nofile", "1024:2048"),
        ("docker:user", "1000:44"),
        ("docker:volume:data", "/data"),
        ("docker:volume:shared", "/srv/shared:ro"),
        ("docker:working_dir", "/srv/app"),
    ])
    .unwrap();
    expected.given = Configuration::given_by(&sources(WHOLE).user_data);
    assert_eq!(expected.given.len(), 3);
    assert_eq!(of_service(WHOLE), Ok(expected));
}

#[test]
fn a_service_can_say_whatever_a_user_may_set() {
    let service = of_service(WHOLE).unwrap();
    for key in KEYS.iter().filter(|key| key.places.contains(&Place::UserData)) {
        let name = key.name.strip_suffix(':').unwrap_or(key.name);
        let spelled = match name {
            "config" => "configs",
            "env" => "environment",
            "host" => "extra_hosts",
            "label" => "labels",
            "link" => "links",
            "secret" => "secrets",
            "sysctl" => "sysctls",
            "ulimit" => "ulimits",
            "volume" => "volumes",
            same => same,
        };
        assert!(WHOLE.contains(&format!("\n{spelled}: ")), "{spelled}");
        let without: String =
            WHOLE.lines().filter(|line| !line.starts_with(&format!("{spelled}: "))).collect::<Vec<_>>().join("\n");
        assert_ne!(of_service(&without).unwrap(), service, "{spelled}");
    }
}

#[test]
fn compose_writes_the_same_in_several_forms() {
    for (one, other) in [
        ("environment: [A=b=c]", "environment: {A: b=c}"),
        ("labels: {a: 1, b: }", "labels: [a=1, b]"),
        ("sysctls: [net.core.somaxconn=1]", "sysctls: {net.core.somaxconn: 1}"),
        ("env_file: |\n  # of the web\n  A=b\n  export C='d e'\n", "environment: {A: b, C: d e}"),
        ("env_file: [A=b, A=c]\nenvironment: {B: d}", "environment: {A: c, B: d}"),
        ("environment: {A: c}\nenv_file: A=b", "environment: {A: c}"),
        ("env_file: A=b\nenvironment: {A: c}", "environment: {A: c}"),
        ("extra_hosts: {db: [192.0.2.7]}", "extra_hosts: ['db=192.0.2.7']"),
        ("tmpfs: /run", "tmpfs: [/run]"),
        ("command: a 'b c'", "command: [a, b c]"),
        ("command: '[ -f x ]'", "command: ['[', -f, x, ']']"),
        ("ulimits: {nofile: 7}", "ulimits: {nofile: {soft: 7, hard: 7}}"),
        ("restart: no", "restart: false"),
        ("healthcheck: {disable: true}", "healthcheck: {test: [NONE]}"),
        ("healthcheck: {test: a b}", "healthcheck: {test: [CMD-SHELL, a b]}"),
        ("logging: {options: {max-file: 3}}", "logging: {driver: json-file, options: {max-file: '3'}}"),
        ("# nothing", "x-anything: [1]"),
    ] {
        assert_eq!(of_service(one).unwrap(), of_service(other).unwrap(), "{one}");
    }
}

#[test]
fn a_service_wins_over_all_other_sources() {
    let sources = Sources {
        extra_specs: texts([("docker:env:A", "flavor"), ("docker:pids_limit", "50")]),
        metadata: texts([("docker:env:A", "user"), ("docker:env:B", "user"), ("docker:command", "of metadata")]),
        ..sources("environment: {A: service}\nentrypoint: [/e]\n")
    };
    let made = Configuration::parse(&sources).unwrap();
    assert_eq!(made.environment.0, texts([("A", "service"), ("B", "user")]));
    assert_eq!((made.entrypoint, made.command), (words(&["/e"]), None));
    let more =
        Configuration::parse(&Sources { user_data: super::service::sources("pids_limit: 51").user_data, ..sources });
    assert!(more.unwrap_err().to_string().contains("it is more than the flavor's"));
}

#[test]
fn all_mistakes_of_a_service_are_told_with_their_places_and_without_values() {
    let error = mistakes(
        "tyt: secret\ntty: secret\nports: [secret]\ncap_add: [ALL]\nenvironment: [SECRET_NAME]\nlabels: secret\n\
         ulimits: {nofile: {soft: 1}}\nuser: {a: secret}\nworking_dir: [/secret]\nimage: secret\nhealthcheck: [secret]\n\
         volumes: [/etc:/secret, /secret, {type: bind}]\nprivileged: true\n\
         logging: {driver: secret, options: {mode: secret}, x: 1}\n",
    );
    for part in [
        "user_data tyt: there is no such key",
        "user_data tty: it is neither true nor false (allowed: true or false)",
        "user_data ports: Neutron's security groups",
        "user_data cap_add: only a flavor can set it",
        "user_data privileged: only a flavor can set it",
        "user_data logging.driver: it is not json-file",
        "user_data logging.x: it is neither driver nor options",
        "user_data logging.options.mode: there is no such setting of a log",
        "user_data environment.0: it has no value",
        "user_data labels: it is neither a map nor a list",
        "user_data ulimits.nofile: it is neither a number nor a map of soft and hard",
        "user_data user: it is no text",
        "user_data working_dir: it is no text",
        "user_data image: the server's image says it",
        "user_data volumes.1: it has no value",
        "user_data volumes./etc: the name has characters",
        "user_data volumes.2: it is no text",
        "user_data healthcheck: it is no map",
    ] {
        assert!(error.contains(part), "{part} is missing: {error}");
    }
    assert!(!error.to_lowercase().contains("secret"), "{error}");
}

#[test]
fn hostile_services_are_refused_and_never_repeated() {
    for (service, problem) in [
        ("environment: {A: &x secret, B: *x}", "user_data environment.A: anchors are not taken"),
        ("<<: {tty: secret}", "user_data <<: there is no such key"),
        ("tty: true\ntty: secret", "user_data tty: it is there twice"),
        ("environment: [A=1, A=secret]", "user_data environment.A: it is there twice"),
        ("environment: {A: !secret x}", "user_data environment.A: it has a tag that is not taken"),
        ("environment: {A: \"sec\\0ret\"}", "user_data environment.A: it has a zero byte"),
        ("environment: {A: {B: secret}}", "user_data environment.A: it is no text"),
        ("environment: {A: }", "user_data environment.A: it has no value"),
        ("environment: {\"A\\nB\": secret}", "the name has a control character"),
        ("env_file: [A=1, secret.env]", "user_data env_file line 2: it is not NAME=VALUE"),
        ("env_file: \"A='secret\"", "user_data env_file line 1: a quote is not closed"),
        ("env_file: \"\\tA\\tB=secret\"", "the name has a control character"),
        ("env_file: {path: secret}", "user_data env_file: it is no text"),
        ("- secret", "user_data: it is no map"),
        ("tty: true\n---\ntty: secret", "user_data: there is more than one document"),
        ("tty: \"secret", "user_data line 2: it is no YAML"),
        ("tmpfs: ['/secret:mode=777']", "user_data tmpfs: it is no size"),
        ("extra_hosts: ['secret:host-gateway']", "it is no IP address"),
    ] {
        let error = mistakes(service);
        assert!(error.contains(problem) && !error.contains('\n'), "{error}");
        assert!(!error.contains("secret") || problem.contains("IP"), "{error}");
    }
    let many = (0..1001).fold("env_file: |\n".to_owned(), |all, number| format!("{all}  A{number}=secret\n"));
    assert!(mistakes(&many).starts_with("user_data env_file: there are more than 1000 lines"));
    let long = format!("command: {}", "x".repeat(60_000));
    assert!(of_service(&long).is_ok());
    assert!(
        mistakes(&format!("command: {}", "secret".repeat(11_000))).contains("user_data: it is longer than 65536 bytes")
    );
}
