//! Another container in the place of the one that a guest has, through the second door.

use integration_tests::door::{Client, Door, launch, until_logged, with_token};
use integration_tests::on_host;
use nova_docker_proto::v1::{self, CreateStage, ReplacePurpose};
use tonic::{Code, Status};

/// Replaces the guest's container; the stages that were told, or the failure.
pub async fn replace(
    client: &mut Client,
    request: &v1::CreateGuestRequest,
    purpose: ReplacePurpose,
) -> Result<Vec<CreateStage>, Status> {
    let v1::CreateGuestRequest { guest, image, interfaces } = request.clone();
    let request = v1::ReplaceGuestRequest { guest, image, interfaces, purpose: purpose.into() };
    let mut stream = client.replace_guest(with_token(request)).await?.into_inner();
    let mut stages = vec![];
    while let Some(answer) = stream.message().await? {
        stages.push(answer.stage());
    }
    Ok(stages)
}

pub async fn stop(client: &mut Client, guest_id: &str) {
    let now = v1::StopGuestRequest { guest_id: guest_id.to_owned(), timeout: Some(prost_types::Duration::default()) };
    client.stop_guest(now).await.unwrap();
}

pub async fn start(client: &mut Client, guest_id: &str) {
    let start = v1::StartGuestRequest { guest_id: guest_id.to_owned(), interfaces: vec![], user_data: None };
    client.start_guest(start).await.unwrap();
}

async fn restore(client: &mut Client, guest_id: &str) {
    client.restore_guest(v1::RestoreGuestRequest { guest_id: guest_id.to_owned() }).await.unwrap();
}

pub async fn settle(client: &mut Client, guest_id: &str) {
    client.settle_guest(v1::SettleGuestRequest { guest_id: guest_id.to_owned() }).await.unwrap();
}

fn a_rebuild_begins_anew_and_can_be_undone() {
    on_host(async |host| {
        let door = Door::open(&host).await;
        let mut client = door.client().await;
        let first = door.guest("sh -c 'echo ONE; sleep 1000'", &[]);
        let id = launch(&mut client, first.clone()).await;
        let name = format!("nova-{id}");
        let inside = async |command: &str| door.docker.docker(&["exec", &name, "sh", "-c", command]).await;
        inside("echo kept > /mark").await;
        stop(&mut client, &id).await;

        let mut second = door.guest("sh -c 'echo TWO; sleep 1000'", &[]);
        second.guest.clone_from(&first.guest);
        let refused = replace(&mut client, &second, ReplacePurpose::Unspecified).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
        let stages = replace(&mut client, &second, ReplacePurpose::Rebuild).await.unwrap();
        assert_eq!(stages, [CreateStage::ImagePulled, CreateStage::Ready]);
        start(&mut client, &id).await;
        until_logged(&mut client, &id, "TWO").await;
        assert_eq!(inside("ls -d /mark 2>/dev/null || echo none").await, "none");

        stop(&mut client, &id).await;
        restore(&mut client, &id).await;
        start(&mut client, &id).await;
        assert_eq!(inside("cat /mark").await, "kept");
        // There is nothing left that could come back, or go.
        restore(&mut client, &id).await;
        settle(&mut client, &id).await;
        assert_eq!(inside("cat /mark").await, "kept");
        client.delete_guest(v1::DeleteGuestRequest { guest_id: id, ..Default::default() }).await.unwrap();
        assert_eq!(door.leftovers().await, Vec::<String>::new());
        door.close().await;
    });
}

