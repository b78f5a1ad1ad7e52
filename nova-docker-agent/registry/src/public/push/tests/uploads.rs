//! Blob uploads, as clients make them.

use std::fs::File;
use std::time::{Duration, SystemTime};

use axum::body::Body;
use axum::http::HeaderMap;
use uuid::Uuid;

use crate::public::push::testing::{
    ALICE, Answer, Cloud, DEMO, MIB, alice, as_pusher, at, bearer_of, broken, config, content, files, headers, open,
    open_on, pieces, put, staged, upload, upload_image,
};
use crate::public::push::{Push, PushConfig};
use crate::{Algorithm, Digest};

const WEB: &str = "demo/web";

async fn begin(push: &Push) -> Uuid {
    let answer = Answer::of(push.begin(&alice(), &at(WEB), "", &HeaderMap::new(), Body::empty()).await).await;
    assert_eq!((answer.status, answer.header("range")), (202, "0-0"));
    assert_eq!(answer.header("location"), format!("/v2/demo/web/blobs/uploads/{}", answer.upload()));
    answer.upload()
}

async fn patch(push: &Push, id: Uuid, range: Option<&str>, body: impl Into<Body>) -> Answer {
    let headers = range.map_or(HeaderMap::new(), |range| headers(&[("content-range", range)]));
    Answer::of(push.patch(&at(WEB), id, &headers, body.into()).await).await
}

async fn finish(push: &Push, id: Uuid, digest: &Digest, body: impl Into<Body>) -> Answer {
    let query = format!("digest={digest}");
    Answer::of(push.finish(&at(WEB), id, &query, &HeaderMap::new(), body.into()).await).await
}

async fn status(push: &Push, id: Uuid) -> Answer {
    Answer::of(push.status(&at(WEB), id).await).await
}

fn uploaded(directory: &tempfile::TempDir) -> Vec<std::path::PathBuf> {
    files(&directory.path().join("push"))
}

fn unknown() -> (u16, String) {
    (404, "BLOB_UPLOAD_UNKNOWN".to_owned())
}

#[tokio::test]
async fn a_blob_is_uploaded_in_one_request() {
    let directory = tempfile::tempdir().unwrap();
    let push = open(config(directory.path())).await;
    let blob = content(1, 3 * MIB + 5);
    let digest = upload(&push, &alice(), WEB, &blob).await;
    assert_eq!(staged(&push, &alice(), WEB, &digest).await, Some(blob));
    assert_eq!(uploaded(&directory).len(), 1);
}

#[tokio::test]
async fn a_blob_is_uploaded_by_a_session_and_one_put() {
    let directory = tempfile::tempdir().unwrap();
    let push = open(config(directory.path())).await;
    let blob = content(1, 1000);
    let digest = Digest::of(&blob);
    let id = begin(&push).await;
    let answer = finish(&push, id, &digest, blob.clone()).await;
    assert_eq!(answer.status, 201);
    assert_eq!(answer.header("location"), format!("/v2/demo/web/blobs/{digest}"));
    assert_eq!(answer.header("docker-content-digest"), digest.to_string());
    assert_eq!(staged(&push, &alice(), WEB, &digest).await, Some(blob));
    assert_eq!(status(&push, id).await.error(), unknown());
}

#[tokio::test]
async fn a_blob_is_streamed_without_saying_its_length() {
    let directory = tempfile::tempdir().unwrap();
    let push = open(config(directory.path())).await;
    let blob = content(1, 5 * MIB);
    let id = begin(&push).await;
    let answer = patch(&push, id, None, pieces(blob.chunks(70_000).map(|piece| Ok(piece.to_vec())).collect())).await;
    assert_eq!((answer.status, answer.header("range")), (202, format!("0-{}", 5 * MIB - 1).as_str()));
    let digest = Digest::of(&blob);
    assert_eq!(finish(&push, id, &digest, Body::empty()).await.status, 201);
    assert_eq!(staged(&push, &alice(), WEB, &digest).await, Some(blob));
}

