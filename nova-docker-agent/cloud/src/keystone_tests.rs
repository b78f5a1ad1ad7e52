use serde_json::json;
use wiremock::matchers::{method, path};
use wiremock::{Mock, MockServer, ResponseTemplate};

use super::super::Named;
use super::super::testing::{REQUEST_ID, header, requests};
use super::*;

fn client(server: &MockServer) -> Keystone {
    let auth_url = server.uri().parse().unwrap();
    Keystone::new(&KeystoneConfig { auth_url, tls: TlsConfig::default(), timeout: None }).unwrap()
}

fn password() -> Credentials {
    let user_domain = Some(Named::Id("default".into()));
    Credentials::Password { user: Named::Name("ann".into()), user_domain, password: "pass".into() }
}

async fn keystone() -> MockServer {
    let server = MockServer::start().await;
    let body = json!({"token": {
        "issued_at": "2026-01-01T00:00:00.000000Z", "expires_at": "2026-01-01T01:00:00.000000Z",
        "user": {"id": "u1", "name": "ann", "domain": {"id": "default", "name": "Default"}},
        "project": {"id": "p1", "name": "demo", "domain": {"id": "default", "name": "Default"}},
    }});
    let answer = ResponseTemplate::new(201).insert_header("x-subject-token", "secret").set_body_json(body);
    Mock::given(method("POST")).and(path("/v3/auth/tokens")).respond_with(answer).mount(&server).await;
    server
}

#[tokio::test]
async fn a_user_logs_in_without_a_project_and_then_for_one() {
    let server = keystone().await;
    let login = client(&server).log_in(&password(), REQUEST_ID).await.unwrap();
    assert_eq!((login.user_id.as_str(), login.user_domain_id.as_str()), ("u1", "default"));
    assert!(login.end > Instant::now() + Duration::from_secs(3500));
    let scoped = client(&server).for_project(&login.token, "p1", REQUEST_ID).await.unwrap();
    assert_eq!(scoped.project.unwrap().name, "demo");
    let sent = requests(&server, "POST /v3/auth/tokens").await;
    let bodies: Vec<Value> = sent.iter().map(|request| request.body_json().unwrap()).collect();
    assert_eq!(bodies[0]["auth"]["scope"], "unscoped");
    assert_eq!(bodies[0]["auth"]["identity"]["password"]["user"]["domain"]["id"], "default");
    assert_eq!(bodies[1]["auth"]["identity"]["token"]["id"], "secret");
    assert_eq!(bodies[1]["auth"]["scope"]["project"]["id"], "p1");
    assert_eq!(header(&sent[0], "x-openstack-request-id"), Some(REQUEST_ID));
}

#[tokio::test]
async fn an_application_credential_asks_for_no_scope() {
    let server = keystone().await;
    let credentials = Credentials::ApplicationCredential {
        id: Named::Id("c1".into()),
        user: None,
        user_domain: None,
        secret: "pass".into(),
    };
    client(&server).log_in(&credentials, REQUEST_ID).await.unwrap();
    let body: Value = requests(&server, "POST /v3/auth/tokens").await[0].body_json().unwrap();
    assert!(body["auth"].get("scope").is_none());
    assert_eq!(body["auth"]["identity"]["application_credential"], json!({"id": "c1", "secret": "pass"}));
}

#[tokio::test]
async fn a_refusal_and_an_outage_are_told_apart() {
    let server = MockServer::start().await;
    let refusal = ResponseTemplate::new(401).set_body_json(json!({"error": {"code": 401, "message": "no"}}));
    Mock::given(method("POST")).respond_with(refusal).mount(&server).await;
    let error = client(&server).log_in(&password(), REQUEST_ID).await.unwrap_err();
    assert!(error.is_forbidden() && !error.is_unavailable());
    // It has the port and does not listen: connections are refused.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let auth_url = format!("http://{}", socket.local_addr().unwrap()).parse().unwrap();
    let gone = Keystone::new(&KeystoneConfig { auth_url, tls: TlsConfig::default(), timeout: None }).unwrap();
    let error = gone.log_in(&password(), REQUEST_ID).await.unwrap_err();
    assert!(error.is_unavailable(), "{error}");
}
