//! Images without tags.

use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::mounts::mount;
use crate::Digest;
use crate::manifest::OCI_LAYER;
use crate::public::property;
use crate::public::push::testing::{
    Asked, Cloud, DEMO, alice, at, config, content, on_cloud, open_on, put, staged, upload_image,
};
use crate::public::push::{Push, PushConfig};
use crate::testing::{config as image_config, oci, oci_manifest};

const WEB: &str = "demo/web";
const OLD: &str = "2020-01-01T00:00:00Z";

/// A pushed image that has had no tag since 2020, and what else its record says.
fn untagged(cloud: &Cloud, seed: u8, more: Value) -> String {
    let digest = Digest::of(&[seed]).to_string();
    let mut record = json!({
        "os_hidden": true, "created_at": OLD, "updated_at": OLD, property::REPOSITORY: "web", property::DIGEST: digest,
    });
    record.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    cloud.image(DEMO, &format!("web@{digest}"), &oci(&[content(seed, 100)]), record);
    digest
}

#[tokio::test]
async fn a_push_deletes_what_had_no_tag_for_long_and_what_nothing_refers_to() {
    let directory = tempfile::tempdir().unwrap();
    let cloud = Cloud::start().await;
    let mut gone = vec![untagged(&cloud, 1, json!({}))];
    let mut kept = vec![untagged(&cloud, 2, json!({"updated_at": Timestamp::now().to_string()}))];
    kept.push(untagged(&cloud, 3, json!({"image_type": "snapshot"})));
    kept.push(untagged(&cloud, 16, json!({"image_type": "backup", "name": "Nightly"})));
    kept.push(untagged(&cloud, 4, json!({"name": "web:v7"})));
    kept.push(untagged(&cloud, 5, json!({"tags": ["web:v8"]})));
    // One that something with a tag refers to, and what refers to that; and what refers to nothing any more.
    let subject = untagged(&cloud, 6, json!({}));
    kept.push(untagged(&cloud, 7, json!({"name": "web:signature", property::SUBJECT: subject})));
    kept.push(untagged(&cloud, 8, json!({property::SUBJECT: subject})));
    gone.push(untagged(&cloud, 9, json!({property::SUBJECT: Digest::of(b"gone").to_string()})));
    let signed = untagged(&cloud, 10, json!({}));
    kept.push(untagged(&cloud, 11, json!({"name": format!("web:{}.sig", signed.replace(':', "-"))})));
    kept.extend([subject, signed]);
    // Tagged in another repository, and untagged in one that nobody pushes to.
    kept.push(untagged(&cloud, 12, json!({"tags": ["other:v1"]})));
    gone.push(untagged(&cloud, 13, json!({"name": "other@sha256:00", property::REPOSITORY: "other"})));
    // Of a manifest that an image has within.
    untagged(&cloud, 14, json!({"name": "web:v14"}));
    let layers = [content(14, 100)];
    let within = oci_manifest(&serde_json::to_vec(&image_config(&layers)).unwrap(), &layers, OCI_LAYER);
    kept.push(untagged(&cloud, 15, json!({property::SUBJECT: Digest::of(&within).to_string()})));

    for (retention, expected) in [(None, true), (Some(Duration::from_secs(24 * 3600)), false)] {
        let push = open_on(PushConfig { untagged_retention: retention, ..config(directory.path()) }, &cloud).await;
        let manifest = upload_image(&push, WEB, 20).await;
        assert_eq!(put(&push, WEB, "v1", &manifest).await.status, 201);
        push.tasks.close();
        push.tasks.wait().await;
        let images = cloud.images();
        let is_there = |digest: &String| images.iter().any(|image| image[property::DIGEST] == *digest);
        assert!(kept.iter().all(is_there), "{images:?}");
        assert_eq!(gone.iter().map(is_there).collect::<Vec<_>>(), [expected; 3], "{images:?}");
    }
}

const DAY: Duration = Duration::from_secs(24 * 3600);

/// A pushed image that has lost its tag long ago; its manifest.
async fn long_untagged(cloud: &Cloud, push: &Arc<Push>, seed: u8) -> Vec<u8> {
    let manifest = upload_image(push, WEB, seed).await;
    assert_eq!(put(push, WEB, "old", &manifest).await.status, 201);
    let untagged = json!({
        "name": format!("web@{}", Digest::of(&manifest)), "os_hidden": true, "created_at": OLD, "updated_at": OLD,
    });
    cloud.change("web:old", untagged);
    manifest
}

/// The record of the image that was pushed as this.
fn record_of(cloud: &Cloud, manifest: &[u8]) -> Option<Map<String, Value>> {
    cloud.images().into_iter().find(|image| image[property::DIGEST] == Digest::of(manifest).to_string())
}

fn says_that_it_goes(record: &Map<String, Value>) -> bool {
    record.keys().any(|key| key.starts_with(property::RETIRING))
}

/// Has a registry that deletes what was untagged for a day look.
async fn retire(directory: &tempfile::TempDir, cloud: &Cloud) {
    let push = open_on(PushConfig { untagged_retention: Some(DAY), ..config(directory.path()) }, cloud).await;
    push.retire(&alice().access[0].2).await;
}