#[tokio::test]
async fn chunks_come_in_order_and_the_last_one_with_the_digest() {
    let directory = tempfile::tempdir().unwrap();
    let push = open(config(directory.path())).await;
    let blob = content(1, 30);
    let id = begin(&push).await;
    assert_eq!(patch(&push, id, Some("0-9"), blob[..10].to_vec()).await.header("range"), "0-9");
    assert_eq!(patch(&push, id, Some("10-19"), blob[10..20].to_vec()).await.header("range"), "0-19");
    let digest = Digest::of(&blob);
    let last = headers(&[("content-range", "20-29"), ("content-length", "10")]);
    let query = format!("digest={digest}");
    let answer = push.finish(&at(WEB), id, &query, &last, blob[20..].to_vec().into()).await;
    assert_eq!(Answer::of(answer).await.status, 201);
    assert_eq!(staged(&push, &alice(), WEB, &digest).await, Some(blob));
}

#[tokio::test]
async fn a_chunk_out_of_order_is_refused_with_where_to_go_on() {
    let directory = tempfile::tempdir().unwrap();
    let push = open(config(directory.path())).await;
    let id = begin(&push).await;
    assert_eq!(patch(&push, id, Some("5-9"), vec![0; 5]).await.status, 416);
    assert_eq!(patch(&push, id, Some("0-9"), vec![1; 10]).await.status, 202);
    for range in ["0-9", "20-29", "9-8", "nonsense"] {
        let answer = patch(&push, id, Some(range), vec![2; 10]).await;
        assert_eq!(answer.error(), (416, "BLOB_UPLOAD_INVALID".into()), "{range}");
        assert_eq!((answer.header("range"), answer.upload()), ("0-9", id), "{range}");
    }
    assert_eq!(finish(&push, id, &Digest::of(&[1; 10]), Body::empty()).await.status, 201);
}

#[tokio::test]
async fn a_chunk_of_another_length_than_its_range_leaves_the_upload_as_it_was() {
    let directory = tempfile::tempdir().unwrap();
    let push = open(config(directory.path())).await;
    let id = begin(&push).await;
    assert_eq!(patch(&push, id, Some("0-9"), vec![1; 10]).await.status, 202);
    for size in [3, 11] {
        let answer = patch(&push, id, Some("10-19"), vec![2; size]).await;
        assert_eq!(answer.error(), (400, "SIZE_INVALID".into()));
        assert_eq!(status(&push, id).await.header("range"), "0-9");
    }
    let contradiction = headers(&[("content-range", "10-19"), ("content-length", "3")]);
    let answer = push.patch(&at(WEB), id, &contradiction, vec![2; 3].into()).await;
    assert_eq!(Answer::of(answer).await.error(), (400, "SIZE_INVALID".into()));
    assert_eq!(finish(&push, id, &Digest::of(&[1; 10]), Body::empty()).await.status, 201);
}

#[tokio::test]
async fn what_came_before_a_connection_broke_is_kept_to_go_on_from() {
    let directory = tempfile::tempdir().unwrap();
    let push = open(config(directory.path())).await;
    let id = begin(&push).await;
    let answer = patch(&push, id, None, pieces(vec![Ok(vec![1; 10]), Ok(vec![2; 10]), Err(broken())])).await;
    assert_eq!(answer.error(), (400, "BLOB_UPLOAD_INVALID".into()));
    let answer = status(&push, id).await;
    assert_eq!((answer.status, answer.header("range")), (204, "0-19"));
    assert_eq!(patch(&push, id, Some("20-29"), vec![3; 10]).await.status, 202);
    let whole = [[1; 10], [2; 10], [3; 10]].concat();
    assert_eq!(finish(&push, id, &Digest::of(&whole), Body::empty()).await.status, 201);
}

#[tokio::test]
async fn a_body_that_is_shorter_than_http_says_completes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let push = open(config(directory.path())).await;
    let short = headers(&[("content-length", "20")]);
    let digest = Digest::of(&[1; 10]);
    let query = format!("digest={digest}");
    let answer = push.begin(&alice(), &at(WEB), &query, &short, vec![1; 10].into()).await;
    assert_eq!(Answer::of(answer).await.error(), (400, "BLOB_UPLOAD_INVALID".into()));
    assert_eq!(staged(&push, &alice(), WEB, &digest).await, None);
    assert_eq!(uploaded(&directory), Vec::<std::path::PathBuf>::new());
}

