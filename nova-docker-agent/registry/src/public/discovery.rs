//! Content discovery: OCI distribution specification 1.1, "Listing Tags", "Listing Referrers"; distribution, "Listing
//! Repositories".

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Mutex, PoisonError};

use axum::http::StatusCode;
use axum::http::header::{CONTENT_TYPE, HeaderName, LINK};
use axum::response::{IntoResponse, Response};
use futures::stream::{self, StreamExt, TryStreamExt};
use serde_json::{Value, json};
use url::form_urlencoded;

use super::api::Api;
use super::images::{MAX_OPENED, Tagged};
use super::name::{self, Name};
use super::token::{CATALOG, Refused};
use super::{Grant, Repository, property};
use crate::http::parameters;
use crate::manifest::{MAX_ALL_MANIFESTS, OCI_INDEX};
use crate::{ApiError, Code, Digest, http};
use nova_docker_cloud::glance::ImageMeta;
use nova_docker_cloud::{Project, UserLogin};

/// Repositories in one answer.
const MAX_CATALOG: usize = 1000;
/// Projects whose images are listed for one user at one time.
const PROJECTS_AT_ONCE: usize = 4;
const FILTERS_APPLIED: HeaderName = HeaderName::from_static("oci-filters-applied");

impl Api {
    /// `GET /v2/NAME/tags/list?n=N&last=TAG`.
    pub async fn tags(&self, at: &Repository, query: &str) -> Result<Response, ApiError> {
        let name = &at.name;
        let images = self.images.of_repository(at).await?;
        if images.is_empty() {
            return Err(ApiError::new(Code::NameUnknown, format!("there is no {name}, or you may not see it")));
        }
        let tags = images.into_iter().flat_map(|(_, tags)| tags);
        let mut page = Page::of(query, usize::MAX)?;
        tags.for_each(|tag| page.add(tag.to_string()));
        let (tags, next) = page.finish(&format!("/v2/{name}/tags/list"));
        Ok((next, http::json(json!({"name": name.to_string(), "tags": tags}))).into_response())
    }

    /// `GET /v2/_catalog?n=N&last=NAME`: of all projects where the user has a role, and what others share with these.
    ///
    /// Glance is asked in each project by itself: what it lists in one may be another's. Of all names, no more are kept than
    /// the page has.
    pub async fn catalog(&self, user: &UserLogin, request_id: &str, query: &str) -> Result<Response, ApiError> {
        let page = Mutex::new(Page::of(query, MAX_CATALOG)?);
        let login = self.tokens.logins.of_token(user, request_id).await?;
        if login.projects.is_empty() {
            return Err(self.tokens.challenge(Refused::InsufficientScope, CATALOG));
        }
        let written = login.names();
        let list = async |project: &Project| {
            let Some(grant) = self.tokens.member(&login, &project.id, request_id).await? else { return Ok(false) };
            let take = |image: &ImageMeta| {
                let mut page = page.lock().unwrap_or_else(PoisonError::into_inner);
                repositories(image, &written).for_each(|name| page.add(name));
            };
            self.images.records.each_visible(&grant, take).await.map(|()| true)
        };
        let all = stream::iter(&login.projects).map(list).buffer_unordered(PROJECTS_AT_ONCE);
        let members: Vec<bool> = all.try_collect().await?;
        if !members.contains(&true) {
            // It is not the roles: it is the user's token.
            return Err(ApiError::new(Code::Unauthorized, "your session with the cloud has ended; log in again"));
        }
        let (repositories, next) = page.into_inner().unwrap_or_else(PoisonError::into_inner).finish("/v2/_catalog");
        Ok((next, http::json(json!({"repositories": repositories}))).into_response())
    }

    /// `GET /v2/NAME/referrers/DIGEST?artifactType=TYPE`: an index of what refers to the manifest. It is empty if
    /// nothing refers to the manifest, or if there is no such manifest.
    pub async fn referrers(&self, at: &Repository, digest: &Digest, query: &str) -> Result<Response, ApiError> {
        let images = self.images.of_repository(at).await?;
        let mut descriptors = self.referring(&at.grant, &images, digest).await?;
        descriptors.extend(self.waiting(at, digest).await?);
        descriptors.extend(self.tagged(&at.grant, &images, digest).await?);
        let mut seen = HashSet::new();
        descriptors.retain(|descriptor| seen.insert(descriptor["digest"].to_string()));
        let wanted = parameters(query, "artifactType").next();
        if let Some(wanted) = &wanted {
            descriptors.retain(|descriptor| descriptor["artifactType"] == **wanted);
        }
        let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": descriptors});
        let filtered = wanted.map(|_| [(FILTERS_APPLIED, "artifactType")]);
        Ok(([(CONTENT_TYPE, OCI_INDEX)], filtered, http::json(index)).into_response())
    }

    /// The manifests whose `subject` it is.
    async fn referring(&self, grant: &Grant, images: &[Tagged], digest: &Digest) -> Result<Vec<Value>, ApiError> {
        let subject = digest.to_string();
        let mut descriptors = vec![];
        let mut left = MAX_OPENED;
        for (record, _) in images {
            // Of an image that was not pushed, only its file tells.
            let was_pushed = property::text(record, property::DIGEST).is_some();
            if was_pushed && !property::subjects(record).any(|told| told == subject) {
                continue;
            }
            let Some(content) = self.images.look_into(grant, record, &mut left).await? else { continue };
            let manifests = content.manifests.iter();
            descriptors
                .extend(manifests.filter_map(|(digest, (kind, bytes))| descriptor(digest, kind, bytes, &subject)));
        }
        Ok(descriptors)
    }

