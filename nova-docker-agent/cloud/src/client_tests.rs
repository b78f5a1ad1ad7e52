use serde_json::{Value, json};
use wiremock::matchers::{method, path};
use wiremock::{Mock, ResponseTemplate};

use super::super::testing::{
    InTurn, REQUEST_ID, agent, asked, control_plane, header, requests, service, session, user,
};
use super::*;

fn answer(status: u16) -> ResponseTemplate {
    ResponseTemplate::new(status).set_body_json(json!({ "n": 1 }))
}

async fn rest(server: &wiremock::MockServer) -> Rest {
    Rest::new("neutron", Some(session(server)), Some(session(server)), &service("network")).unwrap()
}

async fn mount(server: &wiremock::MockServer, verb: &str, answers: Vec<ResponseTemplate>) {
    Mock::given(method(verb)).and(path("/thing")).respond_with(InTurn::new(answers)).mount(server).await;
}

#[tokio::test]
async fn the_agent_sends_its_token_and_the_request_id() {
    let server = control_plane().await;
    mount(&server, "GET", vec![answer(200)]).await;
    let value: Value = rest(&server).await.json(&agent(), Call::get("/thing")).await.unwrap();
    assert_eq!(value, json!({ "n": 1 }));
    let sent = requests(&server, "GET /thing").await;
    assert_eq!(header(&sent[0], "x-auth-token"), Some("token-1"));
    assert_eq!(header(&sent[0], "x-openstack-request-id"), Some(REQUEST_ID));
    assert_eq!(header(&sent[0], "x-service-token"), None);
}

#[tokio::test]
async fn a_users_token_goes_with_the_agents_as_service_token() {
    let server = control_plane().await;
    mount(&server, "GET", vec![answer(200)]).await;
    let _: Value = rest(&server).await.json(&user(), Call::get("/thing")).await.unwrap();
    let sent = requests(&server, "GET /thing").await;
    assert_eq!(header(&sent[0], "x-auth-token"), Some("user-token"));
    assert!(header(&sent[0], "x-service-token").unwrap().starts_with("token-"));
}

#[tokio::test]
async fn without_send_service_user_token_a_users_token_goes_alone() {
    let server = control_plane().await;
    mount(&server, "GET", vec![answer(200)]).await;
    let rest = Rest::new("neutron", Some(session(&server)), None, &service("network")).unwrap();
    let _: Value = rest.json(&user(), Call::get("/thing")).await.unwrap();
    assert_eq!(header(&requests(&server, "GET /thing").await[0], "x-service-token"), None);
}

#[tokio::test]
async fn a_refused_token_is_renewed_once() {
    let server = control_plane().await;
    mount(&server, "POST", vec![answer(401), answer(200)]).await;
    let _: Value = rest(&server).await.json(&agent(), Call::post("/thing")).await.unwrap();
    let sent = requests(&server, "POST /thing").await;
    assert_eq!(header(&sent[1], "x-auth-token"), Some("token-2"));

    let server = control_plane().await;
    mount(&server, "GET", vec![answer(401)]).await;
    let error = rest(&server).await.json::<Value>(&agent(), Call::get("/thing")).await.unwrap_err();
    assert_eq!((error.status(), asked(&server).await.len()), (Some(401), 2));
}

#[tokio::test]
async fn a_get_is_repeated_after_503_and_a_post_is_not() {
    let server = control_plane().await;
    mount(&server, "GET", vec![answer(503), answer(504), answer(200)]).await;
    mount(&server, "POST", vec![answer(503), answer(200)]).await;
    let rest = rest(&server).await;
    rest.json::<Value>(&agent(), Call::get("/thing")).await.unwrap();
    assert_eq!(rest.json::<Value>(&agent(), Call::post("/thing")).await.unwrap_err().status(), Some(503));
    assert_eq!(asked(&server).await.len(), 4);
}

