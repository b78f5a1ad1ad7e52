//! What Glance lists, kept for a few seconds for each user's token: a pull of one image is a dozen requests.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::OnceCell;

use super::super::error::{ApiError, Code};
use super::super::grant::Grant;
use super::fingerprint;
use crate::cloud::glance::ImageMeta;
use crate::cloud::{self, Glance};
use crate::registry::Digest;

/// Images of one project that are looked through.
const MAX_IMAGES: usize = 10_000;
/// Listings that are kept, and how many bytes of properties one may have.
const MAX_LISTINGS: usize = 256;
const MAX_SIZE: usize = 4 * 1024 * 1024;

/// What Glance listed at one time.
pub type Listing = Arc<Vec<Arc<ImageMeta>>>;

/// The listings of the users of the last seconds.
pub struct Records {
    glance: Glance,
    kept: Mutex<HashMap<Key, Kept>>,
}

/// A hash of the user's token, and the project whose images are listed; none for all that the user sees.
type Key = (Digest, Option<String>);

#[derive(Clone)]
struct Kept {
    since: Instant,
    listing: Arc<OnceCell<Listing>>,
}

impl Records {
    pub fn new(glance: Glance) -> Self {
        Self { glance, kept: Mutex::default() }
    }

    /// The images of the grant's project, as its user sees them; the newest first.
    ///
    /// # Errors
    /// Glance's.
    pub async fn of_owner(&self, grant: &Grant, age: Duration) -> Result<Listing, ApiError> {
        if grant.owner.is_empty() {
            return Ok(Arc::default());
        }
        self.listing(grant, Some(&grant.owner), age).await
    }

    /// The images that Glance shows the grant's user, of whatever project.
    ///
    /// # Errors
    /// Glance's.
    pub async fn visible(&self, grant: &Grant, age: Duration) -> Result<Listing, ApiError> {
        self.listing(grant, None, age).await
    }

    /// Forgets all listings that have images of this project.
    pub fn forget(&self, owner: &str) {
        self.kept().retain(|(_, of), _| of.as_deref().is_some_and(|of| of != owner));
    }

    async fn listing(&self, grant: &Grant, owner: Option<&str>, age: Duration) -> Result<Listing, ApiError> {
        let key = (fingerprint(grant), owner.map(str::to_owned));
        let kept = self.entry(&key, age);
        let listing = kept.listing.get_or_try_init(|| self.ask(grant, owner)).await;
        let listing = listing.cloned().map_err(|error| refusal(&error))?;
        if listing.iter().map(|image| weight(image)).sum::<usize>() > MAX_SIZE {
            self.kept().remove(&key);
        }
        Ok(listing)
    }

    fn entry(&self, key: &Key, age: Duration) -> Kept {
        let now = Instant::now();
        let mut kept = self.kept();
        // One that is being asked for is as fresh as can be.
        let fresh = |kept: &&Kept| !kept.listing.initialized() || now.duration_since(kept.since) < age;
        if let Some(kept) = kept.get(key).filter(fresh) {
            return kept.clone();
        }
        if kept.len() >= MAX_LISTINGS {
            kept.retain(|_, kept| now.duration_since(kept.since) < super::FRESH);
        }
        if kept.len() >= MAX_LISTINGS {
            kept.clear();
        }
        let new = Kept { since: now, listing: Arc::default() };
        kept.insert(key.clone(), new.clone());
        new
    }

    async fn ask(&self, grant: &Grant, owner: Option<&str>) -> Result<Listing, cloud::Error> {
        let caller = grant.caller();
        let listed = |hidden: &'static str| {
            let mut filters = vec![
                ("container_format", "docker"),
                ("status", "active"),
                ("os_hidden", hidden),
                ("sort", "created_at:desc"),
            ];
            if let Some(owner) = owner {
                // By its name, an image is reached though it was not yet accepted, or is listed for its own project only.
                filters.extend([("owner", owner), ("visibility", "all"), ("member_status", "all")]);
            }
            let caller = &caller;
            async move { self.glance.list(caller, &filters, MAX_IMAGES).await }
        };
        let (shown, hidden) = tokio::try_join!(listed("false"), listed("true"))?;
        let all = shown.into_iter().chain(hidden).filter(|image| is_of(image, owner));
        let mut images: Vec<_> = all.map(Arc::new).collect();
        images.sort_by(|one, other| other.created_at.cmp(&one.created_at).then(one.id.cmp(&other.id)));
        Ok(Arc::new(images))
    }

    fn kept(&self) -> MutexGuard<'_, HashMap<Key, Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whatever the filters did.
fn is_of(image: &ImageMeta, owner: Option<&str>) -> bool {
    image.status == "active"
        && image.container_format.as_deref() == Some("docker")
        && owner.is_none_or(|owner| image.owner.as_deref() == Some(owner))
}

fn weight(image: &ImageMeta) -> usize {
    let texts = image.properties.values().filter_map(|value| value.as_str()).map(str::len);
    512 + texts.sum::<usize>()
}

fn refusal(error: &cloud::Error) -> ApiError {
    match error.status() {
        Some(401) => ApiError::new(Code::Unauthorized, "your session with the cloud has ended; log in again"),
        Some(403) => ApiError::new(Code::Denied, "the image service does not let you list images"),
        _ => {
            tracing::warn!(%error, "images cannot be listed");
            ApiError::new(Code::Unavailable, "the image service does not answer; try again")
        }
    }
}
