//! A stand-in for Glance: serves image files on loopback to holders of its one token.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures::StreamExt;
use nova_docker_proto::v1;
use tokio::sync::watch;
use uuid::Uuid;

/// The token of the user who may read every image.
pub const TOKEN: &str = "token-of-the-test";
/// Reads that are longer than this are of a layer; those that look for headers are shorter.
const LAYER: u64 = 256 * 1024;
const CHUNK: usize = 16 * 1024;

/// The service; it ends with the test's runtime.
#[derive(Clone)]
pub struct Glance {
    port: u16,
    store: Arc<Store>,
}

struct Store {
    images: Mutex<HashMap<Uuid, Bytes>>,
    /// Layers are given by halves; the second half when this is true.
    open: watch::Sender<bool>,
    /// Layers of which the first half was given.
    halves: watch::Sender<usize>,
    /// Whether every read fails.
    broken: AtomicBool,
    /// Whether uploads are read.
    takes: watch::Sender<bool>,
    /// Uploads that have begun.
    begun: watch::Sender<usize>,
    /// Images that were uploaded into.
    uploads: watch::Sender<HashMap<Uuid, Bytes>>,
    /// Bodies of the updates of images.
    updates: Mutex<Vec<(Uuid, String)>>,
}

impl Glance {
    /// Starts it without an image.
    pub async fn start() -> Self {
        let store = Arc::new(Store {
            images: Mutex::default(),
            open: watch::Sender::new(true),
            halves: watch::Sender::new(0),
            broken: AtomicBool::new(false),
            takes: watch::Sender::new(true),
            begun: watch::Sender::new(0),
            uploads: watch::Sender::default(),
            updates: Mutex::default(),
        });
        let versions =
            || async { (StatusCode::MULTIPLE_CHOICES, r#"{"versions": [{"id": "v2.17", "status": "CURRENT"}]}"#) };
        let router = Router::new()
            .route("/", get(versions))
            .route("/v2/images/{id}", get(record).patch(update))
            .route("/v2/images/{id}/file", get(read).put(upload))
            .with_state(store.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("a bound port").port();
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { port, store }
    }

    /// Its address.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Takes an image file, and gives its record as the agent is told of it. Its bytes are known by no hash, so that every
    /// launch reads them anew.
    pub fn add(&self, content: Bytes) -> v1::Image {
        let id = Uuid::new_v4();
        let size = content.len() as u64;
        self.store.images.lock().unwrap_or_else(PoisonError::into_inner).insert(id, content);
        v1::Image {
            image_id: id.to_string(),
            name: "test".to_owned(),
            status: "active".to_owned(),
            size,
            container_format: "docker".to_owned(),
            disk_format: "raw".to_owned(),
            content_hash: None,
            properties: HashMap::new(),
        }
    }

    /// From now on only the first half of a layer is given.
    pub fn hold_layers(&self) {
        self.store.open.send_replace(false);
    }

    /// Gives the second halves.
    pub fn release_layers(&self) {
        self.store.open.send_replace(true);
    }

    /// Waits until somebody has the first half of a layer, and not the second.
    pub async fn until_held(&self) {
        let held = self.store.halves.subscribe().wait_for(|&halves| halves > 0).await.map(drop);
        held.expect("the store is there");
    }

    /// From now on uploads are read, or wait.
    pub fn take_uploads(&self, takes: bool) {
        self.store.takes.send_replace(takes);
    }

    /// Waits until somebody uploads.
    pub async fn until_uploading(&self) {
        let begun = self.store.begun.subscribe().wait_for(|&begun| begun > 0).await.map(drop);
        begun.expect("the store is there");
    }

    /// From now on reads fail, or do so no longer.
    pub fn set_broken(&self, broken: bool) {
        self.store.broken.store(broken, Ordering::SeqCst);
    }

    /// What was uploaded into an image.
    pub fn uploaded(&self, image: Uuid) -> Option<Bytes> {
        self.store.uploads.borrow().get(&image).cloned()
    }

    /// What was asked to be changed in the records of images, as JSON patches.
    pub fn updates(&self) -> Vec<(Uuid, String)> {
        self.store.updates.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn read(State(store): State<Arc<Store>>, Path(id): Path<Uuid>, headers: HeaderMap) -> Response {
    if !is_allowed(&headers) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    if store.broken.load(Ordering::SeqCst) {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    let image = store.images.lock().unwrap_or_else(PoisonError::into_inner).get(&id).cloned();
    let Some(image) = image else { return (StatusCode::NOT_FOUND, "No image found with that ID").into_response() };
    let size = image.len() as u64;
    let Some(range) = wanted(&headers, size) else { return StatusCode::RANGE_NOT_SATISFIABLE.into_response() };
    let part = image.slice(range.start as usize..range.end as usize);
    let content_range = format!("bytes {}-{}/{size}", range.start, range.end - 1);
    let halfway = if range.end - range.start > LAYER { part.len() / 2 } else { usize::MAX };
    let chunks = futures::stream::iter((0..part.len()).step_by(CHUNK)).then(move |start| {
        let (store, part) = (store.clone(), part.clone());
        async move {
            if start >= halfway && !*store.open.borrow() {
                store.halves.send_modify(|halves| *halves += 1);
                let opened = store.open.subscribe().wait_for(|&open| open).await.map(drop);
                opened.map_err(|_| std::io::Error::other("the test is over"))?;
            }
            Ok::<_, std::io::Error>(part.slice(start..part.len().min(start + CHUNK)))
        }
    });
    (StatusCode::PARTIAL_CONTENT, [("content-range", content_range)], Body::from_stream(chunks)).into_response()
}

/// `bytes=FIRST-LAST`; all of it without a range.
fn wanted(headers: &HeaderMap, size: u64) -> Option<Range<u64>> {
    let Some(range) = headers.get("range") else { return Some(0..size) };
    let (first, last) = range.to_str().ok()?.strip_prefix("bytes=")?.split_once('-')?;
    let range = first.parse().ok()?..size.min(last.parse::<u64>().ok()? + 1);
    (!range.is_empty()).then_some(range)
}

/// Of an image that an agent has uploaded into.
async fn record(State(store): State<Arc<Store>>, Path(id): Path<Uuid>, headers: HeaderMap) -> Response {
    if !is_allowed(&headers) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let status = if store.uploads.borrow().contains_key(&id) { "active" } else { "queued" };
    let record = serde_json::json!({"id": id, "status": status, "image_location": "snapshot"});
    ([("content-type", "application/json")], record.to_string()).into_response()
}

async fn update(State(store): State<Arc<Store>>, Path(id): Path<Uuid>, headers: HeaderMap, body: String) -> Response {
    if !is_allowed(&headers) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    if store.uploads.borrow().contains_key(&id) {
        let why = "Attribute container_format can be only replaced for a queued image.";
        return (StatusCode::FORBIDDEN, why).into_response();
    }
    store.updates.lock().unwrap_or_else(PoisonError::into_inner).push((id, body));
    let record = serde_json::json!({"id": id, "status": "queued"});
    ([("content-type", "application/json")], record.to_string()).into_response()
}

async fn upload(State(store): State<Arc<Store>>, Path(id): Path<Uuid>, headers: HeaderMap, body: Body) -> Response {
    if !is_allowed(&headers) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    store.begun.send_modify(|begun| *begun += 1);
    if store.takes.subscribe().wait_for(|&takes| takes).await.is_err() {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    match axum::body::to_bytes(body, usize::MAX).await {
        Ok(content) => {
            store.uploads.send_modify(|uploads| drop(uploads.insert(id, content)));
            StatusCode::NO_CONTENT.into_response()
        }
        Err(_) => StatusCode::BAD_REQUEST.into_response(),
    }
}

fn is_allowed(headers: &HeaderMap) -> bool {
    headers.get("x-auth-token").is_some_and(|token| token == TOKEN)
}
