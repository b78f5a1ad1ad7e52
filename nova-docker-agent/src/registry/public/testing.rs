//! A small cloud for tests: keystone and Glance as far as the registry asks them, and a registry before them.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::http::HeaderMap;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::{Value, json};
use uuid::Uuid;
use wiremock::matchers::any;
use wiremock::{Mock, MockServer, Request, Respond, ResponseTemplate};

use super::Server;
use crate::config::Settings;
use crate::config::registry::from_settings;
use crate::registry::Digest;

/// Keystone's ids of the projects `demo` and `other`, in which ann and bob have their roles.
pub const DEMO: &str = "11111111111111111111111111111111";
pub const OTHER: &str = "22222222222222222222222222222222";
/// An application credential of ann's for `demo`.
pub const CREDENTIAL: &str = "cccccccccccccccccccccccccccccccc";
pub const PASSWORD: &str = "pass:word";

/// An image in the double of Glance.
#[derive(Clone)]
pub struct Stored {
    pub record: Value,
    pub content: Bytes,
}

#[derive(Default)]
struct State {
    images: Vec<Stored>,
    /// Requests, as `METHOD PATH?QUERY`.
    asked: Vec<String>,
    /// The answers of keystone and Glance are 503.
    is_down: bool,
    /// The store has no random access.
    no_ranges: bool,
    /// Logins so far, and how many of them Glance does not take any more.
    logins: usize,
    revoked: usize,
}

/// Keystone and Glance.
#[derive(Clone, Default)]
pub struct Double(Arc<Mutex<State>>);

impl Double {
    /// Adds an image of a project; `properties` win over what it would have.
    pub fn image(&self, owner: &str, name: &str, content: &Bytes, properties: Value) -> Uuid {
        let id = Uuid::new_v4();
        let mut state = self.0.lock().unwrap();
        let created = format!("2026-01-01T00:00:{:02}Z", state.images.len());
        let mut record = json!({
            "id": id, "name": name, "owner": owner, "status": "active", "container_format": "docker",
            "disk_format": "raw", "size": content.len(), "os_hash_algo": "sha512",
            "os_hash_value": Digest::of(content).hex(), "visibility": "private", "os_hidden": false,
            "created_at": created, "tags": [],
        });
        record.as_object_mut().unwrap().extend(properties.as_object().unwrap().clone());
        state.images.push(Stored { record, content: content.clone() });
        id
    }

    pub fn set_down(&self, is_down: bool) {
        self.0.lock().unwrap().is_down = is_down;
    }

    /// All keystone tokens that were given so far are refused from now on.
    pub fn revoke(&self) {
        let mut state = self.0.lock().unwrap();
        state.revoked = state.logins;
    }

    pub fn without_ranges(&self) {
        self.0.lock().unwrap().no_ranges = true;
    }

    /// How many requests began so.
    pub fn asked(&self, start: &str) -> usize {
        self.0.lock().unwrap().asked.iter().filter(|asked| asked.starts_with(start)).count()
    }

    /// Forgets the requests so far, and returns them, in an order that does not depend on which of several at a time came first.
    pub fn take_asked(&self) -> Vec<String> {
        let mut asked = std::mem::take(&mut self.0.lock().unwrap().asked);
        asked.sort();
        asked
    }

    pub fn remove(&self, id: Uuid) {
        self.0.lock().unwrap().images.retain(|image| image.record["id"] != json!(id));
    }
}

impl Respond for Double {
    fn respond(&self, request: &Request) -> ResponseTemplate {
        let mut state = self.0.lock().unwrap();
        let path = request.url.path();
        state.asked.push(format!("{} {path}?{}", request.method, request.url.query().unwrap_or_default()));
        if state.is_down {
            return ResponseTemplate::new(503);
        }
        match (request.method.as_str(), path) {
            ("POST", "/v3/auth/tokens") => {
                state.logins += 1;
                log_in(&request.body_json().unwrap(), state.logins)
            }
            ("GET", "/v3/auth/projects") => match user_of(request) {
                Some("ann") => ok(json!({"projects": [project(DEMO)]})),
                Some(_) => ok(json!({"projects": [project(OTHER)]})),
                None => ResponseTemplate::new(401),
            },
            ("GET", "/v2/images") => list(&state, request),
            _ => file(&state, request),
        }
    }
}

fn ok(body: Value) -> ResponseTemplate {
    ResponseTemplate::new(200).set_body_json(body)
}

fn project(id: &str) -> Value {
    let name = if id == DEMO { "demo" } else { "other" };
    json!({"id": id, "name": name, "domain_id": "default"})
}

