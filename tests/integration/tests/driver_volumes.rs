//! Named and anonymous volumes in a real Docker.

use std::path::Path;
use std::time::Duration;

use integration_tests::docker::{Dockerd, IMAGE};
use integration_tests::door::{Client, Door, create, launch as launch_through};
use integration_tests::instance::guest;
use integration_tests::on_host;
use nova_docker_agent::docker::{Docker, Removed};
use nova_docker_agent::driver::Volumes;
use nova_docker_agent::guest::configuration::Volume;
use nova_docker_agent::guest::{Guest, PowerState};
use nova_docker_proto::v1;

const PROJECT: &str = "project-of-the-test";
const DAY: Duration = Duration::from_secs(24 * 3600);

/// A guest that sleeps, with volumes as `NAME=PATH` or `NAME=PATH:ro`.
fn with(volumes: &[&str]) -> Guest {
    let mut guest = guest("sleep 1000");
    guest.configuration.volumes = volumes.iter().map(|text| volume(text)).collect();
    guest
}

fn volume(text: &str) -> (String, Volume) {
    let (name, place) = text.split_once('=').unwrap();
    let path = place.trim_end_matches(":ro");
    (name.to_owned(), Volume { path: path.to_owned(), read_only: path != place })
}

fn of_project(project: &str, guest: Guest) -> Guest {
    Guest { project_id: project.to_owned(), ..guest }
}

async fn launch(driver: &Docker, guest: &Guest) {
    driver.create(guest, IMAGE, &[]).await.unwrap();
    driver.start(guest.uuid).await.unwrap();
}

async fn inside(docker: &Dockerd, guest: &Guest, command: &str) -> String {
    docker.docker(&["exec", &format!("nova-{}", guest.uuid), "sh", "-c", command]).await
}

/// Docker's names of all volumes.
async fn volumes(docker: &Dockerd) -> Vec<String> {
    let mut all: Vec<String> = docker.docker(&["volume", "ls", "-q"]).await.lines().map(str::to_owned).collect();
    all.sort();
    all
}

async fn remove_volumes(docker: &Dockerd) {
    for name in volumes(docker).await {
        docker.docker(&["volume", "rm", &name]).await;
    }
}

fn servers_of_a_project_share_a_volume_and_other_projects_see_nothing_of_it() {
    on_host(async |host| {
        let docker = host.docker().await;
        let driver = docker.driver().await;
        let (one, two) = (with(&["data=/srv/a", "own=/own"]), with(&["data=/other/b:ro"]));
        let stranger = of_project("another-project", with(&["data=/srv/a"]));
        for guest in [&one, &two, &stranger] {
            launch(&driver, guest).await;
        }
        inside(&docker, &one, "echo written >/srv/a/file").await;
        assert_eq!(inside(&docker, &two, "cat /other/b/file").await, "written");
        assert_eq!(inside(&docker, &two, "touch /other/b/x 2>/dev/null || echo refused").await, "refused");
        assert_eq!(inside(&docker, &stranger, "ls -A /srv/a").await, "");
        let listed = driver.volumes().list().await.unwrap();
        let shown: Vec<_> = listed.iter().map(|volume| (volume.project_id.as_str(), volume.name.as_str())).collect();
        assert_eq!(shown, [("another-project", "data"), (PROJECT, "data"), (PROJECT, "own")]);
        assert_eq!(listed[1].instances, [one.uuid, two.uuid].into());
        assert!(listed[1].directory.join("file").is_file());

        // One that is used stays, and is found again by the next.
        driver.remove(one.uuid).await.unwrap();
        assert_eq!(driver.volumes().remove_named(PROJECT, "data").await.unwrap(), Removed::InUse);
        driver.remove(two.uuid).await.unwrap();
        let next = with(&["data=/next"]);
        launch(&driver, &next).await;
        assert_eq!(inside(&docker, &next, "cat /next/file").await, "written");
        assert_eq!(driver.volumes().remove_named("no/project", "data").await.unwrap(), Removed::Absent);
        for guest in [&next, &stranger] {
            driver.remove(guest.uuid).await.unwrap();
        }
        remove_volumes(&docker).await;
    });
}

