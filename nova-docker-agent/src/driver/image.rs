//! Getting images onto the host.

use std::{collections::HashSet, sync::Arc};

use tokio::sync::RwLockReadGuard;
use tracing::info;
use uuid::Uuid;

use super::{Driver, Error};
use crate::{
    cloud::Caller,
    docker,
    registry::{GlanceSource, ImageDescriptor, Lease},
};

/// How often Docker is asked for an image in which the registry found nothing wrong.
const PULLS: usize = 2;
const GIB: u64 = 1 << 30;

/// Keeps images that no container uses yet from being pruned.
pub(super) struct ImagesInUse<'a> {
    _guard: RwLockReadGuard<'a, ()>,
}

impl Driver {
    /// To be held from before a pull until a container uses the image.
    pub(super) async fn use_images(&self) -> ImagesInUse<'_> {
        ImagesInUse { _guard: self.images.read().await }
    }

    /// Opens an image with the caller's rights and has Docker pull it. The lease must live until a container uses the image.
    /// It must fit on a disk of so many GiB; 0 is unlimited.
    ///
    /// # Errors
    /// The image cannot be used or read, or Docker is down.
    pub(super) async fn pull(&self, caller: Caller, image: &ImageDescriptor, disk_gb: u64) -> Result<Lease, Error> {
        let source = GlanceSource::new(self.glance.clone(), caller, image.id);
        let disk = (disk_gb > 0).then(|| disk_gb.saturating_mul(GIB));
        let lease = Box::pin(self.registry.open(image, Arc::new(source), disk)).await?;
        self.pull_leased(&lease).await?;
        self.image_cache.used(&lease.reference.name).await;
        info!(image = %image.id, digest = lease.manifest_digest, "the image is on the host");
        Ok(lease)
    }

    /// Gets an image before anybody launches it. It stays as long as any image that nobody uses; its layers stay in the registry's
    /// cache for as long as that has room, so that a launch reads nothing from Glance.
    ///
    /// # Errors
    /// The image cannot be used or read, or Docker is down.
    pub async fn cache_image(&self, caller: Caller, image: Uuid) -> Result<(), Error> {
        let record = self.glance.image(&caller, image).await?;
        check_status(image, &record.status)?;
        let descriptor = ImageDescriptor {
            id: image,
            name: record.name,
            size: record.size.unwrap_or_default(),
            container_format: record.container_format.unwrap_or_default(),
            disk_format: record.disk_format.unwrap_or_default(),
            content_hash: record.os_hash_value,
        };
        let _images = self.use_images().await;
        self.pull(caller, &descriptor, 0).await.map(drop)
    }

    /// Has Docker pull an open image.
    async fn pull_leased(&self, lease: &Lease) -> Result<(), Error> {
        let mut left = PULLS;
        loop {
            left -= 1;
            let pulled = tokio::select! {
                // The registry knows better than Docker what is wrong with an image, and knows it sooner.
                error = lease.failed() => return Err(error.into()),
                pulled = self.docker.pull(&lease.reference) => pulled,
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

    /// Removes images that nobody has used for as long as an operator keeps them, unless one is being pulled. `named` are images in
    /// Glance that servers of this host name.
    ///
    /// # Errors
    /// Docker's.
    pub async fn prune_images(&self, named: &HashSet<Uuid>) -> Result<(), Error> {
        let due = self.image_cache.due(self.docker.unused_images().await?, named).await;
        if due.is_empty() {
            return Ok(());
        }
        let Ok(_alone) = self.images.try_write() else {
            return Ok(());
        };
        for image in due {
            if self.docker.remove_image(&image).await? {
                info!(image = image.name(), "removed an image that nobody has used for long");
            }
        }
        Ok(())
    }
}

/// Whether an image with this status in Glance can be used at all.
///
/// # Errors
/// [`Error::UnacceptableImage`].
pub fn check_status(image: Uuid, status: &str) -> Result<(), Error> {
    match status {
        "active" => Ok(()),
        _ => Err(Error::UnacceptableImage(format!("image {image} is {status}, not active: it cannot be launched"))),
    }
}

fn is_about_the_image(error: &docker::Error) -> bool {
    use docker::Error::{ImageUnacceptable, ImageUnavailable, NotFound};
    matches!(error, ImageUnacceptable { .. } | ImageUnavailable { .. } | NotFound { .. })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_that_is_not_active_is_named_with_its_status() {
        assert!(check_status(Uuid::nil(), "active").is_ok());
        assert!(check_status(Uuid::nil(), "deactivated").unwrap_err().to_string().contains("is deactivated"));
    }
}
