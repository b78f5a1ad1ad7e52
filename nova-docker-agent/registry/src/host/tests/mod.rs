//! The registry over real HTTP.

mod client;
mod sharing;
mod unpacking;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;

use super::*;
use crate::testing::{self, Memory};
use crate::{Digest, Error, ImageDescriptor, Problem, manifest};
use client::{ask, authorization, blob, place, receive, send};

async fn start(directory: &Path) -> Registry {
    start_with(directory, 1 << 30).await
}

async fn start_with(directory: &Path, cache_size: u64) -> Registry {
    let cache_directory = directory.join("cache");
    Registry::start(RegistryConfig { listen: "127.0.0.1:0".parse().unwrap(), cache_directory, cache_size })
        .await
        .unwrap()
}

async fn open(registry: &Registry, source: &Arc<Memory>) -> Lease {
    registry.open(&source.descriptor(), source.clone(), None).await.unwrap()
}

fn files(directory: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect()
}

/// How many files there are of whole layers. Clients have their last bytes a little before.
fn whole(directory: &Path) -> usize {
    files(&directory.join("cache/blobs-2/sha256")).len()
}

/// How many files there are of layers, whole or half.
fn kept(directory: &Path) -> usize {
    let half: usize = files(&directory.join("cache/partial")).iter().map(|path| files(path).len() - 1).sum();
    whole(directory) + half
}

#[tokio::test]
async fn an_image_is_pulled_by_digest_in_either_layout() {
    let directory = tempfile::tempdir().unwrap();
    let registry = start(directory.path()).await;
    let layers = [testing::layer(1, 300_000), testing::layer(2, 5), testing::layer(3, 0)];
    for archive in [testing::legacy(&layers), testing::oci(&layers)] {
        let lease = open(&registry, &Arc::new(Memory::new(archive))).await;
        let answer = ask(&lease, "GET", &format!("manifests/{}", lease.manifest_digest), &[]).await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.headers["content-type"], manifest::OCI_MANIFEST);
        assert_eq!(answer.headers["docker-content-digest"], lease.manifest_digest);
        assert_eq!(answer.headers["docker-distribution-api-version"], "registry/2.0");
        assert_eq!(Digest::of(&answer.body).to_string(), lease.manifest_digest);
        let manifest: Value = serde_json::from_slice(&answer.body).unwrap();
        for layer in &layers {
            let answer = blob(&lease, Digest::of(layer)).await;
            assert_eq!((answer.status, answer.length(), answer.body == *layer), (200, layer.len(), true));
        }
        let config: Digest = manifest["config"]["digest"].as_str().unwrap().parse().unwrap();
        assert_eq!(Digest::of(&blob(&lease, config).await.body), config);
    }
}

#[tokio::test]
async fn a_head_says_what_a_get_would_give_without_reading_the_layer() {
    let directory = tempfile::tempdir().unwrap();
    let registry = start(directory.path()).await;
    let layer = testing::layer(1, 300_000);
    let lease = open(&registry, &Arc::new(Memory::new(testing::legacy(std::slice::from_ref(&layer))))).await;
    let digest = Digest::of(&layer);
    let answer = ask(&lease, "HEAD", &format!("blobs/{digest}"), &[]).await;
    assert_eq!((answer.status, answer.length(), answer.body.len()), (200, 300_000, 0));
    assert_eq!(answer.headers["docker-content-digest"], digest.to_string());
    assert_eq!(registry.counters().layer_reads, 0);
    let answer = ask(&lease, "HEAD", &format!("manifests/{}", lease.manifest_digest), &[]).await;
    assert_eq!((answer.status, answer.body.len()), (200, 0));
    assert!(answer.length() > 100);
}