fn an_empty_volume_gets_the_images_files_and_anonymous_volumes_go_with_their_container() {
    on_host(async |host| {
        let docker = host.docker().await;
        docker.import("volumes:test", &["VOLUME /var/anonymous"]).await;
        let driver = docker.driver().await;
        let guest = with(&["bin=/bin:ro"]);
        driver.create(&guest, "volumes:test", &[]).await.unwrap();
        driver.start(guest.uuid).await.unwrap();
        assert_eq!(inside(&docker, &guest, "ls /bin | grep -x busybox").await, "busybox");
        assert_eq!(volumes(&docker).await.len(), 2, "one named, one anonymous");
        assert_eq!(driver.remove(guest.uuid).await.unwrap(), [format!("nova-volume.{PROJECT}.bin")]);
        assert_eq!(volumes(&docker).await, [format!("nova-volume.{PROJECT}.bin")]);
        remove_volumes(&docker).await;
    });
}

fn a_container_that_is_not_made_leaves_only_the_volumes_that_were_there() {
    on_host(async |host| {
        let docker = host.docker().await;
        let driver = docker.driver().await;
        let first = with(&["old=/old"]);
        driver.create(&first, IMAGE, &[]).await.unwrap();
        driver.remove(first.uuid).await.unwrap();
        let old = [format!("nova-volume.{PROJECT}.old")];
        let failing = with(&["old=/old", "new=/new"]);
        driver.create(&failing, "no-such-image:test", &[]).await.unwrap_err();
        assert_eq!(volumes(&docker).await, old);

        // Somebody else's volume that is called like one of ours, and leads into the host.
        let foreign = format!("nova-volume.{PROJECT}.trap");
        let options = ["-o", "type=none", "-o", "o=bind", "-o", "device=/etc"];
        let create: Vec<&str> = ["volume", "create"].into_iter().chain(options).chain([foreign.as_str()]).collect();
        docker.docker(&create).await;
        let error = driver.create(&with(&["new=/new", "trap=/trap"]), IMAGE, &[]).await.unwrap_err();
        assert!(error.to_string().contains("was not made by this service"), "{error}");
        assert_eq!(driver.volumes().remove_named(PROJECT, "trap").await.unwrap(), Removed::Absent);
        assert_eq!(volumes(&docker).await, [&old[..], &[foreign]].concat());
        assert_eq!(driver.volumes().list().await.unwrap().len(), 1);
        remove_volumes(&docker).await;
    });
}

/// Sets the times in the record of unused volumes back.
fn age(state: &Path) {
    let path = state.join("docker-volumes.json");
    let mut record: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    for time in record["unused_since"].as_object_mut().unwrap().values_mut() {
        *time = "2020-01-01T00:00:00Z".into();
    }
    std::fs::write(path, record.to_string()).unwrap();
}

