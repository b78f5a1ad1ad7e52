//! Guests through the second door: the gRPC service on a real Docker and Open vSwitch.

use integration_tests::door::{Client, Door, console, create, launch, port, reason, until_logged, with_token};
use integration_tests::on_host;
use integration_tests::patience::until;
use nova_docker_proto::{REVISION, v1};
use tonic::Code;
use uuid::Uuid;
use v1::{CreateStage, PowerState};

async fn state(client: &mut Client, id: &str) -> PowerState {
    let asked = v1::GetGuestRequest { guest_id: id.to_owned() };
    client.get_guest(asked).await.unwrap().into_inner().guest.unwrap().power_state()
}

fn seconds(seconds: i64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds, nanos: 0 })
}

fn the_service_tells_what_it_is_and_what_the_host_has() {
    on_host(async |host| {
        let door = Door::open(&host).await;
        let mut client = door.client().await;
        let asked = v1::GetServerInfoRequest { client: "test/1".to_owned(), revision: REVISION, oldest_revision: 1 };
        let info = client.get_server_info(asked).await.unwrap().into_inner();
        assert_eq!((info.hypervisor_type.as_str(), info.revision), ("docker", REVISION));
        assert!(info.capabilities["supports_attach_interface"] && info.state_tags);
        let host = client.get_host_resources(v1::GetHostResourcesRequest {}).await.unwrap().into_inner();
        let host = host.resources.unwrap();
        let version = door.docker.docker(&["version", "-f", "{{.Server.Version}}"]).await;
        assert_eq!(host.docker_version, version);
        assert!(host.vcpus > 0 && host.memory_mib > host.memory_used_mib && host.disk_gib > 0);
        assert_eq!(host.load_average.len(), 3);
        assert_eq!(host.traits, ["CUSTOM_HV_DOCKER"]);
        door.close().await;
    });
}

fn a_client_of_another_time_is_refused_with_who_must_be_upgraded() {
    on_host(async |host| {
        let door = Door::open(&host).await;
        let mut client = door.client().await;
        let newer = REVISION + 7;
        for (revision, oldest_revision, who) in [(0, 0, "upgrade the client"), (newer, newer, "upgrade the agent")] {
            let asked = v1::GetServerInfoRequest { client: "test/1".to_owned(), revision, oldest_revision };
            let status = client.get_server_info(asked).await.unwrap_err();
            let (code, reason, metadata) = reason(&status);
            assert_eq!((code, reason.as_str()), (Code::FailedPrecondition, "VERSION_UNSUPPORTED"));
            let ours = (REVISION.to_string(), "1".to_owned());
            assert_eq!((metadata["revision"].clone(), metadata["oldest_revision"].clone()), ours);
            assert!(status.message().contains(who), "{status}");
        }
        // Newer, and able to do with what there is.
        let asked = v1::GetServerInfoRequest { client: "test/1".to_owned(), revision: newer, oldest_revision: 1 };
        client.get_server_info(asked).await.unwrap();
    });
}

