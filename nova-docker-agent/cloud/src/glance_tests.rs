use futures::TryStreamExt;
use serde_json::json;
use wiremock::matchers::{header, header_exists, method, path};
use wiremock::{Mock, MockServer, ResponseTemplate};

use super::super::testing::{
    agent, asked, control_plane, find, header as sent_header, mount, recorded, requests, service, session, user,
};
use super::*;

const IMAGE: &str = "979ca958-8128-4516-8d26-b26f0980ae94";

fn image() -> Uuid {
    IMAGE.parse().unwrap()
}

fn file() -> String {
    format!("/v2/images/{IMAGE}/file")
}

fn client(server: &MockServer) -> Glance {
    Glance::new(Some(session(server)), None, &service("image")).unwrap()
}

async fn all(body: ImageBody) -> Vec<u8> {
    body.stream
        .try_fold(Vec::new(), |mut all, chunk| async move {
            all.extend_from_slice(&chunk);
            Ok(all)
        })
        .await
        .unwrap()
}

#[tokio::test]
async fn an_image_record_loses_nothing() {
    let calls = recorded(include_str!("../../../tests/wire/rest/snapshot_glance.jsonl"));
    let stock = find(&calls, "GET", "/v2/images/");
    let server = control_plane().await;
    mount(&server, "GET", &stock.path, 200, stock.response.clone()).await;
    let meta = client(&server).image(&user(), image()).await.unwrap();
    assert_eq!((meta.status.as_str(), meta.size, meta.min_disk), ("queued", None, 1));
    assert_eq!(meta.properties["image_type"], "snapshot");
    assert_eq!(serde_json::to_value(&meta).unwrap(), stock.response);
}

#[tokio::test]
async fn an_update_has_the_shape_of_stock_novas() {
    let calls = recorded(include_str!("../../../tests/wire/rest/snapshot_glance.jsonl"));
    let stock = find(&calls, "PATCH", "/v2/images/");
    let server = control_plane().await;
    mount(&server, "PATCH", &stock.path, 200, stock.response.clone()).await;
    let patch = [
        Patch::set("owner_id", stock.response["owner"].clone()),
        Patch::set("image_location", "snapshot"),
        Patch::set("image_state", "available"),
        Patch::Replace { path: "/container_format".into(), value: "bare".into() },
        Patch::Replace { path: "/disk_format".into(), value: "raw".into() },
    ];
    let meta = client(&server).update(&agent(), image(), &patch).await.unwrap();
    assert_eq!(meta.disk_format.as_deref(), Some("raw"));
    let sent = &requests(&server, &format!("PATCH {}", stock.path)).await[0];
    assert_eq!(sent.body_json::<Value>().unwrap(), stock.request);
    assert_eq!(sent_header(sent, "content-type"), stock.headers.get("content-type").map(String::as_str));
}

#[tokio::test]
async fn a_range_comes_as_a_range() {
    let server = control_plane().await;
    let part = ResponseTemplate::new(206).insert_header("content-range", "bytes 10-14/100").set_body_bytes("abcde");
    Mock::given(method("GET"))
        .and(path(file()))
        .and(header("range", "bytes=10-14"))
        .respond_with(part)
        .mount(&server)
        .await;
    let body = client(&server).read(&agent(), image(), Some(10..15)).await.unwrap();
    assert_eq!((body.ranged, body.length, body.total), (true, Some(5), Some(100)));
    assert_eq!(all(body).await, b"abcde");
}

#[tokio::test]
async fn a_store_that_ignores_ranges_is_recognised() {
    let server = control_plane().await;
    let whole = ResponseTemplate::new(200).set_body_bytes("0123456789");
    Mock::given(method("GET")).and(path(file())).respond_with(whole).mount(&server).await;
    let body = client(&server).read(&agent(), image(), Some(2..5)).await.unwrap();
    assert_eq!((body.ranged, body.total), (false, Some(10)));
    assert_eq!(all(body).await, b"0123456789");
}

#[tokio::test]
async fn a_store_that_refuses_ranges_is_read_as_a_whole() {
    let server = control_plane().await;
    let refusal = ResponseTemplate::new(400).set_body_string("Store does not support random access");
    Mock::given(method("GET"))
        .and(path(file()))
        .and(header_exists("range"))
        .respond_with(refusal)
        .with_priority(1)
        .mount(&server)
        .await;
    let whole = ResponseTemplate::new(200).set_body_bytes("0123456789");
    Mock::given(method("GET")).and(path(file())).respond_with(whole).mount(&server).await;
    let body = client(&server).read(&agent(), image(), Some(2..5)).await.unwrap();
    assert!(!body.ranged);
    assert_eq!(all(body).await, b"0123456789");
    assert_eq!(asked(&server).await.len(), 2);
}

#[tokio::test]
async fn a_range_from_another_place_is_an_error() {
    let server = control_plane().await;
    let part = ResponseTemplate::new(206).insert_header("content-range", "bytes 0-4/100").set_body_bytes("abcde");
    Mock::given(method("GET")).and(path(file())).respond_with(part).mount(&server).await;
    assert!(client(&server).read(&agent(), image(), Some(10..15)).await.is_err());
}

