//! How the second door reports failures: a code, a reason, a sentence, and nothing left behind.

use std::collections::HashMap;
use std::path::Path;

use integration_tests::door::{Client, Door, Setting, create, launch, port, reason};
use integration_tests::on_host;
use nix::mount::{MsFlags, mount, umount};
use nova_docker_agent::network::LINK_DIRECTORY;
use nova_docker_proto::v1;
use tonic::{Code, Status};
use uuid::Uuid;

/// A start waits so long for an end of the guest, which ends the wait.
const LONG_GRACE: Setting<'static> = (("docker", "build_grace_seconds"), "120");

fn kind(status: &Status) -> (Code, String) {
    let (code, reason, _) = reason(status);
    (code, reason)
}

/// The failure of each call that names a guest.
async fn every_call(client: &mut Client, id: &str) -> Vec<(&'static str, Status)> {
    let guest_id = || id.to_owned();
    let (interfaces, interface) = (vec![port(0, 5)], Some(port(1, 5)));
    let start = v1::StartGuestRequest { guest_id: guest_id(), interfaces: interfaces.clone(), user_data: None };
    let reboot = v1::RebootGuestRequest { guest_id: guest_id(), interfaces: interfaces.clone(), ..Default::default() };
    let console = v1::GetConsoleOutputRequest { guest_id: guest_id(), tail_lines: None };
    let snapshot =
        v1::SnapshotGuestRequest { guest_id: guest_id(), image_id: guest_id(), project_id: "project".to_owned() };
    let snapshot = async |client: &mut Client| {
        let mut stages = client.snapshot_guest(snapshot).await?.into_inner();
        stages.message().await
    };
    vec![
        ("get", client.get_guest(v1::GetGuestRequest { guest_id: guest_id() }).await.unwrap_err()),
        ("start", client.start_guest(start).await.unwrap_err()),
        ("stop", client.stop_guest(v1::StopGuestRequest { guest_id: guest_id(), timeout: None }).await.unwrap_err()),
        ("reboot", client.reboot_guest(reboot).await.unwrap_err()),
        ("pause", client.pause_guest(v1::PauseGuestRequest { guest_id: guest_id() }).await.unwrap_err()),
        ("unpause", client.unpause_guest(v1::UnpauseGuestRequest { guest_id: guest_id() }).await.unwrap_err()),
        ("suspend", client.suspend_guest(v1::SuspendGuestRequest { guest_id: guest_id() }).await.unwrap_err()),
        (
            "resume",
            client
                .resume_guest(v1::ResumeGuestRequest { guest_id: guest_id(), interfaces: vec![], user_data: None })
                .await
                .unwrap_err(),
        ),
        ("console", client.get_console_output(console).await.unwrap_err()),
        ("plug", client.plug_guest(v1::PlugGuestRequest { guest_id: guest_id(), interfaces }).await.unwrap_err()),
        (
            "attach",
            client.attach_interface(v1::AttachInterfaceRequest { guest_id: guest_id(), interface }).await.unwrap_err(),
        ),
        ("snapshot", snapshot(client).await.unwrap_err()),
    ]
}

fn a_guest_that_is_not_here_is_named_and_nothing_is_made_for_it() {
    on_host(async |host| {
        let door = Door::open(&host).await;
        let mut client = door.client().await;
        let id = Uuid::new_v4().to_string();
        for (call, status) in every_call(&mut client, &id).await {
            let (code, reason, metadata) = reason(&status);
            assert_eq!((code, reason.as_str()), (Code::NotFound, "GUEST_NOT_FOUND"), "{call}: {status}");
            assert_eq!(metadata["guest_id"], id, "{call}");
        }
        assert_eq!(door.leftovers().await, Vec::<String>::new());
    });
}

