//! Containers that a real Docker starts again by itself.

use integration_tests::docker::{Dockerd, IMAGE};
use integration_tests::instance::{configured, interface, until_logged};
use integration_tests::on_host;
use integration_tests::patience::until;
use nova_docker_agent::docker::Docker;
use nova_docker_agent::guest::PowerState;
use nova_docker_agent::limits::StopTimeout;
use uuid::Uuid;

/// How often an instance has said a word.
async fn said(driver: &Docker, uuid: Uuid, word: &str) -> usize {
    driver.console(uuid, None).await.unwrap().matches(word).count()
}

async fn is_down(driver: &Docker, uuid: Uuid) -> bool {
    matches!(driver.state(uuid).await.unwrap(), Some(PowerState::Stopped { .. } | PowerState::Crashed { .. }))
}

/// When Docker starts the guest's container again.
async fn policy(docker: &Dockerd, uuid: Uuid) -> String {
    docker.docker(&["inspect", "--format", "{{.HostConfig.RestartPolicy.Name}}", &format!("nova-{uuid}")]).await
}

fn a_container_that_fails_starts_again_in_its_network_until_it_is_stopped() {
    on_host(async |host| {
        let (docker, ovs) = (host.docker().await, host.ovs());
        let (driver, plumber) = (docker.driver().await, ovs.plumber());
        let guest = configured([("command", "sh -c 'ip addr show eth0; exit 3'"), ("restart", "on-failure")]);
        let interfaces = [interface(0, 5)];
        plumber.plug(guest.uuid, &interfaces).await.unwrap();
        driver.create(&guest, IMAGE, &interfaces).await.unwrap();
        driver.start(guest.uuid).await.unwrap();
        until("it has run three times", async || said(&driver, guest.uuid, "10.9.0.5/24").await >= 3).await;
        assert_eq!(driver.state(guest.uuid).await.unwrap(), Some(PowerState::Running));

        driver.stop(guest.uuid, StopTimeout::KILL).await.unwrap();
        assert!(is_down(&driver, guest.uuid).await);
        let runs = said(&driver, guest.uuid, "10.9.0.5/24").await;
        // Docker itself would start again what has ended badly.
        docker.stop_server();
        docker.start_server().await;
        assert!(is_down(&driver, guest.uuid).await && !driver.is_to_restart(guest.uuid).await.unwrap());
        assert_eq!(said(&driver, guest.uuid, "10.9.0.5/24").await, runs);
        driver.start(guest.uuid).await.unwrap();
        until("it runs again and again", async || said(&driver, guest.uuid, "10.9.0.5/24").await >= runs + 2).await;
        driver.remove(guest.uuid).await.unwrap();
        plumber.unplug(guest.uuid, &[]).await.unwrap();
    });
}

fn what_ran_runs_again_after_docker_and_never_before_the_agent_has_made_its_network() {
    on_host(async |host| {
        let docker = host.docker().await;
        let driver = docker.driver().await;
        let guest = configured([("command", "sh -c 'echo UP; exec sleep 1000'"), ("restart", "always")]);
        driver.create(&guest, IMAGE, &[]).await.unwrap();
        assert_eq!(policy(&docker, guest.uuid).await, "no", "it was never started");
        driver.start(guest.uuid).await.unwrap();
        until_logged(&driver, guest.uuid, "UP").await;
        docker.stop_server();
        docker.start_server().await;
        until("it runs again", async || said(&driver, guest.uuid, "UP").await == 2).await;
        assert_eq!(driver.state(guest.uuid).await.unwrap(), Some(PowerState::Running));

        docker.stop_server();
        // As a restart of the host leaves them.
        for link in std::fs::read_dir(docker.links()).unwrap() {
            std::fs::remove_file(link.unwrap().path()).unwrap();
        }
        docker.start_server().await;
        assert!(is_down(&driver, guest.uuid).await && driver.is_to_restart(guest.uuid).await.unwrap());
        driver.start(guest.uuid).await.unwrap();
        until("it runs once more", async || said(&driver, guest.uuid, "UP").await == 3).await;
        driver.remove(guest.uuid).await.unwrap();
    });
}

fn what_runs_outlives_a_docker_that_dies_where_the_host_says_so() {
    on_host(async |host| {
        let (docker, ovs) = (host.docker().await, host.ovs());
        docker.restore_live(true);
        docker.stop_server();
        docker.start_server().await;
        let (driver, plumber) = (docker.driver().await, ovs.plumber());
        let guest = configured([("command", "sh -c 'echo UP; exec sleep 1000'")]);
        let (uuid, interfaces) = (guest.uuid, [interface(0, 5)]);
        plumber.declare(uuid, false).await.unwrap();
        plumber.plug(uuid, &interfaces).await.unwrap();
        driver.create(&guest, IMAGE, &interfaces).await.unwrap();
        driver.start(uuid).await.unwrap();
        let name = format!("nova-{uuid}");
        let process = async || docker.docker(&["inspect", "--format", "{{.State.Pid}}", &name]).await;
        let before = process().await;

        docker.kill_server();
        docker.start_server().await;
        assert_eq!(driver.state(uuid).await.unwrap(), Some(PowerState::Running));
        assert_eq!(process().await, before, "another process");
        let addresses = docker.docker(&["exec", &name, "ip", "addr", "show", "eth0"]).await;
        assert!(addresses.contains("10.9.0.5/24"), "{addresses}");
        driver.stop(uuid, StopTimeout::KILL).await.unwrap();
        assert!(is_down(&driver, uuid).await);
        driver.start(uuid).await.unwrap();
        assert_eq!(driver.state(uuid).await.unwrap(), Some(PowerState::Running));
        driver.remove(uuid).await.unwrap();
        plumber.unplug(uuid, &[]).await.unwrap();
        docker.restore_live(false);
    });
}

fn a_container_that_fails_too_often_is_given_up() {
    on_host(async |host| {
        let docker = host.docker().await;
        let driver = docker.driver().await;
        let guest = configured([("command", "sh -c 'echo UP; exit 3'"), ("restart", "on-failure:1")]);
        driver.create(&guest, IMAGE, &[]).await.unwrap();
        driver.start(guest.uuid).await.unwrap();
        until("Docker gives it up", async || is_down(&driver, guest.uuid).await).await;
        assert_eq!(said(&driver, guest.uuid, "UP").await, 2);
        assert_eq!(policy(&docker, guest.uuid).await, "on-failure");
        assert!(!driver.is_to_restart(guest.uuid).await.unwrap());
        driver.remove(guest.uuid).await.unwrap();
    });
}

fn what_cannot_be_started_is_not_tried_again_by_docker() {
    on_host(async |host| {
        let docker = host.docker().await;
        let driver = docker.driver().await;
        let guest = configured([("command", "/bin/nothing"), ("restart", "always")]);
        driver.create(&guest, IMAGE, &[]).await.unwrap();
        driver.start(guest.uuid).await.unwrap_err();
        assert_eq!(policy(&docker, guest.uuid).await, "no");
        driver.remove(guest.uuid).await.unwrap();
    });
}

tests! {
    a_container_that_fails_starts_again_in_its_network_until_it_is_stopped,
    what_ran_runs_again_after_docker_and_never_before_the_agent_has_made_its_network,
    what_runs_outlives_a_docker_that_dies_where_the_host_says_so,
    a_container_that_fails_too_often_is_given_up,
    what_cannot_be_started_is_not_tried_again_by_docker,
}
