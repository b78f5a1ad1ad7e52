//! Suspend to disk, with CRIU and a real Docker: memory, connections and limits come back, and what fails loses nothing.

use std::path::PathBuf;

use integration_tests::criu::Endless;
use integration_tests::docker::{Dockerd, IMAGE};
use integration_tests::instance::{flavored, guest, interface, until_logged};
use integration_tests::on_host;
use integration_tests::patience::until;
use integration_tests::process::run;
use integration_tests::programs::criu;
use nova_docker_agent::docker::{Docker, DockerConfig, Error};
use nova_docker_agent::guest::{Guest, PowerState};
use nova_docker_agent::network::Interface;
use uuid::Uuid;

/// Counts the lines that it is sent, and says the count, for as long as a connection lasts.
const SERVER: &str = "nc -l -p 7000 -e sh -c 'n=0; while read line; do n=$((n+1)); echo count $n; done'";
/// Sends what is written into a file, and logs what it is told. It would log an end of the connection.
const CLIENT: &str =
    "sh -c 'mkfifo /in; sleep 100000 >/in & until nc 10.9.0.5 7000 </in; do sleep 0.1; done; echo ENDED'";

async fn launch(driver: &Docker, guest: &Guest, interfaces: &[Interface]) {
    driver.create(guest, IMAGE, interfaces).await.unwrap();
    driver.start(guest.uuid).await.unwrap();
}

async fn inside(docker: &Dockerd, uuid: Uuid, command: &str) -> String {
    docker.docker(&["exec", &format!("nova-{uuid}"), "sh", "-c", command]).await
}

fn images_of(docker: &Dockerd) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(docker.path("checkpoints")).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

/// What a container is held to, as its processes see it.
const HELD: &str = "cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/pids.max \
    /sys/fs/cgroup/pids/pids.max 2>/dev/null; grep -E 'NoNewPrivs|Seccomp:|CapBnd' /proc/1/status";

fn a_connection_the_memory_and_the_limits_survive_and_nothing_stays_on_disk() {
    on_host(async |host| {
        let (docker, ovs) = (host.docker().await, host.ovs());
        let (driver, plumber) = (docker.driver().await, ovs.plumber());
        let (server, client) = (guest(SERVER), guest(CLIENT));
        for (guest, number) in [(&server, 5), (&client, 6)] {
            let interfaces = [interface(0, number)];
            plumber.declare(guest.uuid, false).await.unwrap();
            plumber.plug(guest.uuid, &interfaces).await.unwrap();
            launch(&driver, guest, &interfaces).await;
        }
        inside(&docker, client.uuid, "until [ -p /in ]; do sleep 0.1; done; echo x >/in").await;
        until_logged(&driver, client.uuid, "count 1").await;
        let held = inside(&docker, server.uuid, HELD).await;

        driver.checkpoint(server.uuid).await.unwrap();
        assert_eq!(driver.state(server.uuid).await.unwrap(), Some(PowerState::Suspended));
        let listed = driver.list().await.unwrap();
        let state = listed.iter().find(|found| found.uuid == server.uuid).unwrap().state;
        assert_eq!(state, PowerState::Suspended);
        let images = images_of(&docker);
        let mode = std::os::unix::fs::PermissionsExt::mode(&images[0].metadata().unwrap().permissions());
        assert_eq!((images.len(), mode & 0o777), (1, 0o700));

        // Sent while nobody is there; a new agent, and a new Docker, know that it waits on disk.
        inside(&docker, client.uuid, "echo x >/in").await;
        let driver = docker.driver().await;
        assert_eq!(driver.state(server.uuid).await.unwrap(), Some(PowerState::Suspended));
        driver.restore(server.uuid).await.unwrap();
        assert_eq!(driver.state(server.uuid).await.unwrap(), Some(PowerState::Running));
        let log = until_logged(&driver, client.uuid, "count 2").await;
        assert!(!log.contains("ENDED"), "{log}");
        assert_eq!(inside(&docker, server.uuid, HELD).await, held);
        assert_eq!(images_of(&docker), Vec::<PathBuf>::new());

        // Again: Docker takes no mark for the one before.
        driver.checkpoint(server.uuid).await.unwrap();
        driver.restore(server.uuid).await.unwrap();
        inside(&docker, client.uuid, "echo x >/in").await;
        until_logged(&driver, client.uuid, "count 3").await;
        for guest in [&server, &client] {
            driver.remove(guest.uuid).await.unwrap();
            plumber.unplug(guest.uuid, &[]).await.unwrap();
        }
    });
}