#[tokio::test]
async fn a_wrong_digest_is_refused_and_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let push = open(config(directory.path())).await;
    let wrong = Digest::of(b"something else");
    let id = begin(&push).await;
    assert_eq!(finish(&push, id, &wrong, "content").await.error(), (400, "DIGEST_INVALID".into()));
    assert_eq!(status(&push, id).await.error(), unknown());
    let query = format!("digest={wrong}");
    let answer = push.begin(&alice(), &at(WEB), &query, &HeaderMap::new(), "content".into()).await;
    assert_eq!(Answer::of(answer).await.error(), (400, "DIGEST_INVALID".into()));
    assert_eq!(uploaded(&directory), Vec::<std::path::PathBuf>::new());
}

#[tokio::test]
async fn a_put_without_a_digest_or_with_one_that_is_none_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let push = open(config(directory.path())).await;
    let id = begin(&push).await;
    for query in ["", "digest=", "digest=md5:00", "digest=sha256:../../etc/passwd"] {
        let answer = push.finish(&at(WEB), id, query, &HeaderMap::new(), "content".into()).await;
        assert_eq!(Answer::of(answer).await.error(), (400, "DIGEST_INVALID".into()), "{query}");
    }
    assert_eq!(status(&push, id).await.header("range"), "0-0");
}

#[tokio::test]
async fn digests_by_sha512_are_as_good_with_and_without_notice() {
    let directory = tempfile::tempdir().unwrap();
    let push = open(config(directory.path())).await;
    for (query, blob) in [("", content(1, 100)), ("digest-algorithm=sha512", content(2, 100))] {
        let answer = push.begin(&alice(), &at(WEB), query, &HeaderMap::new(), Body::empty()).await;
        let id = Answer::of(answer).await.upload();
        assert_eq!(patch(&push, id, None, blob.clone()).await.status, 202);
        let digest = Algorithm::Sha512.digest(&blob);
        assert_eq!(finish(&push, id, &digest, Body::empty()).await.status, 201);
        assert_eq!(staged(&push, &alice(), WEB, &digest).await, Some(blob));
    }
    let answer = push.begin(&alice(), &at(WEB), "digest-algorithm=md5", &HeaderMap::new(), Body::empty()).await;
    assert_eq!(Answer::of(answer).await.error(), (400, "DIGEST_INVALID".into()));
}

#[tokio::test]
async fn a_blob_may_be_empty() {
    let directory = tempfile::tempdir().unwrap();
    let push = open(config(directory.path())).await;
    let digest = upload(&push, &alice(), WEB, b"").await;
    assert_eq!(staged(&push, &alice(), WEB, &digest).await, Some(vec![]));
    let id = begin(&push).await;
    assert_eq!(finish(&push, id, &digest, Body::empty()).await.status, 201);
}

#[tokio::test]
async fn an_upload_that_is_cancelled_is_gone() {
    let directory = tempfile::tempdir().unwrap();
    let push = open(config(directory.path())).await;
    let id = begin(&push).await;
    assert_eq!(patch(&push, id, None, "content").await.status, 202);
    assert_eq!(Answer::of(push.cancel(&at(WEB), id).await).await.status, 204);
    assert_eq!(status(&push, id).await.error(), unknown());
    assert_eq!(patch(&push, id, None, "content").await.error(), unknown());
    assert_eq!(Answer::of(push.cancel(&at(WEB), id).await).await.error(), unknown());
    assert_eq!(uploaded(&directory), Vec::<std::path::PathBuf>::new());
}

#[tokio::test]
async fn an_upload_exists_only_for_its_user_in_its_repository() {
    let directory = tempfile::tempdir().unwrap();
    let push = open(config(directory.path())).await;
    let id = begin(&push).await;
    let colleague = bearer_of("b0b", DEMO, &[WEB]);
    let stranger = bearer_of(ALICE, "0ther", &["other/web"]);
    for (bearer, to) in [(&colleague, WEB), (&alice(), "demo/other"), (&stranger, "other/web")] {
        let at = as_pusher(bearer, to).unwrap();
        let query = format!("digest={}", Digest::of(b""));
        let none = HeaderMap::new();
        let answers = [
            push.status(&at, id).await,
            push.patch(&at, id, &none, "x".into()).await,
            push.finish(&at, id, &query, &none, Body::empty()).await,
            push.cancel(&at, id).await,
        ];
        for answer in answers {
            assert_eq!(Answer::of(answer).await.error(), unknown(), "{to}");
        }
    }
    assert_eq!(status(&push, id).await.status, 204);
}

