//! Tags that are added and that move.

use std::time::Duration;

use serde_json::json;

use crate::public::push::testing::{Asked, DEMO, at, config, content, on_cloud, open_on, put, upload_image};
use crate::public::{Reference, Tag, property};
use crate::{Digest, testing};

const WEB: &str = "demo/web";

fn named(name: &str, tags: &[&str], hidden: bool) -> (String, Vec<String>, bool) {
    (name.to_owned(), tags.iter().map(|tag| (*tag).to_owned()).collect(), hidden)
}

#[tokio::test]
async fn another_tag_of_the_same_manifest_is_a_tag_in_glance_and_no_second_image() {
    let directory = tempfile::tempdir().unwrap();
    let (cloud, push) = on_cloud(&directory).await;
    let manifest = upload_image(&push, WEB, 1).await;
    for tag in ["v1", "v1", "latest"] {
        assert_eq!(put(&push, WEB, tag, &manifest).await.status, 201);
    }
    assert_eq!(cloud.names(), [named("web:v1", &["web:latest"], false)]);
    assert_eq!(cloud.count(Asked::Create), 1);
}

#[tokio::test]
async fn a_tag_moves_to_the_new_image_and_the_old_one_stays_without() {
    let directory = tempfile::tempdir().unwrap();
    let (cloud, push) = on_cloud(&directory).await;
    let old = upload_image(&push, WEB, 1).await;
    let new = upload_image(&push, WEB, 5).await;
    assert_eq!(put(&push, WEB, "v1", &old).await.status, 201);
    assert_eq!(put(&push, WEB, "v1", &new).await.status, 201);
    let untagged = format!("web@{}", Digest::of(&old));
    assert_eq!(cloud.names(), [named(&untagged, &[], true), named("web:v1", &[], false)]);
}

#[tokio::test]
async fn a_moved_tag_is_seen_at_once_by_another_process_of_the_host() {
    let directory = tempfile::tempdir().unwrap();
    let (cloud, push) = on_cloud(&directory).await;
    let other = open_on(config(directory.path()), &cloud).await;
    let tag = Reference::Tag("v1".parse().unwrap());
    for seed in [1, 5] {
        let manifest = upload_image(&push, WEB, seed).await;
        assert_eq!(put(&push, WEB, "v1", &manifest).await.status, 201);
        let found = other.images.find(&at(WEB), &tag).await.unwrap();
        assert_eq!(found.map(|content| content.root), Some(Digest::of(&manifest)));
    }
}

#[tokio::test]
async fn an_old_image_loses_its_tag_only_when_the_new_one_is_complete() {
    let directory = tempfile::tempdir().unwrap();
    let (cloud, push) = on_cloud(&directory).await;
    let old = upload_image(&push, WEB, 1).await;
    let new = upload_image(&push, WEB, 5).await;
    assert_eq!(put(&push, WEB, "v1", &old).await.status, 201);
    cloud.refuse(Asked::Upload, 500, "the store is full");
    assert_eq!(put(&push, WEB, "v1", &new).await.status, 503);
    assert_eq!(cloud.names(), [named("web:v1", &[], false)]);
    cloud.refuse_nothing();
    cloud.refuse(Asked::Update, 500, "the database is away");
    assert_eq!(put(&push, WEB, "v1", &new).await.status, 503);
    // Both have it now; the newer one counts, and the next push puts that right.
    assert_eq!(cloud.names(), [named("web:v1", &[], false), named("web:v1", &[], false)]);
    cloud.refuse_nothing();
    assert_eq!(put(&push, WEB, "v1", &new).await.status, 201);
    assert_eq!(cloud.names()[0], named(&format!("web@{}", Digest::of(&old)), &[], true));
}

#[tokio::test]
async fn of_several_pushes_of_one_tag_at_one_time_exactly_one_image_has_it() {
    let directory = tempfile::tempdir().unwrap();
    let (cloud, push) = on_cloud(&directory).await;
    let mut manifests = vec![];
    for seed in [1, 5, 9, 13] {
        manifests.push(upload_image(&push, WEB, seed).await);
    }
    cloud.take(Duration::from_millis(100));
    let pushes = manifests.iter().map(|manifest| put(&push, WEB, "v1", manifest));
    for answer in futures::future::join_all(pushes).await {
        assert_eq!(answer.status, 201);
    }
    let names = cloud.names();
    let with_tag = names.iter().filter(|(name, tags, hidden)| name == "web:v1" && tags.is_empty() && !hidden).count();
    let without =
        names.iter().filter(|(name, tags, hidden)| name.starts_with("web@") && tags.is_empty() && *hidden).count();
    assert_eq!((with_tag, without), (1, 3), "{names:?}");
}

#[tokio::test]
async fn an_image_with_several_tags_loses_the_one_that_moves() {
    let directory = tempfile::tempdir().unwrap();
    let (cloud, push) = on_cloud(&directory).await;
    let old = upload_image(&push, WEB, 1).await;
    let new = upload_image(&push, WEB, 5).await;
    for tag in ["v1", "v2", "v3"] {
        assert_eq!(put(&push, WEB, tag, &old).await.status, 201);
    }
    assert_eq!(put(&push, WEB, "v1", &new).await.status, 201);
    assert_eq!(cloud.names(), [named("web:v2", &["web:v2", "web:v3"], false), named("web:v1", &[], false)]);
    assert_eq!(put(&push, WEB, "v2", &new).await.status, 201);
    assert_eq!(cloud.names(), [named("web:v3", &["web:v3"], false), named("web:v1", &["web:v2"], false)]);
}

