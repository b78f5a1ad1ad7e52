//! Scripts of user data, in a real Docker.

use base64::{Engine, engine::general_purpose::STANDARD};
use futures::StreamExt as _;
use integration_tests::docker::{Dockerd, IMAGE};
use integration_tests::instance::{guest, until_logged};
use integration_tests::on_host;
use integration_tests::patience::PATIENCE;
use nova_docker_agent::docker::Docker;
use nova_docker_agent::guest::configuration::Sources;
use nova_docker_agent::guest::{Configuration, Event, EventKind, Guest};
use nova_docker_agent::limits::StopTimeout;

fn scripted(command: &str, script: &str, more: &[(&str, &str)]) -> Guest {
    let said = [("docker:run_user_data", "true"), ("docker:command", command), ("docker:env:PLACE", "here")];
    let metadata = said.iter().chain(more).map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let sources = Sources { metadata, user_data: STANDARD.encode(script), memory_mb: 64, ..Sources::default() };
    Guest { configuration: Configuration::parse(&sources).unwrap(), ..guest("sleep 1000") }
}

/// Starts it as a driver does, and waits for the end of the script.
async fn run(driver: &Docker, guest: &Guest) -> Option<i64> {
    let mut events = std::pin::pin!(driver.events());
    driver.create(guest, IMAGE, &[]).await.unwrap();
    assert!(driver.start(guest.uuid).await.unwrap());
    driver.run_script(guest.uuid);
    let ended = Event::Guest { uuid: guest.uuid, kind: EventKind::ScriptEnded };
    let told = tokio::time::timeout(PATIENCE, async { while events.next().await.unwrap() != ended {} });
    told.await.expect("the end of the script is told");
    driver.summary(guest.uuid).await.unwrap().unwrap().script
}

async fn inside(docker: &Dockerd, guest: &Guest, command: &str) -> String {
    docker.docker(&["exec", &format!("nova-{}", guest.uuid), "sh", "-c", command]).await
}

fn a_script_runs_as_root_after_the_first_start_and_what_it_writes_is_in_the_console_log() {
    on_host(async |host| {
        let docker = host.docker().await;
        let driver = docker.driver().await;
        for tty in ["false", "true"] {
            let script = "#!/bin/sh -e\necho \"set up $PLACE as $(id -u)\"\necho run >>/ran\nls -ln $0 >&2\n";
            let guest = scripted(
                "sh -c 'echo FIRST; exec sleep 1000'",
                script,
                &[("docker:user", "1000"), ("docker:tty", tty)],
            );
            assert_eq!(run(&driver, &guest).await, Some(0), "terminal: {tty}");
            let log = until_logged(&driver, guest.uuid, "/run/user-data").await;
            assert!(log.contains("FIRST") && log.contains("set up here as 0"), "{log}");
            assert!(log.contains("-r-x------"), "{log}");
            assert_eq!(driver.list().await.unwrap()[0].script, Some(0));
            // Another start is not the first one, and files that are kept remember what has run.
            driver.stop(guest.uuid, StopTimeout::KILL).await.unwrap();
            assert!(!driver.start(guest.uuid).await.unwrap());
            driver.stop(guest.uuid, StopTimeout::KILL).await.unwrap();
            for _ in 0..2 {
                driver.recreate(&guest, &[]).await.unwrap();
                driver.remove_aside(guest.uuid).await.unwrap();
            }
            assert!(driver.start(guest.uuid).await.unwrap());
            driver.run_script(guest.uuid);
            assert_eq!(inside(&docker, &guest, "cat /ran").await, "run");
            assert_eq!(driver.summary(guest.uuid).await.unwrap().unwrap().script, None);
            driver.remove(guest.uuid).await.unwrap();
        }
    });
}

fn a_script_of_a_container_that_never_ran_runs_when_it_was_made_anew() {
    on_host(async |host| {
        let docker = host.docker().await;
        let driver = docker.driver().await;
        let guest = scripted("sleep 1000", "#!/bin/sh\necho run >>/ran\n", &[]);
        driver.create(&guest, IMAGE, &[]).await.unwrap();
        let mut events = std::pin::pin!(driver.events());
        driver.recreate(&guest, &[]).await.unwrap();
        driver.remove_aside(guest.uuid).await.unwrap();
        assert!(driver.start(guest.uuid).await.unwrap());
        driver.run_script(guest.uuid);
        let ended = Event::Guest { uuid: guest.uuid, kind: EventKind::ScriptEnded };
        let told = tokio::time::timeout(PATIENCE, async { while events.next().await.unwrap() != ended {} });
        told.await.expect("the end of the script is told");
        assert_eq!(inside(&docker, &guest, "cat /ran").await, "run");
        driver.remove(guest.uuid).await.unwrap();
    });
}

fn a_script_that_fails_or_cannot_run_says_so() {
    on_host(async |host| {
        let docker = host.docker().await;
        let driver = docker.driver().await;
        // Releases of Docker differ in the code of what cannot be run.
        for (script, codes) in [("#!/bin/sh\necho before; exit 3\n", [3, 3]), ("#!/no/such/program\n", [126, 127])] {
            let guest = scripted("sleep 1000", script, &[]);
            let code = run(&driver, &guest).await.unwrap();
            assert!(codes.contains(&code), "{script}: {code}");
            let words = format!("the script of the user data has ended with exit code {code}\n");
            until_logged(&driver, guest.uuid, &words).await;
            driver.remove(guest.uuid).await.unwrap();
        }
    });
}

fn a_first_process_that_has_put_something_else_in_the_place_of_its_output_is_not_written_to() {
    on_host(async |host| {
        let docker = host.docker().await;
        let driver = docker.driver().await;
        let script = "#!/bin/sh\nuntil [ -e /moved ]; do :; done; echo said\n";
        let guest = scripted("sh -c 'exec >/victim; : >/moved; exec sleep 1000'", script, &[]);
        assert_eq!(run(&driver, &guest).await, Some(0));
        // Whether the agent had the pipe before or came too late, it is not this file that has the words.
        assert_eq!(inside(&docker, &guest, "cat /victim").await, "");
        driver.remove(guest.uuid).await.unwrap();
    });
}

tests! {
    a_script_runs_as_root_after_the_first_start_and_what_it_writes_is_in_the_console_log,
    a_script_of_a_container_that_never_ran_runs_when_it_was_made_anew,
    a_script_that_fails_or_cannot_run_says_so,
    a_first_process_that_has_put_something_else_in_the_place_of_its_output_is_not_written_to,
}