#[tokio::test]
async fn nothing_is_pushed_without_a_token_for_it_or_a_role_in_the_project() {
    let directory = tempfile::tempdir().unwrap();
    let push = open(config(directory.path())).await;
    let mut reader = alice();
    reader.access[0].2.project = "an0ther".into();
    for (bearer, to) in [(&alice(), "demo/third"), (&reader, WEB)] {
        let answer = match as_pusher(bearer, to) {
            Ok(at) => push.begin(bearer, &at, "", &HeaderMap::new(), Body::empty()).await,
            Err(refused) => Err(refused),
        };
        assert_eq!(Answer::of(answer).await.error(), (403, "DENIED".into()));
    }
    assert_eq!(uploaded(&directory), Vec::<std::path::PathBuf>::new());
}

#[tokio::test]
async fn an_upload_goes_on_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let blob = content(1, 2 * MIB);
    let push = open(config(directory.path())).await;
    let id = begin(&push).await;
    assert_eq!(patch(&push, id, None, blob[..MIB].to_vec()).await.status, 202);
    drop(push);
    let push = open(config(directory.path())).await;
    assert_eq!(status(&push, id).await.header("range"), format!("0-{}", MIB - 1));
    assert_eq!(patch(&push, id, None, blob[MIB..].to_vec()).await.status, 202);
    let digest = Digest::of(&blob);
    assert_eq!(finish(&push, id, &digest, Body::empty()).await.status, 201);
    drop(push);
    let push = open(config(directory.path())).await;
    assert_eq!(staged(&push, &alice(), WEB, &digest).await, Some(blob));
}

#[tokio::test]
async fn chunks_may_come_to_different_processes_that_share_the_directory() {
    let directory = tempfile::tempdir().unwrap();
    let (one, other) = (open(config(directory.path())).await, open(config(directory.path())).await);
    let blob = content(1, 30);
    let id = begin(&one).await;
    for (push, range, part) in [(&one, "0-9", 0..10), (&other, "10-19", 10..20), (&one, "20-29", 20..30)] {
        assert_eq!(patch(push, id, Some(range), blob[part].to_vec()).await.status, 202);
    }
    let digest = Digest::of(&blob);
    assert_eq!(finish(&other, id, &digest, Body::empty()).await.status, 201);
    assert_eq!(staged(&one, &alice(), WEB, &digest).await, Some(blob));
    assert_eq!(status(&one, id).await.error(), unknown());
}

/// Content that was digested is changed behind the registry's back: whoever reads it again sees that.
#[tokio::test]
async fn what_was_digested_is_not_read_again_for_the_next_chunk_nor_when_one_is_taken_back() {
    let directory = tempfile::tempdir().unwrap();
    let (one, other) = (open(config(directory.path())).await, open(config(directory.path())).await);
    let id = begin(&one).await;
    assert_eq!(patch(&one, id, Some("0-9"), vec![1; 10]).await.status, 202);
    let file = uploaded(&directory).into_iter().find(|path| path.ends_with("content")).unwrap();
    std::fs::write(file, [7; 10]).unwrap();
    assert_eq!(patch(&other, id, Some("10-19"), vec![2; 11]).await.status, 400);
    assert_eq!(patch(&other, id, Some("10-19"), vec![2; 10]).await.status, 202);
    let digest = Digest::of(&[[1; 10], [2; 10]].concat());
    assert_eq!(finish(&one, id, &digest, Body::empty()).await.status, 201);
}

#[tokio::test]
async fn an_upload_whose_process_was_killed_goes_on_with_what_is_on_the_disk() {
    let directory = tempfile::tempdir().unwrap();
    let push = open(config(directory.path())).await;
    let id = begin(&push).await;
    assert_eq!(patch(&push, id, None, vec![1; 10]).await.status, 202);
    let file = uploaded(&directory).into_iter().find(|path| path.ends_with("content")).unwrap();
    std::fs::write(file, [[1; 10], [2; 10]].concat()).unwrap();
    assert_eq!(patch(&push, id, Some("20-29"), vec![3; 10]).await.status, 202);
    let digest = Digest::of(&[[1; 10], [2; 10], [3; 10]].concat());
    assert_eq!(finish(&push, id, &digest, Body::empty()).await.status, 201);
}