fn a_guest_is_made_started_frozen_thawed_stopped_rebooted_and_deleted() {
    on_host(async |host| {
        let door = Door::open(&host).await;
        let mut client = door.client().await;
        let interfaces = [port(0, 5)];
        let request = door.guest("sh -c 'trap \"exit 0\" TERM; echo BOOTED; while :; do sleep 0.1; done'", &interfaces);
        let id = request.guest.as_ref().unwrap().guest_id.clone();
        let guest_id = || id.clone();

        let mut stages = create(&mut client, request).await.unwrap();
        assert_eq!(stages.pop(), Some(CreateStage::Ready));
        stages.sort_by_key(|stage| *stage as i32);
        assert_eq!(stages, [CreateStage::ImagePulled, CreateStage::NetworkPlugged]);
        let listed = client.list_guests(v1::ListGuestsRequest {}).await.unwrap().into_inner().guests;
        let made = v1::GuestState {
            guest_id: guest_id(),
            power_state: PowerState::Created.into(),
            exit_code: None,
            owner: "compute-of-the-test".to_owned(),
            health: v1::GuestHealth::Unspecified.into(),
            script_exit_code: None,
        };
        assert_eq!(listed, [made]);

        let start = || v1::StartGuestRequest { guest_id: guest_id(), interfaces: interfaces.to_vec(), user_data: None };
        client.start_guest(start()).await.unwrap();
        assert_eq!(state(&mut client, &id).await, PowerState::Running);
        client.start_guest(start()).await.unwrap();
        client.pause_guest(v1::PauseGuestRequest { guest_id: guest_id() }).await.unwrap();
        client.pause_guest(v1::PauseGuestRequest { guest_id: guest_id() }).await.unwrap();
        assert_eq!(state(&mut client, &id).await, PowerState::Paused);
        client.unpause_guest(v1::UnpauseGuestRequest { guest_id: guest_id() }).await.unwrap();
        client.unpause_guest(v1::UnpauseGuestRequest { guest_id: guest_id() }).await.unwrap();
        // Docker 20.10 may hear late from containerd that it was frozen, and believe it again.
        until("the guest runs", async || state(&mut client, &id).await == PowerState::Running).await;
        for _ in 0..2 {
            client.suspend_guest(v1::SuspendGuestRequest { guest_id: guest_id() }).await.unwrap();
        }
        assert_eq!(state(&mut client, &id).await, PowerState::Paused);
        let resume =
            || v1::ResumeGuestRequest { guest_id: guest_id(), interfaces: interfaces.to_vec(), user_data: None };
        client.resume_guest(resume()).await.unwrap();
        until("the guest runs", async || state(&mut client, &id).await == PowerState::Running).await;

        until_logged(&mut client, &id, "BOOTED\n").await;
        let stop = |timeout| v1::StopGuestRequest { guest_id: guest_id(), timeout };
        client.stop_guest(stop(seconds(120))).await.unwrap();
        client.stop_guest(stop(None)).await.unwrap();
        let asked = v1::GetGuestRequest { guest_id: guest_id() };
        let stopped = client.get_guest(asked).await.unwrap().into_inner().guest.unwrap();
        assert_eq!((stopped.power_state(), stopped.exit_code), (PowerState::Stopped, Some(0)), "it was killed");

        // As after a restart of the host.
        client.resume_guest(resume()).await.unwrap();
        until_logged(&mut client, &id, &"BOOTED\n".repeat(2)).await;
        let reboot =
            v1::RebootGuestRequest { guest_id: guest_id(), interfaces: interfaces.to_vec(), ..Default::default() };
        client.reboot_guest(reboot).await.unwrap();
        assert_eq!(state(&mut client, &id).await, PowerState::Running);
        until_logged(&mut client, &id, &"BOOTED\n".repeat(3)).await;
        assert_eq!(console(&mut client, &id, None).await, "BOOTED\n".repeat(3));
        assert_eq!(console(&mut client, &id, Some(3)).await, "BOOTED\n".repeat(2));
        assert_eq!(console(&mut client, &id, Some(0)).await, "");

        client.delete_guest(v1::DeleteGuestRequest { guest_id: guest_id(), ..Default::default() }).await.unwrap();
        client.delete_guest(v1::DeleteGuestRequest { guest_id: guest_id(), ..Default::default() }).await.unwrap();
        assert_eq!(door.leftovers().await, Vec::<String>::new());
        door.close().await;
    });
}

fn a_guest_that_is_made_again_stays_the_one_it_is() {
    on_host(async |host| {
        let door = Door::open(&host).await;
        let mut client = door.client().await;
        let request = door.guest("sleep 1000", &[port(0, 5)]);
        let id = launch(&mut client, request.clone()).await;
        let container = async || door.docker.docker(&["ps", "-aq", "--no-trunc"]).await;
        let before = container().await;
        let stages = create(&mut client, request).await.unwrap();
        assert_eq!(stages.last(), Some(&CreateStage::Ready));
        assert_eq!((container().await, state(&mut client, &id).await), (before, PowerState::Running));
    });
}