#[tokio::test]
async fn a_project_keeps_so_much_without_tags_and_the_oldest_go_first() {
    let directory = tempfile::tempdir().unwrap();
    let cloud = Cloud::start().await;
    let (day, hour) = (Duration::from_secs(24 * 3600), Duration::from_secs(3600));
    let ago = |time: Duration| json!((Timestamp::now() - time).to_string());
    let of_age = |seed: u8, time: Duration| json!({"created_at": ago(time), "updated_at": ago(time), "size": seed});
    let at = |seed: u8, time: Duration| untagged(&cloud, seed, of_age(seed, time));
    // Their sizes are the first numbers: the newest two are within the bound of 20 bytes, and one has just lost its tag.
    let [oldest, old, newer, newest] = [at(15, 9 * day), at(6, 8 * day), at(7, 7 * day), at(9, 2 * hour)];
    let mut just = of_age(16, 10 * day);
    just["updated_at"] = ago(hour / 2);
    let just = untagged(&cloud, 16, just);
    let mut tagged = of_age(40, hour / 4);
    tagged["name"] = "web:v4".into();
    let tagged = untagged(&cloud, 40, tagged);
    for (retention, kept) in [
        (None, vec![&newer, &newest, &just, &tagged]),
        (Some(3 * hour), vec![&newest, &just, &tagged]),
        (Some(hour), vec![&just, &tagged]),
    ] {
        let options = PushConfig { untagged_retention: retention, max_untagged: Some(20), ..config(directory.path()) };
        let push = open_on(options, &cloud).await;
        push.retire(&alice().access[0].2).await;
        let images = cloud.images();
        let is_there = |digest: &&String| images.iter().any(|image| image[property::DIGEST] == **digest);
        let all = [&oldest, &old, &newer, &newest, &just, &tagged];
        let left: Vec<&String> = all.into_iter().filter(is_there).collect();
        assert_eq!(left, kept, "{retention:?}");
    }
}

#[tokio::test]
async fn an_image_without_a_tag_stays_longer_when_it_is_pushed_by_its_digest_again() {
    let directory = tempfile::tempdir().unwrap();
    let (cloud, push) = on_cloud(&directory).await;
    let [again, never] = [long_untagged(&cloud, &push, 1).await, long_untagged(&cloud, &push, 5).await];
    let updates = cloud.count(Asked::Update);
    assert_eq!(put(&push, WEB, &Digest::of(&again).to_string(), &again).await.status, 201);
    assert_eq!(cloud.count(Asked::Update), updates + 1);
    retire(&directory, &cloud).await;
    assert!(record_of(&cloud, &again).is_some() && record_of(&cloud, &never).is_none());
    // What has a tag needs nothing.
    assert_eq!(put(&push, WEB, "v1", &again).await.status, 201);
    let updates = cloud.count(Asked::Update);
    assert_eq!(put(&push, WEB, &Digest::of(&again).to_string(), &again).await.status, 201);
    assert_eq!(cloud.count(Asked::Update), updates);
}

#[tokio::test]
async fn an_image_without_a_tag_stays_from_the_mount_of_a_blob_to_the_manifest() {
    for to in [WEB, "demo/other"] {
        let directory = tempfile::tempdir().unwrap();
        let (cloud, push) = on_cloud(&directory).await;
        let manifest = long_untagged(&cloud, &push, 1).await;
        let updates = cloud.count(Asked::Update);
        for layer in [content(1, 3000), content(2, 700)] {
            let digest = Digest::of(&layer);
            assert_eq!(mount(&push, &alice(), to, &digest, WEB).await.status, 201);
            retire(&directory, &cloud).await;
            assert_eq!(staged_or_in_image(&push, to, &digest).await, Some(layer), "{to}");
        }
        assert!(record_of(&cloud, &manifest).is_some(), "{to}");
        assert_eq!(cloud.count(Asked::Update), updates + 1, "once for all of its blobs");
    }
}

/// What a manifest that is pushed now finds.
async fn staged_or_in_image(push: &Push, of: &str, digest: &Digest) -> Option<Vec<u8>> {
    if let Some(found) = staged(push, &alice(), of, digest).await {
        return Some(found);
    }
    let blob = push.images.blob(&at(of), digest).await.unwrap()?;
    let size = blob.size();
    Some(blob.read(0..size).try_collect::<Vec<_>>().await.unwrap().concat())
}

#[tokio::test]
async fn a_blob_of_an_image_that_cannot_be_kept_is_to_be_uploaded() {
    let directory = tempfile::tempdir().unwrap();
    let (cloud, push) = on_cloud(&directory).await;
    long_untagged(&cloud, &push, 1).await;
    cloud.refuse(Asked::Update, 403, "you may not");
    let digest = Digest::of(&content(1, 3000));
    // Unless it is copied from there at once.
    for (from, status) in [("demo/other", 202), (WEB, 201)] {
        assert_eq!(mount(&push, &alice(), WEB, &digest, from).await.status, status);
    }
    assert_eq!(staged(&push, &alice(), WEB, &digest).await, Some(content(1, 3000)));
}

