//! Glance: image records and their data.

use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use reqwest::header::{CONTENT_RANGE, HeaderValue};
use reqwest::{Response, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::answer::Asked;
use super::client::{Call, Rest};
use super::tls::reason;
use super::{Caller, Error, Greeting, ServiceConfig, Session};

const PATCH_TYPE: &str = "application/openstack-images-v2.1-json-patch";
/// Images in one answer to a listing, at most; glance's own limit is 1000 (`api_limit_max`).
const PAGE: usize = 250;
/// A transfer that does not begin, or stands still, for this long is given up.
const STALL_LIMIT: Duration = Duration::from_secs(60);

/// Client of glance.
#[derive(Clone)]
pub struct Glance {
    rest: Rest,
}

/// An image record. Properties that have no field here are in `properties`, so nothing is lost.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct ImageMeta {
    pub id: Uuid,
    #[serde(default)]
    pub name: Option<String>,
    /// `queued`, `saving`, `active`, `deactivated`, `deleted`, ...
    pub status: String,
    #[serde(default)]
    pub disk_format: Option<String>,
    #[serde(default)]
    pub container_format: Option<String>,
    /// Bytes of the data; none while there is none.
    #[serde(default)]
    pub size: Option<u64>,
    #[serde(default)]
    pub checksum: Option<String>,
    #[serde(default)]
    pub os_hash_algo: Option<String>,
    #[serde(default)]
    pub os_hash_value: Option<String>,
    #[serde(default)]
    pub owner: Option<String>,
    #[serde(default)]
    pub tags: Vec<String>,
    /// RFC 3339; the newest of several images with one name is the one that counts.
    #[serde(default)]
    pub created_at: Option<String>,
    #[serde(default)]
    pub visibility: Option<String>,
    /// MiB.
    #[serde(default)]
    pub min_ram: u64,
    /// GiB.
    #[serde(default)]
    pub min_disk: u64,
    /// Everything else, custom properties among it.
    #[serde(flatten)]
    pub properties: Map<String, Value>,
}

/// Data of an image, or of a range of it.
pub struct ImageBody {
    /// The store honoured the range (206). When a range was asked for and this is false, the body is the whole image.
    pub ranged: bool,
    /// Bytes that will come, when the answer says.
    pub length: Option<u64>,
    /// Size of the whole image, when the answer says.
    pub total: Option<u64>,
    pub stream: BoxStream<'static, Result<Bytes, Error>>,
}

/// One answer to a listing.
#[derive(Deserialize)]
struct Page {
    images: Vec<ImageMeta>,
    #[serde(default)]
    next: Option<String>,
}

/// One operation of an update.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "op", rename_all = "lowercase")]
pub enum Patch {
    /// Sets a property, whether or not it is there.
    Add {
        /// JSON pointer: `/` and the property's name.
        path: String,
        value: Value,
    },
    Replace {
        path: String,
        value: Value,
    },
    Remove {
        path: String,
    },
}

impl Patch {
    /// Sets the property `name`.
    pub fn set(name: &str, value: impl Into<Value>) -> Self {
        Self::Add { path: format!("/{name}"), value: value.into() }
    }
}

impl Glance {
    /// Makes the client; opens no connection.
    ///
    /// # Errors
    /// [`Error::Tls`] when a certificate or key file cannot be used.
    pub fn new(session: Option<Session>, service: Option<Session>, config: &ServiceConfig) -> Result<Self, Error> {
        Ok(Self { rest: Rest::new("glance", session, service, config)? })
    }

    /// What glance says of itself to anybody.
    ///
    /// # Errors
    /// [`Error`] of glance.
    pub async fn greeting(&self) -> Result<Greeting, Error> {
        self.rest.greeting().await
    }

    /// An image's record.
    ///
    /// # Errors
    /// [`Error`] of glance; 404 for an image that is unknown to the caller.
    pub async fn image(&self, caller: &Caller, id: Uuid) -> Result<ImageMeta, Error> {
        self.rest.json(caller, Call::get(format!("/v2/images/{id}"))).await
    }

