//! Failures of instances in a real Docker, and their errors.

use std::time::Duration;

use bollard::query_parameters::StartContainerOptions;
use integration_tests::docker::IMAGE;
use integration_tests::instance::{dies_for_want_of_memory, greedy, guest, until_logged};
use integration_tests::on_host;
use integration_tests::patience::PATIENCE;
use nova_docker_agent::docker::{Docker, DockerConfig, Error};
use nova_docker_agent::registry::PullReference;
use tokio::time::timeout;

const LONG_GRACE: Duration = Duration::from_secs(24 * 3600);

fn an_exit_at_once_is_told_with_the_code_and_the_last_words() {
    on_host(async |host| {
        let docker = host.docker().await;
        let driver = docker.driver().await;
        let guest = guest(
            "sh -c 'trap \"echo broken >&2; exit 3\" USR1; for i in `seq 30`; do echo line $i; done; \
            while :; do sleep 0.1; done'",
        );
        driver.create(&guest, IMAGE, &[]).await.unwrap();
        driver.start(guest.uuid).await.unwrap();
        // Two pipes carry the lines and the last word.
        until_logged(&driver, guest.uuid, "line 30").await;
        docker.signal(guest.uuid, "USR1").await;
        // The end of the guest ends the wait, not its grace.
        let started = timeout(PATIENCE, driver.started_well(guest.uuid, LONG_GRACE)).await;
        match started.expect("its end is noticed").unwrap_err() {
            Error::ExitedAtOnce { exit_code: 3, oom: false, log_tail } => {
                let lines: Vec<&str> = log_tail.lines().collect();
                assert_eq!(lines.len(), 20, "{log_tail}");
                assert_eq!((lines[0], lines[19]), ("line 12", "broken"));
            }
            other => panic!("{other}"),
        }
    });
}

fn a_good_end_is_too_early_as_well() {
    on_host(async |host| {
        let docker = host.docker().await;
        let driver = docker.driver().await;
        let guest = guest("true");
        driver.create(&guest, IMAGE, &[]).await.unwrap();
        driver.start(guest.uuid).await.unwrap();
        let error = driver.started_well(guest.uuid, PATIENCE).await.unwrap_err();
        assert!(matches!(error, Error::ExitedAtOnce { exit_code: 0, .. }), "{error}");
        assert!(error.to_string().contains("as long as its command does); it wrote nothing"), "{error}");
    });
}

fn a_death_for_want_of_memory_is_called_that() {
    on_host(async |host| {
        let docker = host.docker().await;
        let driver = docker.driver().await;
        let guest = greedy();
        driver.create(&guest, IMAGE, &[]).await.unwrap();
        driver.start(guest.uuid).await.unwrap();
        dies_for_want_of_memory(&docker, &driver, guest.uuid).await;
        let error = driver.started_well(guest.uuid, PATIENCE).await.unwrap_err();
        assert!(matches!(error, Error::ExitedAtOnce { exit_code: 137, oom: true, .. }), "{error}");
    });
}

fn a_command_that_cannot_be_run_is_called_by_its_name() {
    on_host(async |host| {
        let docker = host.docker().await;
        let driver = docker.driver().await;
        for command in ["/bin/nothing", "nothing --at all", "/etc/passwd", "/etc"] {
            let guest = guest(command);
            driver.create(&guest, IMAGE, &[]).await.unwrap();
            match driver.start(guest.uuid).await.unwrap_err() {
                Error::CommandNotFound { command: found, .. } => {
                    assert_eq!(found, command.split(' ').next().unwrap());
                }
                other => panic!("{command}: {other}"),
            }
            driver.remove(guest.uuid).await.unwrap();
        }
    });
}

fn a_missing_image_and_a_taken_name_are_told_apart() {
    on_host(async |host| {
        let docker = host.docker().await;
        let driver = docker.driver().await;
        let guest = guest("true");
        let error = driver.create(&guest, "127.0.0.1:1/glance/nothing:none", &[]).await.unwrap_err();
        assert!(matches!(error, Error::NotFound { .. }), "{error}");
        assert!(error.to_string().contains("image nothing:none "), "{error}");
        driver.create(&guest, IMAGE, &[]).await.unwrap();
        let error = driver.create(&guest, IMAGE, &[]).await.unwrap_err();
        assert!(matches!(error, Error::Docker { status: 409, .. }), "{error}");
        assert!(driver.state(guest.uuid).await.unwrap().is_some(), "the first container was removed");
    });
}

