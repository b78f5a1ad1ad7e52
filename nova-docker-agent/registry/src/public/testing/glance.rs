//! Glance's part of the small cloud.

use std::collections::HashMap;

use bytes::Bytes;
use serde_json::{Map, Value, json};
use uuid::Uuid;
use wiremock::{Request, ResponseTemplate};

use super::cloud::{Asked, State, ok, token_of};
use crate::Algorithm;

/// An image.
pub struct Stored {
    pub record: Map<String, Value>,
    pub content: Bytes,
}

/// The images that the request's user sees.
fn visible<'a>(state: &'a State, request: &'a Request) -> impl Iterator<Item = &'a Stored> {
    let project = token_of(request).map(|(_, project)| project);
    state
        .images
        .iter()
        .filter(move |image| image.record["visibility"] == "public" || image.record["owner"].as_str() == project)
}

pub fn list(state: &State, request: &Request) -> ResponseTemplate {
    if token_of(request).is_none_or(|(_, project)| project.is_empty()) {
        return ResponseTemplate::new(401);
    }
    let query: HashMap<String, String> = request.url.query_pairs().into_owned().collect();
    let query = |wanted: &str| query.get(wanted).map(String::as_str);
    let wanted = ["owner", "status", "container_format"].map(|key| (key, query(key)));
    let hidden = query("os_hidden") == Some("true");
    let fits = |image: &&Stored| {
        wanted.iter().all(|&(key, value)| value.is_none() || image.record[key].as_str() == value)
            && image.record["os_hidden"] == hidden
    };
    let mut images: Vec<_> = visible(state, request).filter(fits).map(|image| &image.record).collect();
    if let Some(marker) = query("marker") {
        let at = images.iter().position(|image| image["id"].as_str() == Some(marker)).unwrap();
        images.drain(..=at);
    }
    let limit = query("limit").map_or(usize::MAX, |limit| limit.parse().unwrap());
    let next = (images.len() > limit).then_some("/v2/images?next");
    images.truncate(limit);
    ok(json!({"images": images, "next": next}))
}

impl State {
    pub fn answer(&mut self, asked: Asked, id: Uuid, request: &Request) -> ResponseTemplate {
        if asked == Asked::Create {
            let mut record: Map<String, Value> = request.body_json().unwrap();
            let owner = token_of(request).map(|(_, project)| project).unwrap_or_default();
            record.extend([("status".into(), "queued".into()), ("owner".into(), owner.into())]);
            let id = self.add(record);
            let image = self.images.iter().find(|image| image.record["id"] == json!(id)).unwrap();
            return ResponseTemplate::new(201).set_body_json(&image.record);
        }
        let found = visible(self, request).any(|image| image.record["id"] == json!(id));
        let Some(at) = self.images.iter().position(|image| found && image.record["id"] == json!(id)) else {
            return ResponseTemplate::new(404).set_body_json(json!({"message": "No image found"}));
        };
        let Stored { record, content } = &mut self.images[at];
        match asked {
            Asked::Upload => {
                let mut stored = request.body[..request.body.len() - self.loses].to_vec();
                stored.iter_mut().take(usize::from(self.alters)).for_each(|byte| *byte ^= 1);
                *content = stored.into();
                record.insert("status".into(), "active".into());
                record.insert("size".into(), content.len().into());
                record.insert("os_hash_algo".into(), "sha512".into());
                record.insert("os_hash_value".into(), Algorithm::Sha512.digest(content).hex().into());
                ResponseTemplate::new(204).set_delay(self.upload_takes)
            }
            Asked::Read => read(content, self.no_ranges, request).set_delay(self.read_takes),
            Asked::Update => {
                let patch: Vec<Value> = request.body_json().unwrap();
                patch.iter().for_each(|operation| apply(record, operation));
                record.insert("updated_at".into(), jiff::Timestamp::now().to_string().into());
                let answer = ok(json!(record));
                if let Some(Value::Object(fields)) = self.beside.take() {
                    record.extend(fields);
                }
                answer
            }
            Asked::Delete if record["protected"] == true => ResponseTemplate::new(403)
                .set_body_json(json!({"message": "Image is protected and cannot be deleted."})),
            Asked::Delete if record.get("in_use").is_some() => {
                ResponseTemplate::new(409).set_body_json(json!({"message": "Image is in use."}))
            }
            Asked::Delete => {
                self.images.remove(at);
                ResponseTemplate::new(204)
            }
            Asked::Create | Asked::Show => ok(json!(record)),
        }
    }

    /// A new image, with what Glance sets where the record says nothing.
    pub fn add(&mut self, mut record: Map<String, Value>) -> Uuid {
        let id = record.get("id").and_then(|id| id.as_str()?.parse().ok()).unwrap_or_else(Uuid::new_v4);
        let created = format!("2026-01-01T00:{:02}:{:02}Z", self.made / 60 % 60, self.made % 60);
        self.made += 1;
        let defaults = json!({
            "id": id, "tags": [], "created_at": created, "protected": false, "visibility": "shared", "os_hidden": false,
        });
        for (key, value) in defaults.as_object().unwrap() {
            record.entry(key).or_insert(value.clone());
        }
        self.images.push(Stored { record, content: Bytes::new() });
        id
    }
}

fn read(content: &Bytes, no_ranges: bool, request: &Request) -> ResponseTemplate {
    let range = request.headers.get("range").and_then(|range| range.to_str().ok()?.strip_prefix("bytes="));
    let Some((start, end)) = range.and_then(|range| range.split_once('-')) else {
        return ResponseTemplate::new(200).set_body_bytes(content.clone());
    };
    if no_ranges {
        return ResponseTemplate::new(400);
    }
    let (start, end): (usize, usize) = (start.parse().unwrap(), end.parse().unwrap());
    let header = format!("bytes {start}-{end}/{}", content.len());
    ResponseTemplate::new(206)
        .insert_header("content-range", header.as_str())
        .set_body_bytes(content.slice(start..=end))
}

fn apply(record: &mut Map<String, Value>, operation: &Value) {
    let key = operation["path"].as_str().unwrap().trim_start_matches('/');
    match operation["op"].as_str().unwrap() {
        "remove" => assert!(record.remove(key).is_some(), "{key} is not there"),
        _ => drop(record.insert(key.to_owned(), operation["value"].clone())),
    }
}
