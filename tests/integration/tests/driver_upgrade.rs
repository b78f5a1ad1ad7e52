//! A Docker that is replaced by another release while the agent runs.

use futures::{Stream, StreamExt};
use integration_tests::docker::IMAGE;
use integration_tests::instance::configured;
use integration_tests::on_host;
use integration_tests::patience::{PATIENCE, until};
use integration_tests::release::Release;
use nova_docker_agent::docker::{Docker, DockerConfig, Error};
use nova_docker_agent::guest::{Event, PowerState};
use nova_docker_agent::limits::StopTimeout;
use tokio::time::timeout;

async fn until_told(events: &mut (impl Stream<Item = Event> + Unpin), wanted: Event) {
    let seen = timeout(PATIENCE, async { while events.next().await.expect("an endless stream") != wanted {} });
    seen.await.unwrap_or_else(|_| panic!("{wanted:?} was not told"));
}

fn another_release_of_docker_is_spoken_to_in_its_own_version() {
    on_host(async |host| {
        let docker = host.docker().await;
        let release = Release::start(docker.path("release.sock"), docker.socket(), 12..=41);
        let config = DockerConfig { host_url: release.host_url(), ..docker.driver_config() };
        let driver = Docker::connect(config).await.unwrap();
        assert_eq!(driver.host().await.unwrap().api_version, "1.41");
        let guest = configured([("command", "sleep 1000")]);
        driver.create(&guest, IMAGE, &[]).await.unwrap();
        let mut events = Box::pin(driver.events());
        driver.start(guest.uuid).await.unwrap();
        let started = |event: &Event| matches!(event, Event::Guest { uuid, .. } if *uuid == guest.uuid);
        assert!(timeout(PATIENCE, events.next()).await.unwrap().as_ref().is_some_and(started));

        // Docker 29 takes nothing older than 1.44.
        release.turn_into(44..=52);
        until("the new version is agreed on", async || {
            driver.state(guest.uuid).await.is_ok_and(|state| state == Some(PowerState::Running))
        })
        .await;
        release.asked();
        assert_eq!(driver.host().await.unwrap().api_version, "1.52");
        driver.stop(guest.uuid, StopTimeout::KILL).await.unwrap();
        let asked = release.asked();
        assert!(asked.iter().any(|path| path.starts_with("/v1.52/containers/")), "{asked:?}");
        driver.remove(guest.uuid).await.unwrap();
    });
}

fn a_release_that_refuses_every_version_is_an_outage_in_its_own_words_until_it_is_replaced() {
    on_host(async |host| {
        let docker = host.docker().await;
        let release = Release::start(docker.path("release.sock"), docker.socket(), 12..=41);
        let config = DockerConfig { host_url: release.host_url(), ..docker.driver_config() };
        let driver = Docker::connect(config.clone()).await.unwrap();
        let mut events = Box::pin(driver.events());
        until("the events are followed", async || release.asked().iter().any(|path| path.starts_with("/v1.41/events")))
            .await;

        release.turn_into(90..=99);
        until_told(&mut events, Event::DockerLost).await;
        for error in [driver.host().await.unwrap_err(), Docker::connect(config).await.unwrap_err()] {
            // What an outage of Docker is: the host is disabled with this sentence.
            assert!(matches!(error, Error::Unavailable { .. }), "{error}");
            let words =
                "is too old. Minimum supported API version is 1.90, please upgrade your client to a newer version";
            assert!(error.to_string().ends_with(words), "{error}");
        }

        release.turn_into(30..=40);
        until_told(&mut events, Event::DockerBack).await;
        assert_eq!(driver.host().await.unwrap().api_version, "1.40");
    });
}

tests! {
    another_release_of_docker_is_spoken_to_in_its_own_version,
    a_release_that_refuses_every_version_is_an_outage_in_its_own_words_until_it_is_replaced,
}
