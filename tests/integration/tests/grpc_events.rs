//! What the second door reports by itself: events, health, its contract; and how it stops.

use integration_tests::door::{Client, Door, connect, create, launch, port, reason, with_token};
use integration_tests::on_host;
use integration_tests::patience::PATIENCE;
use nova_docker_proto::v1;
use tokio::time::timeout;
use tonic::{Code, Streaming};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use v1::watch_events_response::Event;
use v1::{CreateStage, GuestEventKind, HostEventKind};

const SERVICE: &str = "nova_docker.v1.DriverService";

/// A watch that misses nothing from here on.
async fn watch(client: &mut Client) -> Streaming<v1::WatchEventsResponse> {
    let mut events = client.watch_events(v1::WatchEventsRequest {}).await.unwrap().into_inner();
    assert_eq!(events.message().await.unwrap().unwrap().event, None);
    events
}

async fn next(events: &mut Streaming<v1::WatchEventsResponse>) -> Event {
    let next = timeout(PATIENCE, events.message()).await.expect("no event came");
    next.unwrap().unwrap().event.unwrap()
}

async fn next_of_guest(events: &mut Streaming<v1::WatchEventsResponse>) -> (String, GuestEventKind) {
    match next(events).await {
        Event::Guest(event) => (event.guest_id.clone(), event.kind()),
        Event::Host(event) => panic!("{event:?}"),
    }
}

/// The next event of the host, and those of guests before it.
async fn until_of_host(
    events: &mut Streaming<v1::WatchEventsResponse>,
) -> (Vec<(String, GuestEventKind)>, HostEventKind) {
    let mut of_guests = vec![];
    loop {
        match next(events).await {
            Event::Guest(event) => of_guests.push((event.guest_id.clone(), event.kind())),
            Event::Host(event) => return (of_guests, event.kind()),
        }
    }
}

fn a_watch_tells_everything_that_happens_to_guests_in_order() {
    on_host(async |host| {
        let door = Door::open(&host).await;
        let mut client = door.client().await;
        let mut events = watch(&mut client).await;
        let id = launch(&mut client, door.guest("sleep 1000", &[])).await;
        let guest_id = || id.clone();
        client.pause_guest(v1::PauseGuestRequest { guest_id: guest_id() }).await.unwrap();
        client.unpause_guest(v1::UnpauseGuestRequest { guest_id: guest_id() }).await.unwrap();
        // Behind the agent's back.
        door.docker.docker(&["kill", &format!("nova-{id}")]).await;
        client.delete_guest(v1::DeleteGuestRequest { guest_id: guest_id(), ..Default::default() }).await.unwrap();
        use GuestEventKind::{Deleted, Paused, Resumed, Started, Stopped};
        let mut kinds = vec![];
        while kinds.last() != Some(&Deleted) {
            let (of_guest, kind) = next_of_guest(&mut events).await;
            assert_eq!(of_guest, id);
            // Docker 20.10 may tell more than once that it was frozen and thawed.
            if !(matches!(kind, Paused | Resumed) && kinds.contains(&kind)) {
                kinds.push(kind);
            }
        }
        assert_eq!(kinds, [Started, Paused, Resumed, Stopped, Deleted]);
    });
}

fn a_watch_tells_how_healthy_a_guest_is_and_how_it_has_ended() {
    on_host(async |host| {
        let door = Door::open(&host).await;
        let mut client = door.client().await;
        let mut events = watch(&mut client).await;
        let mut asked = door.guest("sh -c 'trap \"exit 3\" USR1; while :; do sleep 0.1; done'", &[]);
        let check = r#"{"test": "true", "interval": "1s"}"#.to_owned();
        asked.guest.as_mut().unwrap().metadata.insert("docker:healthcheck".to_owned(), check);
        let id = launch(&mut client, asked).await;
        let mut told = vec![];
        while told.len() < 3 {
            let Event::Guest(event) = next(&mut events).await else { panic!("Docker runs") };
            if event.kind() == GuestEventKind::HealthChanged {
                let state = client.get_guest(v1::GetGuestRequest { guest_id: id.clone() }).await.unwrap().into_inner();
                assert_eq!(state.guest.unwrap().health(), v1::GuestHealth::Healthy);
                door.docker.signal(id.parse().unwrap(), "USR1").await;
            }
            told.push((event.kind(), event.health(), event.exit_code));
        }
        let none = v1::GuestHealth::Unspecified;
        let expected = [
            (GuestEventKind::Started, none, None),
            (GuestEventKind::HealthChanged, v1::GuestHealth::Healthy, None),
            (GuestEventKind::Stopped, none, Some(3)),
        ];
        assert_eq!(told, expected);
    });
}

