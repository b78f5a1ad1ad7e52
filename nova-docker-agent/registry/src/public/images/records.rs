//! What Glance lists, kept for a few seconds for each user's token: a pull of one image is a dozen requests.

use std::cmp::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use moka::ops::compute::Op;
use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use tokio::sync::Semaphore;
use uuid::Uuid;

use super::changes::Changes;
use super::fingerprint;
use super::search::Age;
use crate::public::{Grant, property};
use crate::store::{Turn, Turns};
use crate::{ApiError, Code, Digest};
use nova_docker_cloud::glance::ImageMeta;
use nova_docker_cloud::{self as cloud, Glance};

/// Images of one project that are looked through.
const MAX_IMAGES: usize = 10_000;
/// Images that are asked for at once.
const PAGE: usize = 250;
/// About how many bytes of memory all listings that are kept take, what one has at most, and what each counts for at least.
const MAX_SIZE: u64 = 48 * 1024 * 1024;
const MAX_LISTING: usize = 24 * 1024 * 1024;
const MIN_WEIGHT: usize = 96 * 1024;
/// Listings that Glance is asked for at a time, in total and for the users of one project, or one client that has not logged in: a
/// page of each may take as much memory as an answer may have.
const MAX_LISTINGS: usize = 32;
const MAX_LISTINGS_OF_ONE: usize = 4;
/// Those of all clients together that have not logged in: whoever they are, users have the rest.
const MAX_LISTINGS_OF_ANONYMOUS: usize = 16;
/// A property that has more bytes is a long one, and so much of these is kept in one listing: an image without them is opened to
/// tell. Users write properties too.
const LONG: usize = 1024;
const MAX_LONG: usize = 8 * 1024 * 1024;

/// Whether images are meant that are hidden from listings, as artifacts are, or the others: Glance lists the ones or the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Hidden(pub bool);

/// What Glance listed at one time.
pub type Listing = Arc<Vec<Arc<ImageMeta>>>;

/// The listings of the users of the last seconds.
pub struct Records {
    glance: Glance,
    /// How old a listing may be.
    fresh: Duration,
    changes: Changes,
    kept: Cache<Key, Kept>,
    turns: Arc<Turns>,
    /// Those who have not logged in take turns among themselves first.
    of_anonymous: Arc<Turns>,
}

/// A hash of the user's token, and what is listed.
type Key = (Digest, Of);

/// Which images.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Of {
    /// Those of this project that listings show, or those that they hide.
    Owner(String, Hidden),
    /// The one with this id, of whatever project. It costs less than the others.
    Id(Uuid),
}

#[derive(Clone)]
struct Kept {
    since: Instant,
    /// Changes that had been made before it was asked for.
    changes: u64,
    listed: Arc<OnceLock<Listed>>,
    /// Of whoever asks for it now.
    asking: Arc<Semaphore>,
}

struct Listed {
    images: Listing,
    /// About how many bytes of memory they take.
    weight: usize,
    /// When Glance had told all of them, which may take long.
    until: Instant,
}

impl Kept {
    fn new(since: Instant, changes: u64) -> Self {
        Self { since, changes, listed: Arc::default(), asking: Arc::new(Semaphore::new(1)) }
    }

    /// `fresh`: how old it may be where it need not have what has come since. `changes`: how many there were until now.
    fn is_fresh(&self, age: Age, now: Instant, fresh: Duration, changes: u64) -> bool {
        match age {
            _ if self.changes != changes => false,
            // One that is being asked for is as fresh.
            Age::Seconds => self.listed.get().is_none_or(|listed| now.saturating_duration_since(listed.until) < fresh),
            // What another process has made since a listing under way was begun may not be in it.
            Age::Then(then) => self.since >= then,
        }
    }
}

impl Records {
    pub fn new(glance: Glance, changes: Changes, fresh: Duration) -> Self {
        let turns = Turns::new(MAX_LISTINGS, MAX_LISTINGS_OF_ONE);
        let of_anonymous = Turns::new(MAX_LISTINGS_OF_ANONYMOUS, MAX_LISTINGS_OF_ONE);
        Self { glance, fresh, changes, kept: bounded(MAX_SIZE), turns, of_anonymous }
    }