fn a_resize_keeps_the_files_within_other_limits_and_is_settled() {
    on_host(async |host| {
        let door = Door::open(&host).await;
        let mut client = door.client().await;
        let mut request = door.guest("sleep 1000", &[]);
        let id = launch(&mut client, request.clone()).await;
        let name = format!("nova-{id}");
        door.docker.docker(&["exec", &name, "sh", "-c", "echo kept > /mark"]).await;
        stop(&mut client, &id).await;

        request.guest.as_mut().unwrap().memory_mib = 128;
        let stages = replace(&mut client, &request, ReplacePurpose::Resize).await.unwrap();
        assert_eq!(stages, [CreateStage::Ready]);
        start(&mut client, &id).await;
        assert_eq!(door.docker.docker(&["exec", &name, "cat", "/mark"]).await, "kept");
        let memory = door.docker.docker(&["inspect", "--format", "{{.HostConfig.Memory}}", &name]).await;
        assert_eq!(memory, (128 << 20).to_string());
        let containers = async || door.docker.docker(&["ps", "-a", "--format", "{{.Names}}"]).await;
        assert_eq!(containers().await.lines().count(), 2, "the old container is set aside");
        settle(&mut client, &id).await;
        settle(&mut client, &id).await;
        assert_eq!(containers().await, name);
        client.delete_guest(v1::DeleteGuestRequest { guest_id: id, ..Default::default() }).await.unwrap();
        assert_eq!(door.leftovers().await, Vec::<String>::new());
        door.close().await;
    });
}

fn a_hard_reboot_makes_the_container_again_where_it_is_asked_for_otherwise_and_only_there() {
    on_host(async |host| {
        let door = Door::open(&host).await;
        let mut client = door.client().await;
        let mut request = door.guest("sh -c 'echo A is $A; exec sleep 1000'", &[]);
        request.guest.as_mut().unwrap().metadata.insert("docker:env:A".to_owned(), "1".to_owned());
        let id = launch(&mut client, request.clone()).await;
        let name = format!("nova-{id}");
        let inspect = async |format: &str| door.docker.docker(&["inspect", "--format", format, &name]).await;
        let inside = async |command: &str| door.docker.docker(&["exec", &name, "sh", "-c", command]).await;
        inside("echo kept > /mark").await;
        let metadata = |key: &str, value: &str| {
            let mut request = request.clone();
            request.guest.as_mut().unwrap().metadata.insert(key.to_owned(), value.to_owned());
            v1::RebootGuestRequest {
                guest_id: id.clone(),
                guest: request.guest,
                image: request.image,
                ..Default::default()
            }
        };
        let first = inspect("{{.Id}}").await;
        client.reboot_guest(metadata("unrelated", "1")).await.unwrap();
        assert_eq!(inspect("{{.Id}}").await, first, "nothing has changed");
        // A soft reboot keeps the container.
        let soft = v1::RebootGuestRequest {
            timeout: Some(prost_types::Duration { seconds: 0, nanos: 1_000_000 }),
            ..metadata("docker:env:A", "2")
        };
        client.reboot_guest(soft).await.unwrap();
        assert_eq!(inspect("{{.Id}}").await, first);

        let pid = inspect("{{.State.Pid}}").await;
        let refused = client.reboot_guest(metadata("docker:tty", "perhaps")).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
        assert!(refused.message().contains("docker:tty: it is neither true nor false"), "{refused}");
        let lacking = client.reboot_guest(metadata("docker:runtime", "crun")).await.unwrap_err();
        assert!(lacking.message().contains("docker:runtime: only a flavor can set it"), "{lacking}");
        assert_eq!(inspect("{{.State.Pid}}").await, pid, "it runs as it ran");

        client.reboot_guest(metadata("docker:env:A", "2")).await.unwrap();
        until_logged(&mut client, &id, "A is 2").await;
        assert_ne!(inspect("{{.Id}}").await, first);
        assert_eq!(inside("cat /mark; echo $A").await, "kept\n2");
        let second = inspect("{{.Id}}").await;
        client.reboot_guest(metadata("docker:command", "/no/such/command")).await.unwrap_err();
        assert_eq!(
            inspect("{{.Id}} {{.State.Running}}").await,
            format!("{second} true"),
            "the one from before is back"
        );
        let containers = door.docker.docker(&["ps", "-a", "--format", "{{.Names}}"]).await;
        assert_eq!(containers, name);
        client.delete_guest(v1::DeleteGuestRequest { guest_id: id, ..Default::default() }).await.unwrap();
        assert_eq!(door.leftovers().await, Vec::<String>::new());
        door.close().await;
    });
}

