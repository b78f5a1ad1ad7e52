//! Glance, as far as pushes use it: over HTTP for [`Glance`](crate::cloud::Glance), and as the registry's [`Catalog`].

use std::collections::HashMap;
use std::io::Read;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use serde_json::{Map, Value, json};
use uuid::Uuid;
use wiremock::matchers::any;
use wiremock::{Mock, MockServer, Request, ResponseTemplate};

use super::{Catalog, Coming, DEMO, InMemory, Records};
use crate::cloud::glance::ImageMeta;
use crate::registry::Digest;
use crate::registry::public::grant::Grant;
use crate::registry::public::images::{Content, ReadableBlob};
use crate::registry::public::name::{Name, Reference};
use crate::registry::public::property;
use crate::registry::public::push::tags::tags_of;

/// What is asked of Glance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    Create,
    Upload,
    Show,
    Update,
    Delete,
}

/// A Glance with images in memory.
pub struct Cloud {
    server: MockServer,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    images: Vec<(Map<String, Value>, Bytes)>,
    asked: Vec<(Asked, Uuid)>,
    tokens: Vec<String>,
    refusals: Vec<(Asked, u16, String)>,
    upload_takes: Duration,
    /// Bytes of an upload that are lost.
    loses: usize,
}

impl Cloud {
    pub async fn start() -> Arc<Self> {
        let server = MockServer::start().await;
        let state = Arc::new(Mutex::new(State::default()));
        let answering = state.clone();
        let answer = move |request: &Request| answering.lock().unwrap().answer(request);
        Mock::given(any()).respond_with(answer).mount(&server).await;
        Arc::new(Self { server, state })
    }