fn two_creations_of_one_guest_at_the_same_time_make_one() {
    on_host(async |host| {
        let door = Door::open(&host).await;
        let mut client = door.client().await;
        door.glance.hold_layers();
        let request = door.guest("sleep 1000", &[port(0, 5)]);
        let (mut one, mut two) = (client.clone(), client.clone());
        let release = async {
            door.glance.until_held().await;
            door.glance.release_layers();
        };
        let (one, two, ()) = tokio::join!(create(&mut one, request.clone()), create(&mut two, request), release);
        assert_eq!((one.unwrap().last(), two.unwrap().last()), (Some(&CreateStage::Ready), Some(&CreateStage::Ready)));
        let listed = client.list_guests(v1::ListGuestsRequest {}).await.unwrap().into_inner().guests;
        assert_eq!(listed.len(), 1);
    });
}

fn a_creation_that_is_given_up_in_the_middle_leaves_nothing() {
    on_host(async |host| {
        let mut door = Door::open(&host).await;
        let mut client = door.client().await;
        door.glance.hold_layers();
        let request = door.guest("sleep 1000", &[port(0, 5)]);
        let mut stream = client.create_guest(with_token(request.clone())).await.unwrap().into_inner();
        let first = stream.message().await.unwrap().unwrap();
        assert_eq!(first.stage(), CreateStage::NetworkPlugged);
        door.glance.until_held().await;
        assert_ne!(door.leftovers().await, Vec::<String>::new(), "nothing was begun");
        drop(stream);
        // The next change waits for this one.
        let guest_id = request.guest.as_ref().unwrap().guest_id.clone();
        let status = client.pause_guest(v1::PauseGuestRequest { guest_id }).await.unwrap_err();
        assert_eq!(reason(&status).1, "GUEST_NOT_FOUND");
        assert_eq!(door.leftovers().await, Vec::<String>::new());
        door.glance.release_layers();
        launch(&mut client, request).await;
        door.service().stop().await.unwrap().unwrap();
    });
}

fn a_deadline_that_passes_in_the_middle_of_a_change_does_not_leave_half_of_it() {
    on_host(async |host| {
        let door = Door::open(&host).await;
        let mut client = door.client().await;
        // It does not end by the stop signal: the stop takes its time, and the start after it is the second half.
        let id =
            launch(&mut client, door.guest("sh -c 'trap : TERM; echo BOOTED; while :; do sleep 0.1; done'", &[])).await;
        until_logged(&mut client, &id, "BOOTED\n").await;
        let reboot = v1::RebootGuestRequest {
            guest_id: id.clone(),
            interfaces: vec![],
            timeout: seconds(10),
            ..Default::default()
        };
        let mut request = tonic::Request::new(reboot);
        request.set_timeout(std::time::Duration::from_secs(5));
        let status = client.reboot_guest(request).await.unwrap_err();
        assert!(matches!(status.code(), Code::Cancelled | Code::DeadlineExceeded), "{status}");
        // The next change waits for this one.
        let start = v1::StartGuestRequest { guest_id: id.clone(), interfaces: vec![], user_data: None };
        client.start_guest(start).await.unwrap();
        until_logged(&mut client, &id, &"BOOTED\n".repeat(2)).await;
        assert_eq!(console(&mut client, &id, None).await, "BOOTED\n".repeat(2));
        door.close().await;
    });
}

fn a_snapshot_is_described_and_uploaded_with_the_users_token() {
    on_host(async |host| {
        let door = Door::open(&host).await;
        let mut client = door.client().await;
        let command = "sh -c 'echo kept >/root/file; echo WRITTEN; exec sleep 1000'";
        let id = launch(&mut client, door.guest(command, &[])).await;
        until_logged(&mut client, &id, "WRITTEN\n").await;
        let image = Uuid::new_v4();
        let request = v1::SnapshotGuestRequest {
            guest_id: id,
            image_id: image.to_string(),
            project_id: "project-of-the-test".to_owned(),
        };
        use v1::SnapshotStage::{Captured, Uploaded, Uploading};
        // Who has not heard of its end asks again.
        for _ in 0..2 {
            let mut stream = client.snapshot_guest(with_token(request.clone())).await.unwrap().into_inner();
            let mut stages = vec![];
            while let Some(answer) = stream.message().await.unwrap() {
                stages.push(answer.stage());
            }
            assert_eq!(stages, [Captured, Uploading, Uploaded]);
        }
        let updates = door.glance.updates();
        assert!(updates.len() == 1 && updates[0].0 == image, "{updates:?}");
        assert!(updates[0].1.contains("project-of-the-test") && updates[0].1.contains("docker"), "{updates:?}");
        let made = door.glance.add(door.glance.uploaded(image).unwrap());
        let mut request = door.guest("sh -c 'cat /root/file; exec sleep 1000'", &[]);
        let properties = request.image.take().unwrap().properties;
        request.image = Some(v1::Image { properties, ..made });
        let id = launch(&mut client, request).await;
        until_logged(&mut client, &id, "kept\n").await;
    });
}

