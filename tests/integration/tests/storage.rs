//! Root disks of their flavor's size, where Docker holds them to it and where it does not.

use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt;
use integration_tests::docker::Dockerd;
use integration_tests::door::{Client, Door, launch, port};
use integration_tests::images;
use integration_tests::patience::until;
use integration_tests::{Host, on_host};
use nova_docker_proto::v1::{self, ReplacePurpose};
use tonic::Code;

use crate::check::{check, of};
use crate::grpc_replace::{replace, settle, start, stop};

/// Runs a test behind a Docker whose data is on btrfs.
fn on_btrfs(test: impl AsyncFnOnce(Host) + Send + 'static) {
    on_host(async |host| {
        let docker = Dockerd::start_on_btrfs().await;
        test(host.with_docker(docker.clone())).await;
        docker.end();
    });
}

async fn delete(client: &mut Client, guest_id: String) {
    client.delete_guest(v1::DeleteGuestRequest { guest_id, ..Default::default() }).await.unwrap();
}

/// Takes all the room that a disk of 1 GiB has, without writing all of it, until a write ends with an error.
async fn fill(docker: &Dockerd, guest: &str) {
    let (done, said) =
        docker.inside(guest, "fallocate -l 1000M /most && echo kept > /mark && echo 'root:*::' > /etc/shadow").await;
    assert!(done, "{said}");
    let (done, said) = docker.inside(guest, "dd if=/dev/zero of=/rest bs=1M count=100 conv=fsync").await;
    assert!(!done && said.contains("Disk quota exceeded"), "{said}");
}

fn a_write_beyond_the_flavors_disk_fails_in_the_container_and_its_neighbour_goes_on() {
    on_btrfs(async |host| {
        let door = Door::open(&host).await;
        let mut client = door.client().await;
        let resources = client.get_host_resources(v1::GetHostResourcesRequest {}).await.unwrap().into_inner();
        let resources = resources.resources.unwrap();
        assert_eq!((resources.storage_driver.as_str(), resources.quota_enforced), ("btrfs", true));
        let mut request = door.guest("sleep 1000", &[port(0, 5)]);
        let full = launch(&mut client, request.clone()).await;
        let neighbour = launch(&mut client, door.guest("sleep 1000", &[])).await;
        fill(&door.docker, &full).await;
        let written =
            door.docker.inside(&neighbour, "dd if=/dev/zero of=/file bs=1M count=100 conv=fsync && ls /file").await;
        assert!(written.0, "{}", written.1);

        // It starts, although nothing can be written into it of the address that it has now.
        stop(&mut client, &full).await;
        request.interfaces[0].subnets[0].addresses = vec!["10.9.0.6".to_owned()];
        let interfaces = request.interfaces.clone();
        let start = v1::StartGuestRequest { guest_id: full.clone(), interfaces, user_data: None };
        client.start_guest(start).await.unwrap();
        let (_, said) = door.docker.inside(&full, "cat /mark; ip addr").await;
        assert!(said.contains("kept") && said.contains("10.9.0.6"), "{said}");
        let password = v1::SetGuestPasswordRequest {
            guest_id: full.clone(),
            user: "root".to_owned(),
            password: "secret".to_owned(),
        };
        let refused = client.set_guest_password(password).await.unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
        assert!(refused.message().contains("the server's disk is full: delete files"), "{refused}");

        let (done, said) = door.docker.inside(&full, "rm /most && dd if=/dev/zero of=/rest bs=1M count=20").await;
        assert!(done, "there is no room again: {said}");
        assert!(door.docker.inside(&neighbour, "ls /file").await.0, "the neighbour has ended");
        delete(&mut client, full).await;
        delete(&mut client, neighbour).await;
        assert_eq!(door.leftovers().await, Vec::<String>::new());
        door.close().await;
    });
}

fn a_full_disk_can_be_taken_a_snapshot_of() {
    on_btrfs(async |host| {
        let door = Door::open(&host).await;
        let mut client = door.client().await;
        let full = launch(&mut client, door.guest("sleep 1000", &[])).await;
        fill(&door.docker, &full).await;
        let driver = door.docker.driver().await;
        let snapshot = driver.snapshot(full.parse().unwrap()).await.unwrap();
        let bytes = snapshot.stream().try_fold(0, async |sum, chunk| Ok(sum + chunk.len()));
        assert!(bytes.await.unwrap() > 1000 << 20, "not all files are in it");
        snapshot.finish().await.unwrap();
        delete(&mut client, full).await;
        door.close().await;
    });
}

