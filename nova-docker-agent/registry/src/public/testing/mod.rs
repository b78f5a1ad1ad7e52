//! A small cloud for tests: keystone and Glance as far as the registry asks them, and a registry before them.

mod cloud;
mod glance;
mod keystone;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::http::HeaderMap;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::Value;
use wiremock::MockServer;

use super::Server;
use crate::Digest;
use crate::config::from_settings;
pub use cloud::{Asked, Double};
pub use keystone::{MANY, id_of};
use nova_docker_service::config::Settings;

/// Keystone's ids of the projects `demo` and `other`, in which ann and bob have their roles, and cat.
pub const DEMO: &str = "11111111111111111111111111111111";
pub const OTHER: &str = "22222222222222222222222222222222";
/// An application credential of ann's for `demo`.
pub const CREDENTIAL: &str = "cccccccccccccccccccccccccccccccc";
pub const PASSWORD: &str = "pass:word";

/// How old listings of images may be, where a test does not say: older than any test is.
pub const FRESH: Duration = Duration::from_secs(3600);
/// Far more than any step takes, and less than a registry here is patient with a client where a test does not say: only a failure
/// waits so long.
pub const LONG: Duration = Duration::from_secs(120);

/// A registry before the cloud.
pub struct Registry {
    pub cloud: Double,
    server: Server,
    _services: MockServer,
    directory: Arc<tempfile::TempDir>,
}

impl Registry {
    pub async fn start() -> Self {
        Self::with(&[]).await
    }

    pub async fn with(options: &[((&str, &str), &str)]) -> Self {
        Self::start_in(Arc::new(tempfile::tempdir().unwrap()), options, FRESH).await
    }

    /// One whose listings of images may be no older than this.
    pub async fn with_listings_of(fresh: Duration) -> Self {
        Self::start_in(Arc::new(tempfile::tempdir().unwrap()), &[], fresh).await
    }

    /// Another process with the same state.
    pub async fn beside(other: &Self, options: &[((&str, &str), &str)]) -> Self {
        Self::start_in(other.directory.clone(), options, FRESH).await
    }

    /// One before this cloud.
    pub async fn before(cloud: (Double, MockServer), options: &[((&str, &str), &str)]) -> Self {
        Self::start_on(cloud, Arc::new(tempfile::tempdir().unwrap()), options, FRESH).await
    }

    async fn start_in(directory: Arc<tempfile::TempDir>, options: &[((&str, &str), &str)], fresh: Duration) -> Self {
        Self::start_on(Double::start().await, directory, options, fresh).await
    }

    async fn start_on(
        (cloud, services): (Double, MockServer),
        directory: Arc<tempfile::TempDir>,
        options: &[((&str, &str), &str)],
        fresh: Duration,
    ) -> Self {
        let (keystone, state) = (services.uri(), directory.path().display().to_string());
        let mut map = vec![
            (("registry", "listen"), "127.0.0.1:0"),
            (("registry", "public_url"), "http://registry.test:5000"),
            (("registry", "state_directory"), &state),
            (("registry", "request_header_timeout_seconds"), "600"),
            (("registry", "idle_timeout_seconds"), "3600"),
            (("keystone", "auth_url"), &keystone),
            (("glance", "endpoint_override"), &keystone),
            (("glance", "num_retries"), "0"),
        ];
        map.extend(options.iter().copied());
        let (config, _) = from_settings(&Settings::from_map(map)).unwrap();
        let server = Server::start_with(config.registry, fresh).await.unwrap();
        Self { cloud, server, _services: services, directory }
    }

    /// Sends a request. The status of an answer that broke off before its head was sent is 0.
    pub async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.send_from([127, 0, 0, 1], method, path, headers).await
    }

    /// The same, from this address.
    pub async fn send_from(&self, from: [u8; 4], method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
        let url = format!("http://{}{path}", self.server.address());
        let client = reqwest::Client::builder().no_proxy().local_address(IpAddr::from(from));
        let client = client.timeout(Duration::from_secs(300)).build().unwrap();
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
        let blobs = self.directory.path().join("cache/blobs-2").join(digest.algorithm().name());
        let wait = async {
            while !blobs.join(digest.hex()).exists() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(LONG, wait).await.unwrap();
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
#[derive(Debug)]
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

    /// Status and code of an error.
    pub fn error(&self) -> (u16, String) {
        (self.status, self.code())
    }

    pub fn message(&self) -> String {
        self.json()["errors"][0]["message"].as_str().unwrap().to_owned()
    }
}
