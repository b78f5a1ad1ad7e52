//! Content discovery: OCI distribution specification 1.1, "Listing Tags", "Listing Referrers"; distribution, "Listing
//! Repositories".

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use axum::http::header::{CONTENT_TYPE, HeaderName, HeaderValue, LINK};
use axum::http::{Response as HttpResponse, StatusCode};
use axum::response::Response;
use serde_json::{Value, json};
use url::form_urlencoded;

use super::api::Api;
use super::error::{ApiError, Code};
use super::grant::Grant;
use super::images::{Content, MAX_OPENED};
use super::name::{self, Name, Tag};
use super::property;
use super::token::CatalogAccess;
use crate::cloud::glance::ImageMeta;
use crate::registry::Digest;
use crate::registry::manifest::OCI_INDEX;

/// Repositories in one answer.
const MAX_CATALOG: usize = 1000;
const FILTERS_APPLIED: HeaderName = HeaderName::from_static("oci-filters-applied");

impl Api {
    /// `GET /v2/NAME/tags/list?n=N&last=TAG`.
    pub async fn tags(&self, grant: &Grant, name: &Name, query: &str) -> Result<Response, ApiError> {
        let images = self.images.of_repository(grant, name).await?;
        if images.is_empty() {
            return Err(ApiError::new(Code::NameUnknown, format!("there is no {name}, or you may not see it")));
        }
        let tags: BTreeSet<String> = images.into_iter().flat_map(|(_, tags)| tags).map(|tag| tag.to_string()).collect();
        let page = Page::of(query, usize::MAX)?;
        let (tags, next) = page.cut(tags);
        let body = json!({"name": name.to_string(), "tags": tags});
        Ok(listed(&body, next.map(|last| page.link(&format!("/v2/{name}/tags/list"), &last))))
    }

    /// `GET /v2/_catalog?n=N&last=NAME`: of the projects where the user has a role, and what others share.
    pub async fn catalog(&self, access: &CatalogAccess, query: &str) -> Result<Response, ApiError> {
        let mut names = BTreeSet::new();
        for grant in &access.grants {
            for image in self.images.all(grant).await?.iter() {
                let Some(owner) = &image.owner else { continue };
                let project = access.names.iter().find(|(id, _)| id == owner).map_or(owner, |(_, name)| name);
                let named = image.name.iter().filter_map(|name| name::of_glance(name));
                let tagged = image.tags.iter().filter(|tag| tag.contains(':')).filter_map(|tag| name::of_glance(tag));
                let pushed = image.properties.get(property::REPOSITORY).and_then(Value::as_str).map(str::to_owned);
                let repositories = named.chain(tagged).map(|(repository, _)| repository).chain(pushed);
                // A project whose name clients cannot write is reached by its id.
                names.extend(repositories.filter_map(|repository| {
                    let by_name = format!("{project}/{repository}").parse::<Name>();
                    by_name.or_else(|_| format!("{owner}/{repository}").parse()).ok().map(|name| name.to_string())
                }));
            }
        }
        let page = Page::of(query, MAX_CATALOG)?;
        let (repositories, next) = page.cut(names);
        Ok(listed(&json!({"repositories": repositories}), next.map(|last| page.link("/v2/_catalog", &last))))
    }

