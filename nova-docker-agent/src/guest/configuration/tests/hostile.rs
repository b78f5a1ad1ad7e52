//! Keys and values that nobody should write.

use std::time::Duration;

use super::*;

#[test]
fn hostile_values_are_refused_and_never_repeated() {
    let long_path = format!("/{}", "secret".repeat(800));
    let long = "secret".repeat(20_000);
    let long_domain = "secret.example.".repeat(5);
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
        ("docker:cap_drop", "secret"),
        ("docker:dns", ""),
        ("docker:dns", "secret.example"),
        ("docker:dns", "192.0.2.1\n192.0.2.2 search secret"),
        ("docker:dns", "192.0.2.1 192.0.2.2 192.0.2.3 192.0.2.4"),
        ("docker:dns", "fe80::1%eth0"),
        ("docker:domainname", ""),
        ("docker:domainname", "secret domain"),
        ("docker:domainname", "secret\nroot"),
        ("docker:domainname", "secret..x"),
        ("docker:domainname", ".secret"),
        ("docker:domainname", "é.secret"),
        ("docker:domainname", &long_domain),
        ("docker:hostname", ""),
        ("docker:hostname", "secret name"),
        ("docker:hostname", "secret\nroot"),
        ("docker:hostname", "-secret"),
        ("docker:hostname", "secret-"),
        ("docker:hostname", "secret..x"),
        ("docker:hostname", "secret."),
        ("docker:hostname", "secret_x"),
        ("docker:hostname", &long_domain),
        ("docker:read_only", "secret"),
        ("docker:restart", ""),
        ("docker:restart", "secret"),
        ("docker:restart", "on-failure:secret"),
        ("docker:restart", "on-failure:99999999999"),
        ("docker:restart", "always\nsecret"),
        ("docker:stop_grace_period", ""),
        ("docker:stop_grace_period", "secret"),
        ("docker:stop_grace_period", "-1"),
        ("docker:stop_grace_period", "1.5s"),
        ("docker:stop_grace_period", "3601"),
        ("docker:stop_grace_period", "60m1ms"),
        ("docker:stop_grace_period", "99999999999999999999"),
        ("docker:stop_grace_period", "99999999999999999999h"),
        ("docker:dns_opt", "ndots:2;secret"),
        ("docker:dns_search", "secret/x"),
        ("docker:dns_search", "-secret"),
        ("docker:group_add", "secret/x"),
        ("docker:group_add", "2147483648"),
        ("docker:healthcheck", "secret"),
        ("docker:healthcheck", "{}"),
        ("docker:healthcheck", r#"{"test": "secret", "extra": 1}"#),
        ("docker:healthcheck", r#"{"test": ["secret"]}"#),
        ("docker:healthcheck", r#"{"test": ["CMD"]}"#),
        ("docker:healthcheck", r#"{"test": "secret\u0000"}"#),
        ("docker:healthcheck", r#"{"test": "secret", "interval": "999ms"}"#),
        ("docker:healthcheck", r#"{"test": "secret", "interval": "1"}"#),
        ("docker:healthcheck", r#"{"test": "secret", "timeout": "0s"}"#),
        ("docker:healthcheck", r#"{"test": "secret", "start_period": "18446744073709551615h"}"#),
        ("docker:healthcheck", r#"{"test": "secret", "retries": 0}"#),
        ("docker:host:db", "secret"),
        ("docker:host:db", ""),
        ("docker:host:db", "192.0.2.1\nsecret"),
        ("docker:host:a b", "192.0.2.1"),
        ("docker:oneshot", "secret"),
        ("docker:oom_score_adj", "-1"),
        ("docker:oom_score_adj", "1001"),
        ("docker:sysctl:kernel.core_pattern", "|/secret"),
        ("docker:sysctl:vm.swappiness", "1"),
        ("docker:sysctl:net.a/../../kernel.core_pattern", "|/secret"),
        ("docker:sysctl:net..x", "1"),
        ("docker:sysctl:net.ipv4.ip_forward", "1\nsecret"),
        ("docker:sysctl:net.ipv4.ip_forward", " "),
        ("docker:ulimit:nothing", "1"),
        ("docker:ulimit:nofile", "secret"),
        ("docker:ulimit:nofile", "2:1"),
        ("docker:ulimit:nofile", "-1:1"),
        ("docker:ulimit:nofile", "1:2:3"),
        ("docker:ulimit:nofile", "1048577"),
        ("docker:ulimit:memlock", "unlimited"),
        ("docker:ulimit:rtprio", "1"),
        ("docker:remove_volumes", "secret"),
        ("docker:volume:a", ""),
        ("docker:volume:a", "secret"),
        ("docker:volume:a", "/"),
        ("docker:volume:a", "//secret"),
        ("docker:volume:a", "/secret/"),
        ("docker:volume:a", "/secret/../x"),
        ("docker:volume:a", "/secret/./x"),
        ("docker:volume:a", "/dev/secret"),
        ("docker:volume:a", "/proc"),
        ("docker:volume:a", "/sys/secret"),
        ("docker:volume:a", "/secret\n"),
        ("docker:volume:a", "/secret:"),
        ("docker:volume:a", "/secret:ro:ro"),
        ("docker:volume:a", "/secret:rw:rw"),
        ("docker:volume:a", "/secret:ro,exec"),
        ("docker:volume:a", "/secret:/etc"),
        ("docker:volume:a", "/etc:/secret:ro"),
        ("docker:volume:a", &long_path),
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

/// Puts a key with its value among the sources.
type Say = fn(&mut Sources, String, String);
/// Everybody who can say something of a container, with how they name a key.
const SPEAKERS: [(&str, Say); 3] = [
    ("docker:", |sources, key, value| drop(sources.metadata.insert(key, value))),
    ("docker:", |sources, key, value| drop(sources.extra_specs.insert(key, value))),
    ("docker_", |sources, key, value| drop(sources.properties.insert(key, value))),
];

/// A key that ends with a colon, with a name behind it.
fn named(key: &str) -> String {
    let name = match key {
        "ulimit:" => "nofile",
        "sysctl:" => "kernel.msgmax",
        key if key.ends_with(':') => "x",
        _ => "",
    };
    format!("{key}{name}")
}

/// What is wrong with the numbers of a container whose flavor has so many bytes of memory.
fn out_of_bounds(made: &Configuration, memory: u64) -> Vec<&'static str> {
    let hour = Duration::from_secs(3600);
    let processes = |limit: Option<i64>| limit.is_none_or(|limit| (1..=4_194_304).contains(&limit));
    let is_limit = |limit: &Ulimit| limit.soft >= -1 && limit.hard >= -1;
    let is_health = |health: &Health| {
        let most = Duration::from_secs(u64::try_from(i64::MAX / 1_000_000_000).unwrap());
        health.retries > 0 && [health.interval, health.timeout, health.start_period].iter().all(|time| *time <= most)
    };
    let restarts = |restart: Option<Restart>| match restart {
        Some(Restart::OnFailure(Some(most))) => i32::try_from(most).is_ok(),
        _ => true,
    };
    let checks = [
        ("shm_size", made.shm_size.is_none_or(|size| size > 0 && size <= memory)),
        ("tmpfs", made.tmpfs.values().all(|size| *size > 0 && *size <= memory)),
        ("stop_grace_period", made.stop_grace_period.is_none_or(|time| time <= hour)),
        ("most_grace", made.most_grace.is_none_or(|time| time <= hour)),
        ("pids_limit", processes(made.pids_limit)),
        ("most_processes", processes(made.most_processes)),
        ("ulimits", made.ulimits.values().all(is_limit)),
        ("most_ulimits", made.most_ulimits.values().all(|most| *most >= -1)),
        ("oom_score_adj", made.oom_score_adj.is_none_or(|score| (0..=1000).contains(&score))),
        ("health", made.health.as_ref().is_none_or(is_health)),
        ("restart", restarts(made.restart)),
    ];
    checks.into_iter().filter_map(|(what, is_right)| (!is_right).then_some(what)).collect()
}

#[test]
fn extremes_are_refused_or_within_their_bounds_for_every_key_whoever_says_them() {
    let texts = TEXTS.iter().map(|text| (*text).to_owned());
    let sized = TEXTS.iter().flat_map(|text| ["k", "MB", "g", "h", "ms"].map(|unit| format!("{text}{unit}")));
    let in_others = TEXTS.iter().flat_map(|text| {
        let health = format!(r#"{{"test": "true", "retries": {text}, "interval": "{text}s"}}"#);
        [format!("/a:{text}"), format!("{text}:{text}"), format!("on-failure:{text}"), health]
    });
    let values: Vec<String> = texts.chain(sized).chain(in_others).collect();
    for (key, value) in KEYS.iter().flat_map(|key| values.iter().map(move |value| (named(key.name), value))) {
        for (prefix, say) in SPEAKERS {
            for memory_mb in [0, 1, u64::MAX] {
                let mut sources = Sources { memory_mb, ..Sources::default() };
                say(&mut sources, format!("{prefix}{key}"), value.clone());
                let Ok(made) = Configuration::parse(&sources) else { continue };
                let wrong = out_of_bounds(&made, memory_mb.saturating_mul(1 << 20));
                assert!(wrong.is_empty(), "{prefix}{key} = {value:?}: {wrong:?} of {made:?}");
            }
        }
    }
}
