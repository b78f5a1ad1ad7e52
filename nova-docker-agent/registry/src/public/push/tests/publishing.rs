//! Manifests that become images.

use std::time::Duration;

use axum::http::HeaderMap;
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use crate::manifest::{DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST};
use crate::public::property;
use crate::public::push::PushConfig;
use crate::public::push::testing::{
    Asked, Cloud, DEMO, alice, as_pusher, at, config, content, headers, manifest_of, on_cloud, open_on, put,
    reference_of, token, upload, upload_image,
};
use crate::{Algorithm, Digest};

const WEB: &str = "demo/web";

#[tokio::test]
async fn a_manifest_and_its_blobs_become_one_image_that_says_where_everything_is() {
    let directory = tempfile::tempdir().unwrap();
    let (cloud, push) = on_cloud(&directory).await;
    let manifest = upload_image(&push, WEB, 1).await;
    let digest = Digest::of(&manifest);
    let answer = put(&push, WEB, "v1", &manifest).await;
    assert_eq!(answer.status, 201);
    assert_eq!(answer.header("location"), format!("/v2/demo/web/manifests/{digest}"));
    assert_eq!(answer.header("docker-content-digest"), digest.to_string());
    let images = cloud.images();
    let [image] = images.as_slice() else { panic!("{images:?}") };
    for (key, value) in [
        ("name", "web:v1"),
        ("status", "active"),
        ("container_format", "docker"),
        ("disk_format", "raw"),
        (property::REPOSITORY, "web"),
        (property::DIGEST, &digest.to_string()),
        (property::MEDIA_TYPE, OCI_MANIFEST),
    ] {
        assert_eq!(image[key], value, "{key}");
    }
    assert_eq!((&image["os_hidden"], image.get(property::PUSH)), (&json!(false), None));
    let data = cloud.data("web:v1");
    let places: Value = serde_json::from_str(image[property::BLOBS].as_str().unwrap()).unwrap();
    assert_eq!(places.as_object().unwrap().len(), 4);
    for (digest, place) in places.as_object().unwrap() {
        let (offset, size) = (place[0].as_u64().unwrap() as usize, place[1].as_u64().unwrap() as usize);
        assert_eq!(Digest::of(&data[offset..offset + size]).to_string(), *digest);
    }
}

#[tokio::test]
async fn glance_is_asked_with_the_users_own_token() {
    let directory = tempfile::tempdir().unwrap();
    let (cloud, push) = on_cloud(&directory).await;
    let manifest = upload_image(&push, WEB, 1).await;
    assert_eq!(put(&push, WEB, "v1", &manifest).await.status, 201);
    assert_eq!(cloud.last_token().as_deref(), Some(token("a11ce", DEMO).expose_secret()));
}

#[tokio::test]
async fn an_image_of_what_the_repository_has_needs_no_upload() {
    let directory = tempfile::tempdir().unwrap();
    let (cloud, push) = on_cloud(&directory).await;
    let manifest = upload_image(&push, WEB, 1).await;
    assert_eq!(put(&push, WEB, "v1", &manifest).await.status, 201);
    for blob in [content(1, 3000), content(2, 700)] {
        let answer = push.delete_blob(&at(WEB), &Digest::of(&blob)).await;
        assert_eq!(answer.unwrap_err().status, 405);
    }
    let mut other: Value = serde_json::from_slice(&manifest).unwrap();
    other["annotations"] = json!({"built": "again"});
    assert_eq!(put(&push, WEB, "v2", &serde_json::to_vec(&other).unwrap()).await.status, 201);
    assert_eq!(cloud.images().len(), 2);
}

#[tokio::test]
async fn what_is_pushed_by_its_digest_is_found_by_it_of_any_algorithm() {
    let directory = tempfile::tempdir().unwrap();
    let (cloud, push) = on_cloud(&directory).await;
    for algorithm in Algorithm::ALL {
        let manifest = upload_image(&push, WEB, 1).await;
        let digest = algorithm.digest(&manifest);
        assert_eq!(put(&push, WEB, &digest.to_string(), &manifest).await.status, 201);
        let found = push.staged_manifest(&at(WEB), &digest).await.unwrap();
        assert_eq!(found.unwrap().bytes, manifest);
    }
    assert_eq!(cloud.changes(), []);
}

