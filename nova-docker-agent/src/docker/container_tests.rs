//! What Docker is asked for.

use super::an_instance as guest;
use super::*;
use crate::guest::configuration::Sources;

fn host_config_of(guest: &Guest) -> HostConfig {
    body(guest, "h", "image", &[], &DockerConfig::default(), false).host_config.unwrap()
}

#[test]
fn swap_comes_on_top_of_the_memory_and_only_from_the_flavor() {
    assert_eq!(host_config_of(&guest()).memory_swap, Some(64 << 20));
    assert_eq!(host_config_of(&Guest { swap_mb: 16, ..guest() }).memory_swap, Some(80 << 20));
}

#[test]
fn a_storage_quota_is_asked_for_only_where_it_is_enforced() {
    assert_eq!(host_config_of(&guest()).storage_opt, None);
    let body = body(&guest(), "h", "image", &[], &DockerConfig::default(), true);
    assert_eq!(body.host_config.unwrap().storage_opt.unwrap()["size"], "1G");
}

/// With a configuration of a flavor.
fn flavored<const N: usize>(specs: [(&str, &str); N]) -> Guest {
    let extra_specs = specs.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    let sources = Sources { extra_specs, ..Sources::default() };
    Guest { configuration: Configuration::parse(&sources).unwrap(), ..guest() }
}

#[test]
fn a_flavor_lets_programs_gain_privileges() {
    assert_eq!(host_config_of(&guest()).security_opt.unwrap(), ["no-new-privileges:true"]);
    assert_eq!(host_config_of(&flavored([("docker:no_new_privileges", "False")])).security_opt, None);
}

#[test]
fn limits_of_any_size_are_positive_numbers_in_dockers_request() {
    use crate::limits::extremes::UNSIGNED;
    for &amount in UNSIGNED.iter().filter(|&&amount| amount > 0) {
        let vcpus = u32::try_from(amount).unwrap_or(u32::MAX);
        let guest = Guest { memory_mb: amount, swap_mb: amount, root_gb: amount, vcpus, ..guest() };
        let host = host_config_of(&guest);
        let numbers = [host.memory, host.memory_swap, host.cpu_quota, host.cpu_shares, host.pids_limit];
        assert!(numbers.iter().all(|number| number.is_some_and(|number| number > 0)), "{amount}: {numbers:?}");
        assert!(host.memory_swap >= host.memory);
    }
}

#[test]
fn the_flavors_limit_of_processes_takes_the_place_of_the_hosts_and_a_user_only_lowers_it() {
    let limit = |pids_limit, most_processes| {
        let configuration = Configuration { pids_limit, most_processes, ..Configuration::default() };
        host_config_of(&Guest { configuration, ..guest() }).pids_limit.unwrap()
    };
    assert_eq!((limit(None, None), limit(Some(10), None), limit(Some(10_000), None)), (4096, 10, 4096));
    assert_eq!((limit(None, Some(10_000)), limit(Some(9_000), Some(10_000))), (10_000, 9_000));
}

#[test]
fn what_a_flavor_loosens_is_asked_of_docker() {
    let plain = host_config_of(&guest());
    assert_eq!((plain.privileged, plain.devices, plain.device_requests), (Some(false), None, None));
    let guest = flavored([
        ("docker:devices", "/dev/fuse, /dev/net/tun:/dev/tun:rw"),
        ("docker:device_cgroup_rules", "c 10:200 rwm, b *:* r"),
        ("docker:gpus", "all"),
        ("docker:security_opt", "seccomp=unconfined systempaths=unconfined"),
        ("docker:host_mount:data", "/srv/data"),
        ("docker:host_mount:gone", "/srv/gone"),
    ]);
    let directory = crate::config::HostMount { path: "/export".into(), read_only: true };
    let config = DockerConfig { host_mounts: [("data".to_owned(), directory)].into(), ..DockerConfig::default() };
    let host = body(&guest, "h", "image", &[], &config, false).host_config.unwrap();
    let devices = host.devices.unwrap();
    let tun = ["/dev/net/tun", "/dev/tun", "rw"].map(|text| Some(text.to_owned()));
    assert_eq!(
        [&devices[1].path_on_host, &devices[1].path_in_container, &devices[1].cgroup_permissions],
        tun.each_ref()
    );
    assert_eq!(host.device_cgroup_rules.unwrap(), ["c 10:200 rwm", "b *:* r"]);
    let request = &host.device_requests.unwrap()[0];
    assert_eq!((request.count, &request.capabilities), (Some(-1), &Some(vec![vec!["gpu".to_owned()]])));
    assert_eq!(host.security_opt.unwrap(), ["no-new-privileges:true", "seccomp=unconfined"]);
    assert_eq!((host.masked_paths, host.readonly_paths), (Some(vec![]), Some(vec![])));
    let mounts = host.mounts.unwrap();
    assert_eq!(mounts.len(), 1);
    assert_eq!((mounts[0].source.as_deref(), mounts[0].read_only), (Some("/export"), Some(true)));
    assert_eq!(host_config_of(&flavored([("docker:privileged", "true")])).privileged, Some(true));
}

