//! Configs and secrets.

use super::service::{mistakes, of_service, sources};
use super::*;

fn given(service: &str, key: &str) -> GivenFile {
    of_service(service).unwrap().given.remove(key).unwrap()
}

#[test]
fn secrets_are_below_run_and_private_and_configs_at_the_root_and_readable_unless_said_otherwise() {
    let secret = given("secrets: {db_password: s3cret}", "secret:db_password");
    assert_eq!((secret.path.as_str(), secret.mode, secret.user), ("/run/secrets/db_password", 0o400, None));
    assert_eq!(secret.content, "s3cret");
    let config = given("configs:\n  app.conf: |\n    a = b\n    c = d\n", "config:app.conf");
    assert_eq!((config.path.as_str(), config.mode, config.content.as_str()), ("/app.conf", 0o444, "a = b\nc = d\n"));
    let all = "secrets: {a: {content: x, target: other, uid: 7, gid: 8, mode: 0440}}";
    let secret = given(all, "secret:a");
    assert_eq!((secret.path.as_str(), secret.mode), ("/run/secrets/other", 0o440));
    assert_eq!((secret.user, secret.group), (Some(7), Some(8)));
    assert_eq!(given("configs: {a: {content: '', target: /etc/a, mode: 0o400}}", "config:a").mode, 0o400);
}

#[test]
fn hostile_files_are_refused_and_never_repeated() {
    let many: String = (0..65).map(|number| format!("  f{number}: secret\n")).collect();
    for (service, problem) in [
        ("secrets: [secret]", "user_data secrets: it is no map"),
        ("secrets: secret", "user_data secrets: it is no map"),
        ("secrets: {a: }", "user_data secrets.a: it has no value"),
        ("secrets: {a: [secret]}", "user_data secrets.a: it is no text"),
        ("secrets: {a: {file: ./secret}}", "user_data secrets.a: it is neither a text nor a map of content"),
        ("secrets: {a: {content: secret, secret: x}}", "user_data secrets.a: it is neither a text nor a map"),
        ("secrets: {a: {content: [secret]}}", "user_data secrets.a: it is neither a text nor a map"),
        ("secrets: {a: \"sec\\0ret\"}", "user_data secrets.a: it has a zero byte"),
        ("secrets: {a/b: secret}", "the name has characters"),
        ("secrets: {'..': secret}", "the name has characters"),
        ("secrets: {a: {content: secret, target: ../secret}}", "a path is the root, or has an empty part"),
        ("secrets: {a: {content: secret, target: /}}", "a path is the root"),
        ("secrets: {a: {content: secret, target: /proc/secret}}", "/dev, /proc and /sys are the kernel's"),
        ("secrets: {a: {content: secret, target: \"/secret\\n\"}}", "it has a control character"),
        ("secrets: {a: {content: secret, mode: 4755}}", "its mode is no octal number"),
        ("secrets: {a: {content: secret, mode: secret}}", "its mode is no octal number"),
        ("secrets: {a: {content: secret, mode: '+400'}}", "its mode is no octal number"),
        ("secrets: {a: {content: secret, uid: root}}", "its uid or gid is no number"),
        ("secrets: {a: {content: secret, gid: 2147483648}}", "its uid or gid is no number"),
        ("secrets: {a: secret, b: {content: x, target: a}}", "docker:secret:b: another file, volume or tmpfs"),
        ("configs: {a: secret}\ntmpfs: /a", "docker:config:a: another file, volume or tmpfs has its path"),
        ("configs: {a: secret}\nvolumes: ['v:/a']", "docker:config:a: another file, volume or tmpfs"),
        (&format!("secrets:\n{many}"), "there are more than 64"),
    ] {
        let error = mistakes(service);
        assert!(error.contains(problem) && !error.contains('\n'), "{error}");
        assert!(!error.replace("secrets", "").replace("docker:secret:", "").contains("secret"), "{error}");
    }
}

#[test]
fn only_user_data_gives_files_and_nothing_that_is_shown_has_their_contents() {
    let error = of_user([("docker:secret:a", r#"{"content": "s3cret"}"#)]).unwrap_err().to_string();
    assert!(error.contains("docker:secret:a: only a service in user data can set it"), "{error}");
    let service = sources("secrets: {a: s3cret}\nconfigs: {b: s3cret}");
    let shown = format!("{:?}", Configuration::parse(&service).unwrap());
    assert!(shown.contains("/run/secrets/a") && !shown.contains("s3cret"), "{shown}");
    let explained = explain(&service, &ImageConfig::default(), false).unwrap();
    assert!(explained.contains("secret:a = (hidden)") && !explained.contains("s3cret"), "{explained}");
}

#[test]
fn files_are_found_again_whatever_else_the_user_data_says() {
    let data = sources("secrets: {a: x}\ntty: perhaps\nshm_size: 1g\nulimits: {nofile: 9999999}").user_data;
    assert_eq!(Configuration::given_by(&data).len(), 1);
    assert!(Configuration::given_by("").is_empty());
}