    /// `GET /v2/NAME/referrers/DIGEST?artifactType=TYPE`: an index of what refers to the manifest. That there is nothing, or no
    /// such manifest, is an empty one.
    pub async fn referrers(
        &self,
        grant: &Grant,
        name: &Name,
        digest: &Digest,
        query: &str,
    ) -> Result<Response, ApiError> {
        let images = self.images.of_repository(grant, name).await?;
        let mut descriptors = self.referring(grant, &images, digest).await?;
        descriptors.extend(self.tagged(grant, &images, digest).await?);
        let mut seen = HashSet::new();
        descriptors.retain(|descriptor| seen.insert(descriptor["digest"].to_string()));
        let wanted = form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == "artifactType");
        if let Some((_, wanted)) = &wanted {
            descriptors.retain(|descriptor| descriptor["artifactType"] == **wanted);
        }
        let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": descriptors});
        let mut response = listed(&index, None);
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(OCI_INDEX));
        if wanted.is_some() {
            response.headers_mut().insert(FILTERS_APPLIED, HeaderValue::from_static("artifactType"));
        }
        Ok(response)
    }

    /// The manifests whose `subject` it is.
    async fn referring(
        &self,
        grant: &Grant,
        images: &[(Arc<ImageMeta>, Vec<Tag>)],
        digest: &Digest,
    ) -> Result<Vec<Value>, ApiError> {
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
            descriptors.extend(referrers(&content, &subject));
        }
        Ok(descriptors)
    }

    /// What clients that know no referrers have listed under the tag `ALGORITHM-HEX` ("Referrers Tag Schema").
    async fn tagged(
        &self,
        grant: &Grant,
        images: &[(Arc<ImageMeta>, Vec<Tag>)],
        digest: &Digest,
    ) -> Result<Vec<Value>, ApiError> {
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

/// The descriptors of an image's manifests that have this subject; of an index, those that it refers to too.
fn referrers(content: &Content, subject: &str) -> Vec<Value> {
    let described = content.manifests.iter().filter_map(|(digest, (media_type, bytes))| {
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
    });
    described.collect()
}

/// The part of a list that a client asks for.
struct Page {
    n: Option<usize>,
    last: Option<String>,
    most: usize,
}

impl Page {
    fn of(query: &str, most: usize) -> Result<Self, ApiError> {
        let value = |wanted: &str| {
            let found = form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == wanted);
            found.map(|(_, value)| value.into_owned())
        };
        let n = value("n").filter(|n| !n.is_empty()).map(|n| n.parse::<usize>()).transpose();
        let n =
            n.map_err(|_| ApiError::new(Code::Unsupported, "n is a number").with_status(StatusCode::BAD_REQUEST))?;
        Ok(Self { n, last: value("last"), most })
    }

    /// What comes after `last`, and the last of it if there is more.
    fn cut(&self, all: BTreeSet<String>) -> (Vec<String>, Option<String>) {
        let after = all.into_iter().filter(|one| self.last.as_ref().is_none_or(|last| one > last));
        let length = self.n.unwrap_or(self.most).min(self.most);
        let mut some: Vec<String> = after.take(length.saturating_add(1)).collect();
        let more = some.len() > length;
        some.truncate(length);
        let next = some.last().filter(|_| more).cloned();
        (some, next)
    }

    fn link(&self, path: &str, last: &str) -> String {
        let n = self.n.unwrap_or(self.most).min(self.most);
        let query = form_urlencoded::Serializer::new(String::new())
            .append_pair("n", &n.to_string())
            .append_pair("last", last)
            .finish();
        format!("<{path}?{query}>; rel=\"next\"")
    }
}

fn listed(body: &Value, link: Option<String>) -> Response {
    let mut response = HttpResponse::new(body.to_string().into());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(link) = link.and_then(|link| HeaderValue::try_from(link).ok()) {
        response.headers_mut().insert(LINK, link);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pages(query: &str) -> (Vec<String>, Option<String>) {
        let all = ["a", "b", "c"].map(str::to_owned).into();
        Page::of(query, usize::MAX).unwrap().cut(all)
    }

    #[test]
    fn a_list_is_read_page_by_page() {
        assert_eq!(pages(""), (vec!["a".into(), "b".into(), "c".into()], None));
        assert_eq!(pages("n=2"), (vec!["a".into(), "b".into()], Some("b".into())));
        assert_eq!(pages("n=2&last=b"), (vec!["c".into()], None));
        assert_eq!(pages("n=1&last=aa"), (vec!["b".into()], Some("b".into())));
        assert_eq!(pages("n=0"), (vec![], None));
        assert_eq!(pages("last=z"), (vec![], None));
        assert!(Page::of("n=-1", 9).is_err() && Page::of("n=many", 9).is_err());
        let page = Page::of("n=2", 1000).unwrap();
        assert_eq!(page.link("/v2/_catalog", "demo/a"), "</v2/_catalog?n=2&last=demo%2Fa>; rel=\"next\"");
    }
}