    /// The same, of those that wait for the manifest to be in an image.
    async fn waiting(&self, at: &Repository, digest: &Digest) -> Result<Vec<Value>, ApiError> {
        let (subject, mut descriptors, mut size) = (digest.to_string(), vec![], 0);
        for digest in self.push.staged_referrers(at, &[*digest]).await? {
            let Some(staged) = self.push.staged_manifest(at, &digest).await? else { continue };
            size += staged.bytes.len() as u64;
            if size > MAX_ALL_MANIFESTS {
                break;
            }
            descriptors.extend(descriptor(&digest, &staged.media_type, &staged.bytes, &subject));
        }
        Ok(descriptors)
    }

    /// What clients that know no referrers have listed under the tag `ALGORITHM-HEX` ("Referrers Tag Schema").
    async fn tagged(&self, grant: &Grant, images: &[Tagged], digest: &Digest) -> Result<Vec<Value>, ApiError> {
        let tag = format!("{}-{}", digest.algorithm().name(), digest.hex());
        // Of a sha512, as much as a tag can have.
        let tag: String = tag.chars().take(128).collect();
        let Ok(tag) = tag.parse() else { return Ok(vec![]) };
        let Some((record, _)) = images.iter().find(|(_, tags)| tags.contains(&tag)) else { return Ok(vec![]) };
        let Some(content) = self.images.readable(grant, record).await? else { return Ok(vec![]) };
        let index = content.manifests.get(&content.root);
        let index = index.and_then(|(_, bytes)| serde_json::from_slice::<Value>(bytes).ok()).unwrap_or_default();
        Ok(index["manifests"].as_array().cloned().unwrap_or_default())
    }
}

/// The descriptor of a manifest that has this subject, as the list of its referrers has it.
fn descriptor(digest: &Digest, media_type: &str, bytes: &[u8], subject: &str) -> Option<Value> {
    let manifest: Value = serde_json::from_slice(bytes).ok()?;
    if manifest["subject"]["digest"].as_str() != Some(subject) {
        return None;
    }
    let mut descriptor = json!({"mediaType": media_type, "digest": digest.to_string(), "size": bytes.len()});
    let kind = [&manifest["artifactType"], &manifest["config"]["mediaType"]];
    if let Some(kind) = kind.iter().find_map(|kind| kind.as_str().filter(|kind| !kind.is_empty())) {
        descriptor["artifactType"] = kind.into();
    }
    if manifest["annotations"].is_object() {
        descriptor["annotations"] = manifest["annotations"].clone();
    }
    Some(descriptor)
}

/// The part of a list that a client asks for: of all names that are added, in any order, the first ones after `last`.
struct Page {
    last: Option<String>,
    length: usize,
    found: BTreeSet<String>,
    /// Whether there are others behind them.
    more: bool,
}

impl Page {
    fn of(query: &str, most: usize) -> Result<Self, ApiError> {
        let n = parameters(query, "n").next().filter(|n| !n.is_empty()).map(|n| n.parse::<usize>()).transpose();
        let n =
            n.map_err(|_| ApiError::new(Code::Unsupported, "n is a number").with_status(StatusCode::BAD_REQUEST))?;
        let last = parameters(query, "last").next().map(Cow::into_owned);
        Ok(Self { last, length: n.unwrap_or(most).min(most), found: BTreeSet::new(), more: false })
    }

    fn add(&mut self, name: String) {
        if self.last.as_ref().is_some_and(|last| name <= *last) {
            return;
        }
        self.found.insert(name);
        if self.found.len() > self.length {
            self.found.pop_last();
            self.more = true;
        }
    }

    /// The names, in order, and where in `path` those behind them are to be had.
    fn finish(self, path: &str) -> (Vec<String>, Option<[(HeaderName, String); 1]>) {
        let next = self.found.last().filter(|_| self.more).map(|last| {
            let mut query = form_urlencoded::Serializer::new(String::new());
            query.append_pair("n", &self.length.to_string()).append_pair("last", last);
            [(LINK, format!("<{path}?{}>; rel=\"next\"", query.finish()))]
        });
        (self.found.into_iter().collect(), next)
    }
}

/// The repositories that an image is in, as clients write them, where users write projects so.
fn repositories<'a>(image: &'a ImageMeta, written: &'a HashMap<&str, &str>) -> impl Iterator<Item = String> + 'a {
    let pushed = property::text(image, property::REPOSITORY).map(str::to_owned);
    let repositories = name::all_of_glance(image).map(|(repository, _)| repository).chain(pushed);
    let owner = image.owner.as_deref().unwrap_or_default();
    let project = written.get(owner).copied().unwrap_or(owner);
    repositories.filter_map(move |repository| {
        // A project whose name clients cannot write is reached by its id.
        let by_name = format!("{project}/{repository}").parse::<Name>();
        by_name.or_else(|_| format!("{owner}/{repository}").parse()).ok().map(|name| name.to_string())
    })
}

#[cfg(test)]
mod tests;