const COUNTING: &str = "sh -c 'n=0; while :; do n=$((n+1)); echo $n; sleep 0.1; done'";

async fn count(driver: &Docker, uuid: Uuid) -> u64 {
    let log = driver.console(uuid, Some(2)).await.unwrap();
    log.trim().parse().unwrap_or_default()
}

async fn goes_on(driver: &Docker, uuid: Uuid, from: u64) {
    until("it goes on from where it was", async || count(driver, uuid).await > from).await;
    let log = driver.console(uuid, None).await.unwrap();
    assert_eq!(log.lines().filter(|line| *line == "1").count(), 1, "it began anew");
}

fn what_is_on_disk_outlives_docker_and_the_hosts_memory_and_goes_with_the_container() {
    on_host(async |host| {
        let docker = host.docker().await;
        let driver = docker.driver().await;
        let guest = guest(COUNTING);
        launch(&driver, &guest, &[]).await;
        until_logged(&driver, guest.uuid, "3\n").await;
        driver.checkpoint(guest.uuid).await.unwrap();
        let at = count(&driver, guest.uuid).await;
        docker.stop_server();
        std::fs::remove_dir_all(docker.links()).unwrap();
        docker.start_server().await;
        let driver = docker.driver().await;
        assert_eq!(driver.state(guest.uuid).await.unwrap(), Some(PowerState::Suspended));
        driver.restore(guest.uuid).await.unwrap();
        goes_on(&driver, guest.uuid, at).await;

        driver.checkpoint(guest.uuid).await.unwrap();
        driver.remove(guest.uuid).await.unwrap();
        assert_eq!(images_of(&docker), Vec::<PathBuf>::new());
        // Left by a crash, of a container that is not there. A Docker that has none at all may be one whose disk is not mounted.
        let stray = docker.path("checkpoints").join("0".repeat(64));
        std::fs::create_dir_all(&stray).unwrap();
        drop(docker.driver().await);
        assert_eq!(images_of(&docker), [stray]);
        driver.create(&guest, IMAGE, &[]).await.unwrap();
        // On a disk of its own.
        std::fs::create_dir_all(docker.path("checkpoints").join("lost+found")).unwrap();
        drop(docker.driver().await);
        assert_eq!(images_of(&docker), [docker.path("checkpoints").join("lost+found")]);
        driver.remove(guest.uuid).await.unwrap();
    });
}

/// A CRIU that fails when it is to dump, or to restore; else it is the real one.
fn failing(docker: &Dockerd, verb: &str) -> DockerConfig {
    let directory = docker.path(&format!("no-{verb}"));
    std::fs::create_dir_all(&directory).unwrap();
    let program = directory.join("criu");
    let script = format!("#!/bin/sh\n[ \"$1\" = swrk ] && exit 1\nexec {} \"$@\"\n", criu());
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    DockerConfig { criu: program.to_string_lossy().into_owned(), ..docker.driver_config() }
}

fn what_fails_leaves_the_container_running_or_on_disk() {
    on_host(async |host| {
        let docker = host.docker().await;
        let driver = docker.driver().await;
        let broken = Docker::connect(failing(&docker, "swrk")).await.unwrap();
        let guest = guest(COUNTING);
        launch(&driver, &guest, &[]).await;
        until_logged(&driver, guest.uuid, "3\n").await;
        let error = broken.checkpoint(guest.uuid).await.unwrap_err();
        assert!(matches!(error, Error::NotDumped { .. }), "{error}");
        let at = count(&driver, guest.uuid).await;
        goes_on(&driver, guest.uuid, at).await;
        assert_eq!(images_of(&docker), Vec::<PathBuf>::new());

        driver.checkpoint(guest.uuid).await.unwrap();
        let at = count(&driver, guest.uuid).await;
        let error = broken.restore(guest.uuid).await.unwrap_err();
        assert!(matches!(error, Error::NotRestored { .. }), "{error}");
        assert_eq!(driver.state(guest.uuid).await.unwrap(), Some(PowerState::Suspended));
        driver.restore(guest.uuid).await.unwrap();
        goes_on(&driver, guest.uuid, at).await;

        // A start begins afresh.
        driver.checkpoint(guest.uuid).await.unwrap();
        driver.start(guest.uuid).await.unwrap();
        let began =
            async || driver.console(guest.uuid, None).await.unwrap().lines().filter(|line| *line == "1").count() == 2;
        until("it begins anew", began).await;
        assert_eq!(images_of(&docker), Vec::<PathBuf>::new());
        driver.remove(guest.uuid).await.unwrap();
    });
}

