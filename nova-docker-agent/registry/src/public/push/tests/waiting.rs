//! Manifests that are pushed by their digest, and wait for a name.

use std::fs::File;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use crate::Digest;
use crate::manifest::{OCI_INDEX, OCI_MANIFEST};
use crate::public::push::testing::{
    Answer, Asked, Cloud, alice, at, config, content, files, name, on_cloud, open_on, put, reference_of, staged,
    upload, upload_image,
};
use crate::public::push::{Push, PushConfig};
use crate::public::{Grant, Repository};

const WEB: &str = "demo/web";

fn grant() -> Grant {
    at(WEB).grant
}

/// Whether the manifest waits in the repository.
async fn waits(push: &Push, of: &str, manifest: &[u8]) -> bool {
    let found = push.staged_manifest(&at(of), &Digest::of(manifest)).await.unwrap();
    found.is_some_and(|document| document.bytes == manifest)
}

async fn put_by_digest(push: &Arc<Push>, manifest: &[u8]) -> Answer {
    put(push, WEB, &Digest::of(manifest).to_string(), manifest).await
}

/// A manifest that says something of another one.
async fn signature_of(push: &Push, subject: &[u8]) -> Vec<u8> {
    let empty = upload(push, &alice(), WEB, b"{}").await;
    let config = json!({"mediaType": "application/vnd.oci.empty.v1+json", "digest": empty.to_string(), "size": 2});
    let subject = json!({"mediaType": OCI_MANIFEST, "digest": Digest::of(subject).to_string(), "size": subject.len()});
    let manifest = json!({
        "schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": [], "subject": subject,
    });
    serde_json::to_vec(&manifest).unwrap()
}

#[tokio::test]
async fn a_manifest_waits_on_the_disk_and_becomes_one_image_when_it_gets_a_tag() {
    let directory = tempfile::tempdir().unwrap();
    let (cloud, push) = on_cloud(&directory).await;
    let manifest = upload_image(&push, WEB, 1).await;
    assert_eq!(put_by_digest(&push, &manifest).await.status, 201);
    assert_eq!((cloud.changes(), waits(&push, WEB, &manifest).await), (vec![], true));
    // Also in a process that is started later, and in no other repository.
    let later = open_on(config(directory.path()), &cloud).await;
    assert!(waits(&later, WEB, &manifest).await && !waits(&later, "demo/other", &manifest).await);
    assert_eq!(put(&later, WEB, "v1", &manifest).await.status, 201);
    assert_eq!(cloud.names(), [("web:v1".to_owned(), vec![], false)]);
    assert!(!waits(&push, WEB, &manifest).await);
    // It has an image now, and needs nothing else.
    assert_eq!(put_by_digest(&push, &manifest).await.status, 201);
    assert_eq!((cloud.count(Asked::Upload), waits(&push, WEB, &manifest).await), (1, false));
}

#[tokio::test]
async fn only_who_may_push_sees_what_waits() {
    let directory = tempfile::tempdir().unwrap();
    let (_cloud, push) = on_cloud(&directory).await;
    let manifest = upload_image(&push, WEB, 1).await;
    let signature = signature_of(&push, &manifest).await;
    for document in [&manifest, &signature] {
        assert_eq!(put_by_digest(&push, document).await.status, 201);
    }
    let reader = Grant { is_pusher: false, ..grant() };
    let guest = Grant { project: "0ther".into(), ..grant() };
    let digest = Digest::of(&manifest);
    for (grant, expected) in [(grant(), true), (reader, false), (guest, false)] {
        let at = Repository { name: name(WEB), grant };
        let found = push.staged_manifest(&at, &digest).await.unwrap();
        let referrers = push.staged_referrers(&at, &[digest]).await.unwrap();
        let blob = push.staged(&at, &Digest::of(&content(1, 3000))).await.unwrap();
        assert_eq!((found.is_some(), !referrers.is_empty(), blob.is_some()), (expected, expected, expected));
    }
}

