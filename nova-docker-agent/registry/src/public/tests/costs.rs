//! What it costs to look at images that are bad, or many.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::time::timeout;

use crate::Digest;
use crate::public::testing::{Asked, CREDENTIAL, DEMO, LONG, OTHER, Registry};
use crate::testing as archives;

#[tokio::test]
async fn that_an_image_is_bad_is_remembered_but_told_to_nobody_who_may_not_read_it() {
    let fresh = Duration::from_secs(1);
    let registry = Registry::with_listings_of(fresh).await;
    let bad = vec![0x1f; 5000].into();
    let id = registry.cloud.image(DEMO, "bad:v1", &bad, json!({"visibility": "public"}));
    for _ in 0..5 {
        let answer = registry.get("ann", "/v2/demo/bad/manifests/v1").await;
        assert_eq!((answer.status, answer.code().as_str()), (422, "UNSUPPORTED"));
    }
    assert_eq!(registry.cloud.count(Asked::Read), 1);
    // Whether bob may read it is asked of Glance.
    let path = format!("/v2/{DEMO}/bad/manifests/v1");
    registry.cloud.refuse(Asked::Read, 403, "no");
    assert_eq!(registry.get("bob", &path).await.status, 403);
    registry.cloud.refuse_nothing();
    assert_eq!(registry.get("bob", &path).await.status, 422);
    // Another content of that name is another image.
    registry.cloud.image(DEMO, "bad:v1", &archives::oci(&[archives::layer(1, 10)]), json!({}));
    registry.cloud.remove(id);
    tokio::time::sleep(fresh).await;
    assert_eq!(registry.get("ann", "/v2/demo/bad/manifests/v1").await.status, 200);
}

#[tokio::test]
async fn a_digest_that_is_nowhere_makes_nobody_open_all_images_of_a_project() {
    let registry = Registry::start().await;
    for number in 0..200 {
        let archive = archives::oci(&[archives::layer(number, 10)]);
        registry.cloud.image(DEMO, &format!("web:v{number}"), &archive, json!({}));
    }
    let absent = Digest::of(b"absent");
    assert_eq!(registry.get("ann", &format!("/v2/demo/web/blobs/{absent}")).await.status, 404);
    assert_eq!(registry.cloud.count(Asked::Read), 65);
    // The same for what refers to it: each of them would have to be opened to tell.
    let before = registry.cloud.count(Asked::Read);
    assert_eq!(registry.get("ann", &format!("/v2/demo/web/referrers/{absent}")).await.status, 200);
    assert_eq!(registry.cloud.count(Asked::Read) - before, 64);
    // What is known by its tag is found by its digest, however old it is.
    let old = registry.get("ann", "/v2/demo/web/manifests/v0").await;
    let digest = old.header("docker-content-digest").to_owned();
    assert_eq!(registry.get("ann", &format!("/v2/demo/web/manifests/{digest}")).await.status, 200);
}

#[tokio::test]
async fn the_users_of_one_project_do_not_keep_others_from_opening_images() {
    let registry = Arc::new(Registry::start().await);
    for (project, count) in [(DEMO, 6), (OTHER, 1)] {
        for number in 0..count {
            let archive = archives::oci(&[archives::layer(number, 10)]);
            registry.cloud.image(project, &format!("web{number}:v1"), &archive, json!({}));
        }
    }
    registry.cloud.stall();
    let mut waiting = tokio::task::JoinSet::new();
    let mut ask = |user: &'static str, path: String| {
        let registry = registry.clone();
        waiting.spawn(async move { registry.get(user, &path).await.status });
    };
    for number in 0..6 {
        ask("ann", format!("/v2/demo/web{number}/manifests/v1"));
    }
    timeout(LONG, registry.cloud.was_asked(Asked::Read, 2)).await.unwrap();
    ask("bob", "/v2/other/web0/manifests/v1".into());
    timeout(LONG, registry.cloud.was_asked(Asked::Read, 3)).await.unwrap();
    // Which is his: all of hers were asked for before, and had no turn.
    assert!(registry.cloud.last_token().unwrap().starts_with("bob/"));
}

