//! Jobs, which end well, and checks of health, in a real Docker.

use std::pin::Pin;
use std::time::Duration;

use futures::{Stream, StreamExt};
use integration_tests::docker::IMAGE;
use integration_tests::instance::{configured, until_logged};
use integration_tests::on_host;
use integration_tests::patience::{PATIENCE, until};
use nova_docker_agent::docker::Error;
use nova_docker_agent::guest::{Event, EventKind, Health, PowerState};
use nova_docker_agent::limits::StopTimeout;

/// Longer than any test takes.
const GRACE: Duration = Duration::from_secs(3600);

fn a_job_that_ends_well_within_the_grace_has_started_well_and_can_run_again() {
    on_host(async |host| {
        let docker = host.docker().await;
        let driver = docker.driver().await;
        let job = configured([("command", "sh -c 'echo DONE'"), ("oneshot", "true")]);
        driver.create(&job, IMAGE, &[]).await.unwrap();
        assert!(driver.start(job.uuid).await.unwrap());
        driver.started_well(job.uuid, GRACE).await.unwrap();
        assert_eq!(driver.state(job.uuid).await.unwrap(), Some(PowerState::Stopped { exit_code: 0 }));
        assert!(driver.short_run(job.uuid, GRACE).await.unwrap().is_none());
        driver.start(job.uuid).await.unwrap();
        let runs = async || driver.console(job.uuid, None).await.unwrap().matches("DONE").count();
        until("it has run again", async || runs().await == 2).await;
        driver.remove(job.uuid).await.unwrap();
    });
}

fn a_job_that_ends_badly_has_not_started_well() {
    on_host(async |host| {
        let docker = host.docker().await;
        let driver = docker.driver().await;
        // As a stop would end it, which is no good end of a job.
        for code in [4, 143] {
            let job = configured([("command", &format!("sh -c 'exit {code}'")), ("oneshot", "true")]);
            driver.create(&job, IMAGE, &[]).await.unwrap();
            driver.start(job.uuid).await.unwrap();
            let started = driver.started_well(job.uuid, GRACE).await.unwrap_err();
            let short = driver.short_run(job.uuid, GRACE).await.unwrap().unwrap();
            for error in [started, short] {
                assert!(matches!(error, Error::ExitedAtOnce { exit_code, .. } if exit_code == code), "{error}");
            }
            driver.remove(job.uuid).await.unwrap();
        }
    });
}

/// Waits until a check of the only container comes to a finding.
async fn until_found(events: &mut Pin<Box<dyn Stream<Item = Event> + Send>>, finding: Health) {
    let told = async {
        while let Some(event) = events.next().await {
            if matches!(event, Event::Guest { kind: EventKind::Health(found), .. } if found == finding) {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, told).await.expect("an event");
}

fn what_a_check_finds_is_told_when_it_changes_and_only_of_a_container_that_runs() {
    on_host(async |host| {
        let docker = host.docker().await;
        let driver = docker.driver().await;
        let check = r#"{"test": "test -e /tmp/works", "interval": "1s", "retries": 1}"#;
        let guest = configured([("command", "sh -c 'echo UP; exec sleep 1000'"), ("healthcheck", check)]);
        let health = async || driver.summary(guest.uuid).await.unwrap().unwrap().health;
        driver.create(&guest, IMAGE, &[]).await.unwrap();
        assert_eq!(health().await, None, "it does not run");
        let mut events = driver.events().boxed();
        driver.start(guest.uuid).await.unwrap();
        until_logged(&driver, guest.uuid, "UP").await;
        until_found(&mut events, Health::Unhealthy).await;
        assert_eq!(health().await, Some(Health::Unhealthy));
        docker.docker(&["exec", &format!("nova-{}", guest.uuid), "touch", "/tmp/works"]).await;
        until_found(&mut events, Health::Healthy).await;
        assert_eq!(health().await, Some(Health::Healthy));
        assert_eq!(driver.list().await.unwrap()[0].health, Some(Health::Healthy));
        assert_eq!(driver.used(guest.uuid).await.unwrap().health, Some(Health::Healthy));
        driver.stop(guest.uuid, StopTimeout::KILL).await.unwrap();
        assert_eq!((health().await, driver.list().await.unwrap()[0].health), (None, None));
        driver.remove(guest.uuid).await.unwrap();
    });
}

tests! {
    a_job_that_ends_well_within_the_grace_has_started_well_and_can_run_again,
    a_job_that_ends_badly_has_not_started_well,
    what_a_check_finds_is_told_when_it_changes_and_only_of_a_container_that_runs,
}