fn a_pull_from_a_registry_that_is_not_there_says_so() {
    on_host(async |host| {
        let docker = host.docker().await;
        let driver = docker.driver().await;
        let digest = "0".repeat(64);
        let reference = PullReference {
            name: format!("127.0.0.1:1/glance/11111111-2222-3333-4444-555555555555@sha256:{digest}"),
            username: "nova".to_owned(),
            secret: "0123abcd".to_owned().into(),
        };
        let error = driver.pull(&reference).await.unwrap_err();
        assert!(matches!(error, Error::ImageUnavailable { .. }), "{error}");
        assert!(!error.to_string().contains("0123abcd"), "{error}");
    });
}

fn everything_says_that_docker_is_down() {
    on_host(async |host| {
        let docker = host.docker().await;
        let driver = docker.driver().await;
        let guest = guest("sleep 1000");
        driver.create(&guest, IMAGE, &[]).await.unwrap();
        docker.stop_server();
        let down = |error: Error| assert!(matches!(error, Error::Unavailable { .. }), "{error}");
        down(driver.start(guest.uuid).await.unwrap_err());
        down(driver.state(guest.uuid).await.unwrap_err());
        down(driver.list().await.unwrap_err());
        down(driver.create(&guest, IMAGE, &[]).await.unwrap_err());
        down(driver.remove(guest.uuid).await.unwrap_err());
        down(driver.host().await.unwrap_err());
        down(Docker::connect(docker.driver_config()).await.unwrap_err());
        docker.start_server().await;
        driver.start(guest.uuid).await.unwrap();
    });
}

fn a_docker_without_our_runtime_is_refused_with_what_to_do() {
    on_host(async |host| {
        let docker = host.docker().await;
        let config = DockerConfig { runtime: "absent".to_owned(), ..docker.driver_config() };
        let error = Docker::connect(config).await.unwrap_err().to_string();
        assert!(error.contains("\"absent\"") && error.contains("daemon.json"), "{error}");
    });
}

fn an_instance_whose_link_leads_nowhere_does_not_start_and_docker_says_why() {
    on_host(async |host| {
        let docker = host.docker().await;
        let driver = docker.driver().await;
        let guest = guest("sleep 1000");
        driver.create(&guest, IMAGE, &[]).await.unwrap();
        let id = docker.docker(&["inspect", "-f", "{{.Id}}", &format!("nova-{}", guest.uuid)]).await;
        std::os::unix::fs::symlink("/run/netns/gone", docker.links().join(id)).unwrap();
        let error = driver.start(guest.uuid).await.unwrap_err().to_string();
        assert!(error.contains("network namespace /run/netns/gone of this instance is not there"), "{error}");
    });
}

fn a_container_of_which_the_agent_has_said_nothing_does_not_run() {
    on_host(async |host| {
        let docker = host.docker().await;
        docker.docker(&["create", "--name", "foreign", "--runtime=nova", "--network=none", IMAGE, "true"]).await;
        let error = docker.client().start_container("foreign", None::<StartContainerOptions>).await.unwrap_err();
        assert!(error.to_string().contains("nova-docker-agent has not said what this container is"), "{error}");
    });
}

tests! {
    an_exit_at_once_is_told_with_the_code_and_the_last_words,
    a_good_end_is_too_early_as_well,
    a_death_for_want_of_memory_is_called_that,
    a_command_that_cannot_be_run_is_called_by_its_name,
    a_missing_image_and_a_taken_name_are_told_apart,
    a_pull_from_a_registry_that_is_not_there_says_so,
    everything_says_that_docker_is_down,
    a_docker_without_our_runtime_is_refused_with_what_to_do,
    an_instance_whose_link_leads_nowhere_does_not_start_and_docker_says_why,
    a_container_of_which_the_agent_has_said_nothing_does_not_run,
}