#[tokio::test]
async fn repetitions_have_an_end_and_other_errors_get_none() {
    let server = control_plane().await;
    mount(&server, "GET", vec![answer(502)]).await;
    mount(&server, "PUT", vec![answer(500)]).await;
    let rest = rest(&server).await;
    assert_eq!(rest.json::<Value>(&agent(), Call::get("/thing")).await.unwrap_err().status(), Some(502));
    assert_eq!(asked(&server).await.len(), 3);
    assert_eq!(rest.json::<Value>(&agent(), Call::put("/thing")).await.unwrap_err().status(), Some(500));
    assert_eq!(asked(&server).await.len(), 4);
}

#[tokio::test]
async fn a_post_is_repeated_when_the_connection_was_never_made() {
    let server = control_plane().await;
    // It has the port, which refuses connections until it listens.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let mut config = ServiceConfig { connect_retries: 20, ..service("network") };
    let address = format!("http://{}", socket.local_addr().unwrap());
    config.endpoint.endpoint_override = Some(address.parse().unwrap());
    let rest = Rest::new("neutron", Some(session(&server)), None, &config).unwrap();
    let listener = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(150)).await;
        let listener = socket.listen(16).unwrap().into_std().unwrap();
        let late = wiremock::MockServer::builder().listener(listener).start().await;
        mount(&late, "POST", vec![answer(200)]).await;
        late
    });
    rest.json::<Value>(&agent(), Call::post("/thing")).await.unwrap();
    assert_eq!(asked(&listener.await.unwrap()).await, ["POST /thing"]);
}

