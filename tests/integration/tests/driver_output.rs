//! The output of instances in a real Docker: console log, snapshots, events.

use std::collections::BTreeSet;
use std::io::Write;
use std::pin::Pin;

use bollard::query_parameters::ListImagesOptionsBuilder;
use futures::{Stream, StreamExt, TryStreamExt};
use integration_tests::docker::{Dockerd, IMAGE};
use integration_tests::instance::{dies_for_want_of_memory, greedy, guest, until_logged};
use integration_tests::on_host;
use integration_tests::patience::{PATIENCE, until};
use integration_tests::process::run;
use nova_docker_agent::docker::Docker;
use nova_docker_agent::guest::configuration::Environment;
use nova_docker_agent::guest::{Event, EventKind, Guest, PowerState};
use nova_docker_agent::limits::StopTimeout;
use serde_json::json;
use uuid::Uuid;

async fn launch(driver: &Docker, guest: &Guest) {
    driver.create(guest, IMAGE, &[]).await.unwrap();
    driver.start(guest.uuid).await.unwrap();
}

async fn until_ended(driver: &Docker, uuid: Uuid) {
    let ended = driver.started_well(uuid, PATIENCE).await;
    assert!(ended.is_err(), "it still runs");
}

fn the_console_has_exactly_the_last_lines_of_both_streams_in_order() {
    on_host(async |host| {
        let docker = host.docker().await;
        let driver = docker.driver().await;
        let lines = "for i in `seq 1 40`; do echo out $i; echo err $i >&2; done; printf prompt";
        let guest = guest(&format!("sh -c '{lines}'"));
        launch(&driver, &guest).await;
        until_ended(&driver, guest.uuid).await;
        let logged = logged(&docker, guest.uuid).await;
        let mut entries: Vec<&str> = logged.iter().map(|entry| entry.trim_end()).collect();
        entries.sort();
        let mut written: Vec<String> = (1..=40).flat_map(|i| [format!("out {i}"), format!("err {i}")]).collect();
        written.push("prompt".to_owned());
        written.sort();
        assert_eq!(entries, written);
        let whole = logged.concat();
        let lines: Vec<&str> = whole.split_inclusive('\n').collect();
        for count in [0, 1, 4, 35, lines.len()] {
            let last = lines[lines.len() - count..].concat();
            assert_eq!(driver.console(guest.uuid, Some(count)).await.unwrap(), last);
        }
        assert_eq!(driver.console(guest.uuid, Some(1000)).await.unwrap(), whole);
        assert_eq!(driver.console(guest.uuid, None).await.unwrap(), whole);
    });
}

/// What an instance wrote in the order in which it came to Docker, which reads two pipes.
async fn logged(docker: &Dockerd, uuid: Uuid) -> Vec<String> {
    let path = docker.docker(&["inspect", "-f", "{{.LogPath}}", &format!("nova-{uuid}")]).await;
    let file = std::fs::read_to_string(path).unwrap();
    let entries = file.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    entries.map(|entry| entry["log"].as_str().unwrap().to_owned()).collect()
}

fn a_line_that_docker_keeps_in_pieces_is_one_line_and_the_log_is_bounded() {
    on_host(async |host| {
        let docker = host.docker().await;
        let driver = docker.driver().await;
        let long = "head -c 50000 /dev/zero | tr \"\\0\" x; echo";
        let guest = guest(&format!("sh -c 'seq 30000; {long}; echo last'"));
        launch(&driver, &guest).await;
        until_ended(&driver, guest.uuid).await;
        let log = driver.console(guest.uuid, Some(4)).await.unwrap();
        let lengths: Vec<usize> = log.lines().map(str::len).collect();
        assert_eq!(lengths, [5, 50_000, 4]);
        let log = driver.console(guest.uuid, None).await.unwrap();
        assert!(log.len() <= 100 * 1024 && log.len() > 99 * 1024, "{}", log.len());
        assert!(log.lines().next().unwrap().parse::<u32>().unwrap() > 10_000, "it does not begin with a whole line");
        assert!(log.ends_with("\nlast\n"));
    });
}

