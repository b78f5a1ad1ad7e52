//! Configs and secrets, as processes find them in a real Docker.

use futures::TryStreamExt;
use integration_tests::docker::{Dockerd, IMAGE};
use integration_tests::instance::{composed, until_logged};
use integration_tests::on_host;
use integration_tests::patience::until;
use nova_docker_agent::docker::{Docker, Error};
use nova_docker_agent::guest::{Configuration, Guest};
use nova_docker_agent::limits::StopTimeout;

const SERVICE: &str = r#"
command:
  - sh
  - -c
  - |
    cat /run/secrets/password /etc/app/app.conf | wc -c
    stat -c "%a %u:%g" /run/secrets/password /etc/app/app.conf /free
    cat /free 2>/dev/null || echo "not ours"
    (echo x >>/etc/app/app.conf) 2>/dev/null || echo "read-only"
    exec sleep 1000
user: 1000:7
read_only: true
tmpfs: /run:1m
secrets:
  password: very-s3cret
  other: {content: nobody, target: /free, uid: 0, gid: 0, mode: 0600}
configs:
  app.conf: {content: "a = very-s3cret", target: /etc/app/app.conf}
"#;
/// What the process says of them.
const SEEN: &str = "26\n400 1000:7\n444 1000:7\n600 0:0\nnot ours\n";

async fn inspected(docker: &Dockerd, guest: &Guest) -> String {
    docker.docker(&["inspect", &format!("nova-{}", guest.uuid)]).await
}

fn processes_find_their_files_from_the_first_instruction_on_and_nobody_else_does() {
    on_host(async |host| {
        let docker = host.docker().await;
        let driver = docker.driver().await;
        let (guest, _) = composed(SERVICE);
        driver.create(&guest, IMAGE, &[]).await.unwrap();
        for runs in 1..=2 {
            driver.start(guest.uuid).await.unwrap();
            until("it has said all", async || said(&driver, &guest, "read-only").await == runs).await;
            assert_eq!(said(&driver, &guest, SEEN).await, runs);
            assert!(!inspected(&docker, &guest).await.contains("s3cret"));
            driver.stop(guest.uuid, StopTimeout::KILL).await.unwrap();
        }
        let snapshot = driver.snapshot(guest.uuid).await.unwrap();
        let archive: Vec<bytes::Bytes> = snapshot.stream().try_collect().await.unwrap();
        let archive = archive.concat();
        assert!(!archive.windows(6).any(|bytes| bytes == b"s3cret"), "the snapshot has a secret");
        snapshot.finish().await.unwrap();
        driver.remove(guest.uuid).await.unwrap();
        assert_eq!(std::fs::read_dir(docker.given()).unwrap().count(), 0, "secrets stay on the host");
    });
}

async fn said(driver: &Docker, guest: &Guest, words: &str) -> usize {
    driver.console(guest.uuid, None).await.unwrap().matches(words).count()
}

fn files_that_the_hosts_memory_has_lost_are_given_again_before_the_container_starts() {
    on_host(async |host| {
        let docker = host.docker().await;
        let driver = docker.driver().await;
        let (guest, user_data) =
            composed("secrets: {a: s3cret}\ncommand: sh -c 'cat /run/secrets/a; echo; exec sleep 1000'");
        driver.create(&guest, IMAGE, &[]).await.unwrap();
        assert!(!driver.lacks_given(guest.uuid).await.unwrap());
        for entry in std::fs::read_dir(docker.given()).unwrap() {
            std::fs::remove_dir_all(entry.unwrap().path()).unwrap();
        }
        let error = driver.start(guest.uuid).await.unwrap_err();
        assert!(matches!(error, Error::GivenMissing { .. }), "{error}");
        assert!(driver.lacks_given(guest.uuid).await.unwrap());
        driver.give_again(guest.uuid, &Configuration::given_by(&user_data)).await.unwrap();
        driver.start(guest.uuid).await.unwrap();
        until_logged(&driver, guest.uuid, "s3cret").await;
        driver.remove(guest.uuid).await.unwrap();
    });
}

fn what_a_crash_has_left_of_secrets_goes_and_those_of_containers_stay() {
    on_host(async |host| {
        let docker = host.docker().await;
        let driver = docker.driver().await;
        let (guest, _) = composed("secrets: {a: s3cret}");
        driver.create(&guest, IMAGE, &[]).await.unwrap();
        std::fs::create_dir(docker.given().join("0123abcd")).unwrap();
        docker.driver().await;
        assert_eq!(std::fs::read_dir(docker.given()).unwrap().count(), 1);
        assert!(!driver.lacks_given(guest.uuid).await.unwrap());
        driver.remove(guest.uuid).await.unwrap();
    });
}

tests! {
    processes_find_their_files_from_the_first_instruction_on_and_nobody_else_does,
    files_that_the_hosts_memory_has_lost_are_given_again_before_the_container_starts,
    what_a_crash_has_left_of_secrets_goes_and_those_of_containers_stay,
}
