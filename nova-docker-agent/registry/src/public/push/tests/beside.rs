//! Several registries before one Glance: processes of one host, and hosts that share nothing.

use std::sync::Arc;
use std::time::Duration;

use crate::Digest;
use crate::public::push::Push;
use crate::public::push::testing::{
    Answer, Asked, Cloud, LONG, at, config, on_cloud, open_on, put, reference_of, upload_image,
};

const WEB: &str = "demo/web";

/// Of each image, whether it has the tag `v1`.
fn tagged(cloud: &Cloud) -> Vec<bool> {
    cloud.names().iter().map(|(name, ..)| name == "web:v1").collect()
}

#[tokio::test]
async fn of_processes_that_share_a_directory_one_makes_the_image() {
    let directory = tempfile::tempdir().unwrap();
    let (cloud, one) = on_cloud(&directory).await;
    let other = open_on(config(directory.path()), &cloud).await;
    cloud.take(Duration::from_millis(200));
    let manifest = upload_image(&one, WEB, 1).await;
    let (first, second) = tokio::join!(put(&one, WEB, "v1", &manifest), put(&other, WEB, "v1", &manifest));
    assert_eq!((first.status, second.status), (201, 201));
    assert_eq!((cloud.count(Asked::Upload), tagged(&cloud)), (1, vec![true]));
}

#[tokio::test]
async fn of_images_that_processes_push_to_one_tag_one_has_it() {
    let directory = tempfile::tempdir().unwrap();
    let (cloud, one) = on_cloud(&directory).await;
    let other = open_on(config(directory.path()), &cloud).await;
    let manifests = [upload_image(&one, WEB, 1).await, upload_image(&one, WEB, 5).await];
    let (first, second) = tokio::join!(put(&one, WEB, "v1", &manifests[0]), put(&other, WEB, "v1", &manifests[1]));
    assert_eq!((first.status, second.status), (201, 201));
    assert_eq!(tagged(&cloud).iter().filter(|has| **has).count(), 1, "{:?}", cloud.names());
}

/// A registry on a host of its own.
async fn elsewhere(cloud: &Cloud) -> (tempfile::TempDir, Arc<Push>) {
    let directory = tempfile::tempdir().unwrap();
    let push = open_on(config(directory.path()), cloud).await;
    (directory, push)
}

/// Pushes, again where the other host has moved the tag whenever this one did.
async fn push_to_its_end(push: &Arc<Push>, manifest: &[u8]) {
    loop {
        match put(push, WEB, "v1", manifest).await.status {
            201 => return,
            status => assert_eq!(status, 503),
        }
    }
}

#[tokio::test]
async fn a_tag_that_hosts_push_at_one_time_is_not_lost() {
    let cloud = Cloud::start().await;
    let ((_one, one), (_other, other)) = (elsewhere(&cloud).await, elsewhere(&cloud).await);
    for round in 0..8 {
        let mine = upload_image(&one, WEB, 20 * round).await;
        let theirs = upload_image(&other, WEB, 20 * round + 10).await;
        let pushed = async { tokio::join!(push_to_its_end(&one, &mine), push_to_its_end(&other, &theirs)) };
        tokio::time::timeout(LONG, pushed).await.unwrap();
        assert!(tagged(&cloud).contains(&true), "{:?}", cloud.names());
    }
}

#[tokio::test]
async fn one_manifest_that_two_hosts_have_made_images_of_goes_with_its_tag_and_with_its_digest() {
    let cloud = Cloud::start().await;
    let ((_one, one), (_other, other)) = (elsewhere(&cloud).await, elsewhere(&cloud).await);
    for reference in ["v1", "digest"] {
        let manifest = upload_image(&one, WEB, 1).await;
        upload_image(&other, WEB, 1).await;
        assert_eq!(put(&one, WEB, "v1", &manifest).await.status, 201);
        let made = cloud.images().remove(0);
        cloud.image(made["owner"].as_str().unwrap(), "web:v1", &cloud.data("web:v1"), {
            let mut again = made.clone();
            again.retain(|key, _| key.starts_with("oci_"));
            again.into()
        });
        let digest = Digest::of(&manifest).to_string();
        let reference = reference_of(if reference == "digest" { &digest } else { reference });
        let answer = Answer::of(one.delete_manifest(&at(WEB), &reference).await).await;
        assert_eq!((answer.status, cloud.images()), (202, vec![]));
    }
}