fn a_guest_runs_as_its_user_data_metadata_flavor_and_image_say() {
    on_host(async |host| {
        let door = Door::open(&host).await;
        let mut client = door.client().await;
        let mut request = door.guest("/no/such/command", &[]);
        let text = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
        let say = "sh -c 'echo \"$A $B $C $D in $(pwd) as $(id -u):$(id -g)\"; df -k /dev/shm /t; exec sleep 1000'";
        let properties = [("docker_env:A", "weak"), ("docker_env:B", "two words"), ("docker_user", "1:1")];
        request.image.as_mut().unwrap().properties.extend(properties.map(text));
        request.guest.as_mut().unwrap().metadata = [
            ("docker:env:A", "strong"),
            ("docker:entrypoint", ""),
            ("docker:command", say),
            ("docker:working_dir", "/made/for it"),
            ("docker:user", "7:8"),
            ("docker:tty", "true"),
            ("docker:stdin_open", "true"),
            ("docker:init", "true"),
            ("docker:tmpfs", "/t:1m"),
            ("docker:stop_signal", "SIGINT"),
            ("docker:label:role", "web"),
        ]
        .map(text)
        .into();
        let guest = request.guest.as_mut().unwrap();
        guest.extra_specs = [text(("docker:env:A", "of the flavor")), text(("docker:env:D", "flavor"))].into();
        // #container-config, environment: [C=service]
        guest.user_data = "I2NvbnRhaW5lci1jb25maWcKZW52aXJvbm1lbnQ6IFtDPXNlcnZpY2VdCg==".to_owned();
        let id = launch(&mut client, request).await;
        until_logged(&mut client, &id, "strong two words service flavor in /made/for it as 7:8").await;
        // Half of the flavor's 64 MiB, and what was asked for.
        until_logged(&mut client, &id, " 32768 ").await;
        until_logged(&mut client, &id, " 1024 ").await;
        let shown = door.docker.docker(&["inspect", "--format", "{{json .Config}}", &format!("nova-{id}")]).await;
        for part in ["\"Tty\":true", "\"OpenStdin\":true", "\"role\":\"web\"", "\"StopSignal\":\"SIGINT\""] {
            assert!(shown.contains(part), "{part}: {shown}");
        }
        door.close().await;
    });
}

fn a_guest_whose_configuration_is_wrong_is_refused_before_anything_is_made() {
    on_host(async |host| {
        let door = Door::open(&host).await;
        let mut request = door.guest("sleep 1000", &[port(0, 5)]);
        request.guest.as_mut().unwrap().metadata = [("docker:usr".to_owned(), "s3cret".to_owned())].into();
        let refused = create(&mut door.client().await, request).await.unwrap_err();
        assert_eq!(reason(&refused).1, "INVALID_ARGUMENT");
        assert!(refused.message().starts_with("docker:usr: there is no such key"), "{refused:?}");
        assert!(!format!("{refused:?}").contains("s3cret"));
        assert_eq!(door.leftovers().await, Vec::<String>::new());
        door.close().await;
    });
}

tests! {
    a_guest_runs_as_its_user_data_metadata_flavor_and_image_say,
    a_guest_whose_configuration_is_wrong_is_refused_before_anything_is_made,
    the_service_tells_what_it_is_and_what_the_host_has,
    a_client_of_another_time_is_refused_with_who_must_be_upgraded,
    a_guest_is_made_started_frozen_thawed_stopped_rebooted_and_deleted,
    a_guest_that_is_made_again_stays_the_one_it_is,
    two_creations_of_one_guest_at_the_same_time_make_one,
    a_creation_that_is_given_up_in_the_middle_leaves_nothing,
    a_deadline_that_passes_in_the_middle_of_a_change_does_not_leave_half_of_it,
    a_snapshot_is_described_and_uploaded_with_the_users_token,
}