fn a_field_without_a_meaning_is_called_by_its_name() {
    on_host(async |host| {
        let door = Door::open(&host).await;
        let mut client = door.client().await;
        for (call, status) in every_call(&mut client, "not-a-uuid").await {
            assert_eq!(kind(&status), (Code::InvalidArgument, "INVALID_ARGUMENT".to_owned()), "{call}: {status}");
            assert!(status.message().starts_with("guest_id: \"not-a-uuid\""), "{call}: {status}");
        }
        let whole = door.guest("sleep 1000", &[]);
        for (request, field) in [
            (v1::CreateGuestRequest { guest: None, ..whole.clone() }, "guest"),
            (v1::CreateGuestRequest { image: None, ..whole.clone() }, "image"),
            (door.guest("sh 'open", &[]), "os_command_line"),
            (door.guest("true", &[v1::Interface { port_id: "7".to_owned(), ..port(0, 5) }]), "interface.port_id"),
        ] {
            let status = create(&mut client, request).await.unwrap_err();
            assert_eq!(kind(&status), (Code::InvalidArgument, "INVALID_ARGUMENT".to_owned()), "{status}");
            assert!(status.message().starts_with(&format!("{field}: ")), "{status}");
        }
        let attach = v1::AttachInterfaceRequest { guest_id: Uuid::new_v4().to_string(), interface: None };
        let status = client.attach_interface(attach).await.unwrap_err();
        assert!(status.message().starts_with("interface: "), "{status}");
    });
}

fn a_guest_that_ends_at_once_tells_its_exit_code_and_its_last_words_and_stays() {
    on_host(async |host| {
        let door = Door::open_with(&host, &[LONG_GRACE]).await;
        let mut client = door.client().await;
        let request = door.guest("sh -c 'echo no database >&2; exit 3'", &[]);
        let guest_id = request.guest.as_ref().unwrap().guest_id.clone();
        create(&mut client, request).await.unwrap();
        let start = v1::StartGuestRequest { guest_id: guest_id.clone(), interfaces: vec![], user_data: None };
        let status = client.start_guest(start).await.unwrap_err();
        let (code, reason, metadata) = reason(&status);
        assert_eq!((code, reason.as_str()), (Code::Aborted, "EXITED_AT_ONCE"));
        assert_eq!((metadata["exit_code"].as_str(), metadata["log_tail"].as_str()), ("3", "no database"));
        let guest = client.get_guest(v1::GetGuestRequest { guest_id }).await.unwrap().into_inner().guest.unwrap();
        assert_eq!((guest.power_state(), guest.exit_code), (v1::PowerState::Crashed, Some(3)));
    });
}

fn a_command_that_is_not_in_the_image_is_told_at_the_start() {
    on_host(async |host| {
        let door = Door::open(&host).await;
        let mut client = door.client().await;
        let request = door.guest("/bin/nothing --at all", &[]);
        let guest_id = request.guest.as_ref().unwrap().guest_id.clone();
        create(&mut client, request).await.unwrap();
        let start = v1::StartGuestRequest { guest_id, interfaces: vec![], user_data: None };
        let status = client.start_guest(start).await.unwrap_err();
        assert_eq!(kind(&status), (Code::FailedPrecondition, "COMMAND_NOT_FOUND".to_owned()));
        assert!(status.message().contains("/bin/nothing"), "{status}");
    });
}

fn an_image_that_cannot_be_used_is_told_from_one_that_cannot_be_read() {
    on_host(async |host| {
        let door = Door::open(&host).await;
        let mut client = door.client().await;
        let absent = Uuid::new_v4().to_string();
        let corrupt = integration_tests::images::corrupt(&door.stored);
        let corrupt = door.glance.add(corrupt.0.clone());
        let (good, text) = (&door.image, str::to_owned);
        let cases = [
            (v1::Image { container_format: text("bare"), ..good.clone() }, "IMAGE_UNACCEPTABLE", "bare"),
            (v1::Image { status: text("deactivated"), ..good.clone() }, "IMAGE_UNACCEPTABLE", "deactivated"),
            (corrupt, "IMAGE_UNACCEPTABLE", "altered"),
            (v1::Image { image_id: absent.clone(), ..good.clone() }, "IMAGE_NOT_FOUND", absent.as_str()),
        ];
        for (image, expected, word) in cases {
            let image_id = image.image_id.clone();
            let request = v1::CreateGuestRequest { image: Some(image), ..door.guest("sleep 1000", &[port(0, 5)]) };
            let status = create(&mut client, request).await.unwrap_err();
            let (code, reason, metadata) = reason(&status);
            let codes: HashMap<_, _> =
                [("IMAGE_UNACCEPTABLE", Code::FailedPrecondition), ("IMAGE_NOT_FOUND", Code::NotFound)].into();
            assert_eq!((reason.as_str(), code), (expected, codes[expected]), "{status}");
            assert_eq!(metadata["image_id"], image_id);
            assert!(status.message().contains(word), "{status}");
        }
        assert_eq!(door.leftovers().await, Vec::<String>::new());
    });
}

