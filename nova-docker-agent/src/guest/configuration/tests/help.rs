//! What programs without the agent know of the keys: nova-api's validators, and Glance's definitions for Horizon. Their files are
//! made here, of the table and of the guide. To write them after a change:
//! `WRITE_HELP=1 cargo test -p nova-docker-agent --lib the_files_of_help`

mod forms;

use std::path::Path;

use serde_json::{Map, Value, json};

use super::super::keys::{EVERYWHERE, KEYS, Key, OPERATOR, PROVIDERS, SERVICE, USERS};
use super::super::{Configuration, Place, Sources};
use super::DOCS;
use crate::limits::extremes::TEXTS;
use forms::{Form, shown};

const PACKAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../python-shim/src/nova_docker");
const TESTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../python-shim/tests");
/// Characters that Nova takes in a value.
const LONGEST: usize = 255;

/// A row of the guide, without its marks.
struct Row {
    value: String,
    example: String,
    meaning: String,
}

fn row(key: &Key) -> Row {
    let written = if key.name.ends_with(':') { format!("{}NAME", key.name) } else { key.name.to_owned() };
    let line = DOCS.lines().find(|line| line.starts_with(&format!("| `{written}` |"))).expect("a row of the guide");
    let cells: Vec<String> = line.trim_matches(['|', ' ']).split(" | ").map(plain).collect();
    let [_, _, value, example, meaning] = <[String; 5]>::try_from(cells).expect("five cells");
    Row { value, example, meaning }
}

/// Without backquotes and the addresses of links.
fn plain(markdown: &str) -> String {
    let mut text = String::new();
    let mut rest = markdown;
    while let Some((before, after)) = rest.split_once("](") {
        let (start, label) = before.rsplit_once('[').expect("the beginning of a link");
        text.push_str(start);
        text.push_str(label);
        rest = after.split_once(')').expect("the end of a link").1;
    }
    text.push_str(rest);
    text.replace('`', "")
}

// ---------------------------------------------------------------- nova-api

/// Who else may set a key that a flavor may not; none where it may.
fn only(key: &Key) -> Option<&'static str> {
    match key.places {
        places if places.contains(&Place::Flavor) => None,
        SERVICE => Some("only a service in user data can set it"),
        [Place::Image] => Some("only an image can set it"),
        _ => Some("only server metadata can set it"),
    }
}

fn extra_spec(key: &Key) -> Value {
    let shown = shown(key.name);
    let mut spec = json!({"key": key.name, "description": row(key).meaning, "allowed": key.allowed});
    if let Some(only) = only(key) {
        spec["only"] = only.into();
        return spec;
    }
    if let Some(name) = shown.name {
        spec["name"] = name.into();
    }
    if let Some(form) = shown.form {
        spec["value"] = form.pattern().into();
        if let Form::Number { least, most } = form {
            spec["least"] = least.into();
            spec["most"] = most.into();
        }
    }
    spec
}

// ---------------------------------------------------------------- Glance

struct Namespace {
    file: &'static str,
    name: &'static str,
    title: &'static str,
    whose: &'static str,
    place: Place,
    resource: Value,
    prefix: &'static str,
}

fn namespaces() -> [Namespace; 3] {
    [
        Namespace {
            file: "image.json",
            name: "NovaDocker::Image",
            title: "Container (defaults of the image)",
            whose: "How containers of this image run, unless a flavor or the user of a server says otherwise.",
            place: Place::Image,
            resource: json!({"name": "OS::Glance::Image", "prefix": "docker_"}),
            prefix: "docker_",
        },
        Namespace {
            file: "flavor.json",
            name: "NovaDocker::Flavor",
            title: "Container (defaults and limits of the flavor)",
            whose: "How containers of this flavor run, and what their users may ask for.",
            place: Place::Flavor,
            resource: json!({"name": "OS::Nova::Flavor", "prefix": "docker:"}),
            prefix: "docker:",
        },
        Namespace {
            file: "server.json",
            name: "NovaDocker::Server",
            title: "Container",
            whose: "How the container runs. It is read when the container is made.",
            place: Place::Metadata,
            resource: json!({"name": "OS::Nova::Server", "prefix": "docker:", "properties_target": "metadata"}),
            prefix: "docker:",
        },
    ]
}

fn metadata_definitions(namespace: &Namespace) -> Value {
    let mut properties = Map::new();
    let mut named = vec![];
    for key in KEYS.iter().filter(|key| key.places.contains(&namespace.place)) {
        let shown = shown(key.name);
        if !key.name.ends_with(':') {
            properties.insert(key.name.to_owned(), property(key, &shown.title));
            continue;
        }
        named.push(format!("{}{}NAME", namespace.prefix, key.name));
        for name in shown.examples {
            let title = format!("{} {name}", shown.title);
            properties.insert(format!("{}{name}", key.name), property(key, &title));
        }
    }
    json!({
        "namespace": namespace.name,
        "display_name": namespace.title,
        "description": format!(
            "{} With names of your own, as custom keys: {}.",
            namespace.whose,
            named.join(", ")
        ),
        "visibility": "public",
        "protected": true,
        "resource_type_associations": [namespace.resource],
        "properties": properties,
    })
}