#[tokio::test]
async fn tags_may_come_in_the_query() {
    let directory = tempfile::tempdir().unwrap();
    let (cloud, push) = on_cloud(&directory).await;
    let manifest = upload_image(&push, WEB, 1).await;
    let answer = put(&push, WEB, &format!("{}?tag=v1&tag=v1.2&tag=v1", Digest::of(&manifest)), &manifest).await;
    let echoed: Vec<_> = answer.headers.get_all("oci-tag").iter().collect();
    assert_eq!((answer.status, &echoed[..2]), (201, &["v1", "v1.2"].map(|tag| tag.parse().unwrap()).each_ref()[..]));
    assert_eq!(cloud.names(), [("web:v1".to_owned(), vec!["web:v1.2".to_owned()], false)]);
    let answer = put(&push, WEB, &format!("{}?tag=..", Digest::of(&manifest)), &manifest).await;
    assert_eq!(answer.error(), (400, "MANIFEST_INVALID".into()));
}

#[tokio::test]
async fn an_artifact_may_speak_of_what_is_not_there_and_is_not_offered_to_launch() {
    let directory = tempfile::tempdir().unwrap();
    let (cloud, push) = on_cloud(&directory).await;
    let empty = upload(&push, &alice(), WEB, b"{}").await;
    let subject = Digest::of(b"the image");
    let artifact = json!({
        "schemaVersion": 2, "mediaType": OCI_MANIFEST, "artifactType": "application/x-sbom",
        "config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": empty.to_string(), "size": 2, "data": "e30="},
        "layers": [],
        "subject": {"mediaType": OCI_MANIFEST, "digest": subject.to_string(), "size": 9},
    });
    let answer = put(&push, WEB, "sbom", &serde_json::to_vec(&artifact).unwrap()).await;
    assert_eq!((answer.status, answer.header("oci-subject")), (201, subject.to_string().as_str()));
    let image = cloud.images().remove(0);
    assert_eq!(image[property::SUBJECT], subject.to_string());
    assert_eq!(image[property::ARTIFACT_TYPE], "application/x-sbom");
    assert_eq!(image["os_hidden"], true);
}

#[tokio::test]
async fn a_manifest_with_missing_blobs_is_refused_with_their_digests() {
    let directory = tempfile::tempdir().unwrap();
    let (cloud, push) = on_cloud(&directory).await;
    upload(&push, &alice(), WEB, b"{}").await;
    let layers = [b"one".to_vec(), b"two".to_vec()];
    let answer = put(&push, WEB, "v1", &manifest_of(b"{}", &layers)).await;
    assert_eq!(answer.error(), (400, "MANIFEST_BLOB_UNKNOWN".into()));
    let body: Value = serde_json::from_slice(&answer.body).unwrap();
    let missing = json!([{"digest": Digest::of(b"one").to_string()}, {"digest": Digest::of(b"two").to_string()}]);
    assert_eq!(body["errors"][0]["detail"], missing);
    assert_eq!(cloud.changes(), []);
}

#[tokio::test]
async fn a_blob_that_another_project_has_uploaded_is_missing() {
    let directory = tempfile::tempdir().unwrap();
    let (_cloud, push) = on_cloud(&directory).await;
    let neighbour = crate::public::push::testing::bearer_of("b0b", "0ther", &["other/web"]);
    upload(&push, &neighbour, "other/web", b"{}").await;
    let answer = put(&push, WEB, "v1", &manifest_of(b"{}", &[])).await;
    assert_eq!(answer.error(), (400, "MANIFEST_BLOB_UNKNOWN".into()));
}

#[tokio::test]
async fn a_layer_that_registries_do_not_distribute_need_not_be_there() {
    let directory = tempfile::tempdir().unwrap();
    let (cloud, push) = on_cloud(&directory).await;
    let manifest = upload_image(&push, WEB, 1).await;
    let mut manifest: Value = serde_json::from_slice(&manifest).unwrap();
    manifest["layers"][0] = json!({
        "mediaType": "application/vnd.oci.image.layer.nondistributable.v1.tar", "size": 5,
        "digest": Digest::of(b"licensed").to_string(), "urls": ["https://example.com/layer"],
    });
    assert_eq!(put(&push, WEB, "v1", &serde_json::to_vec(&manifest).unwrap()).await.status, 201);
    assert_eq!(cloud.images().len(), 1);
}

