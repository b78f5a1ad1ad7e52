//! Images for several platforms.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::Digest;
use crate::manifest::{DOCKER_LIST, OCI_INDEX, OCI_MANIFEST};
use crate::public::push::Push;
use crate::public::push::testing::{Answer, Asked, alice, at, on_cloud, put, reference_of, upload, upload_image};
use crate::public::{Reference, property};

const WEB: &str = "demo/web";

fn index_of(media_type: &str, children: &[&[u8]]) -> Vec<u8> {
    let child_type = |child: &[u8]| {
        let child: Value = serde_json::from_slice(child).unwrap();
        child["mediaType"].clone()
    };
    let describe = |child: &&[u8]| json!({"mediaType": child_type(child), "digest": Digest::of(child).to_string(), "size": child.len()});
    let children: Vec<Value> = children.iter().map(describe).collect();
    serde_json::to_vec(&json!({"schemaVersion": 2, "mediaType": media_type, "manifests": children})).unwrap()
}

/// Pushes a manifest by its digest only.
async fn put_child(push: &Arc<Push>, manifest: &[u8]) {
    assert_eq!(put(push, WEB, &Digest::of(manifest).to_string(), manifest).await.status, 201);
}

#[tokio::test]
async fn an_index_becomes_one_image_with_all_that_it_refers_to() {
    let directory = tempfile::tempdir().unwrap();
    let (cloud, push) = on_cloud(&directory).await;
    let children = [upload_image(&push, WEB, 1).await, upload_image(&push, WEB, 5).await];
    for child in &children {
        put_child(&push, child).await;
    }
    let index = index_of(OCI_INDEX, &[&children[0], &children[1]]);
    assert_eq!(put(&push, WEB, "v1", &index).await.status, 201);
    assert_eq!(cloud.names(), [("web:v1".to_owned(), vec![], false)]);
    assert_eq!((cloud.count(Asked::Create), cloud.count(Asked::Upload), cloud.count(Asked::Delete)), (1, 1, 0));
    for digest in [&children[0], &children[1], &index].map(|bytes| Digest::of(bytes)) {
        let content = push.images.find(&at(WEB), &Reference::Digest(digest)).await.unwrap().unwrap();
        assert_eq!(content.root, Digest::of(&index));
        // Index and manifests; two configurations, four layers.
        assert_eq!((content.manifests.len(), content.blobs.len()), (3, 6));
    }
}

#[tokio::test]
async fn children_that_have_a_tag_of_their_own_stay() {
    let directory = tempfile::tempdir().unwrap();
    let (cloud, push) = on_cloud(&directory).await;
    let child = upload_image(&push, WEB, 1).await;
    assert_eq!(put(&push, WEB, "v1-amd64", &child).await.status, 201);
    assert_eq!(put(&push, WEB, "v1", &index_of(DOCKER_LIST, &[&child])).await.status, 201);
    let names: Vec<String> = cloud.names().into_iter().map(|(name, ..)| name).collect();
    assert_eq!(names, ["web:v1-amd64", "web:v1"]);
}

#[tokio::test]
async fn an_index_of_what_is_not_there_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let (cloud, push) = on_cloud(&directory).await;
    let child = upload_image(&push, WEB, 1).await;
    let answer = put(&push, WEB, "v1", &index_of(OCI_INDEX, &[&child])).await;
    assert_eq!(answer.error(), (400, "MANIFEST_BLOB_UNKNOWN".into()));
    let body: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(body["errors"][0]["detail"], json!([{"digest": Digest::of(&child).to_string()}]));
    assert_eq!(cloud.changes(), []);
}