/// A box to tick would send the text `null` until it is ticked, so that true and false are chosen from a list.
fn property(key: &Key, title: &str) -> Value {
    let Row { value, example, meaning } = row(key);
    let description = format!("{meaning}. Value: {value}. Example: {example}");
    let mut property = json!({"title": title, "description": description, "type": "string"});
    match shown(key.name).form {
        Some(Form::Flag) => property["enum"] = json!(["true", "false"]),
        Some(Form::Number { least, most }) => {
            property["type"] = "integer".into();
            property["minimum"] = least.into();
            // Numbers of browsers are not exact beyond.
            if most < 1 << 53 {
                property["maximum"] = most.into();
            }
        }
        Some(Form::Text(pattern)) if !pattern.contains("(?i:") => {
            property["pattern"] = pattern.into();
            property["maxLength"] = LONGEST.into();
        }
        _ => property["maxLength"] = LONGEST.into(),
    }
    property
}

// ---------------------------------------------------------------- what the agent takes

/// Values for the validators to be asked about, good and bad ones of every key.
const VALUES: &[&str] = &[
    "true",
    " False ",
    "ON",
    "perhaps",
    "tru",
    "no\n",
    "1000:1000",
    "www-data",
    "a b",
    "-a",
    "a:b:c",
    "a/b",
    "4294967296:1",
    "NET_RAW, SETUID",
    "cap_net_raw",
    "ALL,,",
    "NET_RAW NOTHING",
    "CAP_CAP_ALL",
    "net_raw\n",
    "nginx -g \"daemon off;\"",
    "sh -c 'a",
    "sh -c \"a",
    "a \\",
    "a # it's",
    "'' a",
    "[\"/bin/sh\", \"-c\"]",
    "[\"a\"",
    "[]",
    "[1]",
    "/bin/zsh",
    "none",
    "/srv/my app",
    "/a\nb",
    "srv",
    "192.0.2.53",
    "192.0.2.53 2001:db8::53",
    "1.2.3.4 1.2.3.4 1.2.3.4 1.2.3.4",
    "256.1.1.1",
    "1.2.3",
    "::",
    "fe80::1%eth0",
    "::ffff:192.0.2.1",
    "ndots:2 rotate",
    "ndots:2,rotate",
    "a.example b.example.",
    "shop.example",
    "shop..example",
    ".example",
    "-a.example",
    "a.-b",
    "shop.example..",
    "web-1",
    " web.shop ",
    "web-",
    "-web",
    "a_b",
    "audio, 44",
    "audio;44",
    "{\"test\": \"wget -q localhost\", \"interval\": \"30s\"}",
    "{\"test\": 1}",
    "{",
    "wget -q localhost",
    "192.0.2.7 fe80::1",
    "500",
    "1001",
    "1000",
    "+5",
    "007",
    "5 0",
    "1_000",
    "0.5",
    "on-failure:5",
    "on-failure:0",
    "on-failure: 5",
    "on-failure:05",
    "always",
    " unless-stopped ",
    "Always",
    "always:3",
    "256m",
    "256MB",
    "0m",
    "1t",
    "m",
    "1kb",
    "12 m",
    "90s",
    "1m30s",
    "1m 30s",
    "500ms",
    "2h",
    "1h",
    "1d",
    "1.5s",
    "SIGINT",
    "term",
    "SIGRTMIN+3",
    "RTMIN+0",
    "RTMIN+01",
    "RTMAX-14",
    "RTMAX-15",
    "SIGSIGINT",
    "SIGNOPE",
    "65",
    "064",
    "1024:4096",
    "4096:1024",
    "-1",
    "unlimited",
    " 1 : 2 ",
    "1:2:3",
    "-2",
    "infinity",
    "/run /tmp:64m",
    "/run:ro",
    "run",
    "/dev/x",
    "/run /run",
    "'/my run'",
    "[\"/run\"]",
    "/var/lib/mysql",
    "/var/lib/mysql:ro",
    "/var/lib/mysql:rw",
    "/data:rx",
    "/data/../etc",
    "/data/..",
    "/.",
    "/..data",
    "/proc",
    "/process",
    "/sys/fs",
    "/",
    "//a",
    "/a/",
    "/a:",
    "cap_add:NET_ADMIN, devices:/dev/kvm",
    "cap_add",
    " runtime ,, gpus:all,",
    "cap_drop",
    "cap_add:",
    "cap_add:NOTHING",
    "devices:/dev/kvm:r,device_cgroup_rules:c 1:3 r",
    "allow",
    "/dev/fuse, /dev/net/tun:/dev/tun:rw",
    "/dev/kvm:r",
    "/dev/kvm:/etc/x",
    "/dev/../etc/shadow",
    "/dev/",
    "/dev/kvm:rwx",
    "/dev/kvm:/dev/a:/dev/b:r",
    "c 10:200 rwm",
    "c 10:200 rwm, b *:* r",
    "d 1:1 r",
    "c 1:99999999 r",
    "all",
    "device=0,GPU-1",
    "device=",
    "65",
    "crun",
    "../crun",
    "seccomp=unconfined systempaths:unconfined",
    "apparmor=docker-default, label=disable",
    "label=level:s0:c1",
    "label=nothing",
    "seccomp=profile.json",
    "no-new-privileges:false",
    "a\u{0}b",
    "\u{a0}5\u{a0}",
    "é",
    "\u{85}",
    "a\tb",
    "a\u{1b}b",
    "\n",
    "K",
    "\u{212a}",
    "\u{17f}",
    "1\u{212a}",
];
/// The same for the names after a colon.
const NAMES: &[&str] = &[
    "",
    "TZ",
    "A=B",
    "a b",
    "é",
    "a\nb",
    "-a",
    ".a",
    "_a",
    "a.b",
    "db-1",
    "max-size",
    "max-",
    "nofile",
    "NOFILE",
    "nice",
    "files",
    "net.core.somaxconn",
    "net.",
    "net",
    "net..core",
    "net.ipv4.conf.eth0/1",
    "kernel.shmmax",
    "kernel.hostname",
    "fs.mqueue.msg_max",
    "fs.file-max",
    "org.openstack.nova.x",
    "Com.Docker.x",
    "com.dockerx",
    "org.openstack.novax",
    "a:b",
    "a/b",
    "io.docker.",
    "0123456789012345678901234567890123456789012345678901234567890123",
];

