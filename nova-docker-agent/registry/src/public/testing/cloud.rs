//! Keystone and Glance, with images in memory.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Map, Value, json};
use uuid::Uuid;
use wiremock::matchers::any;
use wiremock::{Mock, MockServer, Request, Respond, ResponseTemplate};

use super::glance::{self, Stored};
use super::keystone;
use crate::Digest;

/// What is asked of Glance for one image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    Create,
    Upload,
    Read,
    Show,
    Update,
    Delete,
}

impl Asked {
    fn is_change(self) -> bool {
        !matches!(self, Self::Read | Self::Show)
    }
}

#[derive(Default)]
pub(super) struct State {
    pub images: Vec<Stored>,
    /// How many images were ever made: each is later than the one before.
    pub made: usize,
    /// Requests, as `METHOD PATH?QUERY`.
    asked: Vec<String>,
    /// Those for one image, and the token of the last of them.
    of_images: Vec<(Asked, Uuid)>,
    last_token: Option<String>,
    /// The answers of keystone and Glance are 503.
    is_down: bool,
    /// The store has no random access.
    pub no_ranges: bool,
    /// Logins so far, and how many of them Glance does not take any more.
    logins: usize,
    revoked: usize,
    /// A project in which nobody has a role any more, though keystone still lists it.
    lost: String,
    refusals: Vec<(Asked, u16, String)>,
    pub upload_takes: Duration,
    pub read_takes: Duration,
    pub list_takes: Duration,
    /// Bytes of an upload that are lost.
    pub loses: usize,
    /// The first byte of an upload is stored as another one.
    pub alters: bool,
    /// After so many changes, one is never answered; whether it is made.
    hangs: Option<(usize, bool)>,
    has_hung: bool,
    /// What somebody else writes into an image right after its next change.
    pub beside: Option<Value>,
}

/// Keystone and Glance.
#[derive(Clone, Default)]
pub struct Double(Arc<Mutex<State>>);

