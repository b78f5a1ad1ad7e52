//! What becomes of blobs on this host when they are in an image.

use axum::body::Body;
use axum::http::HeaderMap;
use futures::{StreamExt, TryStreamExt};

use crate::Digest;
use crate::public::push::testing::{
    ALICE, Answer, Asked, Cloud, DEMO, alice, as_pusher, at, bearer_of, config, content, files, manifest_of, on_cloud,
    open_on, open_with_cache, put, put_as, reference_of, staged, upload, upload_image,
};
use crate::public::push::{Push, PushConfig};

const WEB: &str = "demo/web";
const OTHER: &str = "demo/other";

/// The layers of an image that [`upload_image`] uploads.
fn layers(seed: u8) -> [Vec<u8>; 2] {
    [content(seed, 3000), content(seed + 1, 700)]
}

/// Pulls the layers; how often Glance was asked for the data of images meanwhile.
async fn pull(push: &Push, cloud: &Cloud, of: &str, seed: u8) -> usize {
    let mut before = None;
    for layer in layers(seed) {
        let blob = push.images.blob(&at(of), &Digest::of(&layer)).await.unwrap().unwrap();
        // The image is opened by now.
        before.get_or_insert_with(|| cloud.count(Asked::Read));
        let pieces: Vec<_> = blob.read(0..layer.len() as u64).try_collect().await.unwrap();
        assert_eq!(pieces.concat(), layer);
    }
    cloud.count(Asked::Read) - before.unwrap()
}

#[tokio::test]
async fn what_was_pushed_is_pulled_without_being_read_from_glance() {
    let directory = tempfile::tempdir().unwrap();
    let (cloud, push) = on_cloud(&directory).await;
    let manifest = upload_image(&push, WEB, 1).await;
    assert_eq!(put(&push, WEB, "v1", &manifest).await.status, 201);
    assert_eq!(pull(&push, &cloud, WEB, 1).await, 0);
    assert_eq!(staged_blobs(&directory), 0);
    // After a restart as well.
    let push = open_on(config(directory.path()), &cloud).await;
    assert_eq!(pull(&push, &cloud, WEB, 1).await, 0);
}

#[tokio::test]
async fn what_a_client_reads_does_not_go_before_the_client_has_it() {
    let directory = tempfile::tempdir().unwrap();
    let (_cloud, push) = on_cloud(&directory).await;
    let manifest = upload_image(&push, WEB, 1).await;
    assert_eq!(put(&push, WEB, "v1", &manifest).await.status, 201);
    let layer = layers(1)[0].clone();
    let (cache, digest) = (&push.images.fetcher.cache, Digest::of(&layer));
    let blob = push.images.blob(&at(WEB), &digest).await.unwrap().unwrap();
    let mut pieces = blob.read(0..layer.len() as u64);
    assert!(pieces.next().await.unwrap().unwrap() == layer);
    while cache.evict_one() {}
    // Its room would not be free.
    assert!(cache.has(&digest) && cache.may_go() == 0);
    drop(pieces);
    assert!(cache.evict_one() && !cache.has(&digest));
}

/// Files of blobs that are in no image yet.
fn staged_blobs(directory: &tempfile::TempDir) -> usize {
    let is_blob = |file: &&std::path::PathBuf| file.components().any(|part| part.as_os_str() == "blobs");
    files(&directory.path().join("push/staged")).iter().filter(is_blob).count()
}

#[tokio::test]
async fn what_is_larger_than_the_cache_is_read_from_glance() {
    let directory = tempfile::tempdir().unwrap();
    let cloud = Cloud::start().await;
    let push = open_with_cache(config(directory.path()), &cloud, 2000).await;
    let manifest = upload_image(&push, WEB, 1).await;
    assert_eq!(put(&push, WEB, "v1", &manifest).await.status, 201);
    assert_eq!(staged_blobs(&directory), 0);
    assert!(pull(&push, &cloud, WEB, 1).await > 0);
}

#[tokio::test]
async fn what_was_pushed_again_to_an_image_that_is_there_leaves_the_disk_too() {
    let directory = tempfile::tempdir().unwrap();
    let (_cloud, push) = on_cloud(&directory).await;
    for _ in 0..2 {
        let manifest = upload_image(&push, WEB, 1).await;
        assert_eq!(put(&push, WEB, "v1", &manifest).await.status, 201);
    }
    assert_eq!(staged_blobs(&directory), 0);
}

#[tokio::test]
async fn a_client_that_was_told_of_a_blob_finds_it_after_another_push_made_an_image_of_it() {
    let directory = tempfile::tempdir().unwrap();
    let (cloud, push) = on_cloud(&directory).await;
    let manifest = upload_image(&push, WEB, 1).await;
    let layer = content(1, 3000);
    let told = staged(&push, &alice(), OTHER, &Digest::of(&layer)).await;
    assert_eq!(told.as_deref(), Some(layer.as_slice()));
    assert_eq!(put(&push, WEB, "v1", &manifest).await.status, 201);
    assert_eq!(staged(&push, &alice(), OTHER, &Digest::of(&layer)).await, Some(layer));
    // By another process too, which has listed the images before.
    let beside = open_on(config(directory.path()), &cloud).await;
    assert_eq!(put(&beside, OTHER, "v1", &manifest).await.status, 201);
    assert_eq!(cloud.count(Asked::Upload), 2);
}

