//! The image of a build, as its request describes it.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::compute::error::Error;
use crate::{
    cloud::glance::ImageMeta,
    driver::{self, check_status},
    registry::ImageDescriptor,
};

/// What the request says of the image (`ImageMeta` as a plain dictionary).
///
/// # Errors
/// There is no image, or it is not active.
pub(in crate::compute) fn descriptor(image: &Value) -> Result<ImageDescriptor, Error> {
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

/// Glance's record of an image in the form that a build's request has.
pub(in crate::compute) fn described(image: &ImageMeta) -> Value {
    json!({
        "id": image.id,
        "name": image.name,
        "status": image.status,
        "size": image.size,
        "container_format": image.container_format,
        "disk_format": image.disk_format,
        "os_hash_value": image.os_hash_value,
        "properties": image.properties,
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