#[tokio::test]
async fn the_users_of_one_project_do_not_keep_others_from_listing() {
    let registry = Arc::new(Registry::start().await);
    registry.cloud.stall_listings();
    let mut waiting = tokio::task::JoinSet::new();
    let mut ask = |user: &'static str, project: &str| {
        let (registry, path) = (registry.clone(), format!("/v2/{project}/web/tags/list"));
        waiting.spawn(async move { registry.get(user, &path).await.status });
    };
    // Each has a token of its own, and wants two listings: of what is shown, and of what is hidden.
    for user in ["ann", "cat", "rea", CREDENTIAL] {
        ask(user, "demo");
    }
    timeout(LONG, registry.cloud.was_asked_of("GET /v2/images?", 4)).await.unwrap();
    ask("bob", "other");
    timeout(LONG, registry.cloud.was_asked_of("GET /v2/images?", 6)).await.unwrap();
    let asked = registry.cloud.take_asked();
    let of = |project: &str| asked.iter().filter(|asked| asked.contains(&format!("owner={project}"))).count();
    assert_eq!((of(DEMO), of(OTHER)), (4, 2));
}

#[tokio::test]
async fn who_waits_for_a_listing_that_is_under_way_keeps_nobody_from_another_one() {
    let registry = Arc::new(Registry::start().await);
    registry.cloud.stall_listings();
    let mut waiting = tokio::task::JoinSet::new();
    let mut ask = |project: String| {
        let (registry, path) = (registry.clone(), format!("/v2/{project}/web/manifests/v1"));
        waiting.spawn(async move { registry.get("ann", &path).await.status });
    };
    for _ in 0..12 {
        ask("demo".into());
    }
    for number in 1..=3 {
        ask(format!("{number:032}"));
    }
    timeout(LONG, registry.cloud.was_asked_of("GET /v2/images?", 4)).await.unwrap();
    let asked = registry.cloud.take_asked();
    let of = |project: &str| asked.iter().filter(|asked| asked.contains(&format!("owner={project}"))).count();
    assert_eq!(of(DEMO), 1, "{asked:?}");
}

#[tokio::test]
async fn what_is_not_there_is_looked_for_in_one_new_listing() {
    let registry = Registry::start().await;
    let absent = Digest::of(b"absent");
    // A listing is two requests: of what is shown, and of what is hidden.
    for (times, reference) in [(1, "v1".to_owned()), (2, "v2".to_owned()), (3, absent.to_string())] {
        assert_eq!(registry.get("ann", &format!("/v2/demo/web/manifests/{reference}")).await.status, 404);
        assert_eq!(registry.cloud.asked("GET /v2/images?"), 2 * times, "{reference}");
    }
}

#[tokio::test]
async fn a_pull_asks_for_one_listing_unless_what_it_wants_is_hidden() {
    let registry = Registry::start().await;
    let [layer, hidden] = [1, 2].map(|seed| archives::layer(seed, 10));
    registry.cloud.image(DEMO, "web:v1", &archives::oci(std::slice::from_ref(&layer)), json!({}));
    registry.cloud.image(DEMO, "web:v2", &archives::oci(std::slice::from_ref(&hidden)), json!({"os_hidden": true}));
    // One that is shown goes before it, though it is older.
    registry.cloud.image(DEMO, "web:v1", &archives::oci(&[archives::layer(3, 10)]), json!({"os_hidden": true}));
    let manifest = registry.get("ann", "/v2/demo/web/manifests/v1").await;
    assert_eq!(manifest.json()["layers"][0]["digest"], Digest::of(&layer).to_string());
    let exact = format!("/v2/demo/web/manifests/{}", manifest.header("docker-content-digest"));
    for path in [exact, format!("/v2/demo/web/blobs/{}", Digest::of(&layer))] {
        assert_eq!(registry.get("ann", &path).await.status, 200);
    }
    assert_eq!(registry.cloud.asked("GET /v2/images?"), 1);
    for path in ["manifests/v2".to_owned(), format!("blobs/{}", Digest::of(&hidden))] {
        assert_eq!(registry.get("ann", &format!("/v2/demo/web/{path}")).await.status, 200);
    }
    assert_eq!(registry.cloud.asked("GET /v2/images?"), 2);
}

#[tokio::test]
async fn a_project_of_ten_thousand_images_is_listed_once_for_a_pull() {
    let registry = Registry::start().await;
    let archive = archives::oci(&[archives::layer(1, 10)]);
    for number in 0..10_000 {
        registry.cloud.image(DEMO, &format!("other:v{number}"), &bytes::Bytes::new(), json!({}));
    }
    registry.cloud.image(DEMO, "web:v1", &archive, json!({}));
    let manifest = registry.get("ann", "/v2/demo/web/manifests/v1").await;
    assert_eq!(manifest.status, 200);
    let listings = registry.cloud.asked("GET /v2/images?");
    for digest in [manifest.header("docker-content-digest").to_owned(), "v1".to_owned()] {
        assert_eq!(registry.get("ann", &format!("/v2/demo/web/manifests/{digest}")).await.status, 200);
    }
    assert_eq!(registry.cloud.asked("GET /v2/images?"), listings);
}