#[tokio::test]
async fn parts_of_a_layer_are_served_while_it_is_read_and_after() {
    let directory = tempfile::tempdir().unwrap();
    let registry = start(directory.path()).await;
    let layer = testing::layer(1, 300_000);
    let lease = open(&registry, &Arc::new(Memory::new(testing::legacy(std::slice::from_ref(&layer))))).await;
    let what = format!("blobs/{}", Digest::of(&layer));
    for _ in 0..2 {
        let answer = ask(&lease, "GET", &what, &["Range: bytes=299000-"]).await;
        assert_eq!((answer.status, answer.headers["content-range"].as_str()), (206, "bytes 299000-299999/300000"));
        assert!(answer.body == layer[299_000..]);
    }
    let answer = ask(&lease, "GET", &what, &["Range: bytes=300000-"]).await;
    assert_eq!((answer.status, answer.headers["content-range"].as_str()), (416, "bytes */300000"));
    let answer = ask(&lease, "GET", &what, &["Range: bytes=0-9", "If-Range: \"other\""]).await;
    assert_eq!((answer.status, answer.body.len()), (200, 300_000));
    let tag = format!("If-None-Match: \"{}\"", Digest::of(&layer));
    assert_eq!(ask(&lease, "GET", &what, &[&tag]).await.status, 304);
}

#[tokio::test]
async fn without_the_secret_everything_is_refused_alike() {
    let directory = tempfile::tempdir().unwrap();
    let registry = start(directory.path()).await;
    let lease = open(&registry, &Arc::new(Memory::new(testing::legacy(&[vec![1]])))).await;
    let (address, name) = place(&lease);
    let manifest = format!("{name}/manifests/{}", lease.manifest_digest);
    let wrong = "Authorization: Basic bm92YS1kb2NrZXItYWdlbnQ6MDAw".to_owned();
    for path in ["/v2/", &manifest, "/v2/other/blobs/x", "/"] {
        for headers in [vec![], vec![wrong.clone()]] {
            let answer = receive(send(address, "GET", path, &headers).await).await;
            assert_eq!((answer.status, answer.code().as_str()), (401, "UNAUTHORIZED"), "{path}");
            assert_eq!(answer.headers["www-authenticate"], "Basic realm=\"nova-docker-agent\"");
        }
    }
    assert_eq!(receive(send(address, "GET", "/v2/", &[authorization(&lease)]).await).await.status, 200);
}

#[tokio::test]
async fn what_is_not_there_is_refused_by_the_specifications_codes() {
    let directory = tempfile::tempdir().unwrap();
    let registry = start(directory.path()).await;
    let lease = open(&registry, &Arc::new(Memory::new(testing::legacy(&[vec![1]])))).await;
    let other = Digest::of(b"other");
    for (method, what, status, code) in [
        ("GET", format!("manifests/{other}"), 404, "MANIFEST_UNKNOWN"),
        ("GET", "manifests/latest".into(), 404, "MANIFEST_UNKNOWN"),
        ("GET", "manifests/sha256:1".into(), 400, "DIGEST_INVALID"),
        ("GET", format!("blobs/{other}"), 404, "BLOB_UNKNOWN"),
        ("GET", "blobs/x".into(), 400, "DIGEST_INVALID"),
        ("GET", "tags/list".into(), 404, "UNSUPPORTED"),
        ("POST", "blobs/uploads/".into(), 405, "UNSUPPORTED"),
        ("DELETE", format!("manifests/{}", lease.manifest_digest), 405, "UNSUPPORTED"),
    ] {
        let answer = ask(&lease, method, &what, &[]).await;
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{method} {what}");
    }
    let ((address, name), headers) = (place(&lease), [authorization(&lease)]);
    let id = name.rsplit('/').next().unwrap();
    for (path, code) in [
        (format!("/v2/library/{id}/blobs/{other}"), "NAME_UNKNOWN"),
        (format!("/v2/library/{id}/manifests/latest"), "NAME_UNKNOWN"),
        // Only the one form that references are written in.
        (format!("/v2/glance/{}/blobs/{other}", id.replace('-', "")), "NAME_UNKNOWN"),
        (format!("{name}/blobs/uploads/"), "UNSUPPORTED"),
        ("/v2/_catalog".into(), "UNSUPPORTED"),
        ("/v1/_ping".into(), "UNSUPPORTED"),
        ("/".into(), "UNSUPPORTED"),
    ] {
        let answer = receive(send(address, "GET", &path, &headers).await).await;
        assert_eq!((answer.status, answer.code().as_str()), (404, code), "{path}");
    }
    for path in ["/v2", "/v2/"] {
        assert_eq!(receive(send(address, "GET", path, &headers).await).await.status, 200);
    }
}