    /// The image's data, or a range of it (end exclusive). A store that cannot serve ranges gives the whole image, with `ranged` false.
    ///
    /// # Errors
    /// [`Error::Refused`]: 404 unknown image or one without data, 403 forbidden or deactivated, 416 a range beyond the end.
    pub async fn read(&self, caller: &Caller, id: Uuid, range: Option<Range<u64>>) -> Result<ImageBody, Error> {
        let path = format!("/v2/images/{id}/file");
        let asked = Asked { service: "glance", method: "GET".into(), path: path.clone() };
        let Some(range) = range else {
            let response = self.rest.open(caller, &Call::get(path), STALL_LIMIT).await?;
            return body(response, None, asked);
        };
        if range.is_empty() {
            return Err(asked.unexpected(format!("the range {range:?} is empty")));
        }
        let header = HeaderValue::from_str(&format!("bytes={}-{}", range.start, range.end - 1))
            .map_err(|error| asked.clone().unexpected(error.to_string()))?;
        let call = Call::get(path.clone()).header("range", header);
        match self.rest.open(caller, &call, STALL_LIMIT).await {
            // Stores without random access: glance answers 400, and only where a range was asked for.
            Err(error) if error.status() == Some(400) => {
                tracing::debug!(image = %id, %error, "glance cannot serve a range of this image; reading all of it");
                body(self.rest.open(caller, &Call::get(path), STALL_LIMIT).await?, None, asked)
            }
            Err(error) => Err(error),
            Ok(response) => body(response, Some(range), asked),
        }
    }

    /// The images that the caller sees and all `filters` hold for (Glance's own query parameters: `name`, `owner`, `tag`,
    /// `container_format`, `os_hidden`, `sort`, any property), at most `most` of them.
    ///
    /// # Errors
    /// [`Error`] of glance.
    pub async fn list(&self, caller: &Caller, filters: &[(&str, &str)], most: usize) -> Result<Vec<ImageMeta>, Error> {
        let mut images: Vec<ImageMeta> = vec![];
        let mut marker: Option<String> = None;
        loop {
            let limit = (most - images.len()).min(PAGE).to_string();
            let mut call = Call::get("/v2/images").query(filters).query(&[("limit", &limit)]);
            if let Some(marker) = &marker {
                call = call.query(&[("marker", marker)]);
            }
            let page: Page = self.rest.json(caller, call).await?;
            let last = page.images.last().map(|image| image.id.to_string());
            images.extend(page.images);
            if page.next.is_none() || last.is_none() || images.len() >= most {
                return Ok(images);
            }
            marker = last;
        }
    }

    /// Makes an image record in the caller's project, without data: it is `queued`.
    ///
    /// # Errors
    /// [`Error`] of glance (403: policy, 409: the id is taken, 413: quota).
    pub async fn create(&self, caller: &Caller, record: &Map<String, Value>) -> Result<ImageMeta, Error> {
        self.rest.json(caller, Call::post("/v2/images").json(record)).await
    }

    /// Changes properties of an image.
    ///
    /// # Errors
    /// [`Error`] of glance; 403 for read-only properties, 409 for a replacement of what is not there.
    pub async fn update(&self, caller: &Caller, id: Uuid, patch: &[Patch]) -> Result<ImageMeta, Error> {
        self.rest.json(caller, Call::patch(format!("/v2/images/{id}")).body(&patch, PATCH_TYPE)).await
    }

    /// Gives a queued image its data; both formats must be set before. Sent as it comes, in chunks; a stream that fails fails the call.
    ///
    /// # Errors
    /// [`Error`] of glance (400: formats missing, 409: not queued, 413: quota), or of the connection, which carries the stream's error.
    pub async fn upload<S, E>(&self, caller: &Caller, id: Uuid, data: S) -> Result<(), Error>
    where
        S: futures::Stream<Item = Result<Bytes, E>> + Send + 'static,
        E: std::error::Error + Send + Sync + 'static,
    {
        let call = Call::put(format!("/v2/images/{id}/file"))
            .header("content-type", HeaderValue::from_static("application/octet-stream"));
        self.rest.upload(caller, call, reqwest::Body::wrap_stream(data)).await
    }