#[tokio::test]
async fn who_was_told_of_a_blob_has_as_long_as_for_an_upload() {
    let directory = tempfile::tempdir().unwrap();
    let cloud = Cloud::start().await;
    let expiry = config(directory.path()).upload_expiry;
    let renewed = |ago: Duration| json!({property::RENEWED: (Timestamp::now() - ago).to_string()});
    // One that was renewed a little less than `expiry` ago is not renewed again.
    let stays = untagged(&cloud, 1, renewed(2 * expiry - Duration::from_secs(60)));
    untagged(&cloud, 2, renewed(2 * expiry + Duration::from_secs(60)));
    untagged(&cloud, 3, json!({property::RENEWED: "9999-01-01T00:00:00Z"}));
    untagged(&cloud, 4, json!({property::RENEWED: "always"}));
    retire(&directory, &cloud).await;
    assert_eq!(cloud.images().iter().map(|image| &image[property::DIGEST]).collect::<Vec<_>>(), [&stays]);
}

#[tokio::test]
async fn what_cannot_be_deleted_is_in_the_way_of_nothing() {
    // Glance says of some that they cannot be deleted. Of others that shows when it is tried: each time, some of them are.
    for (undeletable, stuck, times) in [("protected", 400, 1), ("in_use", 40, 100)] {
        let directory = tempfile::tempdir().unwrap();
        let cloud = Cloud::start().await;
        for seed in 0..stuck {
            untagged(&cloud, (seed % 200) as u8, json!({undeletable: true}));
        }
        untagged(&cloud, 255, json!({"created_at": "2021-01-01T00:00:00Z"}));
        for _ in 0..times {
            if cloud.images().len() > stuck {
                retire(&directory, &cloud).await;
            }
        }
        assert_eq!(cloud.images().len(), stuck, "{undeletable}");
    }
}

#[tokio::test]
async fn what_is_protected_does_not_count_for_what_a_project_may_keep() {
    let directory = tempfile::tempdir().unwrap();
    let cloud = Cloud::start().await;
    untagged(&cloud, 1, json!({"size": 15}));
    untagged(&cloud, 2, json!({"size": 30, "protected": true}));
    let options = PushConfig { max_untagged: Some(20), ..config(directory.path()) };
    open_on(options, &cloud).await.retire(&alice().access[0].2).await;
    assert_eq!(cloud.images().len(), 2);
}

#[tokio::test]
async fn what_another_host_names_or_renews_while_it_is_being_retired_stays() {
    for change in [json!({"name": "web:v1"}), json!({"tags": ["web:v1"]}), json!({property::RENEWED: "now"})] {
        let directory = tempfile::tempdir().unwrap();
        let (cloud, push) = on_cloud(&directory).await;
        let manifest = long_untagged(&cloud, &push, 1).await;
        cloud.change_beside(change.clone());
        retire(&directory, &cloud).await;
        let record = record_of(&cloud, &manifest).unwrap();
        assert!(!says_that_it_goes(&record), "{change}: {record:?}");
    }
}

#[tokio::test]
async fn an_image_that_may_not_be_deleted_is_as_it_was() {
    let directory = tempfile::tempdir().unwrap();
    let (cloud, push) = on_cloud(&directory).await;
    let manifest = long_untagged(&cloud, &push, 1).await;
    cloud.refuse(Asked::Delete, 403, "protected");
    retire(&directory, &cloud).await;
    assert_eq!(cloud.count(Asked::Delete), 1);
    assert!(!says_that_it_goes(&record_of(&cloud, &manifest).unwrap()));
}

#[tokio::test]
async fn an_image_that_another_host_is_about_to_delete_takes_no_tag_from_another_one() {
    let directory = tempfile::tempdir().unwrap();
    let (cloud, push) = on_cloud(&directory).await;
    let going = long_untagged(&cloud, &push, 1).await;
    let tagged = upload_image(&push, WEB, 5).await;
    assert_eq!(put(&push, WEB, "v1", &tagged).await.status, 201);
    let said = format!("{}other", property::RETIRING);
    // It says so after it has looked, and before it sees the tag or the renewal.
    for reference in [Digest::of(&going).to_string(), "v1".to_owned()] {
        cloud.change_beside(json!({said.clone(): Timestamp::now().to_string()}));
        assert_eq!(put(&push, WEB, &reference, &going).await.error(), (503, "UNAVAILABLE".into()), "{reference}");
        assert_eq!(record_of(&cloud, &tagged).unwrap()["name"], "web:v1");
        cloud.change(record_of(&cloud, &going).unwrap()["name"].as_str().unwrap(), json!({said.clone(): OLD}));
    }
    // It was killed, and does not do it any more.
    assert_eq!(put(&push, WEB, "v1", &going).await.status, 201);
    assert_eq!(record_of(&cloud, &going).unwrap()["name"], "web:v1");
    assert_ne!(record_of(&cloud, &tagged).unwrap()["name"], "web:v1");
}
