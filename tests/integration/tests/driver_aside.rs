//! Containers that make room for another one of their instance, in a real Docker.

use std::time::Duration;

use futures::StreamExt as _;
use integration_tests::docker::{Dockerd, IMAGE};
use integration_tests::instance::{guest, until_logged};
use integration_tests::on_host;
use integration_tests::patience::PATIENCE;
use nova_docker_agent::docker::Docker;
use nova_docker_agent::guest::{Event, EventKind, Guest, PowerState};
use nova_docker_agent::limits::StopTimeout;
use uuid::Uuid;

const COMPUTE: &str = "compute-of-the-test";

async fn launch(driver: &Docker, guest: &Guest) {
    driver.create(guest, IMAGE, &[]).await.unwrap();
    driver.start(guest.uuid).await.unwrap();
}

async fn inside(docker: &Dockerd, uuid: Uuid, command: &str) -> String {
    docker.docker(&["exec", &format!("nova-{uuid}"), "sh", "-c", command]).await
}

/// A guest that waits, with an anonymous volume's data and a file of its own, stopped and set aside.
async fn set_aside(docker: &Dockerd, driver: &Docker) -> Guest {
    let mut first = guest("sh -c 'echo first; exec sleep 1000'");
    let volume = nova_docker_agent::guest::configuration::Volume { path: "/data".to_owned(), read_only: false };
    first.configuration.volumes = [("kept".to_owned(), volume)].into();
    launch(driver, &first).await;
    inside(docker, first.uuid, "echo mine > /root/note; echo shared > /data/note").await;
    driver.stop(first.uuid, StopTimeout::KILL).await.unwrap();
    driver.set_aside(first.uuid).await.unwrap();
    first
}

fn two_containers_of_an_instance_stand_side_by_side_and_only_one_is_the_instances() {
    on_host(async |host| {
        let docker = host.docker().await;
        let driver = docker.driver().await;
        let first = set_aside(&docker, &driver).await;
        let uuid = first.uuid;
        assert_eq!(driver.state(uuid).await.unwrap(), None);
        assert!(driver.list().await.unwrap().is_empty());
        assert_eq!(driver.list_aside(COMPUTE).await.unwrap(), [uuid]);
        assert!(driver.list_aside("another").await.unwrap().is_empty());
        driver.set_aside(uuid).await.unwrap();

        let second = Guest { uuid, ..guest("sh -c 'echo second; exec sleep 1000'") };
        launch(&driver, &second).await;
        until_logged(&driver, uuid, "second").await;
        assert_eq!(driver.list().await.unwrap().len(), 1);

        assert!(driver.bring_back(uuid).await.unwrap());
        assert_eq!(driver.state(uuid).await.unwrap(), Some(PowerState::Stopped { exit_code: 137 }));
        assert!(!driver.bring_back(uuid).await.unwrap(), "nothing is set aside any more");
        driver.start(uuid).await.unwrap();
        assert_eq!(inside(&docker, uuid, "cat /root/note").await, "mine");
        assert!(driver.remove(uuid).await.unwrap().iter().any(|name| name.ends_with(".kept")));
        driver.volumes().remove(&format!("nova-volume.{}.kept", first.project_id)).await.unwrap();
    });
}

fn what_happens_to_a_container_that_was_set_aside_is_not_told() {
    on_host(async |host| {
        let docker = host.docker().await;
        let driver = docker.driver().await;
        let (first, other) = (guest("sleep 1000"), guest("sleep 1000"));
        launch(&driver, &first).await;
        driver.set_aside(first.uuid).await.unwrap();
        let mut events = Box::pin(driver.events());
        driver.remove_aside(first.uuid).await.unwrap();
        launch(&driver, &other).await;
        let event = tokio::time::timeout(PATIENCE, events.next()).await.expect("an event");
        assert_eq!(event, Some(Event::Guest { uuid: other.uuid, kind: EventKind::Started }));
        driver.remove(other.uuid).await.unwrap();
    });
}