#[tokio::test]
async fn a_push_goes_on_when_another_one_makes_an_image_of_the_blob_that_it_is_about_to_send() {
    let directory = tempfile::tempdir().unwrap();
    let (_cloud, push) = on_cloud(&directory).await;
    let manifest = upload_image(&push, WEB, 1).await;
    let layer = content(1, 3000);
    let blob = push.staged(&at(WEB), &Digest::of(&layer)).await.unwrap().unwrap();
    assert_eq!(put(&push, WEB, "v1", &manifest).await.status, 201);
    let pieces: Vec<_> = blob.read(0..3000).map(Result::unwrap).collect().await;
    assert_eq!(pieces.concat(), layer);
}

#[tokio::test]
async fn a_blob_that_was_in_an_image_which_is_gone_is_looked_for_once() {
    let directory = tempfile::tempdir().unwrap();
    let (cloud, push) = on_cloud(&directory).await;
    let manifest = upload_image(&push, WEB, 1).await;
    assert_eq!(put(&push, WEB, "v1", &manifest).await.status, 201);
    let deleted = push.delete_manifest(&at(WEB), &reference_of("v1")).await;
    assert_eq!(Answer::of(deleted).await.status, 202);
    let layer = Digest::of(&content(1, 3000));
    let mut listings = vec![];
    for _ in 0..2 {
        let before = cloud.asked("GET /v2/images?");
        assert_eq!(staged(&push, &alice(), OTHER, &layer).await, None);
        listings.push(cloud.asked("GET /v2/images?") - before);
    }
    assert!(listings[0] > 0 && listings[1] == 0, "{listings:?}");
}

#[tokio::test]
async fn a_blob_of_two_projects_serves_both_from_one_file() {
    let directory = tempfile::tempdir().unwrap();
    let (cloud, push) = on_cloud(&directory).await;
    let mut both = alice();
    both.access.extend(bearer_of(ALICE, "0ther", &["other/base"]).access);
    let manifest = upload_image(&push, WEB, 1).await;
    let config: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    let blobs = layers(1).map(|layer| Digest::of(&layer));
    for digest in blobs.iter().copied().chain([config["config"]["digest"].as_str().unwrap().parse().unwrap()]) {
        let query = format!("mount={digest}&from={WEB}");
        let answer =
            push.begin(&both, &as_pusher(&both, "other/base").unwrap(), &query, &HeaderMap::new(), Body::empty()).await;
        assert_eq!(Answer::of(answer).await.status, 201);
    }
    for to in [WEB, "other/base"] {
        assert_eq!(put_as(&push, &both, to, "v1", &manifest).await.status, 201);
    }
    assert_eq!(staged_blobs(&directory), 0);
    assert_eq!(pull(&push, &cloud, WEB, 1).await, 0);
}

#[tokio::test]
async fn a_manifest_of_many_blobs_costs_as_few_listings_as_one_of_few() {
    let directory = tempfile::tempdir().unwrap();
    let (cloud, push) = on_cloud(&directory).await;
    let mut listings = vec![];
    for many in [2, 60] {
        let layers: Vec<Vec<u8>> = (0..many).map(|seed| content(seed, 100 + usize::from(many))).collect();
        for blob in layers.iter().map(Vec::as_slice).chain([&b"{}"[..]]) {
            upload(&push, &alice(), WEB, blob).await;
        }
        for built in ["once", "again"] {
            let mut manifest: serde_json::Value = serde_json::from_slice(&manifest_of(b"{}", &layers)).unwrap();
            manifest["annotations"] = serde_json::json!({"built": built});
            let before = cloud.asked("GET /v2/images?");
            let reference = format!("v{many}-{built}");
            assert_eq!(put(&push, WEB, &reference, &serde_json::to_vec(&manifest).unwrap()).await.status, 201);
            listings.push(cloud.asked("GET /v2/images?") - before);
        }
    }
    assert_eq!(listings[2..], listings[..2]);
}

#[tokio::test]
async fn uploads_make_room_where_the_project_has_reached_its_bound_by_what_it_pushed() {
    let directory = tempfile::tempdir().unwrap();
    let cloud = Cloud::start().await;
    let push = open_on(PushConfig { max_staged: 10_000, ..config(directory.path()) }, &cloud).await;
    for seed in [1, 11, 21] {
        let manifest = upload_image(&push, WEB, seed).await;
        assert_eq!(put(&push, WEB, &format!("v{seed}"), &manifest).await.status, 201);
    }
    upload(&push, &alice(), WEB, &content(9, 9000)).await;
    assert_eq!(cloud.images().iter().filter(|image| image["owner"] == DEMO).count(), 3);
}
