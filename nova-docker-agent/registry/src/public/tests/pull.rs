//! Manifests and blobs.

use std::time::Duration;

use serde_json::{Value, json};

use crate::manifest::{DOCKER_MANIFEST, OCI_INDEX, OCI_LAYER, OCI_MANIFEST};
use crate::public::property;
use crate::public::testing::{Asked, DEMO, OTHER, Registry};
use crate::testing::{self as archives, Tar, described};
use crate::{Algorithm, Digest};

fn json_bytes(value: &Value) -> Vec<u8> {
    serde_json::to_vec(value).unwrap()
}

#[tokio::test]
async fn a_docker_save_archive_is_pulled_by_tag_and_by_digest() {
    let registry = Registry::start().await;
    let layers = [archives::layer(1, 300_000), archives::layer(2, 10)];
    for (name, archive) in [("old:v1", archives::legacy(&layers)), ("new:v1", archives::oci(&layers))] {
        registry.cloud.image(DEMO, name, &archive, json!({}));
        let at = format!("/v2/demo/{}", name.trim_end_matches(":v1"));
        let tagged = registry.get("ann", &format!("{at}/manifests/v1")).await;
        assert_eq!((tagged.status, tagged.header("content-type")), (200, OCI_MANIFEST));
        let digest = tagged.header("docker-content-digest").to_owned();
        assert_eq!(Digest::of(&tagged.body).to_string(), digest);
        let exact = registry.get("ann", &format!("{at}/manifests/{digest}")).await;
        assert_eq!((exact.status, &exact.body), (200, &tagged.body));
        let head = registry.ask("ann", "HEAD", &format!("{at}/manifests/v1"), &[]).await;
        assert_eq!((head.status, head.header("content-length")), (200, tagged.body.len().to_string().as_str()));
        assert_eq!(head.header("docker-content-digest"), digest);
        let manifest = tagged.json();
        let blobs = manifest["layers"].as_array().unwrap().iter().chain([&manifest["config"]]);
        for blob in blobs {
            let answer = registry.get("ann", &format!("{at}/blobs/{}", blob["digest"].as_str().unwrap())).await;
            assert_eq!(Digest::of(&answer.body).to_string(), blob["digest"].as_str().unwrap());
            assert_eq!(answer.body.len() as u64, blob["size"].as_u64().unwrap());
        }
    }
}

#[tokio::test]
async fn an_image_is_found_by_its_names_and_the_newest_wins() {
    let registry = Registry::start().await;
    let archive = |seed| archives::oci(&[archives::layer(seed, 100)]);
    let layer = |seed| Digest::of(&archives::layer(seed, 100)).to_string();
    let id = registry.cloud.image(DEMO, "Ubuntu 24.04", &archive(1), json!({}));
    registry.cloud.image(DEMO, "web", &archive(2), json!({"tags": ["web:v1", "app/x:v1", "blue"]}));
    registry.cloud.image(DEMO, "web:v1", &archive(3), json!({}));
    registry.cloud.image(DEMO, "art@sha256:00", &archive(4), json!({"os_hidden": true, "tags": ["art:v1"]}));
    for (reference, expected) in [
        (format!("{id}/manifests/latest"), layer(1)),
        ("web/manifests/latest".into(), layer(2)),
        ("app/x/manifests/v1".into(), layer(2)),
        ("web/manifests/v1".into(), layer(3)),
        ("art/manifests/v1".into(), layer(4)),
    ] {
        for project in ["demo", DEMO] {
            let answer = registry.get("ann", &format!("/v2/{project}/{reference}")).await;
            assert_eq!(answer.json()["layers"][0]["digest"], expected, "{reference}");
        }
    }
    for absent in ["web/manifests/v2", "blue/manifests/latest", "ubuntu/manifests/24.04"] {
        let answer = registry.get("ann", &format!("/v2/demo/{absent}")).await;
        assert_eq!((answer.status, answer.code().as_str()), (404, "MANIFEST_UNKNOWN"), "{absent}");
    }
}