fn a_rescue_has_the_files_and_the_volumes_of_its_instance_and_changes_them() {
    on_host(async |host| {
        let docker = host.docker().await;
        let driver = docker.driver().await;
        let first = set_aside(&docker, &driver).await;
        let uuid = first.uuid;
        let rescue = Guest { uuid, rescues: true, ..guest("sleep 1000") };
        launch(&driver, &rescue).await;
        assert_eq!(inside(&docker, uuid, "cat /rescue/root/note /rescue/data/note").await, "mine\nshared");
        inside(&docker, uuid, "echo mended > /rescue/root/note; echo too > /rescue/data/note; touch /root/own").await;
        let processes = inside(&docker, uuid, "ps").await;
        assert!(!processes.contains("first"), "{processes}");

        // The rescue can be stopped and started.
        driver.stop(uuid, StopTimeout::KILL).await.unwrap();
        driver.start(uuid).await.unwrap();
        assert_eq!(inside(&docker, uuid, "cat /rescue/root/note /root/own").await, "mended");

        assert!(driver.bring_back(uuid).await.unwrap());
        driver.start(uuid).await.unwrap();
        assert_eq!(
            inside(&docker, uuid, "cat /root/note /data/note; ls /root/own /rescue 2>&1 | wc -l").await,
            "mended\ntoo\n2"
        );
        driver.remove(uuid).await.unwrap();
        driver.volumes().remove(&format!("nova-volume.{}.kept", first.project_id)).await.unwrap();
        assert_eq!(std::fs::read_dir(docker.links()).unwrap().count(), 0, "something for the runtime stays");
    });
}

fn a_container_that_is_made_anew_has_the_files_the_volumes_and_the_new_limits() {
    on_host(async |host| {
        let docker = host.docker().await;
        let driver = docker.driver().await;
        let first = Guest { memory_mb: 32, ..guest("sh -c 'echo first; exec sleep 1000'") };
        let uuid = first.uuid;
        launch(&driver, &first).await;
        inside(&docker, uuid, "echo mine > /root/note; rm /etc/passwd").await;
        inside(&docker, uuid, "mkdir -p /root/.ssh; echo edited > /root/.ssh/authorized_keys").await;
        for memory_mb in [48, 64] {
            driver.stop(uuid, StopTimeout::KILL).await.unwrap();
            let larger = Guest { uuid, memory_mb, ..guest("sh -c 'echo again; exec sleep 1000'") };
            driver.recreate(&larger, &[]).await.unwrap();
            driver.start(uuid).await.unwrap();
            until_logged(&driver, uuid, "again").await;
            assert_eq!(
                inside(&docker, uuid, "cat /root/note /root/.ssh/authorized_keys; ls /etc/passwd 2>&1 | grep -c such")
                    .await,
                "mine\nedited\n1"
            );
            // Docker empties this one in each new container.
            assert_eq!(inside(&docker, uuid, "grep -c ^127.0.0.1 /etc/hosts").await, "1");
            let limit =
                docker.docker(&["inspect", "--format", "{{.HostConfig.Memory}}", &format!("nova-{uuid}")]).await;
            assert_eq!(limit, (memory_mb << 20).to_string());
            if memory_mb == 48 {
                driver.remove_aside(uuid).await.unwrap();
            }
        }
        assert!(driver.bring_back(uuid).await.unwrap());
        driver.start(uuid).await.unwrap();
        assert_eq!(inside(&docker, uuid, "cat /root/note").await, "mine");
        driver.remove(uuid).await.unwrap();
        assert_eq!(docker.docker(&["images", "--all", "--quiet", "--filter", "dangling=true"]).await, "", "files stay");
    });
}

fn what_an_operation_has_left_ends_with_the_instances_own_container() {
    on_host(async |host| {
        let docker = host.docker().await;
        let driver = docker.driver().await;
        let first = set_aside(&docker, &driver).await;
        let uuid = first.uuid;
        launch(&driver, &Guest { uuid, rescues: true, ..guest("sleep 1000") }).await;
        driver.tidy_aside(uuid).await.unwrap();
        driver.start(uuid).await.unwrap();
        assert_eq!(inside(&docker, uuid, "cat /root/note").await, "mine", "a rescue is not the instance's own");

        driver.stop(uuid, StopTimeout::KILL).await.unwrap();
        driver.set_aside(uuid).await.unwrap();
        launch(&driver, &Guest { uuid, ..guest("sh -c 'echo second; exec sleep 1000'") }).await;
        driver.tidy_aside(uuid).await.unwrap();
        assert!(driver.list_aside(COMPUTE).await.unwrap().is_empty());
        until_logged(&driver, uuid, "second").await;
        driver.remove(uuid).await.unwrap();
        driver.volumes().remove(&format!("nova-volume.{}.kept", first.project_id)).await.unwrap();
    });
}