#[tokio::test]
async fn ten_thousand_layers_are_refused_before_they_are_looked_for() {
    let directory = tempfile::tempdir().unwrap();
    let (cloud, push) = on_cloud(&directory).await;
    let different = (0..10_000).map(|at: u32| at.to_be_bytes().to_vec()).collect();
    let the_same: Vec<Vec<u8>> = vec![vec![1]; 10_000];
    for layers in [different, the_same] {
        let answer = put(&push, WEB, "v1", &manifest_of(b"{}", &layers)).await;
        assert_eq!(answer.error(), (400, "MANIFEST_INVALID".into()));
        assert!(answer.message().contains("10001 blobs, and at most 1000"), "{}", answer.message());
    }
    let child = json!({"mediaType": OCI_MANIFEST, "digest": Digest::of(b"x").to_string(), "size": 1});
    let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": vec![child; 10_000]});
    let answer = put(&push, WEB, "v1", &serde_json::to_vec(&index).unwrap()).await;
    assert_eq!(answer.error(), (400, "MANIFEST_INVALID".into()));
    assert_eq!(cloud.changes(), []);
}

#[tokio::test]
async fn what_a_manifest_says_of_itself_and_its_blobs_must_be_true() {
    let directory = tempfile::tempdir().unwrap();
    let (cloud, push) = on_cloud(&directory).await;
    let manifest = upload_image(&push, WEB, 1).await;
    let answer = put(&push, WEB, &Digest::of(b"another").to_string(), &manifest).await;
    assert_eq!(answer.error(), (400, "DIGEST_INVALID".into()));
    let mut wrong: Value = serde_json::from_slice(&manifest).unwrap();
    wrong["layers"][0]["size"] = 2999.into();
    let answer = put(&push, WEB, "v1", &serde_json::to_vec(&wrong).unwrap()).await;
    assert_eq!(answer.error(), (400, "MANIFEST_INVALID".into()));
    let docker = headers(&[("content-type", DOCKER_MANIFEST)]);
    let answer = push.put_manifest(&at(WEB), &reference_of("v1"), "", &docker, manifest.into()).await;
    assert_eq!(answer.unwrap_err().status, 400);
    assert_eq!(cloud.changes(), []);
}

#[tokio::test]
async fn a_manifest_above_the_limit_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let cloud = Cloud::start().await;
    let push = open_on(PushConfig { max_manifest: 1000, ..config(directory.path()) }, &cloud).await;
    let answer = put(&push, WEB, "v1", &[b' '; 1001]).await;
    assert_eq!(answer.error(), (413, "MANIFEST_INVALID".into()));
}

#[tokio::test]
async fn the_name_of_an_image_must_fit_into_glance_and_be_no_id() {
    let directory = tempfile::tempdir().unwrap();
    let (cloud, push) = on_cloud(&directory).await;
    let long = format!("demo/{}", "a".repeat(200));
    let id = format!("demo/{}", uuid::Uuid::new_v4());
    let bearer = crate::public::push::testing::bearer_of("a11ce", DEMO, &[&long, &id]);
    for (to, code) in [(&long, "NAME_INVALID"), (&id, "DENIED")] {
        let body = manifest_of(b"{}", &[]).into();
        let answer =
            push.put_manifest(&as_pusher(&bearer, to).unwrap(), &reference_of("v1"), "", &HeaderMap::new(), body).await;
        assert_eq!(answer.unwrap_err().code.as_str(), code);
    }
    assert_eq!(cloud.changes(), []);
}

#[tokio::test]
async fn the_same_manifest_twice_at_one_time_makes_one_image() {
    let directory = tempfile::tempdir().unwrap();
    let (cloud, push) = on_cloud(&directory).await;
    cloud.take(Duration::from_millis(200));
    let manifest = upload_image(&push, WEB, 1).await;
    let (one, other) = tokio::join!(put(&push, WEB, "v1", &manifest), put(&push, WEB, "v2", &manifest));
    assert_eq!((one.status, other.status), (201, 201));
    assert_eq!(cloud.count(Asked::Upload), 1);
    assert_eq!(cloud.names(), [("web:v1".to_owned(), vec!["web:v2".to_owned()], false)]);
}
