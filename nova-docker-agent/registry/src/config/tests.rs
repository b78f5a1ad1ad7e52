use super::*;

fn load(more: &[((&str, &str), &str)]) -> Result<Config, Vec<String>> {
    let mut map = vec![
        (("keystone", "auth_url"), "http://127.0.0.1:5000/v3"),
        (("glance", "endpoint_override"), "http://127.0.0.1:9292"),
    ];
    map.extend(more);
    let loaded = from_settings(&Settings::from_map(map)).map(|(config, _)| config.registry);
    loaded.map_err(|errors| errors.iter().map(ToString::to_string).collect())
}

#[test]
fn the_least_configuration_serves_on_loopback() {
    let config = load(&[]).unwrap();
    assert_eq!(config.tokens.public_url.as_str(), "http://127.0.0.1:5000/");
    assert_eq!((config.tls, config.tokens.lifetime), (None, Duration::from_secs(300)));
    assert_eq!(config.tokens.key_file, std::path::PathBuf::from("/var/lib/nova-docker-registry/token.key"));
    assert_eq!(config.push.max_manifest, 4 << 20);
    assert_eq!(config.tokens.domain, Named::Id("default".into()));
}

#[test]
fn beyond_loopback_it_needs_a_certificate_and_a_name() {
    let errors = load(&[(("registry", "listen"), "0.0.0.0:443")]).unwrap_err().join("\n");
    for option in ["tls_cert_file", "tls_key_file", "public_url"] {
        assert!(errors.contains(option), "{errors}");
    }
    let tls = [
        (("registry", "listen"), "0.0.0.0:443"),
        (("registry", "tls_cert_file"), "/c"),
        (("registry", "tls_key_file"), "/k"),
        (("registry", "public_url"), "https://registry.example"),
    ];
    let mut plain = tls;
    plain[3].1 = "http://registry.example";
    assert!(load(&plain).unwrap_err().join("\n").contains("https://"));
    let config = load(&tls).unwrap();
    assert_eq!(config.tls, Some(TlsFiles { certificate: "/c".into(), key: "/k".into() }));
}

#[test]
fn every_mistake_is_reported_at_once() {
    let errors = from_settings(&Settings::from_map([
        (("registry", "listen"), "localhost"),
        (("registry", "cache_size"), "20"),
        (("registry", "public_url"), "https://registry.example/prefix"),
        (("registry", "max_connections"), "0"),
        (("registry", "anonymous_password"), "secret"),
        (("registry", "shared_addresses"), "192.0.2.1, proxy"),
        (("keystone", "password"), "secret"),
    ]))
    .err()
    .unwrap();
    let text: Vec<String> = errors.iter().map(ToString::to_string).collect();
    let text = text.join("\n");
    for expected in [
        "listen",
        "no option cache_size; did you mean cache_size_gb?",
        "public_url",
        "max_connections",
        "[registry] anonymous_user is not set",
        "shared_addresses",
        "[keystone] auth_url is not set",
        "[glance] endpoint_override is not set",
        "[keystone] has no option password",
    ] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
}