#[tokio::test]
async fn what_nobody_has_named_goes_with_its_blobs_and_not_before_them() {
    let directory = tempfile::tempdir().unwrap();
    let hour = Duration::from_secs(3600);
    let cloud = Cloud::start().await;
    let push = open_on(PushConfig { upload_expiry: hour, ..config(directory.path()) }, &cloud).await;
    let old = || {
        for file in files(&directory.path().join("push/staged")) {
            File::open(file).unwrap().set_modified(SystemTime::now() - 2 * hour).unwrap();
        }
    };
    let manifest = upload_image(&push, WEB, 1).await;
    old();
    // The blobs are needed for as long as the manifest.
    assert_eq!(put_by_digest(&push, &manifest).await.status, 201);
    push.expire().await.unwrap();
    assert!(waits(&push, WEB, &manifest).await);
    assert!(staged(&push, &alice(), WEB, &Digest::of(&content(1, 3000))).await.is_some());
    old();
    push.expire().await.unwrap();
    assert!(!waits(&push, WEB, &manifest).await);
    assert_eq!(files(&directory.path().join("push/staged")), Vec::<std::path::PathBuf>::new());
    assert_eq!(cloud.changes(), []);
}

#[tokio::test]
async fn what_waits_can_be_deleted() {
    let directory = tempfile::tempdir().unwrap();
    let (_cloud, push) = on_cloud(&directory).await;
    let manifest = upload_image(&push, WEB, 1).await;
    assert_eq!(put_by_digest(&push, &manifest).await.status, 201);
    let reference = reference_of(&Digest::of(&manifest).to_string());
    for expected in [202, 404] {
        let answer = Answer::of(push.delete_manifest(&at(WEB), &reference).await).await;
        assert_eq!((answer.status, waits(&push, WEB, &manifest).await), (expected, false));
    }
}

#[tokio::test]
async fn what_waits_counts_for_its_project_and_has_a_bound_in_number() {
    let directory = tempfile::tempdir().unwrap();
    let (_cloud, push) = on_cloud(&directory).await;
    let manifest = upload_image(&push, WEB, 1).await;
    let place = directory.path().join("push/staged").join(&grant().owner).join("manifests");
    std::fs::create_dir_all(&place).unwrap();
    for number in 0..4096 {
        File::create(place.join(number.to_string())).unwrap();
    }
    let answer = put_by_digest(&push, &manifest).await;
    assert_eq!(answer.error(), (429, "TOOMANYREQUESTS".into()));
    assert!(answer.message().contains("4096 manifests"), "{}", answer.message());
    let full = PushConfig { max_staged: 4000, ..config(directory.path()) };
    let push = open_on(full, &Cloud::start().await).await;
    File::create(place.join("0")).unwrap().set_len(4000).unwrap();
    assert_eq!(put_by_digest(&push, &manifest).await.error(), (403, "DENIED".into()));
}

#[tokio::test]
async fn what_says_something_of_an_image_becomes_one_with_it_or_after_it() {
    let directory = tempfile::tempdir().unwrap();
    let (cloud, push) = on_cloud(&directory).await;
    let manifest = upload_image(&push, WEB, 1).await;
    let signature = signature_of(&push, &manifest).await;
    let countersignature = signature_of(&push, &signature).await;
    for early in [&countersignature, &signature] {
        assert_eq!(put_by_digest(&push, early).await.status, 201);
    }
    assert_eq!(cloud.changes(), []);
    assert_eq!(put(&push, WEB, "v1", &manifest).await.status, 201);
    let untagged = |manifest: &[u8]| (format!("web@{}", Digest::of(manifest)), vec![], true);
    let expected = vec![("web:v1".to_owned(), vec![], false), untagged(&signature), untagged(&countersignature)];
    assert_eq!(cloud.names(), expected);
    assert!(!waits(&push, WEB, &signature).await && !waits(&push, WEB, &countersignature).await);
    let late = signature_of(&push, &countersignature).await;
    assert_eq!(put_by_digest(&push, &late).await.status, 201);
    assert_eq!((cloud.names().last().unwrap(), waits(&push, WEB, &late).await), (&untagged(&late), false));
}

