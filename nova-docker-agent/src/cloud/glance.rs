//! Glance: image records and their data.

use std::ops::Range;

use bytes::Bytes;
use futures::stream::BoxStream;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::{Caller, Error, ServiceConfig, Session};

/// Client of glance.
#[derive(Clone)]
pub struct Glance {}

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
    pub fn new(_session: Option<Session>, _service: Option<Session>, _config: &ServiceConfig) -> Result<Self, Error> {
        todo!()
    }

    /// An image's record.
    pub async fn image(&self, _caller: &Caller, _id: Uuid) -> Result<ImageMeta, Error> {
        todo!()
    }

    /// The image's data, or a range of it (end exclusive). A store that cannot serve ranges gives the whole image, with `ranged` false.
    ///
    /// # Errors
    /// [`Error::Refused`]: 404 unknown image or no data (also 204), 403 forbidden or deactivated, 416 a range beyond the end.
    pub async fn read(&self, _caller: &Caller, _id: Uuid, _range: Option<Range<u64>>) -> Result<ImageBody, Error> {
        todo!()
    }

    pub async fn update(&self, _caller: &Caller, _id: Uuid, _patch: &[Patch]) -> Result<ImageMeta, Error> {
        todo!()
    }

    /// Gives a queued image its data; both formats must be set before. Sent as it comes, in chunks; a stream that fails fails the call.
    pub async fn upload<S, E>(&self, _caller: &Caller, _id: Uuid, _data: S) -> Result<(), Error>
    where
        S: futures::Stream<Item = Result<Bytes, E>> + Send + Sync + 'static,
        E: std::error::Error + Send + Sync + 'static,
    {
        todo!()
    }

    /// Deletes an image; whether there was one.
    pub async fn delete(&self, _caller: &Caller, _id: Uuid) -> Result<bool, Error> {
        todo!()
    }
}
