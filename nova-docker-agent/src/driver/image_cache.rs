//! How long images stay on the host that no container uses (`[image_cache]` of nova.conf).

use std::collections::{BTreeSet, HashSet};
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::Mutex;
use uuid::Uuid;

use super::unused::Record;
use crate::docker::{UnusedImage, name_in_registry};

/// Name of the record in `state_path`.
const FILE_NAME: &str = "docker-images.json";

/// Since when images are unused.
#[derive(Debug)]
pub(super) struct ImageCache {
    /// None: images stay.
    minimum_age: Option<Duration>,
    record: Mutex<Record>,
}

impl ImageCache {
    /// `state_path` is where the record is.
    pub(super) fn new(minimum_age: Option<Duration>, state_path: &Path) -> Self {
        Self { minimum_age, record: Mutex::new(Record::new("images", state_path.join(FILE_NAME))) }
    }

    /// Takes down that an image, named as it is pulled, is used now.
    pub(super) async fn used(&self, reference: &str) {
        if let Some(name) = name_in_registry(reference) {
            self.record.lock().await.forget(&[name.to_owned()]).await;
        }
    }

    /// Takes down which images are unused, and returns those that have been for long enough.
    pub(super) async fn due(&self, unused: Vec<UnusedImage>, named: &HashSet<Uuid>) -> Vec<UnusedImage> {
        let Some(minimum_age) = self.minimum_age else { return Vec::new() };
        let is_named = |image: &UnusedImage| image.id().is_some_and(|id| named.contains(&id));
        let unused: Vec<UnusedImage> = unused.into_iter().filter(|image| !is_named(image)).collect();
        let names: BTreeSet<&str> = unused.iter().map(UnusedImage::name).collect();
        let now = Timestamp::now();
        let since = self.record.lock().await.update(&names, now).await;
        let age = |image: &UnusedImage| since.get(image.name()).map(|since| since.duration_until(now));
        let is_due = |image: &UnusedImage| {
            age(image).and_then(|age| Duration::try_from(age).ok()).is_some_and(|age| age >= minimum_age)
        };
        let due: Vec<bool> = unused.iter().map(is_due).collect();
        unused.into_iter().zip(due).filter_map(|(image, due)| due.then_some(image)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 3600);

    fn image(id: u128) -> UnusedImage {
        UnusedImage::of(reference(id)).unwrap()
    }

    fn reference(id: u128) -> String {
        format!("127.0.0.1:5000/glance/{}@sha256:0", Uuid::from_u128(id))
    }

    /// A record that says of these images that they are unused since the year 2000.
    fn since_long(directory: &Path, ids: &[u128]) {
        let names: Vec<String> =
            ids.iter().map(|&id| format!("\"{}\": \"2000-01-01T00:00:00Z\"", image(id).name())).collect();
        std::fs::write(directory.join(FILE_NAME), format!("{{\"unused_since\": {{{}}}}}", names.join(", "))).unwrap();
    }

    #[tokio::test]
    async fn an_image_goes_when_nobody_has_used_it_for_long_and_not_when_somebody_just_has() {
        let directory = tempfile::tempdir().unwrap();
        since_long(directory.path(), &[1, 2]);
        let cache = ImageCache::new(Some(DAY), directory.path());
        cache.used(&reference(2)).await;
        let due = cache.due(vec![image(1), image(2), image(3)], &HashSet::new()).await;
        assert_eq!(due, [image(1)], "of the others one was pulled, and one was not seen before");
        let again = ImageCache::new(Some(Duration::ZERO), directory.path());
        assert_eq!(again.due(vec![image(2)], &HashSet::new()).await, [image(2)]);
    }

    #[tokio::test]
    async fn an_image_that_a_server_names_stays_and_its_time_begins_when_no_server_does() {
        let directory = tempfile::tempdir().unwrap();
        since_long(directory.path(), &[1]);
        let cache = ImageCache::new(Some(DAY), directory.path());
        assert_eq!(cache.due(vec![image(1)], &HashSet::from([Uuid::from_u128(1)])).await, []);
        assert_eq!(cache.due(vec![image(1)], &HashSet::new()).await, []);
    }

    #[tokio::test]
    async fn images_stay_where_the_operator_keeps_them() {
        let directory = tempfile::tempdir().unwrap();
        since_long(directory.path(), &[1]);
        assert_eq!(ImageCache::new(None, directory.path()).due(vec![image(1)], &HashSet::new()).await, []);
    }
}