fn a_glance_that_does_not_answer_is_told_from_an_image_that_is_not_there() {
    on_host(async |host| {
        let door = Door::open(&host).await;
        let mut client = door.client().await;
        door.glance.set_broken(true);
        let request = door.guest("sleep 1000", &[port(0, 5)]);
        let status = create(&mut client, request.clone()).await.unwrap_err();
        let (code, reason, metadata) = reason(&status);
        assert_eq!((code, reason.as_str()), (Code::Unavailable, "IMAGE_UNAVAILABLE"), "{status}");
        assert_eq!(metadata["image_id"], door.image.image_id);
        assert_eq!(door.leftovers().await, Vec::<String>::new());
        door.glance.set_broken(false);
        launch(&mut client, request).await;
    });
}

fn a_host_without_room_for_a_layer_says_so_and_keeps_nothing_of_the_guest() {
    on_host(async |host| {
        let door = Door::open(&host).await;
        let mut client = door.client().await;
        // Docker writes what it pulls into a file there, and containerd what it unpacks, unless it has it from another image.
        let store = door.docker.has_image_store().await;
        let unpacked = "containerd/daemon/io.containerd.snapshotter.v1.overlayfs/snapshots";
        let room = door.docker.data().join(if store { unpacked } else { "tmp" });
        integration_tests::images::remove_all(&door.docker).await;
        mount(Some("none"), &room, Some("tmpfs"), MsFlags::empty(), Some("size=64k")).unwrap();
        let request = door.guest("sleep 1000", &[port(0, 5)]);
        let status = create(&mut client, request.clone()).await.unwrap_err();
        assert_eq!(kind(&status), (Code::ResourceExhausted, "NO_SPACE".to_owned()), "{status}");
        assert_eq!(door.leftovers().await, Vec::<String>::new());
        umount(&room).unwrap();
        launch(&mut client, request).await;
    });
}

fn what_docker_refuses_is_told_in_its_words() {
    on_host(async |host| {
        let door = Door::open(&host).await;
        let mut client = door.client().await;
        let request = door.guest("sleep 1000", &[]);
        let guest_id = request.guest.as_ref().unwrap().guest_id.clone();
        create(&mut client, request).await.unwrap();
        let status = client.pause_guest(v1::PauseGuestRequest { guest_id }).await.unwrap_err();
        assert_eq!(kind(&status), (Code::Internal, "DOCKER_REFUSED".to_owned()), "{status}");
        assert!(status.message().contains("pause") && status.message().contains("not running"), "{status}");
    });
}

fn a_file_of_the_host_that_cannot_be_written_is_named() {
    on_host(async |host| {
        let door = Door::open(&host).await;
        let mut client = door.client().await;
        let request = door.guest("sleep 1000", &[]);
        let guest_id = request.guest.as_ref().unwrap().guest_id.clone();
        create(&mut client, request).await.unwrap();
        let container = door.docker.docker(&["ps", "-aq", "--no-trunc"]).await;
        // In the place of the link to the guest's network.
        let obstacle = Path::new(LINK_DIRECTORY).join(&container);
        std::fs::create_dir(&obstacle).unwrap();
        let start = v1::StartGuestRequest { guest_id, interfaces: vec![], user_data: None };
        let status = client.start_guest(start.clone()).await.unwrap_err();
        assert_eq!(kind(&status), (Code::Internal, "HOST_FAILED".to_owned()), "{status}");
        assert!(status.message().contains(&container), "{status}");
        std::fs::remove_dir(&obstacle).unwrap();
        client.start_guest(start).await.unwrap();
    });
}

fn an_image_is_read_with_the_rights_of_the_token_alone() {
    on_host(async |host| {
        let door = Door::open(&host).await;
        let mut client = door.client().await;
        let mut request = tonic::Request::new(door.guest("sleep 1000", &[]));
        request.metadata_mut().insert("x-auth-token", "expired".parse().unwrap());
        let mut stream = client.create_guest(request).await.unwrap().into_inner();
        let status = async {
            loop {
                stream.message().await?;
            }
        };
        let status: Result<(), Status> = status.await;
        assert_eq!(kind(&status.unwrap_err()), (Code::PermissionDenied, "IMAGE_NOT_FOUND".to_owned()));
    });
}