#[tokio::test]
async fn an_image_without_data_is_not_found() {
    let server = control_plane().await;
    Mock::given(method("GET")).and(path(file())).respond_with(ResponseTemplate::new(204)).mount(&server).await;
    let error = client(&server).read(&agent(), image(), None).await.err().unwrap();
    assert!(error.is_not_found() && error.message().contains("no data"), "{error}");
}

#[tokio::test]
async fn a_missing_image_is_not_found_with_glances_words() {
    let server = control_plane().await;
    let page = "<html><head><title>404 Not Found</title></head><body><h1>404 Not Found</h1>No image found with ID x</body></html>";
    Mock::given(method("GET")).respond_with(ResponseTemplate::new(404).set_body_string(page)).mount(&server).await;
    let error = client(&server).image(&user(), image()).await.unwrap_err();
    assert!(error.is_not_found() && error.to_string().contains("No image found with ID x"), "{error}");
}

#[tokio::test]
async fn an_upload_goes_as_it_comes() {
    let server = control_plane().await;
    Mock::given(method("PUT")).and(path(file())).respond_with(ResponseTemplate::new(204)).mount(&server).await;
    let chunks = futures::stream::iter(["abc", "def"].map(|chunk| Ok::<_, std::io::Error>(Bytes::from(chunk))));
    client(&server).upload(&user(), image(), chunks).await.unwrap();
    let sent = &requests(&server, &format!("PUT {}", file())).await[0];
    assert_eq!(sent.body, b"abcdef");
    assert_eq!(sent_header(sent, "content-type"), Some("application/octet-stream"));
    assert_eq!(sent_header(sent, "content-length"), None);
}

#[tokio::test]
async fn an_upload_of_known_length_says_so_before_it_begins() {
    let server = control_plane().await;
    Mock::given(method("PUT")).and(path(file())).respond_with(ResponseTemplate::new(204)).mount(&server).await;
    let chunks = || futures::stream::iter(["abc", "def"].map(|chunk| Ok::<_, std::io::Error>(Bytes::from(chunk))));
    client(&server).upload_sized(&user(), image(), 6, chunks()).await.unwrap();
    let sent = &requests(&server, &format!("PUT {}", file())).await[0];
    assert_eq!(sent.body, b"abcdef");
    assert_eq!((sent_header(sent, "content-length"), sent_header(sent, "transfer-encoding")), (Some("6"), None));
    assert_eq!(sent_header(sent, "x-openstack-image-size"), Some("6"));
    assert!(client(&server).upload_sized(&user(), image(), 7, chunks()).await.is_err());
}

#[tokio::test]
async fn an_upload_whose_source_fails_fails_with_its_reason() {
    let server = control_plane().await;
    Mock::given(method("PUT")).and(path(file())).respond_with(ResponseTemplate::new(204)).mount(&server).await;
    let chunks = futures::stream::iter([Ok(Bytes::from("abc")), Err(std::io::Error::other("docker went away"))]);
    let error = client(&server).upload(&user(), image(), chunks).await.unwrap_err().to_string();
    assert!(error.contains("docker went away"), "{error}");
}

#[tokio::test]
async fn an_upload_that_glance_refuses_is_explained() {
    let server = control_plane().await;
    mount(&server, "PUT", &file(), 413, json!({ "message": "Request size is too large" })).await;
    let chunks = futures::stream::iter([Ok::<_, std::io::Error>(Bytes::from("abc"))]);
    let error = client(&server).upload(&user(), image(), chunks).await.unwrap_err();
    assert_eq!((error.status(), error.message().as_str()), (Some(413), "Request size is too large"));
}

#[tokio::test]
async fn deleting_twice_is_fine() {
    let server = control_plane().await;
    let at = format!("/v2/images/{IMAGE}");
    Mock::given(method("DELETE"))
        .and(path(&at))
        .respond_with(ResponseTemplate::new(204))
        .up_to_n_times(1)
        .mount(&server)
        .await;
    let client = client(&server);
    assert!(client.delete(&agent(), image()).await.unwrap());
    assert!(!client.delete(&agent(), image()).await.unwrap());
}

#[test]
fn content_ranges_are_read() {
    assert_eq!(content_range("bytes 5-9/100"), Some((5, Some(100))));
    assert_eq!(content_range("bytes 5-9/*"), Some((5, None)));
    assert_eq!(content_range("pages 5-9/100"), None);
}

#[tokio::test]
async fn a_read_that_gives_nothing_any_more_breaks_off() {
    let first = futures::stream::iter([Ok(Bytes::from_static(b"first"))]);
    let stuck = first.chain(futures::stream::pending());
    let asked = Asked { service: "glance", method: "GET".into(), path: "/v2/images/x/file".into() };
    let chunks: Vec<_> = stalling(stuck, Duration::from_millis(20), asked).collect().await;
    assert_eq!(chunks.len(), 2);
    assert_eq!(chunks[0].as_ref().unwrap(), "first");
    assert!(chunks[1].as_ref().unwrap_err().is_unavailable());
}