fn a_volume_is_kept_for_the_grace_also_across_restarts_and_not_longer() {
    on_host(async |host| {
        let docker = host.docker().await;
        let driver = docker.driver().await;
        let state = docker.path("state");
        // As after a restart: nothing but the record is known.
        let reap = async |grace| Volumes::new(driver.volumes().clone(), grace, &state).reap().await.unwrap();
        let (stays, ends) = (with(&["used=/used"]), with(&["used=/used", "unused=/unused"]));
        driver.create(&stays, IMAGE, &[]).await.unwrap();
        driver.create(&ends, IMAGE, &[]).await.unwrap();
        docker.docker(&["volume", "create", "foreign"]).await;
        driver.remove(ends.uuid).await.unwrap();
        reap(DAY).await;
        assert_eq!(volumes(&docker).await.len(), 3);
        // Another container may be about to take the place of the last one, even without a grace.
        reap(Duration::ZERO).await;
        assert_eq!(volumes(&docker).await.len(), 3);

        let listing = Volumes::new(driver.volumes().clone(), DAY, &state).listing().await.unwrap().0;
        assert_eq!((listing[0].name.as_str(), listing[0].unused_since.is_some()), ("unused", true));
        assert_eq!((listing[1].name.as_str(), listing[1].unused_since), ("used", None));
        assert_eq!(listing[1].servers, [stays.uuid]);
        assert!(listing.iter().all(|volume| volume.bytes.is_some()));

        age(&state);
        reap(36_500 * DAY).await;
        assert_eq!(volumes(&docker).await.len(), 3, "the grace is not over");
        reap(DAY).await;
        assert_eq!(volumes(&docker).await, ["foreign".to_owned(), format!("nova-volume.{PROJECT}.used")]);
        driver.remove(stays.uuid).await.unwrap();
        std::fs::write(state.join("docker-volumes.json"), "damaged").unwrap();
        reap(DAY).await;
        assert_eq!(volumes(&docker).await.len(), 2, "the grace begins anew");
        remove_volumes(&docker).await;
    });
}

fn request(door: &Door, metadata: &[(&str, &str)]) -> v1::CreateGuestRequest {
    let mut request = door.guest("sleep 1000", &[]);
    let guest = request.guest.as_mut().unwrap();
    guest.metadata = metadata.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    request
}

async fn delete(client: &mut Client, guest_id: &str, server_deleted: bool, remove_volumes: bool) {
    let request = v1::DeleteGuestRequest { guest_id: guest_id.to_owned(), server_deleted, remove_volumes };
    client.delete_guest(request).await.unwrap();
}

fn the_delete_of_the_last_server_removes_a_volume_if_it_is_asked_to() {
    on_host(async |host| {
        let door = Door::open(&host).await;
        let mut client = door.client().await;
        let named = [("docker:volume:data", "/data")];
        let [one, two, three] = [request(&door, &named), request(&door, &named), request(&door, &named)];
        let one = launch_through(&mut client, one).await;
        let two = launch_through(&mut client, two).await;
        let kept = [format!("nova-volume.{PROJECT}.data")];
        delete(&mut client, &one, true, true).await;
        assert_eq!(volumes(&door.docker).await, kept, "the other server names it");
        delete(&mut client, &two, true, false).await;
        assert_eq!(volumes(&door.docker).await, kept, "nobody asked for its removal");
        let three = launch_through(&mut client, three).await;
        delete(&mut client, &three, false, true).await;
        assert_eq!(volumes(&door.docker).await, kept, "the server is rebuilt");
        let four = launch_through(&mut client, request(&door, &named)).await;
        delete(&mut client, &four, true, true).await;
        assert_eq!(volumes(&door.docker).await, [] as [&str; 0]);
        assert_eq!(door.leftovers().await, Vec::<String>::new());
        door.close().await;
    });
}

fn without_a_grace_a_volume_goes_with_its_last_server() {
    on_host(async |host| {
        let door = Door::open_with(&host, &[(("docker", "volume_grace_days"), "0")]).await;
        let mut client = door.client().await;
        let request = request(&door, &[("docker:volume:data", "/data")]);
        let id = launch_through(&mut client, request.clone()).await;
        delete(&mut client, &id, false, false).await;
        assert_eq!(volumes(&door.docker).await.len(), 1, "the server is rebuilt");
        let id = launch_through(&mut client, request).await;
        delete(&mut client, &id, true, false).await;
        assert_eq!(volumes(&door.docker).await.len(), 0);
        door.close().await;
    });
}