fn an_interface_that_cannot_be_plugged_says_why() {
    on_host(async |host| {
        let door = Door::open(&host).await;
        let mut client = door.client().await;
        let text = str::to_owned;
        for (interface, expected, word) in [
            (v1::Interface { vif_type: text("bridge"), ..port(0, 5) }, "UNSUPPORTED", "\"bridge\""),
            (v1::Interface { hybrid_plug: true, ..port(0, 5) }, "UNSUPPORTED", "hybrid"),
            (v1::Interface { bridge: text("br-none"), ..port(0, 5) }, "PLUG_FAILED", "br-none"),
            (v1::Interface { mac_address: text("no"), ..port(0, 5) }, "PLUG_FAILED", "MAC"),
            (v1::Interface { device_name: Some(text("../etc")), ..port(0, 5) }, "PLUG_FAILED", "../etc"),
        ] {
            let status = create(&mut client, door.guest("sleep 1000", &[interface])).await.unwrap_err();
            assert_eq!(kind(&status), (Code::FailedPrecondition, expected.to_owned()), "{status}");
            assert!(status.message().contains(word), "{status}");
        }
        assert_eq!(door.leftovers().await, Vec::<String>::new());
    });
}

fn everything_says_that_docker_is_down_and_goes_on_when_it_is_back() {
    on_host(async |host| {
        let door = Door::open(&host).await;
        let mut client = door.client().await;
        let id = launch(&mut client, door.guest("sleep 1000", &[port(0, 5)])).await;
        door.docker.stop_server();
        let mut failures = every_call(&mut client, &id).await;
        let again = door.guest("sleep 1000", &[port(0, 6)]);
        failures.push(("create", create(&mut client, again).await.unwrap_err()));
        let deleted = client.delete_guest(v1::DeleteGuestRequest { guest_id: id.clone(), ..Default::default() }).await;
        failures.push(("delete", deleted.unwrap_err()));
        failures.push(("list", client.list_guests(v1::ListGuestsRequest {}).await.unwrap_err()));
        let host = client.get_host_resources(v1::GetHostResourcesRequest {}).await;
        failures.push(("host", host.unwrap_err()));
        for (call, status) in failures {
            assert_eq!(kind(&status), (Code::Unavailable, "DOCKER_UNAVAILABLE".to_owned()), "{call}: {status}");
        }
        door.docker.start_server().await;
        client.delete_guest(v1::DeleteGuestRequest { guest_id: id, ..Default::default() }).await.unwrap();
        assert_eq!(door.leftovers().await, Vec::<String>::new());
    });
}

/// Clients such as Python's refuse an answer whose headers are larger than this.
fn a_failure_with_many_words_fits_into_the_headers_that_clients_take() {
    on_host(async |host| {
        let door = Door::open_with(&host, &[LONG_GRACE]).await;
        let mut client = door.client().await;
        let request = door.guest(
            "sh -c 'for i in `seq 20`; do echo $i äöü äöü äöü äöü äöü äöü äöü äöü äöü äöü äöü äöü äöü; done'",
            &[],
        );
        let guest_id = request.guest.as_ref().unwrap().guest_id.clone();
        create(&mut client, request).await.unwrap();
        let start = v1::StartGuestRequest { guest_id, interfaces: vec![], user_data: None };
        let status = client.start_guest(start).await.unwrap_err();
        let (_, _, metadata) = reason(&status);
        assert!(metadata["log_tail"].ends_with("äöü") && status.message().contains("code 0"), "{status}");
        let mut headers = tonic::codegen::http::HeaderMap::new();
        status.add_header(&mut headers).unwrap();
        let size: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum();
        assert!(size < 8000, "{size} bytes");
    });
}

tests! {
    a_guest_that_is_not_here_is_named_and_nothing_is_made_for_it,
    a_field_without_a_meaning_is_called_by_its_name,
    a_guest_that_ends_at_once_tells_its_exit_code_and_its_last_words_and_stays,
    a_command_that_is_not_in_the_image_is_told_at_the_start,
    an_image_that_cannot_be_used_is_told_from_one_that_cannot_be_read,
    a_glance_that_does_not_answer_is_told_from_an_image_that_is_not_there,
    a_host_without_room_for_a_layer_says_so_and_keeps_nothing_of_the_guest,
    what_docker_refuses_is_told_in_its_words,
    a_file_of_the_host_that_cannot_be_written_is_named,
    an_image_is_read_with_the_rights_of_the_token_alone,
    an_interface_that_cannot_be_plugged_says_why,
    everything_says_that_docker_is_down_and_goes_on_when_it_is_back,
    a_failure_with_many_words_fits_into_the_headers_that_clients_take,
}