#[test]
fn a_log_is_kept_within_the_flavors_bounds_or_else_the_hosts() {
    let options = |specs: &[(&str, &str)], said: &[(&str, &str)]| {
        let texts = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(key, value)| (format!("docker:logging:{key}"), (*value).to_owned())).collect()
        };
        let sources = Sources { extra_specs: texts(specs), metadata: texts(said), ..Sources::default() };
        let configuration = Configuration::parse(&sources).unwrap();
        let options = host_config_of(&Guest { configuration, ..guest() }).log_config.unwrap().config.unwrap();
        (options["max-size"].clone(), options["max-file"].clone())
    };
    let pair = |size: &str, files: &str| (size.to_owned(), files.to_owned());
    assert_eq!(options(&[], &[]), pair("10m", "2"));
    assert_eq!(options(&[], &[("max-size", "1g"), ("max-file", "9")]), pair("10m", "2"));
    assert_eq!(options(&[], &[("max-size", "16k"), ("max-file", "1")]), pair("16384", "1"));
    let flavor = [("max-size", "64m"), ("max-file", "5")];
    assert_eq!(options(&flavor, &[]), pair("67108864", "5"));
    assert_eq!(options(&flavor, &[("max-size", "32m"), ("max-file", "4")]), pair("33554432", "4"));
}

#[test]
fn capabilities_are_the_usual_ones_and_the_flavors_without_those_that_are_dropped() {
    let of = |add: &[&str], drop: &[&str]| {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let mut guest = flavored([("docker:cap_add", &add.join(","))]);
        guest.configuration.cap_drop = names(drop);
        let host = host_config_of(&guest);
        (host.cap_add.unwrap(), host.cap_drop.unwrap())
    };
    assert_eq!(of(&[], &[]), (CAPABILITIES.map(str::to_owned).to_vec(), vec!["ALL".to_owned()]));
    assert_eq!(of(&["NET_ADMIN", "MKNOD"], &["MKNOD"]).0[CAPABILITIES.len()..], ["NET_ADMIN"]);
    assert!(!of(&[], &["NET_RAW"]).0.contains(&"NET_RAW".to_owned()));
    assert_eq!(of(&["MKNOD"], &["ALL"]), (vec![], vec!["ALL".to_owned()]));
    assert_eq!(of(&["ALL"], &["SYS_ADMIN"]), (vec!["ALL".to_owned()], vec!["SYS_ADMIN".to_owned()]));
    assert_eq!(of(&["ALL"], &["ALL"]), (vec![], vec!["ALL".to_owned()]));
}

#[test]
fn a_check_that_is_asked_for_leaves_nothing_to_the_image() {
    let none = body(&guest(), "h", "i", &[], &DockerConfig::default(), false).healthcheck.unwrap();
    assert_eq!(none.test.unwrap(), ["NONE"]);
    let asked = flavored([("docker:healthcheck", r#"{"test": "true", "interval": "2s"}"#)]);
    let check = body(&asked, "h", "i", &[], &DockerConfig::default(), false).healthcheck.unwrap();
    assert_eq!(
        (check.test.unwrap(), check.interval),
        (vec!["CMD-SHELL".to_owned(), "true".to_owned()], Some(2_000_000_000))
    );
    let rest = [check.timeout, check.start_period, check.start_interval, check.retries];
    assert!(rest.iter().all(|number| number.is_some_and(|number| number > 0)), "{rest:?}");
}

#[test]
fn a_host_name_is_cut_to_what_linux_takes() {
    assert_eq!(hostname(&"a".repeat(80)).unwrap().len(), 63);
    assert_eq!(hostname(&format!("{}-b", "a".repeat(62))).unwrap(), "a".repeat(62));
    assert!(hostname("").is_err());
    assert!(hostname("two words").is_err());
}

#[test]
fn what_is_asked_for_is_asked_of_docker() {
    let words = |text: &str| vec![text.to_owned()];
    let configuration = Configuration {
        environment: crate::guest::configuration::Environment([("A".to_owned(), "b=c".to_owned())].into()),
        command: Some(words("run")),
        entrypoint: Some(vec![]),
        working_dir: Some("/w".to_owned()),
        user: Some("7".to_owned()),
        stop_signal: Some("SIGINT".to_owned()),
        tty: Some(true),
        stdin_open: Some(true),
        init: Some(true),
        shm_size: Some(4096),
        tmpfs: [("/t".to_owned(), 4096)].into(),
        labels: [("mine".to_owned(), "1".to_owned()), (labels::COMPUTE.to_owned(), "another".to_owned())].into(),
        ..Configuration::default()
    };
    let body = body(&Guest { configuration, ..guest() }, "h", "i", &[], &DockerConfig::default(), false);
    assert_eq!((body.cmd, body.entrypoint, body.env), (Some(words("run")), Some(words("")), Some(words("A=b=c"))));
    assert_eq!((body.working_dir.as_deref(), body.user.as_deref()), (Some("/w"), Some("7")));
    assert_eq!((body.stop_signal.as_deref(), body.tty, body.open_stdin), (Some("SIGINT"), Some(true), Some(true)));
    let (labels, host) = (body.labels.unwrap(), body.host_config.unwrap());
    assert_eq!((labels["mine"].as_str(), labels[labels::COMPUTE].as_str()), ("1", "c"));
    assert_eq!((host.init, host.shm_size, host.tmpfs.unwrap()["/t"].as_str()), (Some(true), Some(4096), "size=4096"));
}

#[test]
fn half_of_the_memory_may_be_shared_unless_said_otherwise() {
    assert_eq!(host_config_of(&guest()).shm_size, Some(32 << 20));
}
