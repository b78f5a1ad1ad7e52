//! A registry to push to, for tests: on a temporary directory, with images in memory.

mod cloud;

use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use axum::body::to_bytes;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use secrecy::SecretString;
use serde_json::Value;

use super::super::error::ApiError;
use super::super::grant::{Action, Bearer, Grant};
use super::super::images::{Content, ReadableBlob};
use super::super::name::{Name, Reference};
use super::catalog::{Coming, Records};
use super::{Catalog, Push, PushConfig, Sealer};
use crate::cloud::Glance;
use crate::cloud::{EndpointConfig, ServiceConfig, TlsConfig};
use crate::registry::manifest::OCI_LAYER;
use crate::registry::testing::oci_manifest;
use crate::registry::{Digest, Error};
pub use cloud::{Asked, Cloud};

pub const MIB: usize = 1024 * 1024;

/// The project that tests push to, and its user.
pub const DEMO: &str = "de30";
pub const ALICE: &str = "a11ce";

pub fn name(text: &str) -> Name {
    text.parse().unwrap()
}

/// A user with a role in `project`, for these repositories of it.
pub fn bearer_of(user: &str, project: &str, names: &[&str]) -> Bearer {
    let grant = Grant {
        owner: project.into(),
        project: project.into(),
        user: user.into(),
        token: SecretString::from(format!("token-of-{user}")),
        request_id: "req-1".into(),
    };
    let all = vec![Action::Pull, Action::Push, Action::Delete];
    Bearer { access: names.iter().map(|text| (name(text), all.clone(), grant.clone())).collect() }
}

pub fn alice() -> Bearer {
    bearer_of(ALICE, DEMO, &["demo/web", "demo/other"])
}

/// Blobs of images, and the projects that may read them.
#[derive(Default)]
pub struct Shelf {
    blobs: Mutex<Vec<Shelved>>,
}

struct Shelved {
    owner: String,
    repository: String,
    content: Bytes,
    readers: Vec<String>,
}

impl Shelf {
    /// Puts a blob into an image of the repository of the project `owner`.
    pub fn put(&self, owner: &str, repository: &str, content: &[u8], readers: &[&str]) {
        let readers = readers.iter().map(|reader| (*reader).to_owned()).collect();
        let content = Bytes::copy_from_slice(content);
        let blob = Shelved { owner: owner.to_owned(), repository: repository.to_owned(), content, readers };
        self.blobs.lock().unwrap().push(blob);
    }
}

/// Seals so that a secret is not found on the disk by its text.
pub struct Backwards;

impl Sealer for Backwards {
    fn seal(&self, secret: &[u8]) -> Vec<u8> {
        secret.iter().rev().copied().collect()
    }

    fn unseal(&self, sealed: &[u8]) -> Option<Vec<u8>> {
        Some(self.seal(sealed))
    }
}

struct InMemory(Bytes);

impl ReadableBlob for InMemory {
    fn size(&self) -> u64 {
        self.0.len() as u64
    }

    fn read(self: Arc<Self>, range: Range<u64>) -> BoxStream<'static, Result<Bytes, Error>> {
        let part = self.0.slice(range.start as usize..range.end as usize);
        futures::stream::iter([Ok(part)]).boxed()
    }
}

impl Catalog for Shelf {
    fn find<'a>(&'a self, _: &'a Grant, _: &'a Name, _: &'a Reference) -> Coming<'a, Option<Arc<Content>>> {
        async { Ok(None) }.boxed()
    }

    fn of_repository<'a>(&'a self, _: &'a Grant, _: &'a Name) -> Coming<'a, Records> {
        async { Ok(vec![]) }.boxed()
    }

    fn blob<'a>(
        &'a self,
        grant: &'a Grant,
        name: &'a Name,
        digest: &'a Digest,
    ) -> Coming<'a, Option<Arc<dyn ReadableBlob>>> {
        let blobs = self.blobs.lock().unwrap();
        let found = blobs.iter().find(|blob| {
            blob.owner == grant.owner
                && blob.repository == name.repository()
                && digest.algorithm().digest(&blob.content) == *digest
                && blob.readers.contains(&grant.project)
        });
        let found = found.map(|blob| Arc::new(InMemory(blob.content.clone())) as Arc<dyn ReadableBlob>);
        async { Ok(found) }.boxed()
    }

    fn changed(&self, _: &Grant, _: &Name) {}
}