fn log_in(body: &Value, number: usize) -> ResponseTemplate {
    let identity = &body["auth"]["identity"];
    let user = match identity["methods"][0].as_str().unwrap() {
        "password" => {
            let user = &identity["password"]["user"];
            let right = user["password"] == PASSWORD
                && (user["domain"] == json!({"id": "default"}) || user["domain"] == json!({"name": "Default"}));
            user["name"].as_str().filter(|name| right && ["ann", "bob"].contains(name))
        }
        "application_credential" => {
            let credential = &identity["application_credential"];
            (credential == &json!({"id": CREDENTIAL, "secret": PASSWORD})).then_some("ann")
        }
        _ => identity["token"]["id"].as_str().and_then(|token| token.split('/').next()),
    };
    let Some(user) = user else {
        let error = json!({"error": {"code": 401, "message": "The request you have made requires authentication."}});
        return ResponseTemplate::new(401).set_body_json(error);
    };
    let scope = body["auth"]["scope"]["project"]["id"].as_str();
    let scope = scope.or((identity["methods"][0] == "application_credential").then_some(DEMO));
    let own = if user == "ann" { DEMO } else { OTHER };
    if scope.is_some_and(|scope| scope != own) {
        return ResponseTemplate::new(401);
    }
    let mut token = json!({
        "issued_at": "2026-01-01T00:00:00.000000Z", "expires_at": "2026-01-01T01:00:00.000000Z",
        "user": {"id": format!("id-of-{user}"), "name": user, "domain": {"id": "default", "name": "Default"}},
    });
    if let Some(scope) = scope {
        let mut project = project(scope);
        project["domain"] = json!({"id": "default", "name": "Default"});
        token["project"] = project;
    }
    let subject = format!("{user}/{}/{number}", scope.unwrap_or_default());
    ResponseTemplate::new(201).insert_header("x-subject-token", subject).set_body_json(json!({"token": token}))
}

/// Tokens have the form `USER/PROJECT/NUMBER`.
fn token_of(request: &Request) -> Option<(&str, &str)> {
    let (user, rest) = request.headers.get("x-auth-token")?.to_str().ok()?.split_once('/')?;
    Some((user, rest.split_once('/')?.0))
}

fn is_revoked(state: &State, request: &Request) -> bool {
    let token = request.headers.get("x-auth-token").and_then(|token| token.to_str().ok());
    let number = token.and_then(|token| token.rsplit_once('/')?.1.parse::<usize>().ok());
    number.is_none_or(|number| number <= state.revoked)
}

fn user_of(request: &Request) -> Option<&str> {
    token_of(request).map(|(user, _)| user)
}

/// The images that the request's user sees.
fn visible<'a>(state: &'a State, request: &'a Request) -> impl Iterator<Item = &'a Stored> {
    let project = token_of(request).map(|(_, project)| project);
    state
        .images
        .iter()
        .filter(move |image| image.record["visibility"] == "public" || image.record["owner"].as_str() == project)
}

fn list(state: &State, request: &Request) -> ResponseTemplate {
    if is_revoked(state, request) || token_of(request).is_none_or(|(_, project)| project.is_empty()) {
        return ResponseTemplate::new(401);
    }
    let query =
        |wanted: &str| request.url.query_pairs().find(|(key, _)| key == wanted).map(|(_, value)| value.into_owned());
    let fits = |image: &&Stored| {
        let same = |key: &str| query(key).is_none_or(|value| image.record[key].as_str() == Some(&value));
        let hidden = query("os_hidden").unwrap_or_else(|| "false".into());
        same("owner")
            && same("status")
            && same("container_format")
            && image.record["os_hidden"] == json!(hidden == "true")
    };
    let images: Vec<Value> = visible(state, request).filter(fits).map(|image| image.record.clone()).collect();
    ok(json!({"images": images}))
}

fn file(state: &State, request: &Request) -> ResponseTemplate {
    let id = request.url.path().trim_start_matches("/v2/images/").trim_end_matches("/file").to_owned();
    let image = visible(state, request).find(|image| image.record["id"].as_str() == Some(&id));
    let Some(image) = image else { return ResponseTemplate::new(404) };
    let range = request.headers.get("range").and_then(|range| range.to_str().ok()?.strip_prefix("bytes="));
    let Some((start, end)) = range.and_then(|range| range.split_once('-')) else {
        return ResponseTemplate::new(200).set_body_bytes(image.content.clone());
    };
    if state.no_ranges {
        return ResponseTemplate::new(400);
    }
    let (start, end): (usize, usize) = (start.parse().unwrap(), end.parse().unwrap());
    let header = format!("bytes {start}-{end}/{}", image.content.len());
    ResponseTemplate::new(206)
        .insert_header("content-range", header.as_str())
        .set_body_bytes(image.content.slice(start..=end))
}

