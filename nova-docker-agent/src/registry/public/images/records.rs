//! What Glance lists, kept for a few seconds for each user's token: a pull of one image is a dozen requests.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::OnceCell;

use super::super::error::{ApiError, Code};
use super::super::grant::Grant;
use super::super::property;
use super::fingerprint;
use super::search::Age;
use crate::cloud::glance::ImageMeta;
use crate::cloud::{self, Glance};
use crate::registry::Digest;

/// Images of one project that are looked through.
const MAX_IMAGES: usize = 10_000;
/// Images that are asked for at once.
const PAGE: usize = 250;
/// Listings that are kept, and about how many bytes of memory all of them take.
const MAX_LISTINGS: usize = 256;
const MAX_SIZE: usize = 24 * 1024 * 1024;

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
    listed: Arc<OnceCell<Listed>>,
}

struct Listed {
    images: Listing,
    /// About how many bytes of memory they take.
    weight: usize,
    /// When Glance had told all of them, which may take long.
    until: Instant,
}

impl Kept {
    fn is_fresh(&self, age: Age, now: Instant) -> bool {
        match age {
            // One that is being asked for is as fresh.
            Age::Seconds => {
                self.listed.get().is_none_or(|listed| now.saturating_duration_since(listed.until) < super::FRESH)
            }
            // What another process has made since a listing under way was begun may not be in it.
            Age::Now => false,
            Age::Then(then) => self.since >= then,
        }
    }
}

impl Records {
    pub fn new(glance: Glance) -> Self {
        Self { glance, kept: Mutex::default() }
    }

    /// The images of the grant's project, as its user sees them; the newest first.
    ///
    /// # Errors
    /// Glance's.
    pub async fn of_owner(&self, grant: &Grant, age: Age) -> Result<Listing, ApiError> {
        if grant.owner.is_empty() {
            return Ok(Arc::default());
        }
        self.listing(grant, Some(&grant.owner), age).await
    }

    /// The images that Glance shows the grant's user, of whatever project.
    ///
    /// # Errors
    /// Glance's.
    pub async fn visible(&self, grant: &Grant, age: Age) -> Result<Listing, ApiError> {
        self.listing(grant, None, age).await
    }

    /// Forgets all listings that have images of this project.
    pub fn forget(&self, owner: &str) {
        self.kept().retain(|(_, of), _| of.as_deref().is_some_and(|of| of != owner));
    }

    async fn listing(&self, grant: &Grant, owner: Option<&str>, age: Age) -> Result<Listing, ApiError> {
        let key = (fingerprint(grant), owner.map(str::to_owned));
        let kept = self.entry(&key, age);
        let listed = kept.listed.get_or_try_init(|| self.ask(grant, owner)).await;
        let images = listed.map(|listed| listed.images.clone()).map_err(|error| refusal(&error))?;
        bound(&mut self.kept(), MAX_SIZE);
        Ok(images)
    }

    fn entry(&self, key: &Key, age: Age) -> Kept {
        let now = Instant::now();
        let mut kept = self.kept();
        let fresh = |kept: &&Kept| kept.is_fresh(age, now);
        if let Some(kept) = kept.get(key).filter(fresh) {
            return kept.clone();
        }
        if kept.len() >= MAX_LISTINGS {
            kept.retain(|_, kept| kept.is_fresh(Age::Seconds, now));
        }
        if kept.len() >= MAX_LISTINGS {
            kept.clear();
        }
        let new = Kept { since: now, listed: Arc::default() };
        kept.insert(key.clone(), new.clone());
        new
    }

    async fn ask(&self, grant: &Grant, owner: Option<&str>) -> Result<Listed, cloud::Error> {
        let (shown, hidden) = tokio::try_join!(self.pages(grant, owner, "false"), self.pages(grant, owner, "true"))?;
        let mut images: Vec<_> = shown.into_iter().chain(hidden).collect();
        images.sort_by(|one, other| other.created_at.cmp(&one.created_at).then(one.id.cmp(&other.id)));
        let weight = images.iter().map(|image| weight(image)).sum();
        Ok(Listed { images: Arc::new(images), weight, until: Instant::now() })
    }