fn a_larger_flavor_gives_a_larger_disk() {
    on_btrfs(async |host| {
        let door = Door::open(&host).await;
        let mut client = door.client().await;
        let mut request = door.guest("sleep 1000", &[]);
        let id = launch(&mut client, request.clone()).await;
        let grow = "fallocate -l 1500M /large";
        let (done, said) = door.docker.inside(&id, grow).await;
        assert!(!done && said.contains("Disk quota exceeded"), "{said}");
        stop(&mut client, &id).await;
        request.guest.as_mut().unwrap().root_gib = 2;
        replace(&mut client, &request, ReplacePurpose::Resize).await.unwrap();
        start(&mut client, &id).await;
        settle(&mut client, &id).await;
        let (done, said) = door.docker.inside(&id, grow).await;
        assert!(done, "{said}");
        let (done, said) = door.docker.inside(&id, "fallocate -l 700M /more").await;
        assert!(!done && said.contains("Disk quota exceeded"), "{said}");
        delete(&mut client, id).await;
        assert_eq!(door.leftovers().await, Vec::<String>::new());
        door.close().await;
    });
}

fn the_check_of_a_host_says_whether_disks_are_held_to_their_size_and_what_to_do() {
    on_btrfs(async |host| {
        let door = Door::closed(&host).await;
        let (_, report) = check(&door.config_file(), &["--serve-driver"]).await;
        let (verdict, words) = of(&report, "storage");
        assert_eq!(verdict, "ok", "{words}");
        assert!(words.starts_with("btrfs in ") && words.contains(" on btrfs holds"), "{words}");
    });
    on_host(async |host| {
        let door = Door::closed(&host).await;
        let (_, report) = check(&door.config_file(), &["--serve-driver"]).await;
        let (verdict, words) = of(&report, "storage");
        assert_eq!(verdict, "warning", "{words}");
        assert!(words.contains(" does not hold root disks to their size"), "{words}");
        let advice = report["checks"].as_array().unwrap().iter().find(|finding| finding["check"] == "storage");
        assert!(advice.unwrap()["advice"].as_str().unwrap().contains("prjquota"), "{report}");
    });
}

fn a_server_that_outgrows_its_disk_is_stopped_where_docker_does_not_hold_it_and_can_be_started_to_delete_files() {
    on_host(async |host| {
        let stop = [(("docker", "storage_overuse"), "stop"), (("docker", "storage_check_seconds"), "1")];
        let door = Door::open_with(&host, &stop).await;
        let mut client = door.client().await;
        let id = launch(&mut client, door.guest("sleep 1000", &[])).await;
        let neighbour = launch(&mut client, door.guest("sleep 1000", &[])).await;
        // A hole in a file takes nothing of the disk.
        door.docker.inside(&neighbour, "truncate -s 2G /hole").await;
        let run = async |id: &str| {
            let format = "{{.State.Running}} {{.State.StartedAt}}";
            door.docker.docker(&["inspect", "--format", format, &format!("nova-{id}")]).await
        };
        let runs = async |id: &str| run(id).await.starts_with("true");
        let before = run(&neighbour).await;
        let (_, said) = door.docker.inside(&id, "fallocate -l 1100M /large && ls /large").await;
        assert_eq!(said.trim(), "/large");
        until("the server is stopped", async || !runs(&id).await).await;
        let said = door.docker.driver().await.console(id.parse().unwrap(), None).await.unwrap();
        assert!(said.contains("stopped: the server has written") && said.contains("has 1 GiB"), "{said}");
        start(&mut client, &id).await;
        until("it is stopped again", async || !runs(&id).await).await;
        until("its user is quick enough", async || {
            start(&mut client, &id).await;
            door.docker.inside(&id, "rm -f /large").await.0
        })
        .await;
        until("it is left alone for some looks", async || {
            start(&mut client, &id).await;
            let now = run(&id).await;
            tokio::time::sleep(Duration::from_secs(4)).await;
            run(&id).await == now
        })
        .await;
        assert_eq!(run(&neighbour).await, before, "it was stopped for a hole");
        delete(&mut client, id).await;
        delete(&mut client, neighbour).await;
        assert_eq!(door.leftovers().await, Vec::<String>::new());
        door.close().await;
    });
}