fn a_log_that_a_power_failure_damaged_is_read_but_for_the_damage() {
    on_host(async |host| {
        let docker = host.docker().await;
        let driver = docker.driver().await;
        let guest = guest("echo BOOTED");
        launch(&driver, &guest).await;
        until_ended(&driver, guest.uuid).await;
        let path = docker.docker(&["inspect", "-f", "{{.LogPath}}", &format!("nova-{}", guest.uuid)]).await;
        let mut file = std::fs::OpenOptions::new().append(true).open(path).unwrap();
        file.write_all(b"{\"log\":\"half of a li").and_then(|()| file.write_all(&[0; 5000])).unwrap();
        driver.start(guest.uuid).await.unwrap();
        until_ended(&driver, guest.uuid).await;
        assert_eq!(driver.console(guest.uuid, None).await.unwrap(), "BOOTED\nBOOTED\n");
    });
}

fn a_snapshot_can_be_loaded_says_nothing_of_the_instance_and_leaves_nothing() {
    on_host(async |host| {
        let docker = host.docker().await;
        docker.import("base:test", &["ENV KEPT=1", "LABEL theirs=2"]).await;
        let driver = docker.driver().await;
        let environment = [("INSTANCE_SECRET".to_owned(), "known to one instance".to_owned())].into();
        let mut guest = guest("sh -c 'echo written >/file; echo DONE; exec sleep 1000'");
        guest.configuration.environment = Environment(environment);
        driver.create(&guest, "base:test", &[]).await.unwrap();
        driver.start(guest.uuid).await.unwrap();
        until_logged(&driver, guest.uuid, "DONE\n").await;
        let images = async || {
            let listed = docker.docker(&["images", "-aq", "--no-trunc"]).await;
            listed.lines().map(str::to_owned).collect::<BTreeSet<_>>()
        };
        let before = images().await;

        let archive = snapshot_without_traces(&driver, guest.uuid).await;
        assert_eq!(images().await, before, "an image stays");
        assert_eq!(driver.state(guest.uuid).await.unwrap(), Some(PowerState::Running));
        // One that was made anew has a layer of its former container.
        driver.stop(guest.uuid, StopTimeout::KILL).await.unwrap();
        driver.recreate(&guest, &[]).await.unwrap();
        driver.remove_aside(guest.uuid).await.unwrap();
        snapshot_without_traces(&driver, guest.uuid).await;

        let file = docker.path("snapshot.tar");
        std::fs::write(&file, archive).unwrap();
        let loaded = docker.docker(&["load", "-qi", file.to_str().unwrap()]).await;
        let id = loaded.strip_prefix("Loaded image ID: ").unwrap();
        let run = docker.docker(&["run", "--rm", "--network=none", id, "sh", "-c", "cat /file; echo $KEPT"]).await;
        assert_eq!(run, "written\n1");
        let config = docker.docker(&["inspect", "-f", "{{json .Config}}", id]).await;
        let config: serde_json::Value = serde_json::from_str(&config).unwrap();
        assert_eq!((&config["Cmd"], &config["Labels"]), (&json!(["sh"]), &json!({"theirs": "2"})));
        // Docker 28 leaves out what is empty.
        assert_eq!(config["Hostname"].as_str().unwrap_or_default(), "");
    });
}

/// Gives a file of a running instance a capability, which no program of the test image can.
async fn make_capable(docker: &Dockerd, uuid: Uuid, file: &str) {
    let pid = docker.docker(&["inspect", "-f", "{{.State.Pid}}", &format!("nova-{uuid}")]).await;
    // cap_net_raw+ep, as `setcap` writes it.
    let value = "bytes.fromhex('0100000200200000') + bytes(12)";
    let line = format!("import os; os.setxattr('/proc/{pid}/root{file}', 'security.capability', {value})");
    run("python3", &["-c", &line]).await;
}

