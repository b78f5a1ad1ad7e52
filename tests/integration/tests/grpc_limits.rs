//! How many calls the second door takes at a time, and what happens when a client vanishes.

use std::time::Duration;

use integration_tests::certificates::Authority;
use integration_tests::door::{Client, Door, client, launch, port, until_logged, with_token};
use integration_tests::patience::until;
use integration_tests::proxy::Proxy;
use integration_tests::{Host, on_host};
use nova_docker_proto::v1;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};
use tonic::{Response, Status};
use uuid::Uuid;

/// A door that takes `limit` calls at a time. One of them is under way: the stop of a guest, which ends when that is killed.
struct Busy {
    door: Door,
    /// A client with nothing under way.
    other: Client,
    guest_id: String,
    stop: JoinHandle<Result<Response<v1::StopGuestResponse>, Status>>,
}

impl Busy {
    async fn open(host: &Host, limit: &str) -> Self {
        let door = Door::open_with(host, &[(("docker_grpc", "max_concurrent_requests"), limit)]).await;
        let (mut client, other) = (door.client().await, door.client().await);
        // It is asked to stop, and does not end by that.
        let obstinate = door.guest("sh -c 'trap : TERM; echo UP; while :; do sleep 0.1; done'", &[]);
        let guest_id = launch(&mut client, obstinate).await;
        until_logged(&mut client, &guest_id, "UP\n").await;
        let timeout = Some(prost_types::Duration { seconds: 3600, nanos: 0 });
        let request = v1::StopGuestRequest { guest_id: guest_id.clone(), timeout };
        let stop = tokio::spawn(async move { client.stop_guest(request).await });
        let of_guest = format!("--filter=container=nova-{guest_id}");
        let begun = ["events", "--since=1h", "--until=0s", "--filter=event=kill", &of_guest, "--format={{.Action}}"];
        until("the guest is asked to stop", async || !door.docker.docker(&begun).await.is_empty()).await;
        Self { door, other, guest_id, stop }
    }

    /// Lets the stop end.
    async fn kill_guest(&mut self) {
        self.door.docker.signal(self.guest_id.parse().unwrap(), "KILL").await;
        (&mut self.stop).await.unwrap().unwrap();
    }
}

fn a_call_too_many_waits_until_another_has_ended() {
    on_host(async |host| {
        let mut busy = Busy::open(&host, "1").await;
        let mut other = busy.other.clone();
        let mut list = tokio::spawn(async move { other.list_guests(v1::ListGuestsRequest {}).await });
        // That it waits is told by nothing else.
        timeout(Duration::from_secs(2), &mut list).await.expect_err("it was answered");
        busy.kill_guest().await;
        list.await.unwrap().unwrap();
        busy.door.close().await;
    });
    on_host(async |host| {
        let mut busy = Busy::open(&host, "2").await;
        busy.other.list_guests(v1::ListGuestsRequest {}).await.unwrap();
        assert!(!busy.stop.is_finished(), "the guest was stopped");
        busy.kill_guest().await;
        busy.door.close().await;
    });
}

fn a_creation_too_many_waits_until_another_has_ended_and_holds_up_no_quick_call() {
    on_host(async |host| {
        let door = Door::open_with(&host, &[(("docker_grpc", "max_concurrent_requests"), "2")]).await;
        let mut client = door.client().await;
        door.glance.hold_layers();
        let mut first = client.create_guest(with_token(door.guest("sleep 1000", &[]))).await.unwrap().into_inner();
        door.glance.until_held().await;
        let request = door.guest("sleep 1000", &[port(0, 5)]);
        let mut second = client.create_guest(with_token(request)).await.unwrap().into_inner();
        // The ports of one that had begun would be plugged.
        timeout(Duration::from_secs(2), async {
            while second.message().await.unwrap().is_some_and(|told| told.stage() != v1::CreateStage::NetworkPlugged) {}
        })
        .await
        .expect_err("it has begun");
        client.list_guests(v1::ListGuestsRequest {}).await.unwrap();
        door.glance.release_layers();
        for stream in [&mut first, &mut second] {
            let mut last = None;
            while let Some(told) = stream.message().await.unwrap() {
                last = Some(told.stage());
            }
            assert_eq!(last, Some(v1::CreateStage::Ready));
        }
        door.close().await;
    });
}

fn a_delete_waits_for_no_upload_of_the_guests_files() {
    on_host(async |host| {
        let door = Door::open(&host).await;
        let mut client = door.client().await;
        let guest_id = launch(&mut client, door.guest("sleep 1000", &[])).await;
        door.glance.take_uploads(false);
        let image = Uuid::new_v4();
        let request = v1::SnapshotGuestRequest {
            guest_id: guest_id.clone(),
            image_id: image.to_string(),
            project_id: "project".to_owned(),
        };
        let mut stages = client.snapshot_guest(with_token(request)).await.unwrap().into_inner();
        door.glance.until_uploading().await;
        let delete = v1::DeleteGuestRequest { guest_id, server_deleted: true, remove_volumes: false };
        client.delete_guest(delete).await.unwrap();
        assert_eq!(door.leftovers().await, Vec::<String>::new());
        assert!(door.glance.uploaded(image).is_none(), "the upload was not held");
        door.glance.take_uploads(true);
        let mut last = None;
        while let Some(told) = stages.message().await.unwrap() {
            last = Some(told.stage());
        }
        assert_eq!(last, Some(v1::SnapshotStage::Uploaded));
        assert!(door.glance.uploaded(image).is_some_and(|archive| !archive.is_empty()));
        door.close().await;
    });
}

fn a_creation_whose_client_falls_silent_is_undone() {
    on_host(async |host| {
        let mut door = Door::closed(&host).await;
        let authority = Authority::new(&door.path(""), "ours").await;
        let (certificate, key) = authority.sign("agent").await;
        // The namespace has every port free.
        door.start(&[
            (("docker_grpc", "listen"), "https://127.0.0.1:7400"),
            (("docker_grpc", "tls_certificate"), &certificate),
            (("docker_grpc", "tls_key"), &key),
            (("docker_grpc", "tls_client_ca"), &authority.certificate()),
        ])
        .await;
        let wire = Proxy::start(7400).await;
        let (certificate, key) = authority.sign("client").await;
        let read = |path: &str| std::fs::read(path).unwrap();
        let tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(read(&authority.certificate())))
            .identity(Identity::from_pem(read(&certificate), read(&key)));
        let endpoint = Endpoint::from_shared(format!("https://127.0.0.1:{}", wire.port())).unwrap();
        let mut client = client(endpoint.tls_config(tls).unwrap().connect().await.unwrap());
        door.glance.hold_layers();
        let request = door.guest("sleep 1000", &[port(0, 5)]);
        let mut stages = client.create_guest(with_token(request)).await.unwrap().into_inner();
        let first = stages.message().await.unwrap().unwrap();
        assert_eq!(first.stage(), v1::CreateStage::NetworkPlugged);
        door.glance.until_held().await;
        assert_ne!(door.leftovers().await, Vec::<String>::new(), "nothing was begun");
        // Neither end closes the connection.
        wire.fall_silent();
        until("nothing is left over", async || door.leftovers().await.is_empty()).await;
        drop(stages);
        door.glance.release_layers();
        door.close().await;
    });
}

tests! {
    a_call_too_many_waits_until_another_has_ended,
    a_creation_too_many_waits_until_another_has_ended_and_holds_up_no_quick_call,
    a_delete_waits_for_no_upload_of_the_guests_files,
    a_creation_whose_client_falls_silent_is_undone,
}