/// An archive of the guest's snapshot.
async fn snapshot(docker: &Dockerd, guest: &str) -> Bytes {
    let driver = docker.driver().await;
    let snapshot = driver.snapshot(guest.parse().unwrap()).await.unwrap();
    let chunks: Vec<Bytes> = snapshot.stream().try_collect().await.unwrap();
    snapshot.finish().await.unwrap();
    chunks.concat().into()
}

async fn volumes(docker: &Dockerd) -> usize {
    docker.docker(&["volume", "ls", "-q"]).await.lines().count()
}

fn what_is_below_an_images_volumes_is_on_the_servers_disk_and_in_its_snapshots() {
    on_btrfs(async |host| {
        let mut door = Door::open(&host).await;
        let mut client = door.client().await;
        door.docker.import("volumes:test", &["VOLUME /data /srv/made/here"]).await;
        door.image = door.glance.add(images::save(&door.docker, "volumes:test").await.0.clone());
        images::remove_all(&door.docker).await;
        let first = launch(&mut client, door.guest("sleep 1000", &[])).await;
        assert_eq!(volumes(&door.docker).await, 0);
        let (done, said) = door.docker.inside(&first, "echo kept > /data/file && stat -c %a /srv/made/here").await;
        assert!(done && said.trim() == "755", "{said}");
        let (done, said) = door.docker.inside(&first, "fallocate -l 1100M /data/large").await;
        assert!(!done && said.contains("Disk quota exceeded"), "{said}");
        let archive = snapshot(&door.docker, &first).await;
        delete(&mut client, first).await;

        // Wherever else it comes to, they are volumes.
        let file = door.docker.path("snapshot.tar");
        std::fs::write(&file, &archive).unwrap();
        let loaded = door.docker.docker(&["load", "-qi", file.to_str().unwrap()]).await;
        let id = loaded.strip_prefix("Loaded image ID: ").unwrap();
        let config = door.docker.docker(&["inspect", "-f", "{{json .Config}}", id]).await;
        let config: serde_json::Value = serde_json::from_str(&config).unwrap();
        assert_eq!(config["Volumes"], serde_json::json!({"/data": {}, "/srv/made/here": {}}));
        assert!(!config.to_string().contains("image-volumes"), "{config}");
        images::remove_all(&door.docker).await;

        door.image = door.glance.add(archive);
        let second = launch(&mut client, door.guest("sleep 1000", &[])).await;
        assert_eq!(
            door.docker.inside(&second, "cat /data/file").await,
            (
                true,
                "kept
"
                .to_owned()
            )
        );
        assert_eq!(volumes(&door.docker).await, 0);
        delete(&mut client, second).await;

        let mut request = door.guest("sleep 1000", &[]);
        request.guest.as_mut().unwrap().metadata.insert("docker:read_only".to_owned(), "true".to_owned());
        let still = launch(&mut client, request).await;
        assert_eq!(volumes(&door.docker).await, 2);
        let (done, said) =
            door.docker.inside(&still, "cat /data/file && echo more > /data/file && ! touch /file").await;
        assert!(done && said.starts_with("kept"), "{said}");
        delete(&mut client, still).await;
        assert_eq!(door.leftovers().await, Vec::<String>::new());
        door.close().await;
    });
}

tests!(
    what_is_below_an_images_volumes_is_on_the_servers_disk_and_in_its_snapshots,
    a_server_that_outgrows_its_disk_is_stopped_where_docker_does_not_hold_it_and_can_be_started_to_delete_files,
    a_write_beyond_the_flavors_disk_fails_in_the_container_and_its_neighbour_goes_on,
    a_full_disk_can_be_taken_a_snapshot_of,
    a_larger_flavor_gives_a_larger_disk,
    the_check_of_a_host_says_whether_disks_are_held_to_their_size_and_what_to_do,
);