fn owners_modes_and_capabilities_of_files_are_in_snapshots_and_in_a_container_that_is_made_anew() {
    on_host(async |host| {
        let docker = host.docker().await;
        let driver = docker.driver().await;
        let first = guest("sleep 1000");
        driver.create(&first, IMAGE, &[]).await.unwrap();
        driver.start(first.uuid).await.unwrap();
        let make = "cp /bin/busybox /ping; echo x >/file; chown 1000:7 /file; chmod 4751 /file; mkdir -m 2770 /shared; \
            chown :44 /shared; ln -s /file /link; ln /file /hard; chown -h 5:6 /link";
        docker.inside(&first.uuid.to_string(), make).await;
        make_capable(&docker, first.uuid, "/ping").await;
        let look = "stat -c '%n %a %u:%g %h' /file /shared /link /hard; ";
        let expected = "/file 4751 1000:7 2\n/shared 2770 0:44 2\n/link 777 5:6 1\n/hard 4751 1000:7 2\n";
        let looks = async |uuid: Uuid| {
            let pid = docker.docker(&["inspect", "-f", "{{.State.Pid}}", &format!("nova-{uuid}")]).await;
            let line = format!("import os; print(os.getxattr('/proc/{pid}/root/ping', 'security.capability').hex())");
            let capability = run("python3", &["-c", &line]).await;
            (docker.inside(&uuid.to_string(), look).await.1, capability.trim().starts_with("01000002"))
        };
        assert_eq!(looks(first.uuid).await, (expected.to_owned(), true));

        let archive = snapshot_without_traces(&driver, first.uuid).await;
        let file = docker.path("snapshot.tar");
        std::fs::write(&file, archive).unwrap();
        let loaded = docker.docker(&["load", "-qi", file.to_str().unwrap()]).await;
        let second = guest("sleep 1000");
        driver.create(&second, loaded.strip_prefix("Loaded image ID: ").unwrap(), &[]).await.unwrap();
        driver.start(second.uuid).await.unwrap();
        assert_eq!(looks(second.uuid).await, (expected.to_owned(), true));

        driver.stop(first.uuid, StopTimeout::KILL).await.unwrap();
        driver.recreate(&first, &[]).await.unwrap();
        driver.start(first.uuid).await.unwrap();
        assert_eq!(looks(first.uuid).await, (expected.to_owned(), true));
    });
}

/// The archive of a snapshot, which tells nothing of its instance.
async fn snapshot_without_traces(driver: &Docker, uuid: Uuid) -> Vec<u8> {
    let snapshot = driver.snapshot(uuid).await.unwrap();
    let archive: Vec<_> = snapshot.stream().try_collect().await.unwrap();
    snapshot.finish().await.unwrap();
    let archive = archive.concat();
    for trace in ["known to one", "INSTANCE_SECRET", "org.openstack", "project-of-the-test", "echo written"] {
        let found = archive.windows(trace.len()).any(|window| window == trace.as_bytes());
        assert!(!found, "{trace} is in {}", place_of(trace, &archive));
    }
    archive
}

/// The file of an archive that has `text` in it.
fn place_of(text: &str, archive: &[u8]) -> String {
    let at = archive.windows(text.len()).position(|window| window == text.as_bytes()).unwrap();
    let mut archive = tar::Archive::new(archive);
    let entries = archive.entries().unwrap().map(|entry| entry.unwrap());
    let entry = entries.take_while(|entry| entry.raw_file_position() as usize <= at).last().unwrap();
    entry.path().unwrap().display().to_string()
}

fn a_snapshot_that_is_dropped_or_cut_off_by_a_crash_leaves_nothing() {
    on_host(async |host| {
        let docker = host.docker().await;
        let driver = docker.driver().await;
        let guest = guest("sleep 1000");
        launch(&driver, &guest).await;
        // The containerd image store may fail to tell while an image is on its way out.
        let count = async || {
            let filters = [("reference", vec!["nova-snapshot"])].into();
            let options = ListImagesOptionsBuilder::default().filters(&filters).build();
            docker.client().list_images(Some(options)).await.ok().map(|images| images.len())
        };

        let snapshot = driver.snapshot(guest.uuid).await.unwrap();
        assert_eq!(count().await, Some(1));
        drop(snapshot);
        until("the image is gone", async || count().await == Some(0)).await;

        std::mem::forget(driver.snapshot(guest.uuid).await.unwrap());
        docker.driver().await;
        assert_eq!(count().await, Some(0), "the next start leaves the image");
    });
}

struct Events(Pin<Box<dyn Stream<Item = Event> + Send>>);