#[tokio::test]
async fn an_image_that_is_asked_for_by_its_id_is_not_looked_for_among_all() {
    let registry = Registry::start().await;
    let layer = archives::layer(1, 10);
    let id = registry.cloud.image(DEMO, "web:v1", &archives::oci(std::slice::from_ref(&layer)), json!({}));
    let manifest = registry.get("ann", &format!("/v2/demo/{id}/manifests/latest")).await;
    let digest = manifest.header("docker-content-digest").to_owned();
    let paths = [format!("manifests/{digest}"), format!("blobs/{}", Digest::of(&layer))];
    for path in paths {
        assert_eq!(registry.get("ann", &format!("/v2/demo/{id}/{path}")).await.status, 200);
    }
    assert_eq!((registry.cloud.count(Asked::Show), registry.cloud.asked("GET /v2/images?")), (1, 0));
    // What else has that name is found all the same, and goes behind.
    let other = archives::oci(&[archives::layer(2, 10)]);
    for tag in ["latest", "v2"] {
        registry.cloud.image(DEMO, &format!("{id}:{tag}"), &other, json!({}));
    }
    assert_eq!(registry.get("ann", &format!("/v2/demo/{id}/manifests/latest")).await.body, manifest.body);
    assert_eq!(registry.get("ann", &format!("/v2/demo/{id}/manifests/v2")).await.status, 200);
    for (method, path) in [("POST", "blobs/uploads/"), ("PUT", "manifests/v3")] {
        let answer = registry.ask("ann", method, &format!("/v2/demo/{id}/{path}"), &[]).await;
        assert_eq!(answer.error(), (400, "NAME_INVALID".into()), "{method}");
    }
    assert_eq!(registry.ask("ann", "DELETE", &format!("/v2/demo/{id}/manifests/v2"), &[]).await.status, 202);
}

#[tokio::test]
async fn an_id_is_looked_for_in_its_project_and_is_that_of_a_docker_image() {
    let registry = Registry::start().await;
    let archive = archives::oci(&[archives::layer(1, 10)]);
    for (owner, properties) in [
        (OTHER, json!({"visibility": "public"})),
        (DEMO, json!({"container_format": "bare"})),
        (DEMO, json!({"status": "deactivated"})),
    ] {
        let id = registry.cloud.image(owner, "web:v1", &archive, properties);
        assert_eq!(registry.get("ann", &format!("/v2/demo/{id}/manifests/latest")).await.status, 404, "{owner}");
    }
    let id = registry.cloud.image(OTHER, "web:v1", &archive, json!({"visibility": "public"}));
    assert_eq!(registry.get("ann", &format!("/v2/{OTHER}/{id}/manifests/latest")).await.status, 200);
    registry.cloud.refuse(Asked::Show, 500, "no");
    let id = registry.cloud.image(DEMO, "web:v1", &archive, json!({}));
    assert_eq!(registry.get("ann", &format!("/v2/demo/{id}/manifests/latest")).await.status, 503);
}

#[tokio::test]
async fn an_index_is_served_as_it_was_pushed_with_what_is_below_it() {
    let registry = Registry::start().await;
    let layer = archives::layer(1, 1000);
    let config = json_bytes(&archives::config(std::slice::from_ref(&layer)));
    let manifest = archives::oci_manifest(&config, std::slice::from_ref(&layer), OCI_LAYER);
    let mut child = described(OCI_MANIFEST, &manifest);
    child["platform"] = json!({"os": "linux", "architecture": "amd64"});
    let absent = json!({"mediaType": OCI_MANIFEST, "digest": Digest::of(b"absent").to_string(), "size": 6,
                        "platform": {"os": "linux", "architecture": "arm64"}});
    let inner = json_bytes(&json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [child, absent]}));
    let outer =
        json_bytes(&json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [described(OCI_INDEX, &inner)]}));
    let top = json!({"schemaVersion": 2, "manifests": [described(OCI_INDEX, &outer)]});
    let tar = Tar::new().blob(&layer).blob(&config).blob(&manifest).blob(&inner).blob(&outer);
    registry.cloud.image(DEMO, "multi:v1", &tar.json("index.json", &top).finish(), json!({}));
    let root = registry.get("ann", "/v2/demo/multi/manifests/v1").await;
    assert_eq!((root.header("content-type"), &root.body[..]), (OCI_INDEX, &outer[..]));
    for content in [&inner, &manifest] {
        let answer = registry.get("ann", &format!("/v2/demo/multi/manifests/{}", Digest::of(content))).await;
        assert_eq!((answer.status, &answer.body[..]), (200, &content[..]));
    }
    let answer = registry.get("ann", &format!("/v2/demo/multi/manifests/{}", Digest::of(b"absent"))).await;
    assert_eq!((answer.status, answer.code().as_str()), (404, "MANIFEST_UNKNOWN"));
    let answer = registry.get("ann", &format!("/v2/demo/multi/blobs/{}", Digest::of(&layer))).await;
    assert!(answer.body == layer);
}

