//! Tags, images and blobs that are deleted.

use std::sync::Arc;

use serde_json::json;

use crate::manifest::OCI_INDEX;
use crate::public::push::Push;
use crate::public::push::testing::{
    Answer, Asked, DEMO, alice, at, bearer_of, content, name, on_cloud, put, reference_of, staged, upload, upload_image,
};
use crate::public::{Action, property};
use crate::{Digest, testing};

const WEB: &str = "demo/web";

async fn delete(push: &Arc<Push>, reference: &str) -> Answer {
    Answer::of(push.delete_manifest(&at(WEB), &reference_of(reference)).await).await
}

fn unknown() -> (u16, String) {
    (404, "MANIFEST_UNKNOWN".to_owned())
}

#[tokio::test]
async fn a_tag_goes_and_the_image_with_its_last_one() {
    let directory = tempfile::tempdir().unwrap();
    let (cloud, push) = on_cloud(&directory).await;
    let manifest = upload_image(&push, WEB, 1).await;
    for tag in ["v1", "v2"] {
        assert_eq!(put(&push, WEB, tag, &manifest).await.status, 201);
    }
    assert_eq!(delete(&push, "v1").await.status, 202);
    assert_eq!(cloud.names(), [("web:v2".to_owned(), vec!["web:v2".to_owned()], false)]);
    assert_eq!(delete(&push, "v1").await.error(), unknown());
    assert_eq!(delete(&push, "v2").await.status, 202);
    assert_eq!(cloud.images(), vec![]);
}

#[tokio::test]
async fn a_digest_goes_with_all_its_tags() {
    let directory = tempfile::tempdir().unwrap();
    let (cloud, push) = on_cloud(&directory).await;
    let manifest = upload_image(&push, WEB, 1).await;
    let digest = Digest::of(&manifest).to_string();
    for tag in ["v1", "v2"] {
        assert_eq!(put(&push, WEB, tag, &manifest).await.status, 201);
    }
    assert_eq!(delete(&push, &digest).await.status, 202);
    assert_eq!(cloud.images(), vec![]);
    assert_eq!(delete(&push, &digest).await.error(), unknown());
}

#[tokio::test]
async fn older_images_that_had_the_same_tag_do_not_come_back_with_it() {
    let directory = tempfile::tempdir().unwrap();
    let (cloud, push) = on_cloud(&directory).await;
    let old = json!({"created_at": "2020-01-01T00:00:00Z", property::REPOSITORY: "web"});
    cloud.image(DEMO, "web:v1", &testing::oci(&[content(8, 100)]), old);
    cloud.image(DEMO, "web:v1", &testing::oci(&[content(9, 100)]), json!({property::REPOSITORY: "web"}));
    assert_eq!(delete(&push, "v1").await.status, 202);
    let names = cloud.names();
    assert!(names.len() == 1 && names[0].0.starts_with("web@sha256:"), "{names:?}");
    assert_eq!(delete(&push, "v1").await.error(), unknown());
}

#[tokio::test]
async fn an_image_that_was_not_pushed_keeps_its_name_when_another_one_is_deleted_or_it_has_more_tags() {
    let directory = tempfile::tempdir().unwrap();
    let (cloud, push) = on_cloud(&directory).await;
    let tags = json!({"tags": ["web:v2"]});
    cloud.image(DEMO, "web:v1", &testing::oci(&[content(8, 100)]), tags);
    cloud.image(DEMO, "web:v1", &testing::oci(&[content(9, 100)]), json!({property::REPOSITORY: "web"}));
    assert_eq!(delete(&push, "v1").await.status, 202);
    assert_eq!(cloud.names(), [("web:v1".to_owned(), vec!["web:v2".to_owned()], false)]);
    assert_eq!(delete(&push, "v1").await.error(), (403, "DENIED".into()));
    assert_eq!(delete(&push, "v2").await.status, 202);
    assert_eq!(cloud.names(), [("web:v1".to_owned(), vec![], false)]);
    assert_eq!(delete(&push, "v1").await.status, 202);
    assert_eq!(cloud.images(), vec![]);
}

#[tokio::test]
async fn a_manifest_within_an_index_goes_with_the_index() {
    let directory = tempfile::tempdir().unwrap();
    let (cloud, push) = on_cloud(&directory).await;
    let child = upload_image(&push, WEB, 1).await;
    let digest = Digest::of(&child).to_string();
    assert_eq!(put(&push, WEB, &digest, &child).await.status, 201);
    let described = testing::described(crate::manifest::OCI_MANIFEST, &child);
    let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [described]});
    assert_eq!(put(&push, WEB, "v1", &serde_json::to_vec(&index).unwrap()).await.status, 201);
    assert_eq!(delete(&push, &digest).await.error(), (405, "UNSUPPORTED".into()));
    assert_eq!(delete(&push, "v1").await.status, 202);
    assert_eq!(cloud.images(), vec![]);
}

#[tokio::test]
async fn a_protected_image_stays_and_the_user_is_told_why() {
    let directory = tempfile::tempdir().unwrap();
    let (cloud, push) = on_cloud(&directory).await;
    cloud.image(DEMO, "web:v1", &testing::oci(&[content(8, 100)]), json!({"protected": true}));
    let answer = delete(&push, "v1").await;
    assert_eq!(answer.error(), (403, "DENIED".into()));
    assert!(answer.message().contains("protected"), "{}", answer.message());
    assert_eq!(cloud.images().len(), 1);
}

#[tokio::test]
async fn nobody_deletes_without_a_token_for_it() {
    let directory = tempfile::tempdir().unwrap();
    let (cloud, push) = on_cloud(&directory).await;
    cloud.image(DEMO, "web:v1", &testing::oci(&[content(8, 100)]), json!({}));
    let mut pusher = alice();
    pusher.access[0].1.retain(|action| *action != Action::Delete);
    let stranger = bearer_of("b0b", "0ther", &["other/web"]);
    for bearer in [pusher, stranger] {
        let answer = match bearer.repository(&name(WEB), Action::Delete) {
            Ok(at) => push.delete_manifest(&at, &reference_of("v1")).await,
            Err(refused) => Err(refused),
        };
        assert_eq!(answer.unwrap_err().code.as_str(), "DENIED");
    }
    assert_eq!(cloud.changes(), []);
}

#[tokio::test]
async fn a_glance_that_is_away_deletes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let (cloud, push) = on_cloud(&directory).await;
    cloud.image(DEMO, "web:v1", &testing::oci(&[content(8, 100)]), json!({}));
    cloud.refuse(Asked::Delete, 503, "away");
    assert_eq!(delete(&push, "v1").await.error(), (503, "UNAVAILABLE".into()));
}

#[tokio::test]
async fn only_a_blob_that_is_in_no_image_is_deleted() {
    let directory = tempfile::tempdir().unwrap();
    let (_cloud, push) = on_cloud(&directory).await;
    let manifest = upload_image(&push, WEB, 1).await;
    assert_eq!(put(&push, WEB, "v1", &manifest).await.status, 201);
    let loose = upload(&push, &alice(), WEB, b"loose").await;
    let in_image = Digest::of(&content(1, 3000));
    for (digest, expected) in [(loose, 202), (loose, 404), (in_image, 405)] {
        let answer = Answer::of(push.delete_blob(&at(WEB), &digest).await).await;
        assert_eq!(answer.status, expected);
    }
    assert_eq!(staged(&push, &alice(), WEB, &loose).await, None);
}