#[tokio::test]
async fn an_upload_of_which_a_loss_of_power_left_nothing_to_read_is_begun_anew() {
    let directory = tempfile::tempdir().unwrap();
    let push = open(config(directory.path())).await;
    let id = begin(&push).await;
    let about = uploaded(&directory).into_iter().find(|path| path.ends_with("about.json")).unwrap();
    std::fs::write(about, b"").unwrap();
    assert_eq!(status(&push, id).await.error(), unknown());
    assert_eq!(patch(&push, id, None, "x").await.error(), unknown());
    let blob = content(1, 10);
    upload(&push, &alice(), WEB, &blob).await;
}

#[tokio::test]
async fn of_two_requests_for_one_upload_the_second_waits_and_may_be_refused() {
    let directory = tempfile::tempdir().unwrap();
    let push = open(config(directory.path())).await;
    let id = begin(&push).await;
    let (sender, receiver) = tokio::sync::mpsc::channel::<Result<Vec<u8>, std::io::Error>>(1);
    let slow = Body::from_stream(futures::stream::unfold(receiver, |mut receiver| async {
        receiver.recv().await.map(|piece| (piece, receiver))
    }));
    let first = tokio::spawn({
        let push = push.clone();
        async move { patch(&push, id, None, slow).await }
    });
    sender.send(Ok(vec![1; 10])).await.unwrap();
    // The channel has room again when the first request has taken the piece, and with it the upload.
    sender.send(Ok(vec![1; 10])).await.unwrap();
    let second = patch(&push, id, Some("20-29"), vec![2; 10]).await;
    assert_eq!(second.error(), (409, "BLOB_UPLOAD_INVALID".into()));
    drop(sender);
    assert_eq!(first.await.unwrap().header("range"), "0-19");
    assert_eq!(patch(&push, id, Some("20-29"), vec![2; 10]).await.status, 202);
}

#[tokio::test]
async fn a_blob_above_the_bound_is_refused_before_it_comes_or_while_it_does() {
    let directory = tempfile::tempdir().unwrap();
    let small = PushConfig { max_blob: 100, ..config(directory.path()) };
    let push = open(small).await;
    let id = begin(&push).await;
    let announced = headers(&[("content-length", "101")]);
    let never_read = Body::from_stream(futures::stream::pending::<Result<Vec<u8>, std::io::Error>>());
    let answer = push.patch(&at(WEB), id, &announced, never_read).await;
    assert_eq!(Answer::of(answer).await.error(), (413, "SIZE_INVALID".into()));
    let answer = patch(&push, id, None, pieces(vec![Ok(vec![1; 60]), Ok(vec![1; 60])])).await;
    assert_eq!(answer.error(), (413, "SIZE_INVALID".into()));
    assert_eq!(status(&push, id).await.header("range"), "0-0");
}

#[tokio::test]
async fn an_upload_that_the_disk_has_no_room_for_is_refused_and_does_not_empty_the_cache() {
    let directory = tempfile::tempdir().unwrap();
    let (max_blob, max_staged, max_staged_in_all) = (u64::MAX, u64::MAX, u64::MAX);
    let huge = PushConfig { max_blob, max_staged, max_staged_in_all, ..config(directory.path()) };
    let cloud = Cloud::start().await;
    let push = open_on(huge, &cloud).await;
    let manifest = upload_image(&push, WEB, 1).await;
    assert_eq!(put(&push, WEB, "v1", &manifest).await.status, 201);
    let id = begin(&push).await;
    let announced = headers(&[("content-length", &(1_u64 << 60).to_string())]);
    let never_read = Body::from_stream(futures::stream::pending::<Result<Vec<u8>, std::io::Error>>());
    let answer = Answer::of(push.patch(&at(WEB), id, &announced, never_read).await).await;
    assert_eq!(answer.error(), (503, "UNAVAILABLE".into()));
    assert_eq!(push.images.counters().evictions, 0);
}