    /// Gives `take` the images that Glance lists for the grant's user in the grant's project, whosever they are. None is kept.
    pub async fn each_visible(&self, grant: &Grant, mut take: impl FnMut(&ImageMeta)) -> Result<(), ApiError> {
        for hidden in [Hidden(false), Hidden(true)] {
            let mut after = None;
            loop {
                let turn = self.turn(grant).await?;
                let (page, next) = self.page(grant, None, hidden, after).await.map_err(|error| refusal(&error))?;
                drop(turn);
                page.iter().for_each(&mut take);
                match next {
                    Some(_) => after = next,
                    None => break,
                }
            }
        }
        Ok(())
    }

    /// Forgets all listings that may have images of this project; other processes do too.
    pub fn forget(&self, owner: &str) {
        self.changes.add(owner);
        for (key, _) in &self.kept {
            if !matches!(&key.1, Of::Owner(of, _) if of != owner) {
                self.kept.invalidate(&*key);
            }
        }
    }

    /// Those of the images that the grant's user sees; the newest first.
    pub async fn listing(&self, grant: &Grant, of: Of, age: Age) -> Result<Listing, ApiError> {
        let key = (fingerprint(grant), of);
        let kept = self.entry(&key, age);
        loop {
            if let Some(listed) = kept.listed.get() {
                return Ok(listed.images.clone());
            }
            // Nobody waits for a listing that waits for somebody else's turn: whoever has a turn can make it.
            let turn = match &key.1 {
                Of::Owner(..) => Some(self.turn(grant).await?),
                Of::Id(_) => None,
            };
            let Ok(_asking) = kept.asking.try_acquire() else {
                // Somebody with a turn makes it, and those who wait for that need none.
                drop(turn);
                drop(kept.asking.acquire().await);
                continue;
            };
            if kept.listed.get().is_none() {
                let listed = self.ask(grant, &key.1).await.map_err(|error| refusal(&error))?;
                kept.listed.get_or_init(|| listed);
                weigh(&self.kept, &key, &kept);
            }
        }
    }

    async fn turn(&self, grant: &Grant) -> Result<(Option<Turn>, Turn), ApiError> {
        let take = async {
            let first = match grant.is_anonymous {
                true => Some(self.of_anonymous.take(Some(&grant.turns)).await?),
                false => None,
            };
            Ok::<_, crate::Error>((first, self.turns.take(Some(&grant.turns)).await?))
        };
        take.await.map_err(|_| ApiError::new(Code::Unavailable, "the registry shuts down"))
    }

    fn entry(&self, key: &Key, age: Age) -> Kept {
        let now = Instant::now();
        let changes = match &key.1 {
            Of::Owner(owner, _) => self.changes.count(Some(owner)),
            Of::Id(_) => self.changes.count(None),
        };
        let new = || Kept::new(now, changes);
        let is_old = |kept: &Kept| !kept.is_fresh(age, now, self.fresh, changes);
        self.kept.entry_by_ref(key).or_insert_with_if(new, is_old).into_value()
    }

    async fn ask(&self, grant: &Grant, of: &Of) -> Result<Listed, cloud::Error> {
        let mut room = MAX_LONG;
        let mut images = match of {
            Of::Owner(owner, hidden) => self.all(grant, owner, *hidden).await?,
            Of::Id(id) => match self.glance.image(&grant.caller(), *id).await {
                Ok(image) if is_of(&image, None) => vec![Arc::new(essential(image, &mut room))],
                Ok(_) => vec![],
                Err(error) if error.status() == Some(404) => vec![],
                Err(error) => return Err(error),
            },
        };
        images.sort_by(|one, other| newest_first(one, other));
        let weight = images.iter().map(|image| weight(image)).sum();
        Ok(Listed { images: Arc::new(images), weight, until: Instant::now() })
    }