#[tokio::test]
async fn an_index_may_have_indexes_and_no_manifests_at_all() {
    let directory = tempfile::tempdir().unwrap();
    let (cloud, push) = on_cloud(&directory).await;
    let child = upload_image(&push, WEB, 1).await;
    put_child(&push, &child).await;
    let inner = index_of(OCI_INDEX, &[&child]);
    put_child(&push, &inner).await;
    let outer = index_of(OCI_INDEX, &[&inner, &child]);
    assert_eq!(put(&push, WEB, "v1", &outer).await.status, 201);
    let empty = index_of(OCI_INDEX, &[]);
    assert_eq!(put(&push, WEB, "empty", &empty).await.status, 201);
    let names: Vec<_> = cloud.names().into_iter().map(|(name, _, hidden)| (name, hidden)).collect();
    assert_eq!(names, [("web:v1".to_owned(), false), ("web:empty".to_owned(), true)]);
}

#[tokio::test]
async fn a_second_index_uses_what_the_first_one_has_taken_in() {
    let directory = tempfile::tempdir().unwrap();
    let (cloud, push) = on_cloud(&directory).await;
    let children = [upload_image(&push, WEB, 1).await, upload_image(&push, WEB, 5).await];
    for child in &children {
        put_child(&push, child).await;
    }
    assert_eq!(put(&push, WEB, "v1", &index_of(OCI_INDEX, &[&children[0], &children[1]])).await.status, 201);
    // The client pushes again what it needs, and finds it there.
    put_child(&push, &children[1]).await;
    assert_eq!(put(&push, WEB, "v2", &index_of(OCI_INDEX, &[&children[1]])).await.status, 201);
    assert_eq!(cloud.images().len(), 2);
    assert_eq!(put(&push, WEB, "only", &children[1]).await.status, 201);
    assert_eq!(cloud.images().len(), 3);
}

#[tokio::test]
async fn an_index_that_cannot_be_stored_leaves_its_children_as_they_were() {
    let directory = tempfile::tempdir().unwrap();
    let (cloud, push) = on_cloud(&directory).await;
    let child = upload_image(&push, WEB, 1).await;
    put_child(&push, &child).await;
    let index = index_of(OCI_INDEX, &[&child]);
    cloud.refuse(Asked::Upload, 413, "full");
    assert_eq!(put(&push, WEB, "v1", &index).await.status, 403);
    assert_eq!(cloud.names(), []);
    let found = push.staged_manifest(&at(WEB), &Digest::of(&child)).await.unwrap();
    assert!(found.is_some());
    cloud.refuse_nothing();
    assert_eq!(put(&push, WEB, "v1", &index).await.status, 201);
    assert_eq!(cloud.images().len(), 1);
}

#[tokio::test]
async fn a_child_that_says_something_of_another_image_is_told_by_the_index_and_outlives_it() {
    let directory = tempfile::tempdir().unwrap();
    let (cloud, push) = on_cloud(&directory).await;
    let subject = upload_image(&push, WEB, 1).await;
    assert_eq!(put(&push, WEB, "subject", &subject).await.status, 201);
    let empty = upload(&push, &alice(), WEB, b"{}").await;
    let child = |subject: &[u8]| {
        serde_json::to_vec(&json!({
            "schemaVersion": 2, "mediaType": OCI_MANIFEST, "layers": [],
            "config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": empty.to_string(), "size": 2},
            "subject": {"mediaType": OCI_MANIFEST, "digest": Digest::of(subject).to_string(), "size": 1},
        }))
        .unwrap()
    };
    // One is an image by itself, as its subject is one; the other one is not.
    let children = [child(&subject), child(b"y")];
    for child in &children {
        put_child(&push, child).await;
    }
    assert_eq!(put(&push, WEB, "v1", &index_of(OCI_INDEX, &[&children[0], &children[1]])).await.status, 201);
    let index = cloud.images().pop().unwrap();
    assert_eq!(index[property::SUBJECT], format!("{} {}", Digest::of(&subject), Digest::of(b"y")));
    let deleted = push.delete_manifest(&at(WEB), &reference_of("v1")).await;
    let status = Answer::of(deleted).await.status;
    let left: Vec<String> = cloud.names().into_iter().map(|(name, ..)| name).collect();
    let own = format!("web@{}", Digest::of(&children[0]));
    assert_eq!((status, left), (202, vec!["web:subject".to_owned(), own]));
}