    pub fn url(&self) -> String {
        self.server.uri()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Refuses from now on.
    pub fn refuse(&self, asked: Asked, status: u16, words: &str) {
        self.state().refusals.push((asked, status, words.into()));
    }

    pub fn refuse_nothing(&self) {
        self.state().refusals.clear();
    }

    /// Every upload takes so long.
    pub fn take(&self, time: Duration) {
        self.state().upload_takes = time;
    }

    /// Every upload loses so many bytes.
    pub fn lose(&self, bytes: usize) {
        self.state().loses = bytes;
    }

    /// What was asked so far, and of which image.
    pub fn asked(&self) -> Vec<(Asked, Uuid)> {
        self.state().asked.clone()
    }

    /// The token of the last request.
    pub fn last_token(&self) -> Option<String> {
        self.state().tokens.last().cloned()
    }

    /// Waits until something was asked so many times.
    pub async fn was_asked(&self, what: Asked, times: usize) {
        while self.asked().iter().filter(|(asked, _)| *asked == what).count() < times {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// All images, the oldest first.
    pub fn images(&self) -> Vec<Map<String, Value>> {
        self.state().images.iter().map(|(record, _)| record.clone()).collect()
    }

    /// Name, Glance tags and whether it is hidden, of each image.
    pub fn names(&self) -> Vec<(String, Vec<String>, bool)> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let of = |record: &Map<String, Value>| {
            let tags = record["tags"].as_array().unwrap().iter().map(text).collect();
            (text(&record["name"]), tags, record["os_hidden"] == true)
        };
        self.images().iter().map(of).collect()
    }

    /// The data of the image of this name.
    pub fn data(&self, name: &str) -> Bytes {
        self.state().images.iter().find(|(record, _)| record["name"] == name).unwrap().1.clone()
    }

    /// Puts an image there that nobody pushed.
    pub fn put(&self, name: &str, status: &str, data: Bytes, more: Value) -> Uuid {
        let mut record = json!({"name": name, "container_format": "docker", "disk_format": "raw", "os_hidden": false});
        record.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
        let mut state = self.state();
        let id = state.create(record.as_object().unwrap().clone());
        let (record, stored) = state.images.last_mut().unwrap();
        record.insert("status".into(), status.into());
        record.insert("size".into(), data.len().into());
        *stored = data;
        id
    }
}

impl State {
    fn answer(&mut self, request: &Request) -> ResponseTemplate {
        let path: Vec<&str> = request.url.path().trim_matches('/').split('/').collect();
        let id = path.get(2).and_then(|id| id.parse().ok()).unwrap_or_default();
        let asked = match (request.method.as_str(), path.len()) {
            ("POST", 2) => Asked::Create,
            ("PUT", 4) => Asked::Upload,
            ("GET", 3) => Asked::Show,
            ("PATCH", 3) => Asked::Update,
            ("DELETE", 3) => Asked::Delete,
            _ => return ResponseTemplate::new(501),
        };
        self.asked.push((asked, id));
        self.tokens.push(request.headers["x-auth-token"].to_str().unwrap().to_owned());
        if let Some((_, status, words)) = self.refusals.iter().find(|(refused, ..)| *refused == asked) {
            return ResponseTemplate::new(*status).set_body_json(json!({"message": words}));
        }
        if asked == Asked::Create {
            let record: Value = request.body_json().unwrap();
            let id = self.create(record.as_object().unwrap().clone());
            return self.shown(id, 201);
        }
        let Some(at) = self.images.iter().position(|(record, _)| record["id"] == id.to_string()) else {
            return ResponseTemplate::new(404).set_body_json(json!({"message": "No image found"}));
        };
        let (record, data) = &mut self.images[at];
        match asked {
            Asked::Upload => {
                *data = request.body[..request.body.len() - self.loses].to_vec().into();
                record.insert("status".into(), "active".into());
                record.insert("size".into(), data.len().into());
                ResponseTemplate::new(204).set_delay(self.upload_takes)
            }
            Asked::Update => {
                let patch: Vec<Value> = request.body_json().unwrap();
                patch.iter().for_each(|operation| apply(record, operation));
                self.shown(id, 200)
            }
            Asked::Delete if record["protected"] == true => ResponseTemplate::new(403)
                .set_body_json(json!({"message": "Image is protected and cannot be deleted."})),
            Asked::Delete => {
                self.images.remove(at);
                ResponseTemplate::new(204)
            }
            _ => self.shown(id, 200),
        }
    }

    fn create(&mut self, mut record: Map<String, Value>) -> Uuid {
        let id = record.get("id").and_then(|id| id.as_str()?.parse().ok()).unwrap_or_else(Uuid::new_v4);
        let created = format!("2026-01-01T00:{:02}:{:02}Z", self.asked.len() / 60 % 60, self.asked.len() % 60);
        let defaults = json!({
            "id": id.to_string(), "status": "queued", "owner": DEMO, "tags": [], "created_at": created,
            "protected": false, "visibility": "shared",
        });
        for (key, value) in defaults.as_object().unwrap() {
            record.entry(key).or_insert(value.clone());
        }
        self.images.push((record, Bytes::new()));
        id
    }

    fn shown(&self, id: Uuid, status: u16) -> ResponseTemplate {
        let image = self.images.iter().find(|(record, _)| record["id"] == id.to_string());
        ResponseTemplate::new(status).set_body_json(&image.unwrap().0)
    }
}

fn apply(record: &mut Map<String, Value>, operation: &Value) {
    let key = operation["path"].as_str().unwrap().trim_start_matches('/');
    match operation["op"].as_str().unwrap() {
        "remove" => assert!(record.remove(key).is_some(), "{key} is not there"),
        _ => drop(record.insert(key.to_owned(), operation["value"].clone())),
    }
}

/// What is where in an archive.
fn places(data: &Bytes) -> HashMap<String, Range<u64>> {
    let mut archive = tar::Archive::new(&data[..]);
    let place = |entry: std::io::Result<tar::Entry<'_, &[u8]>>| {
        let mut entry = entry.unwrap();
        entry.read_to_end(&mut vec![]).unwrap();
        let start = entry.raw_file_position();
        (entry.path().unwrap().display().to_string(), start..start + entry.size())
    };
    archive.entries().unwrap().map(place).collect()
}

fn content(record: &Map<String, Value>, data: &Bytes) -> Content {
    let places = places(data);
    let slice = |range: &Range<u64>| data.slice(range.start as usize..range.end as usize);
    let blobs: HashMap<Digest, Range<u64>> = places
        .iter()
        .filter_map(|(path, range)| {
            let (algorithm, hex) = path.strip_prefix("blobs/")?.split_once('/')?;
            Some((format!("{algorithm}:{hex}").parse().ok()?, range.clone()))
        })
        .collect();
    let index: Value = serde_json::from_slice(&slice(&places["index.json"])).unwrap();
    let root = &index["manifests"][0];
    let mut waiting = vec![root.clone()];
    let mut manifests = HashMap::new();
    while let Some(descriptor) = waiting.pop() {
        let digest: Digest = descriptor["digest"].as_str().unwrap().parse().unwrap();
        let bytes = slice(&blobs[&digest]);
        let manifest: Value = serde_json::from_slice(&bytes).unwrap();
        waiting.extend(manifest["manifests"].as_array().into_iter().flatten().cloned());
        manifests.insert(digest, (descriptor["mediaType"].as_str().unwrap_or_default().to_owned(), bytes));
    }
    let record = serde_json::from_value(record.clone().into()).unwrap();
    Content {
        record,
        root: root["digest"].as_str().unwrap().parse().unwrap(),
        manifests: Arc::new(manifests),
        blobs: Arc::new(blobs),
    }
}

impl Cloud {
    fn contents(&self, grant: &Grant, name: &Name) -> Vec<(Content, Bytes)> {
        let state = self.state();
        let mut found: Vec<_> = state
            .images
            .iter()
            .filter(|(record, _)| record["status"] == "active" && record["owner"] == grant.owner)
            .filter(|(record, _)| belongs(&image(record), name.repository()))
            .map(|(record, data)| (content(record, data), data.clone()))
            .collect();
        found.reverse();
        found
    }
}

fn belongs(record: &ImageMeta, repository: &str) -> bool {
    let untagged = record.name.as_ref().is_some_and(|own| own.starts_with(&format!("{repository}@")));
    let pushed = record.properties.get(property::REPOSITORY).is_some_and(|of| of == repository);
    untagged || pushed || record.id.to_string() == repository || !tags_of(record, repository).is_empty()
}

fn image(record: &Map<String, Value>) -> ImageMeta {
    serde_json::from_value(record.clone().into()).unwrap()
}

impl Catalog for Cloud {
    fn find<'a>(
        &'a self,
        grant: &'a Grant,
        name: &'a Name,
        reference: &'a Reference,
    ) -> Coming<'a, Option<Arc<Content>>> {
        let found =
            self.contents(grant, name).into_iter().map(|(content, _)| content).find(|content| match reference {
                Reference::Tag(tag) => {
                    let own = content.record.id.to_string() == name.repository() && tag.as_str() == "latest";
                    own || tags_of(&content.record, name.repository()).contains(tag)
                }
                Reference::Digest(digest) => content.manifests.contains_key(digest),
            });
        async { Ok(found.map(Arc::new)) }.boxed()
    }

    fn of_repository<'a>(&'a self, grant: &'a Grant, name: &'a Name) -> Coming<'a, Records> {
        let records = self.contents(grant, name).into_iter().map(|(content, _)| content.record);
        let records = records.map(|record| (record.clone(), tags_of(&record, name.repository()))).collect();
        async { Ok(records) }.boxed()
    }

    fn blob<'a>(
        &'a self,
        grant: &'a Grant,
        name: &'a Name,
        digest: &'a Digest,
    ) -> Coming<'a, Option<Arc<dyn ReadableBlob>>> {
        let found = self.contents(grant, name).into_iter().find_map(|(content, data)| {
            let range = content.blobs.get(digest)?;
            Some(InMemory(data.slice(range.start as usize..range.end as usize)))
        });
        async { Ok(found.map(|blob| Arc::new(blob) as Arc<dyn ReadableBlob>)) }.boxed()
    }

    fn changed(&self, _: &Grant, _: &Name) {}
}