fn what_is_not_known_to_come_back_is_not_dumped_and_runs_on() {
    on_host(async |host| {
        let docker = host.docker().await;
        let driver = docker.driver().await;
        let guest = flavored([], [("docker:init", "true")]);
        launch(&driver, &guest, &[]).await;
        let error = driver.checkpoint(guest.uuid).await.unwrap_err();
        assert!(error.to_string().contains("init is its first process"), "{error}");
        let old = DockerConfig { criu: "/bin/true".to_owned(), ..docker.driver_config() };
        let error = Docker::connect(old).await.unwrap().checkpoint(guest.uuid).await.unwrap_err();
        assert!(matches!(error, Error::NotDumped { .. }), "{error}");
        assert_eq!(driver.state(guest.uuid).await.unwrap(), Some(PowerState::Running));
        driver.remove(guest.uuid).await.unwrap();
        assert!(run("ls", &[&docker.links().to_string_lossy()]).await.trim().is_empty(), "a link stays");
    });
}

/// A container whose dump goes on until it is ended.
async fn dumped_by_an_agent_that_is_gone(docker: &Dockerd) -> Uuid {
    let endless = Endless::new(docker, &docker.path("checkpoints"));
    let config = DockerConfig { criu: endless.criu.clone(), ..docker.driver_config() };
    let driver = Docker::connect(config).await.unwrap();
    let guest = guest(COUNTING);
    launch(&driver, &guest, &[]).await;
    until_logged(&driver, guest.uuid, "3\n").await;
    let dump = tokio::spawn(async move { driver.checkpoint(guest.uuid).await });
    endless.until_begun().await;
    dump.abort();
    drop(dump.await);
    guest.uuid
}

fn a_container_whose_dump_an_agent_has_left_is_removed() {
    on_host(async |host| {
        let docker = host.docker().await;
        let uuid = dumped_by_an_agent_that_is_gone(&docker).await;
        let driver = docker.driver().await;
        assert_eq!(images_of(&docker).len(), 1, "the dump goes on");
        driver.remove(uuid).await.unwrap();
        assert_eq!(images_of(&docker), Vec::<PathBuf>::new());
    });
}

fn a_container_runs_until_its_dump_is_over_whoever_asked_for_that() {
    on_host(async |host| {
        let docker = host.docker().await;
        let uuid = dumped_by_an_agent_that_is_gone(&docker).await;
        let driver = docker.driver().await;
        let name = format!("nova-{uuid}");
        assert_eq!(docker.docker(&["inspect", "--format", "{{.State.Status}}", &name]).await.trim(), "paused");
        assert_eq!(driver.state(uuid).await.unwrap(), Some(PowerState::Running));
        let listed = driver.list().await.unwrap();
        assert_eq!(listed.iter().find(|found| found.uuid == uuid).unwrap().state, PowerState::Running);
        // Nobody of this agent looks after it yet, and a deletion comes.
        driver.end_dump(uuid).await.unwrap();
        until("its processes have ended", async || driver.state(uuid).await.unwrap() != Some(PowerState::Running))
            .await;
        driver.remove(uuid).await.unwrap();
        assert_eq!(images_of(&docker), Vec::<PathBuf>::new());
    });
}

tests! {
    a_container_whose_dump_an_agent_has_left_is_removed,
    a_container_runs_until_its_dump_is_over_whoever_asked_for_that,
    a_connection_the_memory_and_the_limits_survive_and_nothing_stays_on_disk,
    what_is_on_disk_outlives_docker_and_the_hosts_memory_and_goes_with_the_container,
    what_fails_leaves_the_container_running_or_on_disk,
    what_is_not_known_to_come_back_is_not_dumped_and_runs_on,
}