pub fn config(directory: &Path) -> PushConfig {
    PushConfig {
        state_directory: directory.into(),
        max_manifest: 4 * MIB,
        max_blobs: 1000,
        max_blob: 1 << 30,
        max_staged: 1 << 30,
        upload_expiry: Duration::from_secs(3600),
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
        },
        tls: TlsConfig::default(),
        timeout: Some(Duration::from_secs(5)),
        connect_retries: 0,
        status_code_retries: 0,
    };
    Glance::new(None, None, &config).unwrap()
}

pub async fn open_with(config: PushConfig, shelf: &Arc<Shelf>) -> Arc<Push> {
    Push::open(config, glance("http://127.0.0.1:1"), shelf.clone(), Arc::new(Backwards)).await.unwrap()
}

pub async fn open(directory: &Path) -> Arc<Push> {
    open_with(config(directory), &Arc::default()).await
}

/// What a client sees.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    pub async fn of(result: Result<Response, ApiError>) -> Self {
        let response = result.unwrap_or_else(IntoResponse::into_response);
        let (parts, body) = response.into_parts();
        Self { status: parts.status, headers: parts.headers, body: to_bytes(body, MIB).await.unwrap() }
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The upload that it is about.
    pub fn upload(&self) -> uuid::Uuid {
        self.header("location").rsplit('/').next().unwrap().parse().unwrap()
    }

    /// Status and code of an error.
    pub fn error(&self) -> (u16, String) {
        let body: Value = serde_json::from_slice(&self.body).unwrap_or_default();
        (self.status.as_u16(), body["errors"][0]["code"].as_str().unwrap_or_default().to_owned())
    }

    pub fn message(&self) -> String {
        let body: Value = serde_json::from_slice(&self.body).unwrap_or_default();
        body["errors"][0]["message"].as_str().unwrap_or_default().to_owned()
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
    crate::registry::testing::layer(seed, size)
}

/// Uploads a blob in one request.
pub async fn upload(push: &Push, bearer: &Bearer, to: &str, content: &[u8]) -> Digest {
    let digest = Digest::of(content);
    let query = format!("digest={digest}");
    let length = headers(&[("content-length", &content.len().to_string())]);
    let answer = push.begin(bearer, &name(to), &query, &length, content.to_vec().into()).await;
    assert_eq!(Answer::of(answer).await.status, 201);
    digest
}

/// The content of a staged blob.
pub async fn staged(push: &Push, bearer: &Bearer, of: &str, digest: &Digest) -> Option<Vec<u8>> {
    let grant = bearer.grant(&name(of), Action::Push).unwrap();
    let blob = push.staged(grant, &name(of), digest).await.unwrap()?;
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

/// A registry on a Glance.
pub async fn open_on(config: PushConfig, cloud: &Arc<Cloud>) -> Arc<Push> {
    Push::open(config, glance(&cloud.url()), cloud.clone(), Arc::new(Backwards)).await.unwrap()
}

/// The manifest of an image, as JSON.
pub fn manifest_of(config: &[u8], layers: &[Vec<u8>]) -> Vec<u8> {
    oci_manifest(config, layers, OCI_LAYER)
}

/// Uploads the blobs of an image; returns its manifest.
pub async fn upload_image(push: &Push, to: &str, seed: u8) -> Vec<u8> {
    let layers = [content(seed, 3000), content(seed + 1, 700)];
    let config = serde_json::to_vec(&crate::registry::testing::config(&layers)).unwrap();
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
    Answer::of(push.put_manifest(bearer, &name(to), &reference, query, &none, manifest.to_vec().into()).await).await
}

pub fn reference_of(text: &str) -> Reference {
    match text.parse() {
        Ok(digest) => Reference::Digest(digest),
        Err(_) => Reference::Tag(text.parse().unwrap()),
    }
}
