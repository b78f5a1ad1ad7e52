//! How much the second door takes on at a time, and what becomes of a client that is no longer there.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::time::{Duration, Instant};

use integration_tests::certificates::Authority;
use integration_tests::door::{Client, Door, launch, port, with_token};
use integration_tests::isolated;
use integration_tests::proxy::Proxy;
use nova_docker_proto::v1;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};

/// Whether a call is answered while another one, which takes seconds, is under way.
async fn answers_beside_another(limit: &str) -> bool {
    let door = Door::open_with(&[(("docker_grpc", "max_concurrent_requests"), limit)]).await;
    let (mut client, mut other) = (door.client().await, door.client().await);
    // It does not listen to the stop signal.
    let deaf = door.guest("sh -c 'trap \"\" TERM; while :; do sleep 0.1; done'", &[]);
    let guest_id = launch(&mut client, deaf).await;
    let timeout = Some(prost_types::Duration { seconds: 3, nanos: 0 });
    let mut stop = tokio::spawn(async move { client.stop_guest(v1::StopGuestRequest { guest_id, timeout }).await });
    let begun = ["events", "--since=1m", "--until=0s", "--filter=event=kill", "--format={{.Action}}"];
    while door.docker.docker(&begun).await.is_empty() {
        assert!(!stop.is_finished(), "the guest was not asked to stop");
    }
    let mut list = Box::pin(other.list_guests(v1::ListGuestsRequest {}));
    let beside = tokio::select! {
        biased;
        stopped = &mut stop => {
            stopped.unwrap().unwrap();
            false
        }
        listed = &mut list => {
            listed.unwrap();
            true
        }
    };
    match beside {
        true => drop(stop.await.unwrap().unwrap()),
        false => drop(list.await.unwrap()),
    }
    door.close().await;
    beside
}

#[test]
fn a_call_too_many_waits_until_another_has_ended() {
    isolated(async || assert!(!answers_beside_another("1").await));
    isolated(async || assert!(answers_beside_another("2").await));
}

#[test]
fn a_creation_whose_client_falls_silent_is_undone() {
    isolated(async || {
        let mut door = Door::closed().await;
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
        let mut client = Client::new(endpoint.tls_config(tls).unwrap().connect().await.unwrap());
        door.glance.hold_layers();
        let request = door.guest("sleep 1000", &[port(0, 5)]);
        let stages = client.create_guest(with_token(request)).await.unwrap().into_inner();
        door.glance.until_held().await;
        assert_ne!(door.leftovers().await, Vec::<String>::new(), "nothing was begun");
        // Neither end closes the connection.
        wire.fall_silent();
        let deadline = Instant::now() + Duration::from_secs(90);
        while door.leftovers().await != Vec::<String>::new() {
            assert!(Instant::now() < deadline, "left over: {:?}", door.leftovers().await);
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
        drop(stages);
        door.glance.release_layers();
        door.close().await;
    });
}
