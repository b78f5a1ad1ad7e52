//! Images that are open to dockerd.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use secrecy::SecretString;
use tokio::sync::watch;
use uuid::Uuid;

use crate::archive::image::{Image, Layer};
use crate::store::{Pins, Readers, Sharing, Stored};
use crate::{Digest, Error, Source};

/// What dockerd is asked to pull, and with which credentials (`X-Registry-Auth`).
#[derive(Clone, Debug)]
pub struct PullReference {
    /// `127.0.0.1:PORT/glance/IMAGE_ID@sha256:...`
    pub name: String,
    pub username: String,
    pub secret: SecretString,
}

/// An open image: dockerd can pull it, its layers are not evicted, and the credentials to read it are kept, until the
/// lease is dropped.
pub struct Lease {
    /// What to pull.
    pub reference: PullReference,
    /// `sha256:...`; the same as in the reference.
    pub manifest_digest: String,
    open: Arc<OpenImage>,
    leases: Arc<Leases>,
}

impl Lease {
    /// What made a pull of this image fail, when the registry knows it: the reason behind dockerd's own, poorer text.
    pub fn failure(&self) -> Option<Error> {
        self.open.failure.borrow().clone()
    }

    /// Waits until a pull of this image has failed for good; never returns otherwise. Race it against the pull: dockerd
    /// itself tries again for most of a minute.
    pub async fn failed(&self) -> Error {
        let mut failure = self.open.failure.subscribe();
        let failed = failure.wait_for(Option::is_some).await.ok().and_then(|error| error.clone());
        match failed {
            Some(error) => error,
            None => std::future::pending().await,
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.leases.close(&self.open);
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Lease").field(&self.reference.name).finish()
    }
}

/// What a lease keeps open. Requests under way hold it too, so that they can end when the lease is dropped.
pub struct OpenImage {
    pub id: Uuid,
    /// Tells the leases of one image apart.
    pub lease: u64,
    /// The image in messages: the user's name for it, and its id.
    pub label: String,
    pub image: Arc<Image>,
    pub source: Arc<dyn Source>,
    failure: watch::Sender<Option<Error>>,
    _pins: Pins,
}

impl OpenImage {
    /// What is known to be wrong with the image itself.
    pub fn known_bad(&self) -> Option<Error> {
        self.failure.borrow().clone().filter(Error::is_bad_image)
    }
}

/// All open images.
#[derive(Default)]
pub struct Leases {
    /// The oldest first.
    open: Mutex<Vec<Arc<OpenImage>>>,
    next: AtomicU64,
}

impl Leases {
    /// Opens an image. `pins` are those of its layers.
    pub fn open(
        self: &Arc<Self>,
        (id, label): (Uuid, String),
        image: Arc<Image>,
        source: Arc<dyn Source>,
        pins: Pins,
        reference: PullReference,
    ) -> Lease {
        let lease = self.next.fetch_add(1, Ordering::Relaxed);
        let (failure, _) = watch::channel(None);
        let manifest_digest = image.manifest.digest.to_string();
        let open = Arc::new(OpenImage { id, lease, label, image, source, failure, _pins: pins });
        self.lock().push(open.clone());
        Lease { reference, manifest_digest, open, leases: self.clone() }
    }

    fn close(&self, open: &Arc<OpenImage>) {
        self.lock().retain(|other| !Arc::ptr_eq(other, open));
    }

    /// The open leases of image `id` for which `test` holds, the newest, whose credentials last longest, first.
    pub fn find(&self, id: Uuid, test: impl Fn(&Image) -> bool) -> Vec<Arc<OpenImage>> {
        let all = self.lock();
        all.iter().rev().filter(|open| open.id == id && test(&open.image)).cloned().collect()
    }

    /// The open leases of image `id` that have this layer.
    pub fn with_layer(&self, id: Uuid, digest: &Digest) -> Vec<Arc<OpenImage>> {
        self.find(id, |image| image.layer(digest).is_some())
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<OpenImage>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A layer of an open image, which stays open while a request for it lasts.
pub struct LeasedLayer {
    pub leases: Arc<Leases>,
    pub open: Arc<OpenImage>,
    pub digest: Digest,
}

impl LeasedLayer {
    /// The newest leases first, and the request's own, even if it was dropped.
    fn open(&self) -> Vec<Arc<OpenImage>> {
        let mut open = self.leases.with_layer(self.open.id, &self.digest);
        if !open.iter().any(|open| open.lease == self.open.lease) {
            open.push(self.open.clone());
        }
        open
    }
}

impl Readers for LeasedLayer {
    fn image(&self) -> (Uuid, &str) {
        (self.open.id, &self.open.label)
    }

    fn candidates(&self) -> Vec<Stored> {
        let stored = |open: &Arc<OpenImage>| {
            let Layer { range, packing, .. } = open.image.layer(&self.digest)?.clone();
            let OpenImage { id, lease, label, source, .. } = &**open;
            let (label, source) = (label.clone(), source.clone());
            Some(Stored { image: *id, lease: *lease, label, source, range, packing, sharing: Sharing::Host })
        };
        self.open().iter().filter_map(stored).collect()
    }

    fn failed(&self, error: &Error) {
        for open in self.open() {
            open.failure.send_replace(Some(error.clone()));
        }
    }
}
