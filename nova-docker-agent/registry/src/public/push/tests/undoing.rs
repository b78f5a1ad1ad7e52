//! Pushes that fail, are given up, or are cut off.

use std::time::Duration;

use axum::http::HeaderMap;
use bytes::Bytes;
use secrecy::ExposeSecret;
use serde_json::json;
use uuid::Uuid;

use crate::Digest;
use crate::public::property;
use crate::public::push::journal::{Entry, Journal};
use crate::public::push::testing::{
    Asked, Cloud, DEMO, LONG, alice, at, bearer_of, config, content, files, key, on_cloud, open_at, open_on, put,
    put_as, reference_of, staged, token, upload_image,
};

const WEB: &str = "demo/web";

/// Files of the journal.
fn unfinished(directory: &tempfile::TempDir) -> usize {
    files(&directory.path().join("push/unfinished")).len()
}

/// As a process that was killed leaves it: an image in the making, pushed by `user`.
fn cut_off(directory: &tempfile::TempDir, cloud: &Cloud, user: &str, status: &str) -> Uuid {
    let id = cloud.image(DEMO, "web:v1", &Bytes::new(), json!({"status": status, property::PUSH: "x"}));
    let journal = Journal::open(directory.path().join("push/unfinished")).unwrap();
    let entry = Entry::new(id, DEMO, "web:v1".into(), &token(user, DEMO), &key());
    drop(journal.begin(entry).unwrap());
    id
}

#[tokio::test]
async fn what_glance_refuses_is_told_in_its_words_and_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let (cloud, push) = on_cloud(&directory).await;
    let manifest = upload_image(&push, WEB, 1).await;
    for (asked, status, expected) in [
        (Asked::Create, 403, (403, "DENIED")),
        (Asked::Create, 413, (403, "DENIED")),
        (Asked::Create, 400, (400, "MANIFEST_INVALID")),
        (Asked::Create, 401, (401, "UNAUTHORIZED")),
        (Asked::Upload, 413, (403, "DENIED")),
        (Asked::Upload, 500, (503, "UNAVAILABLE")),
        (Asked::Upload, 503, (503, "UNAVAILABLE")),
        (Asked::Show, 500, (503, "UNAVAILABLE")),
    ] {
        cloud.refuse(asked, status, "Quota exceeded: 5 of 4 images");
        let answer = put(&push, WEB, "v1", &manifest).await;
        assert_eq!(answer.error(), (expected.0, expected.1.to_owned()), "{asked:?} {status}");
        if matches!(expected.0, 400 | 403) {
            assert!(answer.message().contains("5 of 4 images"), "{}", answer.message());
        }
        assert_eq!((cloud.images(), unfinished(&directory)), (vec![], 0), "{asked:?} {status}");
        cloud.refuse_nothing();
    }
    assert_eq!(put(&push, WEB, "v1", &manifest).await.status, 201);
}

#[tokio::test]
async fn a_glance_that_is_away_is_worth_another_try() {
    let directory = tempfile::tempdir().unwrap();
    let push = crate::public::push::testing::open(config(directory.path())).await;
    let manifest = upload_image(&push, WEB, 1).await;
    let answer = put(&push, WEB, "v1", &manifest).await;
    assert_eq!((answer.error(), answer.header("retry-after")), ((503, "UNAVAILABLE".into()), "5"));
    assert!(staged(&push, &alice(), WEB, &Digest::of(&content(1, 3000))).await.is_some());
    assert_eq!(unfinished(&directory), 0);
}

#[tokio::test]
async fn an_image_that_was_not_stored_as_it_was_sent_is_deleted() {
    let directory = tempfile::tempdir().unwrap();
    let (cloud, push) = on_cloud(&directory).await;
    let manifest = upload_image(&push, WEB, 1).await;
    let spoils: [fn(&Cloud); 2] = [|cloud| cloud.lose(1), |cloud| cloud.alter()];
    for spoil in spoils {
        spoil(&cloud);
        assert_eq!(put(&push, WEB, "v1", &manifest).await.error(), (503, "UNAVAILABLE".into()));
        assert_eq!((cloud.images(), unfinished(&directory)), (vec![], 0));
        cloud.lose(0);
    }
}

#[tokio::test]
async fn a_client_that_goes_away_leaves_nothing_in_glance_and_its_blobs_for_the_next_try() {
    let directory = tempfile::tempdir().unwrap();
    let (cloud, push) = on_cloud(&directory).await;
    let manifest = upload_image(&push, WEB, 1).await;
    cloud.take(Duration::from_secs(600));
    let (at, reference, none) = (at(WEB), reference_of("v1"), HeaderMap::new());
    let pushing = push.put_manifest(&at, &reference, "", &none, manifest.clone().into());
    tokio::select! {
        _ = pushing => panic!("it cannot be complete"),
        () = cloud.was_asked(Asked::Upload, 1) => {}
    }
    cloud.was_asked(Asked::Delete, 1).await;
    assert_eq!(cloud.images(), vec![]);
    cloud.take(Duration::ZERO);
    assert_eq!(put(&push, WEB, "v1", &manifest).await.status, 201);
    assert_eq!((cloud.images().len(), unfinished(&directory)), (1, 0));
}