impl Events {
    fn of(driver: &Docker) -> Self {
        Self(driver.events().boxed())
    }

    async fn next(&mut self) -> Event {
        let next = tokio::time::timeout(PATIENCE, self.0.next());
        next.await.expect("no event came").expect("the stream ended")
    }

    async fn next_death(&mut self) -> Uuid {
        match self.next().await {
            Event::Guest { uuid, kind: EventKind::Died { .. } } => uuid,
            other => panic!("a container's end was expected: {other:?}"),
        }
    }

    async fn expect(&mut self, uuid: Uuid, kind: EventKind) {
        assert_eq!(self.next().await, Event::Guest { uuid, kind });
    }

    /// The same for an instance that was thawed: Docker 20.10 may tell more than once that it was frozen and thawed.
    async fn expect_after_thaw(&mut self, uuid: Uuid, kind: EventKind) {
        let repeated = [EventKind::Paused, EventKind::Unpaused].map(|kind| Event::Guest { uuid, kind });
        let mut event = self.next().await;
        while repeated.contains(&event) {
            event = self.next().await;
        }
        assert_eq!(event, Event::Guest { uuid, kind });
    }
}

fn what_happens_is_told_in_order_and_only_of_our_containers() {
    on_host(async |host| {
        let docker = host.docker().await;
        let driver = docker.driver().await;
        let mut events = Events::of(&driver);
        docker.docker(&["run", "--rm", "--network=none", IMAGE, "true"]).await;
        let stays = guest("sleep 1000");
        launch(&driver, &stays).await;
        events.expect(stays.uuid, EventKind::Started).await;
        driver.pause(stays.uuid).await.unwrap();
        events.expect(stays.uuid, EventKind::Paused).await;
        driver.unpause(stays.uuid).await.unwrap();
        events.expect(stays.uuid, EventKind::Unpaused).await;
        driver.stop(stays.uuid, StopTimeout::KILL).await.unwrap();
        events.expect_after_thaw(stays.uuid, EventKind::Died { exit_code: 137, oom: false }).await;
        driver.remove(stays.uuid).await.unwrap();
        events.expect(stays.uuid, EventKind::Destroyed).await;

        let greedy = greedy();
        launch(&driver, &greedy).await;
        events.expect(greedy.uuid, EventKind::Started).await;
        dies_for_want_of_memory(&docker, &driver, greedy.uuid).await;
        events.expect(greedy.uuid, EventKind::Died { exit_code: 137, oom: true }).await;
    });
}

fn what_happened_while_docker_was_away_is_told_when_it_is_back() {
    on_host(async |host| {
        let docker = host.docker().await;
        let driver = docker.driver().await;
        let (old, new) = (guest("sleep 1000"), guest("sleep 1000"));
        launch(&driver, &old).await;
        let mut events = Events::of(&driver);
        // Something has come through: the stream is up.
        launch(&driver, &new).await;
        events.expect(new.uuid, EventKind::Started).await;

        // A Docker that is asked to end may still tell what it does to its containers.
        docker.kill_server();
        assert_eq!(events.next().await, Event::DockerLost);
        docker.start_server().await;
        let mut died = [events.next_death().await, events.next_death().await];
        died.sort();
        let mut expected = [old.uuid, new.uuid];
        expected.sort();
        assert_eq!(died, expected);
        assert_eq!(events.next().await, Event::DockerBack);

        driver.start(old.uuid).await.unwrap();
        events.expect(old.uuid, EventKind::Started).await;
    });
}

tests! {
    the_console_has_exactly_the_last_lines_of_both_streams_in_order,
    a_line_that_docker_keeps_in_pieces_is_one_line_and_the_log_is_bounded,
    a_log_that_a_power_failure_damaged_is_read_but_for_the_damage,
    a_snapshot_can_be_loaded_says_nothing_of_the_instance_and_leaves_nothing,
    owners_modes_and_capabilities_of_files_are_in_snapshots_and_in_a_container_that_is_made_anew,
    a_snapshot_that_is_dropped_or_cut_off_by_a_crash_leaves_nothing,
    what_happens_is_told_in_order_and_only_of_our_containers,
    what_happened_while_docker_was_away_is_told_when_it_is_back,
}