/// A hard reboot of a guest that shall be `request`, with one more key in its metadata.
fn reboot(id: &str, request: &v1::CreateGuestRequest, key: &str, value: &str) -> v1::RebootGuestRequest {
    let mut request = request.clone();
    request.guest.as_mut().unwrap().metadata.insert(key.to_owned(), value.to_owned());
    v1::RebootGuestRequest { guest_id: id.to_owned(), guest: request.guest, image: request.image, ..Default::default() }
}

fn a_hard_reboot_makes_no_container_again_whose_files_are_larger_than_the_flavors_disk() {
    on_host(async |host| {
        let door = Door::open(&host).await;
        let mut client = door.client().await;
        let mut request = door.guest("sh -c 'echo A is $A; exec sleep 1000'", &[]);
        request.guest.as_mut().unwrap().root_gib = 1;
        let id = launch(&mut client, request.clone()).await;
        let name = format!("nova-{id}");
        let inspect = async |format: &str| door.docker.docker(&["inspect", "--format", format, &name]).await;
        // Its blocks count, whoever counts, and nobody has to write them.
        door.docker.docker(&["exec", &name, "fallocate", "-l", "1100M", "/large"]).await;
        let before = inspect("{{.Id}} {{.State.Pid}}").await;
        let refused = client.reboot_guest(reboot(&id, &request, "docker:env:A", "2")).await.unwrap_err();
        assert!(refused.message().contains("its disk has 1 GiB: delete files, or rebuild it"), "{refused}");
        assert_eq!(inspect("{{.Id}} {{.State.Pid}}").await, before, "it runs as it ran");
        door.docker.docker(&["exec", &name, "rm", "/large"]).await;
        client.reboot_guest(reboot(&id, &request, "docker:env:A", "2")).await.unwrap();
        until_logged(&mut client, &id, "A is 2").await;
        client.delete_guest(v1::DeleteGuestRequest { guest_id: id, ..Default::default() }).await.unwrap();
        assert_eq!(door.leftovers().await, Vec::<String>::new());
        door.close().await;
    });
}

fn a_hard_reboot_keeps_what_was_rebuilt_and_never_ran() {
    on_host(async |host| {
        let door = Door::open(&host).await;
        let mut client = door.client().await;
        let request = door.guest("sh -c 'echo A is $A; exec sleep 1000'", &[]);
        let id = launch(&mut client, request.clone()).await;
        let name = format!("nova-{id}");
        door.docker.docker(&["exec", &name, "sh", "-c", "echo old > /mark"]).await;
        stop(&mut client, &id).await;
        replace(&mut client, &request, ReplacePurpose::Rebuild).await.unwrap();
        client.reboot_guest(reboot(&id, &request, "docker:env:A", "2")).await.unwrap();
        until_logged(&mut client, &id, "A is 2").await;
        let mark = door.docker.docker(&["exec", &name, "sh", "-c", "ls /mark 2>/dev/null || echo none"]).await;
        assert_eq!(mark, "none", "the container from before the rebuild is back");
        client.delete_guest(v1::DeleteGuestRequest { guest_id: id, ..Default::default() }).await.unwrap();
        assert_eq!(door.leftovers().await, Vec::<String>::new());
        door.close().await;
    });
}

tests!(
    a_rebuild_begins_anew_and_can_be_undone,
    a_resize_keeps_the_files_within_other_limits_and_is_settled,
    a_hard_reboot_makes_the_container_again_where_it_is_asked_for_otherwise_and_only_there,
    a_hard_reboot_makes_no_container_again_whose_files_are_larger_than_the_flavors_disk,
    a_hard_reboot_keeps_what_was_rebuilt_and_never_ran,
);