#[tokio::test]
async fn of_what_glance_refuses_nothing_waits_but_what_was_acknowledged_before() {
    let directory = tempfile::tempdir().unwrap();
    let (cloud, push) = on_cloud(&directory).await;
    let manifest = upload_image(&push, WEB, 1).await;
    let early = signature_of(&push, &manifest).await;
    assert_eq!(put_by_digest(&push, &early).await.status, 201);
    cloud.refuse(Asked::Create, 403, "Quota exceeded");
    assert_eq!(put(&push, WEB, "v1", &manifest).await.status, 403);
    assert!(waits(&push, WEB, &early).await);
    cloud.refuse_nothing();
    assert_eq!(put(&push, WEB, "v1", &manifest).await.status, 201);
    assert_eq!(cloud.images().len(), 2);
    let late = signature_of(&push, &early).await;
    cloud.refuse(Asked::Create, 403, "Quota exceeded");
    assert_eq!((put_by_digest(&push, &late).await.status, waits(&push, WEB, &late).await), (403, false));
}

#[tokio::test]
async fn an_acknowledged_manifest_waits_on_when_the_same_push_fails_later() {
    let (directory, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (cloud, push) = on_cloud(&directory).await;
    let manifest = upload_image(&push, WEB, 1).await;
    let early = signature_of(&push, &manifest).await;
    assert_eq!(put_by_digest(&push, &early).await.status, 201);
    // What it says something of is an image now, which another host has made.
    let other = open_on(config(elsewhere.path()), &cloud).await;
    upload_image(&other, WEB, 1).await;
    assert_eq!(put(&other, WEB, "v1", &manifest).await.status, 201);
    cloud.refuse(Asked::Create, 403, "Quota exceeded");
    assert_eq!(put_by_digest(&push, &early).await.status, 403);
    assert!(waits(&push, WEB, &early).await);
}

#[tokio::test]
async fn what_says_something_of_an_image_and_cannot_become_one_does_not_fail_its_push() {
    let directory = tempfile::tempdir().unwrap();
    let (cloud, push) = on_cloud(&directory).await;
    let staged = directory.path().join("push/staged");
    let manifest = upload_image(&push, WEB, 1).await;
    let [lacking, damaged] = [signature_of(&push, &manifest).await, {
        let mut other = signature_of(&push, &manifest).await;
        other.push(b'\n');
        other
    }];
    for early in [&lacking, &damaged] {
        assert_eq!(put_by_digest(&push, early).await.status, 201);
    }
    let deleted = Answer::of(push.delete_blob(&at(WEB), &Digest::of(b"{}")).await).await;
    assert_eq!(deleted.status, 202);
    let file = files(&staged).into_iter().find(|path| path.to_string_lossy().ends_with(&Digest::of(&damaged).hex()));
    let file = file.unwrap();
    let content = std::fs::read(&file).unwrap();
    std::fs::write(&file, &content[..content.len() - 2]).unwrap();
    assert_eq!(put(&push, WEB, "v1", &manifest).await.status, 201);
    assert_eq!((cloud.images().len(), waits(&push, WEB, &lacking).await, file.exists()), (1, true, true));
}

#[tokio::test]
async fn an_index_of_blobs_is_kept_as_buildkit_makes_it_and_is_hidden() {
    let directory = tempfile::tempdir().unwrap();
    let (cloud, push) = on_cloud(&directory).await;
    let parts = [
        ("application/vnd.oci.image.layer.v1.tar+gzip", content(1, 3000)),
        ("application/vnd.buildkit.cacheconfig.v0", b"{\"layers\":[{\"blob\":\"x\",\"parent\":-1}]}".to_vec()),
    ];
    let described: Vec<Value> = parts
        .iter()
        .map(|(kind, blob)| json!({"mediaType": kind, "digest": Digest::of(blob).to_string(), "size": blob.len()}))
        .collect();
    let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": described});
    let index = serde_json::to_vec(&index).unwrap();
    upload(&push, &alice(), WEB, &parts[0].1).await;
    assert_eq!(put(&push, WEB, "cache", &index).await.error(), (400, "MANIFEST_BLOB_UNKNOWN".into()));
    upload(&push, &alice(), WEB, &parts[1].1).await;
    assert_eq!(put(&push, WEB, "cache", &index).await.status, 201);
    assert_eq!(cloud.names(), [("web:cache".to_owned(), vec![], true)]);
    for (_, blob) in &parts {
        assert!(push.images.blob(&at(WEB), &Digest::of(blob)).await.unwrap().is_some());
    }
}