/// A registry before the cloud.
pub struct Registry {
    pub cloud: Double,
    server: Server,
    _services: MockServer,
    directory: Arc<tempfile::TempDir>,
}

impl Registry {
    pub async fn start() -> Self {
        Self::start_in(Arc::new(tempfile::tempdir().unwrap()), &[]).await
    }

    pub async fn with(options: &[((&str, &str), &str)]) -> Self {
        Self::start_in(Arc::new(tempfile::tempdir().unwrap()), options).await
    }

    /// Another process with the same state.
    pub async fn beside(other: &Self, options: &[((&str, &str), &str)]) -> Self {
        Self::start_in(other.directory.clone(), options).await
    }

    async fn start_in(directory: Arc<tempfile::TempDir>, options: &[((&str, &str), &str)]) -> Self {
        let services = MockServer::start().await;
        let cloud = Double::default();
        Mock::given(any()).respond_with(cloud.clone()).mount(&services).await;
        let (keystone, state) = (services.uri(), directory.path().display().to_string());
        let mut map = vec![
            (("registry", "listen"), "127.0.0.1:0"),
            (("registry", "public_url"), "http://registry.test:5000"),
            (("registry", "state_directory"), &state),
            (("keystone", "auth_url"), &keystone),
            (("glance", "endpoint_override"), &keystone),
            (("glance", "num_retries"), "0"),
        ];
        map.extend(options.iter().copied());
        let (config, _) = from_settings(&Settings::from_map(map)).unwrap();
        let server = Server::start(config).await.unwrap();
        Self { cloud, server, _services: services, directory }
    }

    /// Sends a request. The status of an answer that broke off before its head was sent is 0.
    pub async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
        let url = format!("http://{}{path}", self.server.address());
        let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(30)).build().unwrap();
        let request = client.request(method.parse().unwrap(), url);
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        let response = match request.send().await {
            Err(error) if error.is_request() => {
                return Answer { status: 0, headers: HeaderMap::new(), body: Bytes::new() };
            }
            sent => sent.unwrap(),
        };
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Answer { status, headers, body: response.bytes().await.unwrap_or_default() }
    }

    /// A token of `user` for the scopes.
    pub async fn token(&self, user: &str, scopes: &[&str]) -> String {
        let scopes: String = scopes.iter().map(|scope| format!("&scope={scope}")).collect();
        let answer = self.send("GET", &format!("/token?account=x{scopes}"), &[("authorization", &basic(user))]).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()["token"].as_str().unwrap().to_owned()
    }

    /// A request of `user`'s with a token for the repository.
    pub async fn ask(&self, user: &str, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
        let rest = path.trim_start_matches("/v2/");
        let end = ["/manifests/", "/blobs/", "/tags/", "/referrers/"].iter().find_map(|part| rest.find(part));
        let name = &rest[..end.unwrap_or(rest.len())];
        let token = self.token(user, &[&format!("repository:{name}:pull,push,delete"), "registry:catalog:*"]).await;
        let bearer = format!("Bearer {token}");
        let headers: Vec<_> = headers.iter().copied().chain([("authorization", bearer.as_str())]).collect();
        self.send(method, path, &headers).await
    }

    pub fn address(&self) -> std::net::SocketAddr {
        self.server.address()
    }

    pub async fn get(&self, user: &str, path: &str) -> Answer {
        self.ask(user, "GET", path, &[]).await
    }

    /// Waits until a blob is in the cache: clients have their last bytes a little before.
    pub async fn until_cached(&self, digest: &Digest) {
        let blobs = self.directory.path().join("cache/blobs").join(digest.algorithm().name());
        let wait = async {
            while !blobs.join(digest.hex()).exists() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), wait).await.unwrap();
    }

    pub async fn stop(self) {
        self.server.stop().await;
    }
}

/// HTTP Basic.
pub fn basic(user: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{PASSWORD}")))
}

/// What came back.
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("{}", self.text()))
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(|value| value.to_str().unwrap()).unwrap_or_default()
    }

    /// The code of an error.
    pub fn code(&self) -> String {
        self.json()["errors"][0]["code"].as_str().unwrap().to_owned()
    }
}
