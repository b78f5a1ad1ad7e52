//! Glance as a [`Source`].

use std::ops::Range;

use futures::StreamExt;
use futures::future::BoxFuture;
use uuid::Uuid;

use crate::{Source, SourceBody, SourceError};
use nova_docker_cloud::{self as cloud, Caller, Glance};

/// An image of Glance, read with one caller's rights.
pub struct GlanceSource {
    glance: Glance,
    caller: Caller,
    image: Uuid,
}

impl GlanceSource {
    pub fn new(glance: Glance, caller: Caller, image: Uuid) -> Self {
        Self { glance, caller, image }
    }
}

impl Source for GlanceSource {
    fn read(&self, range: Option<Range<u64>>) -> BoxFuture<'_, Result<SourceBody, SourceError>> {
        Box::pin(async move {
            let ranged = range.is_some();
            let body =
                self.glance.read(&self.caller, self.image, range).await.map_err(|error| source_error(error, ranged))?;
            let stream = body.stream.map(|chunk| chunk.map_err(|error| source_error(error, false))).boxed();
            Ok(SourceBody { ranged: body.ranged, stream })
        })
    }
}

fn source_error(error: cloud::Error, ranged: bool) -> SourceError {
    let text = error.to_string();
    match error.status() {
        // Stores without random access answer so, whatever the range.
        Some(400) if ranged => SourceError::RangeUnsupported,
        Some(404) => SourceError::NotFound(text),
        Some(401 | 403) => SourceError::Forbidden(text),
        _ => SourceError::Unavailable(text),
    }
}

#[cfg(test)]
mod tests;