#[tokio::test]
async fn a_project_above_its_bound_is_told_so() {
    let directory = tempfile::tempdir().unwrap();
    let small = PushConfig { max_staged: 1000, ..config(directory.path()) };
    let push = open(small).await;
    upload(&push, &alice(), WEB, &content(1, 900)).await;
    let id = begin(&push).await;
    let announced = headers(&[("content-length", "200")]);
    let answer = push.patch(&at(WEB), id, &announced, vec![1; 200].into()).await;
    let answer = Answer::of(answer).await;
    assert_eq!(answer.error(), (403, "DENIED".into()));
    assert!(answer.message().contains("900 bytes, and may have 1000"), "{}", answer.message());
    let neighbour = bearer_of("b0b", "0ther", &["other/web"]);
    upload(&push, &neighbour, "other/web", &content(2, 900)).await;
}

#[tokio::test]
async fn a_project_has_a_bound_in_number_too() {
    let directory = tempfile::tempdir().unwrap();
    let push = open(config(directory.path())).await;
    let place = directory.path().join("push/staged").join(DEMO).join("blobs/sha256");
    std::fs::create_dir_all(&place).unwrap();
    for number in 1..32_768 {
        File::create(place.join(number.to_string())).unwrap();
    }
    upload(&push, &alice(), WEB, b"the last one").await;
    let answer = push.begin(&alice(), &at(WEB), "", &HeaderMap::new(), Body::empty()).await;
    let answer = Answer::of(answer).await;
    assert_eq!(answer.error(), (429, "TOOMANYREQUESTS".into()));
    assert!(answer.message().contains("32768 blobs"), "{}", answer.message());
    let neighbour = bearer_of("b0b", "0ther", &["other/web"]);
    upload(&push, &neighbour, "other/web", b"").await;
}

#[tokio::test]
async fn all_projects_together_have_a_bound_too() {
    let directory = tempfile::tempdir().unwrap();
    let push = open(PushConfig { max_staged_in_all: 1000, ..config(directory.path()) }).await;
    upload(&push, &alice(), WEB, &content(1, 900)).await;
    // As after ten times as long as it took to look.
    *push.staging.used.lock().unwrap() = None;
    let neighbour = bearer_of("b0b", "0ther", &["other/web"]);
    let announced = headers(&[("content-length", "200")]);
    let query = format!("digest={}", Digest::of(b""));
    let to = as_pusher(&neighbour, "other/web").unwrap();
    let answer = push.begin(&neighbour, &to, &query, &announced, vec![1; 200].into()).await;
    assert_eq!(Answer::of(answer).await.error(), (503, "UNAVAILABLE".into()));
}

#[tokio::test]
async fn that_a_blob_is_looked_at_does_not_keep_it_and_that_a_push_counts_on_it_does() {
    let directory = tempfile::tempdir().unwrap();
    let hour = Duration::from_secs(3600);
    let push = open(PushConfig { upload_expiry: hour, ..config(directory.path()) }).await;
    for (is_pushed, is_kept) in [(false, false), (true, true)] {
        let digest = upload(&push, &alice(), WEB, b"content").await;
        for file in uploaded(&directory) {
            File::open(file).unwrap().set_modified(SystemTime::now() - 2 * hour).unwrap();
        }
        if is_pushed {
            push.area(&at(WEB)).unwrap().renew(&[digest]).unwrap();
        }
        assert!(staged(&push, &alice(), WEB, &digest).await.is_some());
        push.expire().await.unwrap();
        assert_eq!(staged(&push, &alice(), WEB, &digest).await.is_some(), is_kept);
    }
}

#[tokio::test]
async fn what_nobody_goes_on_with_expires() {
    let directory = tempfile::tempdir().unwrap();
    let hour = Duration::from_secs(3600);
    let push = open(PushConfig { upload_expiry: hour, ..config(directory.path()) }).await;
    let id = begin(&push).await;
    let digest = upload(&push, &alice(), WEB, b"content").await;
    push.expire().await.unwrap();
    assert_eq!(status(&push, id).await.status, 204);
    for file in uploaded(&directory) {
        File::open(file).unwrap().set_modified(SystemTime::now() - 2 * hour).unwrap();
    }
    push.expire().await.unwrap();
    assert_eq!(status(&push, id).await.error(), unknown());
    assert_eq!(staged(&push, &alice(), WEB, &digest).await, None);
    assert_eq!(uploaded(&directory), Vec::<std::path::PathBuf>::new());
}