#[tokio::test]
async fn an_artifact_with_blobs_of_any_algorithm_is_served() {
    let registry = Registry::start().await;
    let data = b"some data".to_vec();
    let long = Algorithm::Sha512.digest(&data);
    let manifest = json_bytes(&json!({
        "schemaVersion": 2, "mediaType": OCI_MANIFEST, "artifactType": "application/x",
        "config": described("application/vnd.oci.empty.v1+json", b"{}"),
        "layers": [{"mediaType": "text/plain", "digest": long.to_string(), "size": data.len()},
                   described("text/plain", b"")],
    }));
    let top = json!({"schemaVersion": 2, "manifests": [described(OCI_MANIFEST, &manifest)]});
    let tar = Tar::new().file(&format!("blobs/sha512/{}", long.hex()), &data).blob(b"").blob(b"{}").blob(&manifest);
    registry.cloud.image(DEMO, "art:v1", &tar.json("index.json", &top).finish(), json!({}));
    assert_eq!(registry.get("ann", "/v2/demo/art/manifests/v1").await.body, manifest);
    for (digest, content) in [(long, &data[..]), (Digest::of(b""), b""), (Digest::of(b"{}"), b"{}")] {
        let answer = registry.get("ann", &format!("/v2/demo/art/blobs/{digest}")).await;
        assert_eq!((answer.status, &answer.body[..]), (200, content), "{digest}");
        assert_eq!(answer.header("content-length"), content.len().to_string());
    }
}

/// A pushed image, whose properties say where everything is.
fn pushed(layer: &[u8]) -> (bytes::Bytes, Vec<u8>, Value) {
    let config = json_bytes(&archives::config(&[layer.to_vec()]));
    let manifest = archives::oci_manifest(&config, &[layer.to_vec()], OCI_LAYER);
    let top = json!({"schemaVersion": 2, "manifests": [described(OCI_MANIFEST, &manifest)]});
    let archive = Tar::new().json("index.json", &top).blob(&manifest).blob(&config).blob(layer).finish();
    let place = |content: &[u8]| {
        let at = archive.windows(content.len()).position(|window| window == content).unwrap();
        (Digest::of(content).to_string(), json!([at, content.len()]))
    };
    let blobs: serde_json::Map<_, _> = [place(&manifest), place(&config), place(layer)].into_iter().collect();
    let properties = json!({
        "oci_repository": "web", "oci_digest": Digest::of(&manifest).to_string(), "oci_media_type": OCI_MANIFEST,
        "oci_blobs": Value::from(blobs).to_string(),
    });
    (archive, manifest, properties)
}

#[tokio::test]
async fn a_pushed_image_is_opened_by_one_read() {
    let registry = Registry::start().await;
    let layer = archives::layer(1, 400_000);
    let (archive, manifest, properties) = pushed(&layer);
    registry.cloud.image(DEMO, "web:v1", &archive, properties);
    let read = || registry.cloud.asked("GET /v2/images/");
    assert_eq!(registry.get("ann", "/v2/demo/web/manifests/v1").await.body, manifest);
    assert_eq!(read(), 1);
    let path = format!("/v2/demo/web/blobs/{}", Digest::of(&layer));
    assert!(registry.get("ann", &path).await.body == layer);
    registry.until_cached(&Digest::of(&layer)).await;
    assert!(registry.get("ann", &path).await.body == layer);
    assert_eq!(read(), 2);
}

#[tokio::test]
async fn properties_that_are_wrong_are_not_believed() {
    let registry = Registry::start().await;
    let layer = archives::layer(1, 4000);
    let (archive, manifest, good) = pushed(&layer);
    let of_the_layer = Digest::of(&layer).to_string();
    let huge = format!("{{\"{}\": [18446744073709551615, 2]}}", good["oci_digest"].as_str().unwrap());
    for (at, (key, value)) in [
        ("oci_blobs", "no json"),
        ("oci_blobs", "{}"),
        ("oci_blobs", huge.as_str()),
        ("oci_blobs", good["oci_blobs"].as_str().unwrap().replace('[', "[1").as_str()),
        ("oci_digest", of_the_layer.as_str()),
        ("oci_media_type", "text/html\nx: y"),
    ]
    .into_iter()
    .enumerate()
    {
        let mut properties = good.clone();
        properties[key] = value.into();
        registry.cloud.image(DEMO, &format!("web:v{at}"), &archive, properties);
        let answer = registry.get("ann", &format!("/v2/demo/web/manifests/v{at}")).await;
        assert_eq!((answer.status, &answer.body[..]), (200, &manifest[..]), "{key} = {value}");
        assert_eq!(answer.header("content-type"), OCI_MANIFEST);
    }
}