fn a_watch_tells_that_docker_is_lost_what_that_did_to_guests_and_that_it_is_back() {
    on_host(async |host| {
        let door = Door::open(&host).await;
        let mut client = door.client().await;
        let old = launch(&mut client, door.guest("sleep 1000", &[])).await;
        let mut events = watch(&mut client).await;
        // Something has come through: Docker is listened to.
        let new = launch(&mut client, door.guest("sleep 1000", &[])).await;
        assert_eq!(next_of_guest(&mut events).await, (new.clone(), GuestEventKind::Started));
        door.docker.stop_server();
        // A Docker that ends tells of its containers, or does not come to it.
        let (mut of_guests, lost) = until_of_host(&mut events).await;
        assert_eq!(lost, HostEventKind::DockerLost);
        door.docker.start_server().await;
        let (more, back) = until_of_host(&mut events).await;
        assert_eq!(back, HostEventKind::DockerBack);
        of_guests.extend(more);
        of_guests.sort();
        let mut stopped = [old, new].map(|id| (id, GuestEventKind::Stopped));
        stopped.sort();
        assert_eq!(of_guests, stopped);
        let id = launch(&mut client, door.guest("sleep 1000", &[])).await;
        assert_eq!(next_of_guest(&mut events).await, (id, GuestEventKind::Started));
    });
}

async fn next_health(answers: &mut Streaming<HealthCheckResponse>) -> ServingStatus {
    let next = timeout(PATIENCE, answers.message()).await.expect("no answer came");
    next.unwrap().unwrap().status()
}

fn the_health_of_the_service_is_that_of_docker() {
    on_host(async |host| {
        let mut door = Door::open(&host).await;
        let mut health = HealthClient::new(door.channel().await);
        let asked = HealthCheckRequest { service: SERVICE.to_owned() };
        let mut answers = health.watch(asked.clone()).await.unwrap().into_inner();
        assert_eq!(next_health(&mut answers).await, ServingStatus::Serving);
        door.docker.stop_server();
        assert_eq!(next_health(&mut answers).await, ServingStatus::NotServing);
        door.docker.start_server().await;
        assert_eq!(next_health(&mut answers).await, ServingStatus::Serving);
        assert_eq!(health.check(asked).await.unwrap().into_inner().status(), ServingStatus::Serving);
        // A watch of health does not keep the service from ending.
        let ended = door.service().stop();
        assert_eq!(next_health(&mut answers).await, ServingStatus::NotServing);
        assert_eq!(answers.message().await.unwrap(), None);
        ended.await.unwrap().unwrap();
    });
}

fn reflection_tells_the_contract() {
    on_host(async |host| {
        let door = Door::open(&host).await;
        let mut reflection = ServerReflectionClient::new(door.channel().await);
        let ask = |message| ServerReflectionRequest { host: String::new(), message_request: Some(message) };
        let questions = [
            ask(MessageRequest::ListServices(String::new())),
            ask(MessageRequest::FileContainingSymbol(format!("{SERVICE}.CreateGuest"))),
        ];
        let mut answers =
            reflection.server_reflection_info(futures::stream::iter(questions)).await.unwrap().into_inner();
        let mut next = async || answers.message().await.unwrap().unwrap().message_response.unwrap();
        match next().await {
            MessageResponse::ListServicesResponse(listed) => {
                let names: Vec<&str> = listed.service.iter().map(|service| service.name.as_str()).collect();
                assert!(names.contains(&SERVICE) && names.contains(&"grpc.health.v1.Health"), "{names:?}");
            }
            other => panic!("{other:?}"),
        }
        match next().await {
            MessageResponse::FileDescriptorResponse(found) => {
                assert!(
                    found
                        .file_descriptor_proto
                        .iter()
                        .any(|file| String::from_utf8_lossy(file).contains("CreateGuest"))
                );
            }
            other => panic!("{other:?}"),
        }
    });
}

