//! Blobs that are mounted from another repository.

use axum::body::Body;
use axum::http::HeaderMap;
use serde_json::json;

use crate::public::push::testing::{
    ALICE, Answer, Cloud, DEMO, alice, as_pusher, at, bearer_of, config, content, name, on_cloud, open_on, staged,
    upload,
};
use crate::public::push::{Push, PushConfig};
use crate::public::{Action, Bearer, property};
use crate::{Digest, testing as archives};

pub async fn mount(push: &Push, bearer: &Bearer, to: &str, digest: &Digest, from: &str) -> Answer {
    let query = format!("mount={digest}&from={from}");
    let at = as_pusher(bearer, to).unwrap();
    Answer::of(push.begin(bearer, &at, &query, &HeaderMap::new(), Body::empty()).await).await
}

/// Alice with roles in two projects.
fn in_two_projects() -> Bearer {
    let mut bearer = alice();
    bearer.access.extend(bearer_of(ALICE, "0ther", &["other/base"]).access);
    bearer
}

#[tokio::test]
async fn a_blob_of_an_image_of_the_same_project_needs_no_upload() {
    let directory = tempfile::tempdir().unwrap();
    let (cloud, push) = on_cloud(&directory).await;
    let blob = content(1, 1000);
    let digest = Digest::of(&blob);
    cloud.image(DEMO, "other:v1", &archives::oci(std::slice::from_ref(&blob)), json!({}));
    let answer = mount(&push, &alice(), "demo/web", &digest, "demo/other").await;
    assert_eq!(answer.status, 201);
    assert_eq!(answer.header("location"), format!("/v2/demo/web/blobs/{digest}"));
    assert_eq!(staged(&push, &alice(), "demo/web", &digest).await, Some(blob));
}

#[tokio::test]
async fn a_blob_that_only_another_project_sees_is_copied() {
    let directory = tempfile::tempdir().unwrap();
    let (cloud, push) = on_cloud(&directory).await;
    let blob = content(1, 1000);
    let digest = Digest::of(&blob);
    cloud.image("0ther", "base:v1", &archives::oci(std::slice::from_ref(&blob)), json!({}));
    assert_eq!(mount(&push, &in_two_projects(), "demo/web", &digest, "other/base").await.status, 201);
    assert_eq!(staged(&push, &alice(), "demo/web", &digest).await, Some(blob));
}

#[tokio::test]
async fn a_blob_of_another_projects_image_that_may_go_is_copied() {
    let directory = tempfile::tempdir().unwrap();
    let (cloud, push) = on_cloud(&directory).await;
    let blob = content(1, 1000);
    let digest = Digest::of(&blob);
    let untagged = json!({"visibility": "public", property::REPOSITORY: "base", property::DIGEST: digest.to_string()});
    let id = cloud.image("0ther", "base@sha256:00", &archives::oci(std::slice::from_ref(&blob)), untagged);
    assert_eq!(mount(&push, &in_two_projects(), "demo/web", &digest, "other/base").await.status, 201);
    cloud.remove(id);
    assert_eq!(staged(&push, &alice(), "demo/web", &digest).await, Some(blob));
}

#[tokio::test]
async fn a_staged_blob_of_another_project_is_shared_with_whoever_may_push_to_both() {
    let directory = tempfile::tempdir().unwrap();
    let (_cloud, push) = on_cloud(&directory).await;
    let blob = content(1, 1000);
    let digest = upload(&push, &in_two_projects(), "other/base", &blob).await;
    assert_eq!(staged(&push, &alice(), "demo/web", &digest).await, None);
    assert_eq!(mount(&push, &in_two_projects(), "demo/web", &digest, "other/base").await.status, 201);
    assert_eq!(staged(&push, &alice(), "demo/web", &digest).await, Some(blob));
}

#[tokio::test]
async fn what_is_shared_counts_for_the_project_that_gets_it_too() {
    let directory = tempfile::tempdir().unwrap();
    let cloud = Cloud::start().await;
    let push = open_on(PushConfig { max_staged: 1500, ..config(directory.path()) }, &cloud).await;
    let digest = upload(&push, &in_two_projects(), "other/base", &content(1, 1000)).await;
    upload(&push, &alice(), "demo/web", &content(2, 600)).await;
    let answer = mount(&push, &in_two_projects(), "demo/web", &digest, "other/base").await;
    assert_eq!(answer.error(), (403, "DENIED".into()));
    assert!(answer.message().contains("600 bytes, and may have 1500"), "{}", answer.message());
    assert_eq!(staged(&push, &alice(), "demo/web", &digest).await, None);
}

#[tokio::test]
async fn what_the_user_may_not_read_is_to_be_uploaded() {
    let directory = tempfile::tempdir().unwrap();
    let (cloud, push) = on_cloud(&directory).await;
    let blob = content(1, 1000);
    let digest = Digest::of(&blob);
    cloud.image("5ecret", "base:v1", &archives::oci(std::slice::from_ref(&blob)), json!({}));
    let owner = bearer_of("0wner", "5ecret", &["secret/base"]);
    let staged_by_owner = upload(&push, &owner, "secret/base", b"more").await;
    let mut guest = alice();
    let mut grant = guest.repository(&name("demo/web"), Action::Push).unwrap().grant;
    grant.owner = "5ecret".into();
    guest.access.push((name("secret/base"), vec![Action::Pull], grant));
    for bearer in [&alice(), &guest] {
        for digest in [&digest, &staged_by_owner] {
            let answer = mount(&push, bearer, "demo/web", digest, "secret/base").await;
            assert_eq!((answer.status, answer.header("range")), (202, "0-0"));
            assert_eq!(staged(&push, &alice(), "demo/web", digest).await, None);
        }
    }
}

#[tokio::test]
async fn a_mount_of_nothing_or_from_nowhere_begins_an_upload() {
    let directory = tempfile::tempdir().unwrap();
    let (_cloud, push) = on_cloud(&directory).await;
    let digest = Digest::of(b"nobody has it");
    for query in [
        format!("mount={digest}&from=demo/other"),
        format!("mount={digest}&from=../etc"),
        format!("mount={digest}"),
        "mount=nonsense&from=demo/other".to_owned(),
    ] {
        let answer = push.begin(&alice(), &at("demo/web"), &query, &HeaderMap::new(), Body::empty()).await;
        assert_eq!(Answer::of(answer).await.status, 202, "{query}");
    }
}

#[tokio::test]
async fn a_blob_that_the_project_has_uploaded_is_mounted_whatever_the_request_says_of_its_place() {
    let directory = tempfile::tempdir().unwrap();
    let (_cloud, push) = on_cloud(&directory).await;
    let digest = upload(&push, &alice(), "demo/other", b"content").await;
    let query = format!("mount={digest}");
    let answer = push.begin(&alice(), &at("demo/web"), &query, &HeaderMap::new(), Body::empty()).await;
    assert_eq!(Answer::of(answer).await.status, 201);
}