#[tokio::test]
async fn a_shutdown_gives_pushes_up_and_waits_until_nothing_is_left_of_them() {
    let directory = tempfile::tempdir().unwrap();
    let (cloud, push) = on_cloud(&directory).await;
    let manifest = upload_image(&push, WEB, 1).await;
    cloud.take(Duration::from_secs(600));
    let pushing = tokio::spawn({
        let push = push.clone();
        async move { put(&push, WEB, "v1", &manifest).await }
    });
    cloud.was_asked(Asked::Upload, 1).await;
    push.shutdown().await;
    assert_eq!((cloud.images(), unfinished(&directory)), (vec![], 0));
    assert_eq!(pushing.await.unwrap().error(), (503, "UNAVAILABLE".into()));
}

#[tokio::test]
async fn a_push_that_was_cut_off_is_undone_by_the_next_start_with_its_users_token() {
    let directory = tempfile::tempdir().unwrap();
    let cloud = Cloud::start().await;
    cut_off(&directory, &cloud, "a11ce", "saving");
    let push = open_on(config(directory.path()), &cloud).await;
    push.shutdown().await;
    assert_eq!((cloud.images(), unfinished(&directory)), (vec![], 0));
    assert_eq!(cloud.last_token().as_deref(), Some(token("a11ce", DEMO).expose_secret()));
}

#[tokio::test]
async fn an_image_that_was_complete_when_its_push_was_cut_off_stays() {
    let directory = tempfile::tempdir().unwrap();
    let cloud = Cloud::start().await;
    cut_off(&directory, &cloud, "a11ce", "active");
    let push = open_on(config(directory.path()), &cloud).await;
    push.shutdown().await;
    let images = cloud.images();
    assert_eq!((images.len(), images[0].get(property::PUSH), unfinished(&directory)), (1, None, 0));
}

#[tokio::test]
async fn an_image_that_an_operator_has_locked_when_its_push_was_cut_off_is_neither_deleted_nor_forgotten() {
    let directory = tempfile::tempdir().unwrap();
    let cloud = Cloud::start().await;
    cut_off(&directory, &cloud, "a11ce", "deactivated");
    let push = open_on(config(directory.path()), &cloud).await;
    push.shutdown().await;
    assert_eq!((cloud.images().len(), cloud.changes(), unfinished(&directory)), (1, vec![], 1));
}

/// What is killed, with two images of which the first has the tag `v1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    PushNew,
    TagOther,
    Delete,
}

/// Does it in a runtime of its own, which ends as soon as Glance does not answer any more; whether it was done by then.
async fn is_done_when_killed(act: Act, directory: &tempfile::TempDir, cloud: &Cloud, manifest: Vec<u8>) -> bool {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (url, config) = (cloud.url(), config(directory.path()));
    let acting = runtime.spawn(async move {
        let push = open_at(config, &url, 1 << 30).await;
        match act {
            Act::Delete => push.delete_manifest(&at(WEB), &reference_of("v1")).await.is_ok(),
            _ => put(&push, WEB, "v1", &manifest).await.status == 201,
        }
    });
    let is_done = tokio::select! {
        done = acting => done.unwrap(),
        () = cloud.hung() => false,
    };
    tokio::task::spawn_blocking(move || runtime.shutdown_timeout(LONG)).await.unwrap();
    is_done
}

#[tokio::test]
async fn whatever_is_killed_at_whatever_step_at_most_one_image_has_the_tag_and_none_is_half_made() {
    for (act, is_made) in
        [Act::PushNew, Act::TagOther, Act::Delete].into_iter().flat_map(|act| [(act, true), (act, false)])
    {
        for step in 1.. {
            let directory = tempfile::tempdir().unwrap();
            let (cloud, push) = on_cloud(&directory).await;
            let manifests = [upload_image(&push, WEB, 1).await, upload_image(&push, WEB, 5).await];
            assert_eq!(put(&push, WEB, "v1", &manifests[0]).await.status, 201);
            if act == Act::TagOther {
                assert_eq!(put(&push, WEB, "v2", &manifests[1]).await.status, 201);
            }
            push.shutdown().await;
            cloud.hang_at(step, is_made);
            let is_done = is_done_when_killed(act, &directory, &cloud, manifests[1].clone()).await;
            let push = open_on(config(directory.path()), &cloud).await;
            push.tasks.close();
            push.tasks.wait().await;
            let images = cloud.images();
            assert!(images.iter().all(|image| image["status"] == "active"), "{act:?} {step} {is_made}: {images:?}");
            let has_tag =
                |image: &&serde_json::Map<_, _>| image["name"] == "web:v1" || image["tags"] == json!(["web:v1"]);
            let with_tag: Vec<_> = images.iter().filter(has_tag).collect();
            let expected = if act == Act::Delete { with_tag.len().min(1) } else { 1 };
            assert_eq!(with_tag.len(), expected, "{act:?} {step} {is_made}: {images:?}");
            if is_done {
                break;
            }
        }
    }
}