fn a_console_log_goes_on_when_its_instance_gets_another_container_and_goes_with_the_instance() {
    on_host(async |host| {
        let docker = host.docker().await;
        let driver = docker.driver().await;
        let first = guest(r#"sh -c 'printf "first\nhalf"; exec sleep 1000'"#);
        let uuid = first.uuid;
        launch(&driver, &first).await;
        // Docker keeps what has no line end until its writer has ended.
        until_logged(&driver, uuid, "first").await;
        let replace = async |said: &str| {
            driver.stop(uuid, StopTimeout::KILL).await.unwrap();
            driver.set_aside(uuid).await.unwrap();
            launch(&driver, &Guest { uuid, ..guest(&format!("sh -c 'echo {said}; exec sleep 1000'")) }).await;
            until_logged(&driver, uuid, said).await
        };
        let two = "first\nhalf\nsecond\n";
        assert_eq!(replace("second").await, two, "the first one may still come back");
        driver.remove_aside(uuid).await.unwrap();
        assert_eq!(driver.console(uuid, None).await.unwrap(), two);
        assert_eq!(replace("undone").await, format!("{two}undone\n"));
        driver.bring_back(uuid).await.unwrap();
        assert_eq!(driver.console(uuid, None).await.unwrap(), two);
        replace("third").await;
        driver.remove_aside(uuid).await.unwrap();
        let restarted = docker.driver().await;
        assert_eq!(restarted.console(uuid, None).await.unwrap(), format!("{two}third\n"));
        assert_eq!(restarted.console(uuid, Some(3)).await.unwrap(), "second\nthird\n");

        driver.remove(uuid).await.unwrap();
        launch(&driver, &Guest { uuid, ..guest("sh -c 'echo anew; exec sleep 1000'") }).await;
        assert_eq!(until_logged(&driver, uuid, "anew").await, "anew\n");
        driver.remove(uuid).await.unwrap();
        assert_eq!(std::fs::read_dir(docker.driver_config().past_logs_directory).unwrap().count(), 0);
    });
}

fn a_container_that_cannot_be_made_anew_is_there_as_it_was() {
    on_host(async |host| {
        let docker = host.docker().await;
        let driver = docker.driver().await;
        let first = guest("sh -c 'echo first; exec sleep 1000'");
        launch(&driver, &first).await;
        driver.stop(first.uuid, StopTimeout::KILL).await.unwrap();
        // Less than any Docker takes.
        let tiny = Guest { uuid: first.uuid, memory_mb: 1, ..guest("sleep 1000") };
        driver.recreate(&tiny, &[]).await.unwrap_err();
        assert!(driver.list_aside(COMPUTE).await.unwrap().is_empty());
        driver.start(first.uuid).await.unwrap();
        driver.remove(first.uuid).await.unwrap();
        assert_eq!(docker.docker(&["images", "--all", "--quiet", "--filter", "dangling=true"]).await, "", "files stay");
    });
}

fn a_stop_signal_that_the_first_process_does_not_heed_is_not_waited_for() {
    on_host(async |host| {
        let docker = host.docker().await;
        let driver = docker.driver().await;
        // Longer than the test may take.
        let patient = StopTimeout::of_operator(Duration::from_secs(24 * 3600));
        let deaf = guest("sleep 100000");
        launch(&driver, &deaf).await;
        tokio::time::timeout(PATIENCE, driver.stop(deaf.uuid, patient)).await.expect("it is killed").unwrap();
        assert_eq!(driver.state(deaf.uuid).await.unwrap(), Some(PowerState::Stopped { exit_code: 137 }));

        let heeding = guest("sh -c 'trap \"echo asked; exit 0\" TERM; echo ready; while :; do sleep 0.1; done'");
        launch(&driver, &heeding).await;
        until_logged(&driver, heeding.uuid, "ready").await;
        driver.stop(heeding.uuid, patient).await.unwrap();
        assert_eq!(driver.state(heeding.uuid).await.unwrap(), Some(PowerState::Stopped { exit_code: 0 }));
        for uuid in [deaf.uuid, heeding.uuid] {
            driver.remove(uuid).await.unwrap();
        }
    });
}

tests! {
    two_containers_of_an_instance_stand_side_by_side_and_only_one_is_the_instances,
    what_happens_to_a_container_that_was_set_aside_is_not_told,
    a_rescue_has_the_files_and_the_volumes_of_its_instance_and_changes_them,
    a_container_that_is_made_anew_has_the_files_the_volumes_and_the_new_limits,
    what_an_operation_has_left_ends_with_the_instances_own_container,
    a_console_log_goes_on_when_its_instance_gets_another_container_and_goes_with_the_instance,
    a_container_that_cannot_be_made_anew_is_there_as_it_was,
    a_stop_signal_that_the_first_process_does_not_heed_is_not_waited_for,
}