fn what_a_flavor_does_not_allow_fails_before_anything_is_made() {
    on_host(async |host| {
        let door = Door::open(&host).await;
        let mut client = door.client().await;
        let mut refused = request(&door, &[("docker:volume:a", "/a"), ("docker:volume:b", "/b")]);
        let specs = &mut refused.guest.as_mut().unwrap().extra_specs;
        specs.insert("docker:volumes".to_owned(), "1".to_owned());
        let status = create(&mut client, refused).await.unwrap_err();
        assert!(status.message().contains("there are more volumes than the flavor allows"), "{status}");
        let mut foreign = request(&door, &[("docker:volume:a", "/a")]);
        foreign.guest.as_mut().unwrap().project_id = "../../etc".to_owned();
        let status = create(&mut client, foreign).await.unwrap_err();
        assert!(status.message().contains("the project's id"), "{status}");
        assert_eq!(volumes(&door.docker).await.len(), 0);
        assert_eq!(door.leftovers().await, Vec::<String>::new());
        door.close().await;
    });
}

fn a_restart_of_a_container_keeps_its_volumes() {
    on_host(async |host| {
        let docker = host.docker().await;
        let driver = docker.driver().await;
        let guest = with(&["data=/data"]);
        launch(&driver, &guest).await;
        inside(&docker, &guest, "echo kept >/data/file").await;
        driver.stop(guest.uuid, nova_docker_agent::limits::StopTimeout::KILL).await.unwrap();
        assert_eq!(driver.volumes().remove_named(PROJECT, "data").await.unwrap(), Removed::InUse);
        driver.start(guest.uuid).await.unwrap();
        assert_eq!(driver.state(guest.uuid).await.unwrap(), Some(PowerState::Running));
        assert_eq!(inside(&docker, &guest, "cat /data/file").await, "kept");
        driver.remove(guest.uuid).await.unwrap();
        assert_eq!(driver.volumes().remove_named(PROJECT, "data").await.unwrap(), Removed::Gone);
    });
}

fn a_container_that_is_made_anew_has_the_named_volumes_that_it_is_to_have_and_its_anonymous_ones() {
    on_host(async |host| {
        let docker = host.docker().await;
        docker.import("volumes:test", &["VOLUME /var/anonymous"]).await;
        let driver = docker.driver().await;
        let first = with(&["data=/srv/a", "gone=/gone"]);
        driver.create(&first, "volumes:test", &[]).await.unwrap();
        driver.start(first.uuid).await.unwrap();
        inside(&docker, &first, "echo kept | tee /srv/a/file >/var/anonymous/file").await;
        driver.stop(first.uuid, nova_docker_agent::limits::StopTimeout::KILL).await.unwrap();
        let again = Guest { uuid: first.uuid, ..with(&["data=/srv/b"]) };
        driver.recreate(&again, &[]).await.unwrap();
        driver.remove_aside(again.uuid).await.unwrap();
        driver.start(again.uuid).await.unwrap();
        assert_eq!(inside(&docker, &again, "cat /srv/b/file /var/anonymous/file").await, "kept\nkept");
        let places = "{{range .Mounts}}{{.Destination}} {{end}}";
        let places = docker.docker(&["inspect", "--format", places, &format!("nova-{}", again.uuid)]).await;
        let mut places: Vec<&str> = places.split_whitespace().collect();
        places.retain(|place| place.starts_with("/srv") || place.starts_with("/var") || place.starts_with("/gone"));
        places.sort_unstable();
        assert_eq!(places, ["/srv/b", "/var/anonymous"]);
        driver.remove(again.uuid).await.unwrap();
        remove_volumes(&docker).await;
    });
}

tests! {
    servers_of_a_project_share_a_volume_and_other_projects_see_nothing_of_it,
    an_empty_volume_gets_the_images_files_and_anonymous_volumes_go_with_their_container,
    a_container_that_is_not_made_leaves_only_the_volumes_that_were_there,
    a_volume_is_kept_for_the_grace_also_across_restarts_and_not_longer,
    the_delete_of_the_last_server_removes_a_volume_if_it_is_asked_to,
    without_a_grace_a_volume_goes_with_its_last_server,
    what_a_flavor_does_not_allow_fails_before_anything_is_made,
    a_restart_of_a_container_keeps_its_volumes,
    a_container_that_is_made_anew_has_the_named_volumes_that_it_is_to_have_and_its_anonymous_ones,
}