    /// The same for data of a length that is known: Glance can refuse what is above a quota before it comes, and stores can make room at once.
    ///
    /// # Errors
    /// As of [`Glance::upload`]; a stream of another length fails the call.
    pub async fn upload_sized<S, E>(&self, caller: &Caller, id: Uuid, length: u64, data: S) -> Result<(), Error>
    where
        S: futures::Stream<Item = Result<Bytes, E>> + Send + 'static,
        E: std::error::Error + Send + Sync + 'static,
    {
        let call = Call::put(format!("/v2/images/{id}/file"))
            .header("content-type", HeaderValue::from_static("application/octet-stream"))
            .header("content-length", HeaderValue::from(length))
            // Newer Glances check it; older ones do not look at it.
            .header("x-openstack-image-size", HeaderValue::from(length));
        self.rest.upload(caller, call, reqwest::Body::wrap_stream(data)).await
    }

    /// Deletes an image; whether there was one.
    ///
    /// # Errors
    /// [`Error`] of glance; 403 for a protected image, 409 for one in use.
    pub async fn delete(&self, caller: &Caller, id: Uuid) -> Result<bool, Error> {
        self.rest.delete(caller, format!("/v2/images/{id}")).await
    }
}

fn body(response: Response, wanted: Option<Range<u64>>, asked: Asked) -> Result<ImageBody, Error> {
    if response.status() == StatusCode::NO_CONTENT {
        return Err(Error::Refused {
            service: asked.service,
            method: asked.method,
            path: asked.path,
            status: 404,
            code: None,
            message: "the image has no data".into(),
            request_id: None,
        });
    }
    let length = response.content_length();
    let (ranged, total) = if response.status() == StatusCode::PARTIAL_CONTENT {
        let got = response.headers().get(CONTENT_RANGE).and_then(|value| value.to_str().ok()).and_then(content_range);
        match (&wanted, got) {
            (Some(wanted), Some((start, _))) if start != wanted.start => {
                return Err(asked.unexpected(format!("a range from {start} where {wanted:?} was asked for")));
            }
            (Some(_), got) => (true, got.and_then(|(_, total)| total)),
            (None, _) => return Err(asked.unexpected("a part of the image where all of it was asked for")),
        }
    } else {
        (false, length)
    };
    Ok(ImageBody { ranged, length, total, stream: stalling(response.bytes_stream(), STALL_LIMIT, asked) })
}

/// First byte and total size of `bytes 0-9/100`; the size may be `*`.
fn content_range(value: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = value.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (start, _) = range.split_once('-')?;
    Some((start.trim().parse().ok()?, total.trim().parse().ok()))
}

/// The data, with an end to silence.
fn stalling(
    chunks: impl Stream<Item = reqwest::Result<Bytes>> + Send + 'static,
    patience: Duration,
    asked: Asked,
) -> BoxStream<'static, Result<Bytes, Error>> {
    futures::stream::unfold(Some((chunks.boxed(), asked)), move |state| async move {
        let (mut chunks, asked) = state?;
        match tokio::time::timeout(patience, chunks.next()).await {
            Ok(Some(Ok(chunk))) => Some((Ok(chunk), Some((chunks, asked)))),
            Ok(Some(Err(error))) => Some((Err(asked.unreachable(reason(&error.without_url()))), None)),
            Ok(None) => None,
            Err(_) => Some((Err(asked.unreachable(format!("no data for {patience:?}"))), None)),
        }
    })
    .boxed()
}

#[cfg(test)]
#[path = "glance_tests.rs"]
mod tests;
