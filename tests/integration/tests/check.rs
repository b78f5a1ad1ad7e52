//! `nova-docker-agent check` on real servers.

use std::path::Path;

use integration_tests::door::Door;
use integration_tests::on_host;
use integration_tests::programs::program;
use integration_tests::rabbitmq::Broker;
use integration_tests::rpc::unique;
use serde_json::{Value, json};

/// Runs it; its exit status and what it says as JSON.
pub async fn check(file: &Path, arguments: &[&str]) -> (i32, Value) {
    let mut command = tokio::process::Command::new(program("nova-docker-agent"));
    command.arg("check").arg("--json").arg("--config-file").arg(file).args(arguments);
    let output = command.kill_on_drop(true).output().await.unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        !text.contains("secret") && output.stderr.is_empty(),
        "{text}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    (output.status.code().unwrap(), serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}")))
}

/// Verdict and words of a check that was made once.
pub fn of<'a>(report: &'a Value, check: &str) -> (&'a str, &'a str) {
    let mut found = report["checks"].as_array().unwrap().iter().filter(|finding| finding["check"] == check);
    let (first, second) = (found.next(), found.next());
    let finding = first.unwrap_or_else(|| panic!("no {check} in {report:#}"));
    assert_eq!(second, None, "{check} twice");
    (finding["verdict"].as_str().unwrap(), finding["found"].as_str().unwrap())
}

fn a_host_behind_the_second_door_is_fit_before_its_first_start_and_while_it_serves() {
    on_host(async |host| {
        let mut door = Door::closed(&host).await;
        let file = door.config_file();
        for serves in [false, true] {
            if serves {
                door.start(&[]).await;
                door.client().await;
            }
            let (status, report) = check(&file, &["--serve-driver"]).await;
            let passed = |check: &str| of(&report, check).0 == "ok";
            for name in
                ["configuration", "docker", "limits", "runtime", "glance", "open-vswitch", "user", "driver-socket"]
            {
                assert!(passed(name), "{name}: {report:#}");
            }
            for name in ["broker", "conductor", "placement", "neutron"] {
                assert_eq!(of(&report, name), ("left_out", "behind serve-driver, nova-compute talks to it"));
            }
            let (verdict, words) = of(&report, "dockerd");
            assert_eq!(verdict, "warning");
            assert!(words.starts_with("live-restore off, userland-proxy "), "{words}");
            assert_eq!(status, i32::from(report["verdict"] == "failed"));
        }
        door.close().await;
    });
}

fn what_is_missing_on_the_host_fails_and_the_rest_is_looked_at() {
    on_host(async |host| {
        let door = Door::closed(&host).await;
        let file = door.config_file();
        let text = std::fs::read_to_string(&file).unwrap();
        let broken = text.replace("docker.sock", "no.sock").replace("db.sock", "no-db.sock");
        std::fs::write(&file, broken + "[docker_grpc]\nsocket_user = nobody-of-that-name\n").unwrap();
        let (status, report) = check(&file, &["--serve-driver"]).await;
        assert_eq!((status, &report["verdict"]), (1, &json!("failed")));
        for (name, words) in [
            ("docker", "no.sock is unavailable"),
            ("open-vswitch", "no-db.sock"),
            ("driver-socket", "nobody-of-that-name"),
        ] {
            let (verdict, found) = of(&report, name);
            assert!(verdict == "failed" && found.contains(words), "{name}: {found}");
        }
        assert_eq!(of(&report, "runtime"), ("left_out", "Docker must answer first"));
        assert_eq!(of(&report, "glance").0, "ok");
    });
}

/// Everything but the broker is absent.
fn configuration(directory: &Path, transport_url: &str, exchange: &str) -> std::path::PathBuf {
    let identity = "auth_type = v3applicationcredential\nauth_url = http://127.0.0.1:1/v3\n\
        application_credential_id = 1\napplication_credential_secret = secret\nconnect_retries = 0\n";
    let text = format!(
        "[DEFAULT]\ntransport_url = {transport_url}\ncontrol_exchange = {exchange}\nstate_path = {0}\n[placement]\n{identity}\
         [neutron]\n{identity}[docker]\nhost_url = unix://{0}/docker.sock\n[os_vif_ovs]\novsdb_connection = unix:{0}/db.sock\n",
        directory.display()
    );
    let path = directory.join("nova.conf");
    std::fs::write(&path, text).unwrap();
    path
}

async fn the_broker_says_what_is_wrong_and_nothing_is_left_there() {
    let broker = Broker::shared().await;
    let directory = tempfile::tempdir().unwrap();
    let address = format!("127.0.0.1:{}", broker.port());
    let user = broker.url().split("://").nth(1).unwrap().split('@').next().unwrap().to_owned();
    let exchange = unique("absent");
    for (url, verdict, words) in [
        (format!("rabbit://{user}@{address}/"), "ok", "logged in"),
        (format!("rabbit://guest:secret@{address}/"), "failed", "ACCESS_REFUSED"),
        (format!("rabbit://{user}@{address}/nowhere"), "failed", "vhost nowhere not found"),
        (format!("rabbit://{user}@127.0.0.1:1/"), "failed", "refused"),
    ] {
        let (status, report) = check(&configuration(directory.path(), &url, &exchange), &[]).await;
        let (found, text) = of(&report, "broker");
        assert!(found == verdict && text.contains(words), "{text}");
        let (conductor, text) = of(&report, "conductor");
        assert_eq!(conductor, if verdict == "ok" { "failed" } else { "left_out" }, "{text}");
        assert!(verdict != "ok" || text.contains("no exchange"), "{text}");
        assert_eq!((status, of(&report, "keystone").0, of(&report, "docker").0), (1, "failed", "failed"));
    }
    assert!(!broker.ctl(&["list_exchanges", "name"]).await.contains(&exchange));
}

async fn a_configuration_with_mistakes_fails_with_all_of_them() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("nova.conf");
    std::fs::write(&file, "[DEFAULT]\ntransport_url = amqp://u:secret@h/\n[docker]\npids_limits = 7\n").unwrap();
    let (status, report) = check(&file, &[]).await;
    assert_eq!(status, 1);
    let failed = report["checks"].as_array().unwrap().iter().filter(|finding| finding["verdict"] == "failed");
    let words: String = failed.map(|finding| finding["found"].as_str().unwrap()).collect();
    for part in ["transport_url", "did you mean pids_limit?", "[placement] auth_type"] {
        assert!(words.contains(part), "{words}");
    }
}

mod check_on_hosts {
    use super::*;
    tests! {
        a_host_behind_the_second_door_is_fit_before_its_first_start_and_while_it_serves,
        what_is_missing_on_the_host_fails_and_the_rest_is_looked_at,
    }
}

mod check_alone {
    use super::*;
    tests! {
        async the_broker_says_what_is_wrong_and_nothing_is_left_there,
        a_configuration_with_mistakes_fails_with_all_of_them,
    }
}

pub fn tests() -> Vec<libtest_mimic::Trial> {
    [check_on_hosts::tests(), check_alone::tests()].into_iter().flatten().collect()
}