impl Double {
    /// It, at an address of its own.
    pub async fn start() -> (Self, MockServer) {
        let (cloud, server) = (Self::default(), MockServer::start().await);
        Mock::given(any()).respond_with(cloud.clone()).mount(&server).await;
        (cloud, server)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// Adds an image of a project; `properties` win over what it would have.
    pub fn image(&self, owner: &str, name: &str, content: &Bytes, properties: Value) -> Uuid {
        let mut record = json!({
            "name": name, "owner": owner, "status": "active", "container_format": "docker", "disk_format": "raw",
            "size": content.len(), "os_hash_algo": "sha512", "os_hash_value": Digest::of(content).hex(),
            "visibility": "private", "os_hidden": false,
        });
        record.as_object_mut().unwrap().extend(properties.as_object().unwrap().clone());
        let mut state = self.state();
        let id = state.add(record.as_object().unwrap().clone());
        state.images.last_mut().unwrap().content = content.clone();
        id
    }

    pub fn set_down(&self, is_down: bool) {
        self.state().is_down = is_down;
    }

    /// All keystone tokens that were given so far are refused from now on.
    pub fn revoke(&self) {
        let mut state = self.state();
        state.revoked = state.logins;
    }

    /// Takes all roles in a project away, after keystone has listed it.
    pub fn dismiss(&self, project: &str) {
        self.state().lost = project.into();
    }

    pub fn without_ranges(&self) {
        self.state().no_ranges = true;
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

    /// Reads of files wait for ever.
    pub fn stall(&self) {
        self.state().read_takes = Duration::from_secs(3600);
    }

    /// Listings wait for ever.
    pub fn stall_listings(&self) {
        self.state().list_takes = Duration::from_secs(3600);
    }

    /// Every upload loses so many bytes.
    pub fn lose(&self, bytes: usize) {
        self.state().loses = bytes;
    }

    /// The change number `step` from now on is never answered; it is made or not.
    pub fn hang_at(&self, step: usize, is_made: bool) {
        self.state().hangs = Some((step, is_made));
    }

    /// Waits until that one was asked for.
    pub async fn hung(&self) {
        while !self.state().has_hung {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Somebody else writes this into the image of this name.
    pub fn change(&self, name: &str, properties: Value) {
        let mut state = self.state();
        let image = state.images.iter_mut().find(|image| image.record["name"] == name).unwrap();
        image.record.extend(properties.as_object().unwrap().clone());
    }

    /// Right after the next change of an image's record, somebody else writes this into it.
    pub fn change_beside(&self, properties: Value) {
        self.state().beside = Some(properties);
    }

    /// Stores every upload with another first byte.
    pub fn alter(&self) {
        self.state().alters = true;
    }

    /// How many requests began so.
    pub fn asked(&self, start: &str) -> usize {
        self.state().asked.iter().filter(|asked| asked.starts_with(start)).count()
    }

    /// Waits until so many requests began so.
    pub async fn was_asked_of(&self, start: &str, times: usize) {
        while self.asked(start) < times {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Forgets the requests so far, and returns them, in an order that does not depend on which of several at a time came first.
    pub fn take_asked(&self) -> Vec<String> {
        let mut asked = std::mem::take(&mut self.state().asked);
        asked.sort();
        asked
    }

    /// How often this was asked, of whatever image.
    pub fn count(&self, wanted: Asked) -> usize {
        self.state().of_images.iter().filter(|(asked, _)| *asked == wanted).count()
    }

    /// Waits until something was asked so many times.
    pub async fn was_asked(&self, what: Asked, times: usize) {
        while self.count(what) < times {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// What was changed, or tried to be, and of which image.
    pub fn changes(&self) -> Vec<(Asked, Uuid)> {
        self.state().of_images.iter().filter(|(asked, _)| asked.is_change()).copied().collect()
    }

    /// The token of the last request for one image.
    pub fn last_token(&self) -> Option<String> {
        self.state().last_token.clone()
    }

    /// All images, the oldest first.
    pub fn images(&self) -> Vec<Map<String, Value>> {
        self.state().images.iter().map(|image| image.record.clone()).collect()
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
        self.state().images.iter().find(|image| image.record["name"] == name).unwrap().content.clone()
    }

    pub fn remove(&self, id: Uuid) {
        self.state().images.retain(|image| image.record["id"] != json!(id));
    }
}

impl Respond for Double {
    fn respond(&self, request: &Request) -> ResponseTemplate {
        let mut state = self.state();
        let path = request.url.path();
        state.asked.push(format!("{} {path}?{}", request.method, request.url.query().unwrap_or_default()));
        if state.is_down {
            return ResponseTemplate::new(503);
        }
        match (request.method.as_str(), path) {
            ("POST", "/v3/auth/tokens") => {
                state.logins += 1;
                if !state.lost.is_empty() && String::from_utf8_lossy(&request.body).contains(&state.lost) {
                    return ResponseTemplate::new(401);
                }
                keystone::log_in(&request.body_json().unwrap(), state.logins, state.revoked)
            }
            ("GET", "/v3/auth/projects" | "/v2/images") if is_revoked(&state, request) => ResponseTemplate::new(401),
            ("GET", "/v3/auth/projects") => {
                let (user, _) = token_of(request).unwrap();
                ok(json!({"projects": keystone::projects(user)}))
            }
            ("GET", "/v2/images") => glance::list(&state, request).set_delay(state.list_takes),
            _ => state.image(request),
        }
    }
}

impl State {
    /// A request for one image.
    fn image(&mut self, request: &Request) -> ResponseTemplate {
        let path: Vec<&str> = request.url.path().trim_matches('/').split('/').collect();
        let id = path.get(2).and_then(|id| id.parse().ok()).unwrap_or_default();
        let asked = match (request.method.as_str(), path.len()) {
            ("POST", 2) => Asked::Create,
            ("PUT", 4) => Asked::Upload,
            ("GET", 4) => Asked::Read,
            ("GET", 3) => Asked::Show,
            ("PATCH", 3) => Asked::Update,
            ("DELETE", 3) => Asked::Delete,
            _ => return ResponseTemplate::new(501),
        };
        self.of_images.push((asked, id));
        self.last_token = request.headers.get("x-auth-token").and_then(|token| Some(token.to_str().ok()?.to_owned()));
        if asked.is_change() && self.is_to_hang() {
            let is_made = self.hangs.take().is_some_and(|(_, is_made)| is_made);
            self.has_hung = true;
            let answer = if is_made { self.answer(asked, id, request) } else { ResponseTemplate::new(500) };
            return answer.set_delay(Duration::from_secs(3600));
        }
        match self.refusals.iter().find(|(refused, ..)| *refused == asked) {
            Some((_, status, words)) => ResponseTemplate::new(*status).set_body_json(json!({"message": words})),
            None => self.answer(asked, id, request),
        }
    }

    fn is_to_hang(&mut self) -> bool {
        let Some((left, _)) = &mut self.hangs else { return false };
        *left -= 1;
        *left == 0
    }
}

pub(super) fn ok(body: Value) -> ResponseTemplate {
    ResponseTemplate::new(200).set_body_json(body)
}

/// User and project of the request's token.
pub(super) fn token_of(request: &Request) -> Option<(&str, &str)> {
    parsed(request).map(|(user, project, _)| (user, project))
}

fn is_revoked(state: &State, request: &Request) -> bool {
    parsed(request).is_none_or(|(.., number)| number <= state.revoked)
}

fn parsed(request: &Request) -> Option<(&str, &str, usize)> {
    keystone::parse(request.headers.get("x-auth-token")?.to_str().ok()?)
}