fn takes(key: &Key, name: &str, value: &str) -> bool {
    let extra_specs = [(format!("docker:{}{name}", key.name), value.to_owned())].into();
    Configuration::parse(&Sources { extra_specs, memory_mb: 1 << 30, ..Sources::default() }).is_ok()
}

/// What the agent takes of a flavor, of the values and names here.
fn verdicts() -> String {
    let values = || TEXTS.iter().chain(VALUES).copied();
    let mut lines =
        vec![format!("\"values\": {}", json!(values().collect::<Vec<_>>())), format!("\"names\": {}", json!(NAMES))];
    for key in KEYS.iter().filter(|key| key.places.contains(&Place::Flavor)) {
        let (usual, example) =
            (["TZ", "db", "role", "net.core.somaxconn", "nofile", "data", "max-size"], row(key).example);
        let usual = if key.name.ends_with(':') { &usual[..] } else { &[""] };
        let name = usual.iter().find(|name| takes(key, name, &example)).expect("a good name for the guide's example");
        let taken: Vec<&str> = values().filter(|value| takes(key, name, value)).collect();
        lines.push(format!("\"{}{name}\": {}", key.name, json!(taken)));
        if key.name.ends_with(':') {
            let taken: Vec<&&str> = NAMES.iter().filter(|name| takes(key, name, &example)).collect();
            lines.push(format!("\"{}\": {}", key.name, json!(taken)));
        }
    }
    format!("{{\n  {}\n}}\n", lines.join(",\n  "))
}

// ---------------------------------------------------------------- the files

fn pretty(value: &Value) -> String {
    format!("{value:#}\n")
}

#[test]
fn the_files_of_help_are_made_of_the_table_and_the_guide() {
    let mut files = vec![
        (format!("{PACKAGE}/extra_specs.json"), pretty(&KEYS.iter().map(extra_spec).collect())),
        (format!("{TESTS}/extra_specs.json"), verdicts()),
    ];
    for namespace in namespaces() {
        files.push((format!("{PACKAGE}/metadefs/{}", namespace.file), pretty(&metadata_definitions(&namespace))));
    }
    for (path, wanted) in files {
        if std::env::var_os("WRITE_HELP").is_some() {
            std::fs::create_dir_all(Path::new(&path).parent().unwrap()).unwrap();
            std::fs::write(&path, &wanted).unwrap();
        }
        let found = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(found == wanted, "{path} is not what the table says; see the head of this file for how to write it");
    }
}

#[test]
fn every_place_of_a_key_is_told() {
    let known =
        |key: &&Key| [EVERYWHERE, OPERATOR, PROVIDERS, SERVICE, USERS, &[Place::Metadata]].contains(&key.places);
    assert!(KEYS.iter().all(|key| known(&key)), "a key has other places: tell nova-api and Glance of them");
}

#[test]
fn marks_of_the_guide_are_left_out() {
    assert_eq!(plain("a `b` [c d](e.md#f), [g](h)."), "a b c d, g.");
}