    /// Those that are hidden from listings, or the others, page by page: of each page only what is needed is kept.
    async fn pages(
        &self,
        grant: &Grant,
        owner: Option<&str>,
        hidden: &str,
    ) -> Result<Vec<Arc<ImageMeta>>, cloud::Error> {
        let caller = grant.caller();
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
        let mut images = vec![];
        let mut last: Option<String> = None;
        loop {
            let mut filters = filters.clone();
            filters.extend(last.as_deref().map(|last| ("marker", last)));
            let page = self.glance.list(&caller, &filters, PAGE).await?;
            let is_last = page.len() < PAGE || images.len() + PAGE > MAX_IMAGES;
            last = page.last().map(|image| image.id.to_string());
            let ours = page.into_iter().filter(|image| is_of(image, owner));
            images.extend(ours.map(|image| Arc::new(essential(image))));
            if is_last {
                return Ok(images);
            }
        }
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

/// Without properties that nobody here reads: a project may have many images, and an image many properties.
fn essential(mut image: ImageMeta) -> ImageMeta {
    image.properties.retain(|name, _| name.starts_with(property::PREFIX));
    image
}

fn weight(image: &ImageMeta) -> usize {
    let texts =
        image.properties.values().filter_map(|value| value.as_str()).chain(image.tags.iter().map(String::as_str));
    1024 + texts.map(|text| 64 + text.len()).sum::<usize>()
}

/// Forgets the oldest listings until the others have no more than `size` bytes.
fn bound(kept: &mut HashMap<Key, Kept>, size: usize) {
    let weight = |kept: &Kept| kept.listed.get().map_or(0, |listed| listed.weight);
    let mut total: usize = kept.values().map(weight).sum();
    while total > size {
        let listed = kept.iter().filter(|(_, kept)| kept.listed.initialized());
        let Some(oldest) = listed.min_by_key(|(_, kept)| kept.since).map(|(key, _)| key.clone()) else { return };
        total -= kept.remove(&oldest).as_ref().map_or(0, weight);
    }
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn kept(age: u64, weight: usize) -> Kept {
        let listed = Listed { images: Arc::default(), weight, until: Instant::now() };
        Kept { since: Instant::now() - Duration::from_secs(age), listed: Arc::new(OnceCell::new_with(Some(listed))) }
    }

    fn key(name: &str) -> Key {
        (Digest::of(b"token"), Some(name.to_owned()))
    }

    #[test]
    fn a_listing_under_way_does_for_seconds_but_not_for_what_has_come_since_it_was_begun() {
        let now = Instant::now();
        let under_way = Kept { since: now - Duration::from_secs(1), listed: Arc::default() };
        assert!(under_way.is_fresh(Age::Seconds, now) && under_way.is_fresh(Age::Then(under_way.since), now));
        assert!(!under_way.is_fresh(Age::Now, now) && !under_way.is_fresh(Age::Then(now), now));
    }

    #[test]
    fn listings_are_kept_as_far_as_they_fit_the_newest_first_and_those_under_way() {
        let under_way = Kept { since: Instant::now() - Duration::from_secs(9), listed: Arc::default() };
        let all = [("old", kept(3, 50)), ("new", kept(1, 50)), ("newer", kept(0, 40)), ("under way", under_way)];
        let mut kept: HashMap<Key, Kept> = all.into_iter().map(|(name, kept)| (key(name), kept)).collect();
        bound(&mut kept, 100);
        assert!(!kept.contains_key(&key("old")));
        assert!(["new", "newer", "under way"].iter().all(|name| kept.contains_key(&key(name))));
        // One that is larger than all may be.
        bound(&mut kept, 39);
        assert_eq!(kept.into_keys().collect::<Vec<_>>(), [key("under way")]);
    }
}