fn a_stop_lets_the_calls_under_way_end_and_takes_no_others() {
    on_host(async |host| {
        let mut door = Door::open(&host).await;
        let mut client = door.client().await;
        let mut events = watch(&mut client).await;
        door.glance.hold_layers();
        let request = door.guest("sleep 1000", &[port(0, 5)]);
        let mut stages = client.create_guest(with_token(request)).await.unwrap().into_inner();
        door.glance.until_held().await;

        let ended = door.service().stop();
        assert_eq!(events.message().await.unwrap(), None, "the watch goes on");
        assert!(!door.socket().exists());
        connect(&door.socket()).await.expect_err("somebody listens");
        assert!(!ended.is_finished());
        door.glance.release_layers();
        let mut last = CreateStage::Unspecified;
        while let Some(answer) = stages.message().await.unwrap() {
            last = answer.stage();
        }
        assert_eq!(last, CreateStage::Ready);
        ended.await.unwrap().unwrap();
        let status = client.list_guests(v1::ListGuestsRequest {}).await.unwrap_err();
        assert_eq!(status.code(), Code::Unavailable);
    });
}

fn a_creation_that_does_not_end_while_the_service_stops_is_undone() {
    on_host(async |host| {
        let mut door = Door::open_with(&host, &[(("DEFAULT", "graceful_shutdown_timeout"), "1")]).await;
        let mut client = door.client().await;
        door.glance.hold_layers();
        let request = door.guest("sleep 1000", &[port(0, 5)]);
        let created = create(&mut client, request);
        let stopped = async {
            door.glance.until_held().await;
            let ended = door.service.take().unwrap().stop();
            ended.await.unwrap().unwrap();
        };
        let (created, ()) = tokio::join!(created, stopped);
        let (code, reason, _) = reason(&created.unwrap_err());
        assert_eq!((code, reason.as_str()), (Code::Unavailable, "STOPPING"));
        assert_eq!(door.leftovers().await, Vec::<String>::new());
    });
}

fn a_client_that_comes_before_docker_is_served_when_docker_is_there() {
    on_host(async |host| {
        let mut door = Door::closed(&host).await;
        door.docker.stop_server();
        door.start(&[]).await;
        let mut client = door.client().await;
        let call = client.list_guests(v1::ListGuestsRequest {});
        let (listed, ()) = tokio::join!(call, door.docker.start_server());
        assert_eq!(listed.unwrap().into_inner().guests, []);
    });
}

fn a_service_that_waits_for_docker_can_be_stopped() {
    on_host(async |host| {
        let mut door = Door::closed(&host).await;
        door.docker.stop_server();
        door.start(&[]).await;
        assert!(door.socket().exists());
        door.service().stop().await.unwrap().unwrap();
        assert!(!door.socket().exists());
    });
}

tests! {
    a_watch_tells_everything_that_happens_to_guests_in_order,
    a_watch_tells_how_healthy_a_guest_is_and_how_it_has_ended,
    a_watch_tells_that_docker_is_lost_what_that_did_to_guests_and_that_it_is_back,
    the_health_of_the_service_is_that_of_docker,
    reflection_tells_the_contract,
    a_stop_lets_the_calls_under_way_end_and_takes_no_others,
    a_creation_that_does_not_end_while_the_service_stops_is_undone,
    a_client_that_comes_before_docker_is_served_when_docker_is_there,
    a_service_that_waits_for_docker_can_be_stopped,
}