#[tokio::test]
async fn a_manifest_is_given_as_it_is_stored_whatever_the_client_accepts() {
    let registry = Registry::start().await;
    registry.cloud.image(DEMO, "web:v1", &archives::oci(&[archives::layer(1, 100)]), json!({}));
    let stored = registry.get("ann", "/v2/demo/web/manifests/v1").await;
    assert_eq!(stored.header("content-type"), OCI_MANIFEST);
    let docker = registry.ask("ann", "GET", "/v2/demo/web/manifests/v1", &[("accept", DOCKER_MANIFEST)]).await;
    assert_eq!((docker.status, docker.body), (200, stored.body));
}

#[tokio::test]
async fn parts_of_blobs_and_unchanged_content_are_asked_for_as_http_has_it() {
    let registry = Registry::start().await;
    let layer = archives::layer(1, 100_000);
    registry.cloud.image(DEMO, "web:v1", &archives::oci(std::slice::from_ref(&layer)), json!({}));
    let digest = Digest::of(&layer);
    let path = format!("/v2/demo/web/blobs/{digest}");
    let etag = format!("\"{digest}\"");
    let ask = |method: &'static str, headers: Vec<(&'static str, String)>| {
        let (registry, path) = (&registry, &path);
        async move {
            let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
            registry.ask("ann", method, path, &headers).await
        }
    };
    let part = ask("GET", vec![("range", "bytes=10-19".into())]).await;
    assert_eq!((part.status, part.header("content-range")), (206, "bytes 10-19/100000"));
    assert_eq!(part.body, layer[10..20]);
    let rest = ask("GET", vec![("range", "bytes=99990-".into()), ("if-range", etag.clone())]).await;
    assert_eq!((rest.status, &rest.body[..]), (206, &layer[99_990..]));
    let other = ask("GET", vec![("range", "bytes=1-2".into()), ("if-range", "\"other\"".into())]).await;
    assert_eq!((other.status, other.body.len()), (200, 100_000));
    let beyond = ask("GET", vec![("range", "bytes=100000-".into())]).await;
    assert_eq!((beyond.status, beyond.header("content-range")), (416, "bytes */100000"));
    let known = ask("GET", vec![("if-none-match", etag.clone())]).await;
    assert_eq!((known.status, known.body.len(), known.header("etag")), (304, 0, etag.as_str()));
    let head = ask("HEAD", vec![]).await;
    assert_eq!((head.status, head.header("content-length"), head.header("accept-ranges")), (200, "100000", "bytes"));
    assert_eq!(head.header("docker-content-digest"), digest.to_string());
    let manifest = registry.get("ann", "/v2/demo/web/manifests/v1").await;
    let tag = manifest.header("etag").to_owned();
    let known = registry.ask("ann", "GET", "/v2/demo/web/manifests/v1", &[("if-none-match", &tag)]).await;
    assert_eq!(known.status, 304);
}

#[tokio::test]
async fn what_cannot_be_is_refused_by_its_code() {
    let registry = Registry::start().await;
    for (path, status, code) in [
        ("/v2/demo/web/manifests/sha256:00", 400, "DIGEST_INVALID"),
        ("/v2/demo/web/blobs/latest", 400, "DIGEST_INVALID"),
        ("/v2/demo/web/referrers/latest", 400, "DIGEST_INVALID"),
        ("/v2/demo/web/manifests/.bad", 404, "MANIFEST_UNKNOWN"),
        ("/v2/demo/Web/manifests/v1", 400, "NAME_INVALID"),
        ("/v2/demo/a..b/manifests/v1", 400, "NAME_INVALID"),
        ("/v2/alone/manifests/v1", 404, "NAME_UNKNOWN"),
        ("/v2/demo/web/else", 404, "UNSUPPORTED"),
        ("/v1/search", 404, "UNSUPPORTED"),
    ] {
        let bearer = format!("Bearer {}", registry.token("ann", &["repository:demo/web:pull"]).await);
        let answer = registry.send("GET", path, &[("authorization", &bearer)]).await;
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{path}");
    }
}

#[tokio::test]
async fn an_image_that_is_no_docker_archive_says_so_to_who_sees_it() {
    let registry = Registry::start().await;
    registry.cloud.image(DEMO, "bad:v1", &[0x1f, 0x8b, 8, 0, 0].repeat(1000).into(), json!({}));
    registry.cloud.image(DEMO, "bad:v2", &archives::oci(&[archives::layer(1, 10)]), json!({}));
    let answer = registry.get("ann", "/v2/demo/bad/manifests/v1").await;
    assert_eq!(answer.status, 422);
    assert!(answer.text().contains("compressed with gzip"), "{}", answer.text());
    // It does not stand in the way of others.
    let layer = Digest::of(&archives::layer(1, 10));
    assert_eq!(registry.get("ann", &format!("/v2/demo/bad/blobs/{layer}")).await.status, 200);
    let absent = format!("/v2/demo/bad/manifests/{}", Digest::of(b"absent"));
    assert_eq!(registry.get("ann", &absent).await.status, 404);
}

