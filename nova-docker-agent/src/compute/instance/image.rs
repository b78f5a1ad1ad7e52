//! Getting an instance's image onto the host.

use serde_json::Value;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::compute::{Compute, error::Error};
use crate::{
    driver::{self, check_status},
    messaging::Context,
    registry::{ImageDescriptor, Lease},
};

impl Compute {
    /// Has Docker pull the image. The lease must live until a container uses it.
    ///
    /// # Errors
    /// The image cannot be used or read, Docker is down, or `cancelled` was.
    pub(in crate::compute) async fn pull_image(
        &self,
        context: &Context,
        instance: Uuid,
        image: &Value,
        cancelled: &CancellationToken,
    ) -> Result<Lease, Error> {
        let descriptor = descriptor(image)?;
        tokio::select! {
            () = cancelled.cancelled() => Err(Error::Deleting(instance)),
            lease = self.driver.pull(self.caller(context), &descriptor) => Ok(lease?),
        }
    }
}

/// What the request says of the image (`ImageMeta` as a plain dictionary).
fn descriptor(image: &Value) -> Result<ImageDescriptor, Error> {
    let text = |field: &str| image.get(field).and_then(Value::as_str).map(str::to_owned);
    let id = text("id").and_then(|id| Uuid::parse_str(&id).ok()).ok_or_else(|| {
        driver::Error::UnacceptableImage(
            "the server has no image: booting from a volume is not supported for containers".to_owned(),
        )
    })?;
    if let Some(status) = text("status") {
        check_status(id, &status)?;
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
}