#[tokio::test]
async fn what_cannot_be_undone_at_once_is_undone_as_soon_as_glance_is_back() {
    let directory = tempfile::tempdir().unwrap();
    let (cloud, push) = on_cloud(&directory).await;
    let manifest = upload_image(&push, WEB, 1).await;
    cloud.refuse(Asked::Upload, 500, "killed");
    cloud.refuse(Asked::Delete, 503, "away");
    assert_eq!(put(&push, WEB, "v1", &manifest).await.status, 503);
    assert_eq!((cloud.images().len(), unfinished(&directory)), (1, 1));
    cloud.refuse_nothing();
    cloud.was_asked(Asked::Delete, 2).await;
    while unfinished(&directory) > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(cloud.images(), vec![]);
}

#[tokio::test]
async fn what_an_expired_token_left_is_undone_with_the_next_push_to_the_project() {
    let directory = tempfile::tempdir().unwrap();
    let cloud = Cloud::start().await;
    let left = cut_off(&directory, &cloud, "b0b", "queued");
    cloud.refuse(Asked::Show, 401, "expired");
    let push = open_on(config(directory.path()), &cloud).await;
    // It has tried in vain.
    push.tasks.close();
    push.tasks.wait().await;
    push.tasks.reopen();
    assert_eq!(cloud.count(Asked::Show), 1);
    let elsewhere = bearer_of("car0l", "0ther", &["other/web"]);
    assert_eq!(put_as(&push, &elsewhere, "other/web", "v1", b"{}").await.status, 400);
    cloud.refuse_nothing();
    let manifest = upload_image(&push, WEB, 1).await;
    assert_eq!(put(&push, WEB, "v1", &manifest).await.status, 201);
    assert!(cloud.changes().contains(&(Asked::Delete, left)));
    assert_eq!((cloud.images().len(), unfinished(&directory)), (1, 0));
}

#[tokio::test]
async fn an_image_that_glance_may_still_be_making_is_looked_for_again() {
    let directory = tempfile::tempdir().unwrap();
    let cloud = Cloud::start().await;
    cut_off(&directory, &cloud, "a11ce", "queued");
    cloud.refuse(Asked::Show, 404, "No image found");
    let push = open_on(config(directory.path()), &cloud).await;
    push.shutdown().await;
    assert_eq!(unfinished(&directory), 1);
    cloud.refuse_nothing();
    push.expire().await.unwrap();
    assert_eq!((cloud.images(), unfinished(&directory)), (vec![], 0));
}

#[tokio::test]
async fn tokens_are_not_on_the_disk_for_everybody_to_read() {
    let directory = tempfile::tempdir().unwrap();
    let cloud = Cloud::start().await;
    cut_off(&directory, &cloud, "a11ce", "queued");
    let files = files(&directory.path().join("push/unfinished"));
    assert_eq!(files.len(), 1);
    let written = std::fs::read_to_string(&files[0]).unwrap();
    assert!(!written.contains("a11ce/") && !written.contains("YTExY2Uv"), "{written}");
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&files[0]).unwrap().permissions());
    assert_eq!(mode & 0o077, 0);
}

#[tokio::test]
async fn an_entry_that_was_never_complete_is_in_nobodys_way() {
    let directory = tempfile::tempdir().unwrap();
    let (cloud, push) = on_cloud(&directory).await;
    let manifest = upload_image(&push, WEB, 1).await;
    assert_eq!(put(&push, WEB, "v1", &manifest).await.status, 201);
    let image = cloud.images()[0]["id"].as_str().unwrap().to_owned();
    std::fs::write(directory.path().join(format!("push/unfinished/{image}.partial")), "{").unwrap();
    assert_eq!(put(&push, WEB, "v2", &manifest).await.status, 201);
}

#[tokio::test]
async fn what_another_process_is_making_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let cloud = Cloud::start().await;
    let id = cloud.image(DEMO, "web:v1", &Bytes::new(), json!({"status": "saving"}));
    let journal = Journal::open(directory.path().join("push/unfinished")).unwrap();
    let entry = Entry::new(id, DEMO, "web:v1".into(), &"token".into(), &key());
    let at_work = journal.begin(entry).unwrap();
    let push = open_on(config(directory.path()), &cloud).await;
    push.shutdown().await;
    assert_eq!(cloud.changes(), []);
    at_work.close().unwrap();
    assert_eq!(unfinished(&directory), 0);
}