#[tokio::test]
async fn a_store_without_ranges_is_served_from_one_reading() {
    let registry = Registry::start().await;
    registry.cloud.without_ranges();
    let layers = [archives::layer(1, 300_000), archives::layer(2, 500)];
    registry.cloud.image(DEMO, "web:v1", &archives::legacy(&layers), json!({}));
    assert_eq!(registry.get("ann", "/v2/demo/web/manifests/v1").await.status, 200);
    for layer in &layers {
        let answer = registry.get("ann", &format!("/v2/demo/web/blobs/{}", Digest::of(layer))).await;
        assert!(answer.body == *layer);
    }
}

#[tokio::test]
async fn an_image_that_is_new_in_glance_is_found_at_once_and_one_that_has_gone_soon() {
    let fresh = Duration::from_secs(1);
    let registry = Registry::with_listings_of(fresh).await;
    assert_eq!(registry.get("ann", "/v2/demo/web/manifests/v1").await.status, 404);
    let archive = archives::oci(&[archives::layer(1, 10)]);
    let id = registry.cloud.image(DEMO, "web:v1", &archive, json!({}));
    assert_eq!(registry.get("ann", "/v2/demo/web/manifests/v1").await.status, 200);
    registry.cloud.remove(id);
    tokio::time::sleep(fresh).await;
    assert_eq!(registry.get("ann", "/v2/demo/web/manifests/v1").await.status, 404);
    registry.stop().await;
}

#[tokio::test]
async fn an_image_without_a_tag_is_kept_for_who_may_push_and_looks_for_a_blob_of_it() {
    let registry = Registry::start().await;
    let [layer, other] = [1, 2].map(|seed| archives::layer(seed, 100));
    for layer in [&layer, &other] {
        let digest = Digest::of(layer).to_string();
        let untagged = json!({"os_hidden": true, property::REPOSITORY: "web", property::DIGEST: digest});
        registry.cloud.image(DEMO, &format!("web@{digest}"), &archives::oci(std::slice::from_ref(layer)), untagged);
    }
    let path = |layer: &[u8]| format!("/v2/demo/web/blobs/{}", Digest::of(layer));
    for (user, method, renewals) in [("rea", "HEAD", 0), ("ann", "GET", 0), ("ann", "HEAD", 1), ("ann", "HEAD", 1)] {
        assert_eq!(registry.ask(user, method, &path(&layer), &[]).await.status, 200);
        assert_eq!(registry.cloud.count(Asked::Update), renewals, "{user} {method}");
    }
    // What cannot be kept is to be uploaded; whoever pulls has it.
    registry.cloud.refuse(Asked::Update, 403, "you may not");
    for (user, method, status) in [("ann", "HEAD", 404), ("ann", "GET", 200), ("rea", "HEAD", 200)] {
        assert_eq!(registry.ask(user, method, &path(&other), &[]).await.status, status, "{user} {method}");
    }
}

#[tokio::test]
async fn an_image_that_a_mounted_blob_is_to_be_read_from_is_kept_for_who_looks_for_it() {
    let registry = Registry::with_listings_of(Duration::ZERO).await;
    let layer = archives::layer(1, 100);
    let digest = Digest::of(&layer);
    let pushed = json!({property::REPOSITORY: "web", property::DIGEST: Digest::of(b"web").to_string()});
    registry.cloud.image(DEMO, "web:v1", &archives::oci(&[layer]), pushed);
    let token = registry.token("ann", &["repository:demo/other:pull,push", "repository:demo/web:pull"]).await;
    let bearer = format!("Bearer {token}");
    let blob = format!("/v2/demo/other/blobs/{digest}");
    let mount = format!("/v2/demo/other/blobs/uploads/?mount={digest}&from=demo/web");
    let send = async |method, path: &str| registry.send(method, path, &[("authorization", &bearer)]).await.status;
    assert_eq!((send("POST", &mount).await, registry.cloud.count(Asked::Update)), (201, 0));
    // It loses its tag on another host, as this one finds.
    registry.cloud.change("web:v1", json!({"name": "web@sha256:00", "os_hidden": true}));
    assert_eq!((send("HEAD", &blob).await, registry.cloud.count(Asked::Update)), (200, 1));
}
