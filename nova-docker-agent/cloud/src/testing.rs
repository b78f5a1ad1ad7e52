//! A control plane for unit tests: keystone and whatever a test mounts, on one HTTP server.
//!
//! It is compiled into the tests of each crate that uses it, by path: as a feature of this crate it would have the crate, and all that
//! stands on it, compiled once with and once without.

use std::time::Duration;

use nova_docker_cloud::{
    AuthConfig, Caller, Credentials, EndpointConfig, Named, Scope, ServiceConfig, Session, TlsConfig,
};
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::{Value, json};
use url::Url;
use wiremock::matchers::{method, path};
use wiremock::{Mock, MockServer, Request, Respond, ResponseTemplate};

pub(crate) const REQUEST_ID: &str = "req-00000000-0000-0000-0000-000000000001";

/// A server whose keystone gives the tokens `token-1`, `token-2`, ...
pub(crate) async fn control_plane() -> MockServer {
    let server = MockServer::start().await;
    mount_keystone(&server, 3600).await;
    server
}

pub(crate) async fn mount_keystone(server: &MockServer, lifetime_seconds: i64) {
    let url = server.uri();
    let logins = std::sync::atomic::AtomicU32::new(0);
    let answer = move |_: &Request| {
        let login = logins.fetch_add(1, std::sync::atomic::Ordering::SeqCst) + 1;
        ResponseTemplate::new(201)
            .insert_header("x-subject-token", format!("token-{login}"))
            .set_body_json(token_body(&url, lifetime_seconds))
            .set_delay(Duration::from_millis(20))
    };
    Mock::given(method("POST")).and(path("/v3/auth/tokens")).respond_with(answer).mount(server).await;
}

fn token_body(url: &str, lifetime_seconds: i64) -> Value {
    let issued = jiff::Timestamp::from_second(1_800_000_000).unwrap();
    let end = jiff::Timestamp::from_second(1_800_000_000 + lifetime_seconds).unwrap();
    let service = |kind: &str, url: &str| {
        json!({ "type": kind, "name": kind, "endpoints": [
            { "interface": "public", "region_id": "One", "region": "One", "url": url, "id": "e" }
        ]})
    };
    json!({ "token": {
        "issued_at": issued.to_string(),
        "expires_at": end.to_string(),
        "catalog": [service("placement", url), service("network", &format!("{url}/")), service("image", &format!("{url}/v2/"))],
    }})
}

pub(crate) fn password_auth(server: &MockServer) -> AuthConfig {
    AuthConfig {
        auth_url: Url::parse(&server.uri()).unwrap(),
        credentials: Credentials::Password {
            user: Named::Name("nova".into()),
            user_domain: Some(Named::Name("Default".into())),
            password: SecretString::from("pass"),
        },
        scope: Scope::Project { project: Named::Name("service".into()), domain: Some(Named::Name("Default".into())) },
        tls: TlsConfig::default(),
        timeout: None,
    }
}

pub(crate) fn session(server: &MockServer) -> Session {
    Session::new(password_auth(server)).unwrap()
}

pub(crate) fn service(service_type: &str) -> ServiceConfig {
    ServiceConfig {
        auth: None,
        endpoint: EndpointConfig {
            service_type: service_type.into(),
            service_name: None,
            region_name: None,
            valid_interfaces: vec!["internal".into(), "public".into()],
            endpoint_override: None,
            servers: Vec::new(),
        },
        tls: TlsConfig::default(),
        timeout: Some(Duration::from_secs(60)),
        connect_retries: 2,
        status_code_retries: 2,
    }
}

pub(crate) fn agent() -> Caller {
    Caller::service(REQUEST_ID)
}

pub(crate) fn user() -> Caller {
    Caller::user(SecretString::from("user-token"), REQUEST_ID)
}

/// Requests other than logins, in order, as `METHOD path?query`.
pub(crate) async fn asked(server: &MockServer) -> Vec<String> {
    let requests = server.received_requests().await.unwrap();
    let line = |request: &Request| match request.url.query() {
        Some(query) => format!("{} {}?{query}", request.method, request.url.path()),
        None => format!("{} {}", request.method, request.url.path()),
    };
    requests.iter().filter(|request| request.url.path() != "/v3/auth/tokens").map(line).collect()
}

pub(crate) async fn requests(server: &MockServer, wanted: &str) -> Vec<Request> {
    let (wanted_method, wanted_path) = wanted.split_once(' ').unwrap();
    let requests = server.received_requests().await.unwrap();
    requests
        .into_iter()
        .filter(|request| request.method.as_str() == wanted_method && request.url.path() == wanted_path)
        .collect()
}

pub(crate) fn header<'a>(request: &'a Request, name: &str) -> Option<&'a str> {
    request.headers.get(name).and_then(|value| value.to_str().ok())
}

pub(crate) async fn mount(server: &MockServer, verb: &str, at: &str, status: u16, body: Value) {
    let response = ResponseTemplate::new(status).set_body_json(body);
    Mock::given(method(verb)).and(path(at)).respond_with(response).mount(server).await;
}

/// Answers in turn; the last one for ever.
pub(crate) struct InTurn(Vec<ResponseTemplate>, std::sync::atomic::AtomicUsize);

impl InTurn {
    pub(crate) fn new(answers: Vec<ResponseTemplate>) -> Self {
        Self(answers, std::sync::atomic::AtomicUsize::new(0))
    }
}

impl Respond for InTurn {
    fn respond(&self, _: &Request) -> ResponseTemplate {
        let turn = self.1.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        self.0[turn.min(self.0.len() - 1)].clone()
    }
}

/// A call of stock nova-compute, with its answer.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Recorded {
    pub(crate) method: String,
    /// With query.
    pub(crate) path: String,
    #[serde(default)]
    pub(crate) headers: std::collections::BTreeMap<String, String>,
    pub(crate) request: Value,
    pub(crate) status: u16,
    pub(crate) response: Value,
}

pub(crate) fn recorded(lines: &str) -> Vec<Recorded> {
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The first recorded call of a method whose path starts so.
pub(crate) fn find<'a>(calls: &'a [Recorded], method: &str, start: &str) -> &'a Recorded {
    calls.iter().find(|call| call.method == method && call.path.starts_with(start)).unwrap()
}
