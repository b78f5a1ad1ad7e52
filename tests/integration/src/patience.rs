//! Waiting for what a test expects.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::{sleep, timeout};

/// Long enough for a loaded machine: only a failure waits so long.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// The pause before something is asked again that tells nobody when it changes.
pub(crate) const PAUSE: Duration = Duration::from_millis(50);

/// Waits until `condition` holds, which `what` describes.
pub async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let waited = timeout(PATIENCE, async {
        while !condition().await {
            sleep(PAUSE).await;
        }
    });
    waited.await.unwrap_or_else(|_| panic!("waited in vain until {what}"));
}

/// Reads a text again and again until it has `part` in it; the text.
pub(crate) async fn until_contains(part: &str, mut read: impl AsyncFnMut() -> String) -> String {
    let mut text = String::new();
    let waited = timeout(PATIENCE, async {
        loop {
            text = read().await;
            if text.contains(part) {
                return;
            }
            sleep(PAUSE).await;
        }
    });
    let found = waited.await.is_ok();
    assert!(found, "{part:?} is not in {text:?}");
    text
}

/// Reads a set again and again until nothing is in it but what may be.
pub(crate) async fn until_within(allowed: &BTreeSet<String>, mut read: impl AsyncFnMut() -> BTreeSet<String>) {
    let mut found = BTreeSet::new();
    let waited = timeout(PATIENCE, async {
        loop {
            found = read().await;
            if found.is_subset(allowed) {
                return;
            }
            sleep(PAUSE).await;
        }
    });
    let within = waited.await.is_ok();
    assert!(within, "left over: {:?}", found.difference(allowed).collect::<Vec<_>>());
}
