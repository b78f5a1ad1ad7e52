//! Getting an instance's image onto the host.

use std::{ops::Range, sync::Arc};

use futures::{StreamExt as _, future::BoxFuture};
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use tracing::info;
use uuid::Uuid;

use super::{Compute, error::Error};
use crate::{
    cloud::{self, Caller, Glance},
    driver,
    messaging::Context,
    registry::{ImageDescriptor, Lease, Source, SourceBody, SourceError},
};

/// An image of Glance, read with one caller's rights.
struct GlanceSource {
    glance: Glance,
    caller: Caller,
    image: Uuid,
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

impl Compute {
    /// Opens the image and has Docker pull it. The lease must live until a container uses the image.
    ///
    /// # Errors
    /// The image cannot be used or read, Docker is down, or `cancelled` was.
    pub(super) async fn pull_image(
        &self,
        context: &Context,
        instance: Uuid,
        image: &Value,
        cancelled: &CancellationToken,
    ) -> Result<Lease, Error> {
        let descriptor = descriptor(image)?;
        let source =
            GlanceSource { glance: self.cloud.glance.clone(), caller: self.caller(context), image: descriptor.id };
        let pulling = async {
            let lease = self.registry.open(&descriptor, Arc::new(source)).await?;
            self.pull_leased(&lease).await?;
            info!(image = %descriptor.id, digest = lease.manifest_digest, "the image is on the host");
            Ok(lease)
        };
        tokio::select! {
            () = cancelled.cancelled() => Err(Error::Deleting(instance)),
            lease = pulling => lease,
        }
    }

    /// Has Docker pull an open image.
    async fn pull_leased(&self, lease: &Lease) -> Result<(), Error> {
        let mut left = PULLS;
        loop {
            left -= 1;
            let pulled = tokio::select! {
                // The registry knows better than Docker what is wrong with an image, and knows it sooner.
                error = lease.failed() => return Err(error.into()),
                pulled = self.driver.pull(&lease.reference) => pulled,
            };
            match (pulled, lease.failure()) {
                (Ok(()), _) => return Ok(()),
                (Err(_), Some(error)) => return Err(error.into()),
                // Docker lets pulls of several images wait for one transfer of a layer that they share, and fails all of
                // them when the image that it reads for is bad, or is closed.
                (Err(error), None) if left > 0 && is_about_the_image(&error) => {
                    info!("Docker is asked again for an image: {error}");
                }
                (Err(error), None) => return Err(error.into()),
            }
        }
    }
}

/// How often Docker is asked for an image in which the registry found nothing wrong.
const PULLS: usize = 2;

fn is_about_the_image(error: &driver::Error) -> bool {
    use driver::Error::{ImageUnacceptable, ImageUnavailable, NotFound};
    matches!(error, ImageUnacceptable { .. } | ImageUnavailable { .. } | NotFound { .. })
}

/// What the request says of the image (`ImageMeta` as a plain dictionary).
fn descriptor(image: &Value) -> Result<ImageDescriptor, Error> {
    let text = |field: &str| image.get(field).and_then(Value::as_str).map(str::to_owned);
    let id = text("id").and_then(|id| Uuid::parse_str(&id).ok()).ok_or_else(|| {
        Error::UnacceptableImage(
            "the server has no image: booting from a volume is not supported for containers".to_owned(),
        )
    })?;
    if let Some(status) = text("status").filter(|status| status != "active") {
        return Err(Error::UnacceptableImage(format!("image {id} is {status}, not active: it cannot be launched")));
    }
    Ok(ImageDescriptor {
        id,
        name: text("name"),
        size: image.get("size").and_then(Value::as_u64).unwrap_or(0),
        container_format: text("container_format").unwrap_or_default(),
        disk_format: text("disk_format").unwrap_or_default(),
        content_hash: text("os_hash_value"),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_server_without_an_image_is_told_that_volumes_do_not_boot() {
        assert!(descriptor(&json!({})).unwrap_err().to_string().contains("volume"));
    }

    #[test]
    fn an_image_that_is_not_active_is_named_with_its_status() {
        let image = json!({"id": "d1e2c354-1639-47d5-8501-9a2715edd456", "status": "deactivated"});
        assert!(descriptor(&image).unwrap_err().to_string().contains("is deactivated"));
    }

    #[test]
    fn a_refused_range_is_told_apart_from_a_bad_request() {
        let refused = |status| cloud::Error::Refused {
            service: "glance",
            method: "GET".to_owned(),
            path: "/v2/images/x/file".to_owned(),
            status,
            code: None,
            message: "no".to_owned(),
            request_id: None,
        };
        assert!(matches!(source_error(refused(400), true), SourceError::RangeUnsupported));
        assert!(matches!(source_error(refused(400), false), SourceError::Unavailable(_)));
        assert!(matches!(source_error(refused(404), true), SourceError::NotFound(_)));
    }
}