    /// Those of a project: of each page only what is needed is kept.
    async fn all(&self, grant: &Grant, owner: &str, hidden: Hidden) -> Result<Vec<Arc<ImageMeta>>, cloud::Error> {
        let (mut images, mut after) = (vec![], None);
        let (mut room, mut size) = (MAX_LONG, 0);
        loop {
            let (page, next) = self.page(grant, Some(owner), hidden, after).await?;
            for image in page {
                let image = essential(image, &mut room);
                size += weight(&image);
                images.push(Arc::new(image));
            }
            if next.is_none() {
                return Ok(images);
            }
            if images.len() > MAX_IMAGES || size > MAX_LISTING {
                let most = images.len();
                tracing::warn!(project = owner, "only the newest {most} images of a project are looked through");
                return Ok(images);
            }
            after = next;
        }
    }

    /// A part of what Glance lists, after this image. With it the last of them, if there may be more.
    async fn page(
        &self,
        grant: &Grant,
        owner: Option<&str>,
        Hidden(hidden): Hidden,
        after: Option<Uuid>,
    ) -> Result<(Vec<ImageMeta>, Option<Uuid>), cloud::Error> {
        let mut filters = vec![
            ("container_format", "docker"),
            ("status", "active"),
            ("os_hidden", if hidden { "true" } else { "false" }),
            ("sort", "created_at:desc"),
        ];
        if let Some(owner) = owner {
            // By its name, an image is reached though it was not yet accepted, or is listed for its own project only.
            filters.extend([("owner", owner), ("visibility", "all"), ("member_status", "all")]);
        }
        let after = after.map(|after| after.to_string());
        filters.extend(after.as_deref().map(|after| ("marker", after)));
        let mut page = self.glance.list(&grant.caller(), &filters, PAGE).await?;
        let next = page.last().filter(|_| page.len() >= PAGE).map(|image| image.id);
        page.retain(|image| is_of(image, owner));
        Ok((page, next))
    }
}

/// The order of listings.
pub fn newest_first(one: &ImageMeta, other: &ImageMeta) -> Ordering {
    other.created_at.cmp(&one.created_at).then(one.id.cmp(&other.id))
}

/// Whatever the filters did.
fn is_of(image: &ImageMeta, owner: Option<&str>) -> bool {
    image.status == "active"
        && image.container_format.as_deref() == Some("docker")
        && owner.is_none_or(|owner| image.owner.as_deref() == Some(owner))
}

/// Without properties that nobody here reads, and without long ones that there is no `room` for: a project may have many images,
/// and an image many properties.
fn essential(mut image: ImageMeta, room: &mut usize) -> ImageMeta {
    image.properties.retain(|name, value| {
        if name == property::PROTECTED {
            return true;
        }
        let Some(length) = value.as_str().map(str::len) else { return false };
        if !property::TOLD.contains(&name.as_str()) {
            return false;
        }
        let left = if length > LONG { room.checked_sub(length) } else { Some(*room) };
        *room = left.unwrap_or(*room);
        left.is_some()
    });
    image
}

fn weight(image: &ImageMeta) -> usize {
    let texts =
        image.properties.values().filter_map(|value| value.as_str()).chain(image.tags.iter().map(String::as_str));
    1024 + texts.map(|text| 64 + text.len()).sum::<usize>()
}

/// Listings that have no more than `size` bytes together; those that were asked for last.
fn bounded(size: u64) -> Cache<Key, Kept> {
    let weight = |kept: &Kept| kept.listed.get().map_or(0, |listed| listed.weight).max(MIN_WEIGHT);
    let weigher = move |_: &Key, kept: &Kept| u32::try_from(weight(kept)).unwrap_or(u32::MAX);
    Cache::builder().max_capacity(size).weigher(weigher).eviction_policy(EvictionPolicy::lru()).build()
}

/// Weighs a listing that has just come, unless it was forgotten meanwhile.
fn weigh(all: &Cache<Key, Kept>, key: &Key, come: &Kept) {
    all.entry_by_ref(key).and_compute_with(|found| match found {
        Some(found) if Arc::ptr_eq(&found.value().listed, &come.listed) => Op::Put(come.clone()),
        _ => Op::Nop,
    });
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
mod tests;
