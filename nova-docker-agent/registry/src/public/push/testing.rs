//! A registry to push to, for tests: on a temporary directory, with or without a Glance.

use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::body::to_bytes;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::StreamExt;
use secrecy::SecretString;
use wiremock::MockServer;

use super::{Push, PushConfig};
use crate::manifest::OCI_LAYER;
use crate::public::images::Images;
pub use crate::public::testing::{Answer, Asked, DEMO, LONG};
use crate::public::testing::{Double, FRESH};
use crate::public::token::Key;
use crate::public::{Action, Bearer, Grant, Name, Reference, Repository};
use crate::testing::oci_manifest;
use crate::{ApiError, Digest};
use nova_docker_cloud::Glance;
use nova_docker_cloud::{EndpointConfig, ServiceConfig, TlsConfig};

pub const MIB: usize = 1024 * 1024;

/// The user of most tests, in the project `demo`.
pub const ALICE: &str = "a11ce";

pub fn name(text: &str) -> Name {
    text.parse().unwrap()
}

/// A user's keystone token.
pub fn token(user: &str, project: &str) -> SecretString {
    format!("{user}/{project}/1").into()
}

/// A user with a role in `project`, for these repositories of it.
pub fn bearer_of(user: &str, project: &str, names: &[&str]) -> Bearer {
    let grant = Grant::of_member(project, user.into(), token(user, project), "req-1", true);
    let all = vec![Action::Pull, Action::Push, Action::Delete];
    Bearer { access: names.iter().map(|text| (name(text), all.clone(), grant.clone())).collect() }
}

pub fn alice() -> Bearer {
    bearer_of(ALICE, DEMO, &["demo/web", "demo/other"])
}

/// A repository, as she reaches it.
pub fn at(text: &str) -> Repository {
    Repository { name: name(text), grant: alice().access[0].2.clone() }
}

/// The same for whoever may push to it.
pub fn as_pusher(bearer: &Bearer, to: &str) -> Result<Repository, ApiError> {
    bearer.repository(&name(to), Action::Push)
}

/// That of all registries here.
pub fn key() -> Key {
    Key::of([7; 32])
}

pub fn config(directory: &Path) -> PushConfig {
    PushConfig {
        state_directory: directory.into(),
        max_manifest: 4 * MIB,
        manifest_patience: LONG,
        max_blobs: 1000,
        max_blob: 1 << 30,
        max_staged: 1 << 30,
        max_staged_in_all: 1 << 30,
        upload_expiry: Duration::from_secs(3600),
        untagged_retention: None,
        max_untagged: None,
    }
}

/// Glance at this address.
pub fn glance(url: &str) -> Glance {
    let config = ServiceConfig {
        auth: None,
        endpoint: EndpointConfig {
            service_type: "image".into(),
            service_name: None,
            region_name: None,
            valid_interfaces: vec![],
            endpoint_override: Some(url.parse().unwrap()),
            servers: Vec::new(),
        },
        tls: TlsConfig::default(),
        timeout: Some(Duration::from_secs(60)),
        connect_retries: 0,
        status_code_retries: 0,
    };
    Glance::new(None, None, &config).unwrap()
}

/// A registry on a Glance.
pub async fn open_on(config: PushConfig, cloud: &Cloud) -> Arc<Push> {
    open_with_cache(config, cloud, 1 << 30).await
}

/// The same, with room for so many bytes in its cache.
pub async fn open_with_cache(config: PushConfig, cloud: &Cloud, size: u64) -> Arc<Push> {
    open_at(config, &cloud.services.uri(), size).await
}

/// A registry whose Glance is away.
pub async fn open(config: PushConfig) -> Arc<Push> {
    open_at(config, "http://127.0.0.1:1", 0).await
}

pub async fn open_at(config: PushConfig, url: &str, cache: u64) -> Arc<Push> {
    let glance = glance(url);
    let images = Images::open(glance.clone(), &config.state_directory, cache, FRESH).unwrap();
    Push::open(config, glance, images, key()).await.unwrap()
}

/// A registry on a Glance of its own.
pub async fn on_cloud(directory: &tempfile::TempDir) -> (Cloud, Arc<Push>) {
    let cloud = Cloud::start().await;
    let push = open_on(config(directory.path()), &cloud).await;
    (cloud, push)
}