#[tokio::test]
async fn a_tag_can_move_back_to_an_image_that_has_lost_its_tags() {
    let directory = tempfile::tempdir().unwrap();
    let (cloud, push) = on_cloud(&directory).await;
    let old = upload_image(&push, WEB, 1).await;
    let new = upload_image(&push, WEB, 5).await;
    for manifest in [&old, &new, &old] {
        assert_eq!(put(&push, WEB, "v1", manifest).await.status, 201);
    }
    let untagged = format!("web@{}", Digest::of(&new));
    assert_eq!(cloud.names(), [named("web:v1", &[], false), named(&untagged, &[], true)]);
}

#[tokio::test]
async fn tags_of_other_repositories_and_words_of_users_are_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let (cloud, push) = on_cloud(&directory).await;
    let more = json!({"tags": ["production", "other:v1", "web:v1", "web:v2"]});
    cloud.image(DEMO, "my image", &testing::oci(&[content(9, 100)]), more);
    let manifest = upload_image(&push, WEB, 1).await;
    assert_eq!(put(&push, WEB, "v1", &manifest).await.status, 201);
    assert_eq!(cloud.names()[0], named("my image", &["production", "other:v1", "web:v2"], false));
}

#[tokio::test]
async fn an_image_or_snapshot_that_was_not_pushed_keeps_its_name_and_is_not_what_is_pulled() {
    let directory = tempfile::tempdir().unwrap();
    let (cloud, push) = on_cloud(&directory).await;
    let manifest = upload_image(&push, WEB, 1).await;
    // A snapshot has what was written into the image of its server.
    let of_a_server = |kind: &str| json!({"image_type": kind, property::REPOSITORY: "web"});
    for properties in [json!({}), of_a_server("snapshot"), of_a_server("backup")] {
        cloud.image(DEMO, "web", &testing::oci(&[content(9, 100)]), properties);
    }
    assert_eq!(put(&push, WEB, "latest", &manifest).await.status, 201);
    let newer = json!({"created_at": "2030-01-01T00:00:00Z"});
    cloud.image(DEMO, "web", &testing::oci(&[content(8, 100)]), newer);
    let unchanged = || named("web", &[], false);
    assert_eq!(cloud.names(), [unchanged(), unchanged(), unchanged(), named("web:latest", &[], false), unchanged()]);
    let at = at(WEB);
    push.images.changed(&at.grant);
    let found = push.images.find(&at, &Reference::Tag(Tag::latest())).await.unwrap().unwrap();
    assert_eq!(found.root, Digest::of(&manifest));
}

#[tokio::test]
async fn a_snapshot_of_a_pushed_image_is_pulled_by_what_it_holds_itself() {
    let directory = tempfile::tempdir().unwrap();
    let (cloud, push) = on_cloud(&directory).await;
    let layers = [content(9, 100)];
    let config = serde_json::to_vec(&testing::config(&layers)).unwrap();
    let own = testing::oci_manifest(&config, &layers, crate::manifest::OCI_LAYER);
    // Nova copies the properties of the server's image, and cuts them.
    let inherited = json!({"image_type": "snapshot", property::REPOSITORY: "web",
        property::DIGEST: Digest::of(b"base").to_string(), property::BLOBS: "{\"sha256:0"});
    cloud.image(DEMO, "web", &testing::oci(&layers), inherited);
    let found = push.images.find(&at(WEB), &Reference::Digest(Digest::of(&own))).await.unwrap();
    assert!(found.is_some());
}

#[tokio::test]
async fn an_image_that_was_marked_for_the_registry_gives_its_tag_up_as_well() {
    let directory = tempfile::tempdir().unwrap();
    let (cloud, push) = on_cloud(&directory).await;
    let layers = [content(9, 100)];
    cloud.image(DEMO, "web", &testing::oci(&layers), json!({property::REPOSITORY: "web"}));
    let manifest = upload_image(&push, WEB, 1).await;
    assert_eq!(put(&push, WEB, "latest", &manifest).await.status, 201);
    let config = serde_json::to_vec(&testing::config(&layers)).unwrap();
    let digest = Digest::of(&testing::oci_manifest(&config, &layers, crate::manifest::OCI_LAYER));
    assert_eq!(cloud.names()[0], named(&format!("web@{digest}"), &[], true));
}

#[tokio::test]
async fn images_of_other_projects_keep_their_tags() {
    let directory = tempfile::tempdir().unwrap();
    let (cloud, push) = on_cloud(&directory).await;
    cloud.image(DEMO, "web:v1", &testing::oci(&[content(9, 100)]), json!({"owner": "0ther", "visibility": "public"}));
    let manifest = upload_image(&push, WEB, 1).await;
    assert_eq!(put(&push, WEB, "v1", &manifest).await.status, 201);
    assert_eq!(cloud.names(), [named("web:v1", &[], false), named("web:v1", &[], false)]);
}