#[tokio::test]
async fn an_image_is_shown_only_while_it_is_open() {
    let directory = tempfile::tempdir().unwrap();
    let registry = start(directory.path()).await;
    let source = Arc::new(Memory::new(testing::legacy(&[vec![1]])));
    let descriptor = source.descriptor();
    let first = registry.open(&descriptor, source.clone(), None).await.unwrap();
    let second = registry.open(&descriptor, source.clone(), None).await.unwrap();
    let (address, name) = place(&first);
    let path = format!("{name}/manifests/{}", first.manifest_digest);
    let headers = [authorization(&first)];
    drop(first);
    assert_eq!(receive(send(address, "GET", &path, &headers).await).await.status, 200);
    drop(second);
    assert_eq!(receive(send(address, "GET", &path, &headers).await).await.code(), "MANIFEST_UNKNOWN");
}

#[tokio::test]
async fn a_layer_that_is_not_what_it_should_be_never_looks_complete_and_is_not_kept() {
    let directory = tempfile::tempdir().unwrap();
    let registry = start(directory.path()).await;
    let (promised, real) = (testing::layer(1, 300_000), testing::layer(2, 300_000));
    let config = testing::config(std::slice::from_ref(&promised));
    let source = Arc::new(Memory::new(testing::legacy_with(std::slice::from_ref(&real), &config)));
    let lease = open(&registry, &source).await;
    let digest = Digest::of(&promised);
    let answer = blob(&lease, digest).await;
    assert!(answer.status != 200 || answer.body.len() < answer.length());
    let expected = Problem::DigestMismatch { expected: digest, found: Digest::of(&real) };
    assert_eq!(lease.failed().await.problem(), Some(&expected));
    assert_eq!(lease.failure().unwrap().problem(), Some(&expected));
    // dockerd tries again after an interruption, but not after this.
    assert_eq!(blob(&lease, digest).await.code(), "UNSUPPORTED");
    assert_eq!(kept(directory.path()), 0);
}

#[tokio::test]
async fn images_of_other_formats_are_refused_with_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let registry = start(directory.path()).await;
    let source = Arc::new(Memory::new(testing::legacy(&[vec![1]])));
    let descriptor = ImageDescriptor { container_format: "bare".into(), ..source.descriptor() };
    let error = registry.open(&descriptor, source.clone(), None).await.unwrap_err();
    assert!(error.to_string().contains("container format is bare") && error.to_string().contains("docker save IMAGE"));
    assert!(error.to_string().contains(&descriptor.id.to_string()) && error.to_string().contains("\"web\""));
    assert_eq!(source.reads(), 0);
}

#[tokio::test]
async fn it_listens_on_loopback_only_and_not_after_it_was_stopped() {
    let directory = tempfile::tempdir().unwrap();
    let config = |listen: &str| RegistryConfig {
        listen: listen.parse().unwrap(),
        cache_directory: directory.path().join("cache"),
        cache_size: 0,
    };
    let error = Registry::start(config("0.0.0.0:0")).await.err().unwrap();
    assert!(matches!(error, Error::NotLoopback { .. }));
    let registry = Registry::start(config(&testing::own_address())).await.unwrap();
    let taken = Registry::start(config(&registry.address().to_string())).await.err().unwrap();
    assert!(matches!(taken, Error::Listen { .. }), "{taken}");
    registry.shutdown().await;
    assert!(tokio::net::TcpStream::connect(registry.address()).await.is_err());
    let source = Arc::new(Memory::new(testing::legacy(&[vec![1]])));
    assert!(matches!(registry.open(&source.descriptor(), source, None).await, Err(Error::ShuttingDown)));
}