/// Glance, at an address of its own.
pub struct Cloud {
    double: Double,
    services: MockServer,
}

impl Cloud {
    pub async fn start() -> Self {
        let (double, services) = Double::start().await;
        Self { double, services }
    }

    pub fn url(&self) -> String {
        self.services.uri()
    }
}

impl Deref for Cloud {
    type Target = Double;

    fn deref(&self) -> &Double {
        &self.double
    }
}

impl Answer {
    pub async fn of(result: Result<Response, ApiError>) -> Self {
        let (head, body) = result.unwrap_or_else(IntoResponse::into_response).into_parts();
        Self { status: head.status.as_u16(), headers: head.headers, body: to_bytes(body, MIB).await.unwrap() }
    }

    /// The upload that it is about.
    pub fn upload(&self) -> uuid::Uuid {
        self.header("location").rsplit('/').next().unwrap().parse().unwrap()
    }
}

pub fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    let pairs =
        pairs.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap()));
    pairs.collect()
}

/// A body that is sent piece by piece, and may break off.
pub fn pieces(pieces: Vec<Result<Vec<u8>, std::io::Error>>) -> Body {
    Body::from_stream(futures::stream::iter(pieces.into_iter().map(|piece| piece.map(Bytes::from))))
}

pub fn broken() -> std::io::Error {
    std::io::ErrorKind::ConnectionReset.into()
}

/// Content that differs from that of other seeds.
pub fn content(seed: u8, size: usize) -> Vec<u8> {
    crate::testing::layer(seed, size)
}

/// Uploads a blob in one request.
pub async fn upload(push: &Push, bearer: &Bearer, to: &str, content: &[u8]) -> Digest {
    let digest = Digest::of(content);
    let query = format!("digest={digest}");
    let length = headers(&[("content-length", &content.len().to_string())]);
    let answer = push.begin(bearer, &as_pusher(bearer, to).unwrap(), &query, &length, content.to_vec().into()).await;
    assert_eq!(Answer::of(answer).await.status, 201);
    digest
}

/// The content of a staged blob.
pub async fn staged(push: &Push, bearer: &Bearer, of: &str, digest: &Digest) -> Option<Vec<u8>> {
    let at = bearer.repository(&name(of), Action::Push).unwrap();
    let blob = push.staged(&at, digest).await.unwrap()?;
    let size = blob.size();
    let pieces: Vec<Bytes> = blob.read(0..size).map(Result::unwrap).collect().await;
    Some(pieces.concat())
}

/// All files under a directory.
pub fn files(directory: &Path) -> Vec<std::path::PathBuf> {
    let mut found = vec![];
    for entry in std::fs::read_dir(directory).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}

/// The manifest of an image, as JSON.
pub fn manifest_of(config: &[u8], layers: &[Vec<u8>]) -> Vec<u8> {
    oci_manifest(config, layers, OCI_LAYER)
}

/// Uploads the blobs of an image; returns its manifest.
pub async fn upload_image(push: &Push, to: &str, seed: u8) -> Vec<u8> {
    let layers = [content(seed, 3000), content(seed + 1, 700)];
    let config = serde_json::to_vec(&crate::testing::config(&layers)).unwrap();
    for blob in layers.iter().chain([&config]) {
        upload(push, &alice(), to, blob).await;
    }
    manifest_of(&config, &layers)
}

/// Pushes a manifest; `reference` may have a query.
pub async fn put(push: &Arc<Push>, to: &str, reference: &str, manifest: &[u8]) -> Answer {
    put_as(push, &alice(), to, reference, manifest).await
}

pub async fn put_as(push: &Arc<Push>, bearer: &Bearer, to: &str, reference: &str, manifest: &[u8]) -> Answer {
    let (reference, query) = reference.split_once('?').unwrap_or((reference, ""));
    let reference = reference_of(reference);
    let none = HeaderMap::new();
    let at = as_pusher(bearer, to).unwrap();
    Answer::of(push.put_manifest(&at, &reference, query, &none, manifest.to_vec().into()).await).await
}

pub fn reference_of(text: &str) -> Reference {
    match text.parse() {
        Ok(digest) => Reference::Digest(digest),
        Err(_) => Reference::Tag(text.parse().unwrap()),
    }
}