#[tokio::test]
async fn of_several_servers_the_next_one_is_asked_when_one_does_not_answer() {
    let (overloaded, good) = (control_plane().await, control_plane().await);
    mount(&overloaded, "GET", vec![answer(503)]).await;
    mount(&good, "GET", vec![answer(200)]).await;
    mount(&good, "POST", vec![answer(500)]).await;
    // It has the port, and never listens.
    let absent = tokio::net::TcpSocket::new_v4().unwrap();
    absent.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let absent = format!("http://{}", absent.local_addr().unwrap());
    let mut config = service("image");
    config.endpoint.servers =
        [absent, overloaded.uri(), good.uri()].iter().map(|server| server.parse().unwrap()).collect();
    let rest = Rest::new("glance", Some(session(&good)), None, &config).unwrap();
    rest.turn.store(0, Ordering::Relaxed);
    for _ in 0..2 {
        rest.json::<Value>(&agent(), Call::get("/thing")).await.unwrap();
    }
    // A refusal is an answer.
    rest.json::<Value>(&agent(), Call::post("/thing")).await.unwrap_err();
    rest.json::<Value>(&agent(), Call::get("/thing")).await.unwrap();
    assert_eq!(asked(&overloaded).await.len(), 1);
    assert_eq!(asked(&good).await.len(), 4);
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_asked_for_again() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    let server = control_plane().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut config = service("network");
    let address = format!("http://{}", listener.local_addr().unwrap());
    config.endpoint.endpoint_override = Some(address.parse().unwrap());
    let broken_and_whole = tokio::spawn(async move {
        for body in ["{ \"n\"", "{ \"n\": 1 }"] {
            let (mut connection, _) = listener.accept().await.unwrap();
            let mut request = [0; 4096];
            assert!(connection.read(&mut request).await.unwrap() > 0);
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: 10\r\nconnection: close\r\n\r\n{body}");
            connection.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    let rest = Rest::new("neutron", Some(session(&server)), None, &config).unwrap();
    let value: Value = rest.json(&agent(), Call::get("/thing")).await.unwrap();
    assert_eq!(value, json!({ "n": 1 }));
    broken_and_whole.await.unwrap();
}

#[tokio::test]
async fn a_call_that_takes_too_long_is_given_up_and_a_change_is_not_repeated() {
    let server = control_plane().await;
    mount(&server, "POST", vec![answer(200).set_delay(Duration::from_secs(3600))]).await;
    let rest = rest(&server).await;
    let limit = service("network").timeout.unwrap();
    let call = tokio::spawn(async move { rest.json::<Value>(&agent(), Call::post("/thing")).await });
    while asked(&server).await.is_empty() {
        assert!(!call.is_finished());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // The limit passes at once, by the clock of this side.
    tokio::time::pause();
    tokio::time::advance(limit).await;
    tokio::time::resume();
    let given_up = tokio::time::timeout(limit, call).await.expect("it is waited for");
    let error = given_up.unwrap().unwrap_err();
    assert!(matches!(&error, Error::Unreachable { .. }), "{error}");
    assert!(error.to_string().contains("timed out"), "{error}");
    assert_eq!(asked(&server).await.len(), 1);
}

#[tokio::test]
async fn data_that_does_not_begin_to_come_is_given_up_before_the_limit_of_a_call() {
    let server = control_plane().await;
    mount(&server, "GET", vec![answer(200).set_delay(Duration::from_secs(3600))]).await;
    let most = Duration::from_millis(50);
    let error = rest(&server).await.open(&agent(), &Call::get("/thing"), most).await.unwrap_err();
    assert!(matches!(&error, Error::Unreachable { .. }), "{error}");
    assert!(error.to_string().contains("no answer within 50ms"), "{error}");
}

#[tokio::test]
async fn an_error_says_what_was_asked_and_what_came_back() {
    let server = control_plane().await;
    let refusal = ResponseTemplate::new(409)
        .insert_header("x-openstack-request-id", "req-theirs")
        .set_body_json(json!({ "NeutronError": { "type": "OverQuota", "message": "Quota exceeded", "detail": "" } }));
    mount(&server, "GET", vec![refusal]).await;
    let call = Call::get("/thing").query(&[("id", "a b"), ("id", "c")]);
    let error = rest(&server).await.json::<Value>(&agent(), call).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "neutron refused GET /thing?id=a+b&id=c: 409 OverQuota: Quota exceeded (its request id: req-theirs)"
    );
    assert!(error.is_conflict());
}

#[tokio::test]
async fn something_that_is_not_json_is_reported_as_such() {
    let server = control_plane().await;
    mount(&server, "GET", vec![ResponseTemplate::new(200).set_body_string("<html>")]).await;
    let error = rest(&server).await.json::<Value>(&agent(), Call::get("/thing")).await.unwrap_err().to_string();
    assert!(error.starts_with("neutron answered GET /thing with something unexpected"), "{error}");
}

#[tokio::test]
async fn an_answer_without_end_is_given_up() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    let server = control_plane().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut config = service("network");
    let address = format!("http://{}", listener.local_addr().unwrap());
    config.endpoint.endpoint_override = Some(address.parse().unwrap());
    let endless = tokio::spawn(async move {
        let (mut connection, _) = listener.accept().await.unwrap();
        let mut request = [0; 4096];
        assert!(connection.read(&mut request).await.unwrap() > 0);
        connection.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await.unwrap();
        let chunk = [b"100000\r\n".as_slice(), &[b' '; 1 << 20], b"\r\n"].concat();
        let mut sent = 0;
        while connection.write_all(&chunk).await.is_ok() {
            sent += 1;
            assert!(sent < 1024, "all of it is taken");
        }
    });
    let rest = Rest::new("neutron", Some(session(&server)), None, &config).unwrap();
    let error = rest.json::<Value>(&agent(), Call::get("/thing")).await.unwrap_err().to_string();
    assert!(error.contains("more than 67108864 bytes"), "{error}");
    endless.await.unwrap();
}

#[tokio::test]
async fn an_endpoint_override_needs_no_catalog_and_its_version_is_not_doubled() {
    let server = control_plane().await;
    Mock::given(method("GET")).and(path("/network/thing")).respond_with(answer(200)).mount(&server).await;
    let mut config = service("network");
    config.endpoint.endpoint_override = Some(format!("{}/network/v2.0/", server.uri()).parse().unwrap());
    let rest = Rest::new("neutron", None, None, &config).unwrap();
    rest.json::<Value>(&user(), Call::get("/thing")).await.unwrap();
    assert_eq!(asked(&server).await, ["GET /network/thing"]);
}

#[test]
fn only_a_version_at_the_end_of_an_endpoint_is_cut() {
    for (given, expected) in [
        ("/", ""),
        ("", ""),
        ("/v2.0", ""),
        ("/network/v2.0/", "/network"),
        ("/v2/images", "/v2/images"),
        ("/vault", "/vault"),
    ] {
        assert_eq!(without_version(given), expected, "{given}");
    }
}
