//! Layers that are served unpacked, and what does not fit on a disk.

use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::json;

use super::*;
use crate::testing::Tar;

const ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";

fn packed(program: &str, content: &[u8]) -> Vec<u8> {
    let spawned = Command::new(program).arg("-c").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut child = spawned.unwrap_or_else(|error| panic!("{program}: {error}"));
    let mut input = child.stdin.take().unwrap();
    let content = content.to_vec();
    let writer = std::thread::spawn(move || drop(input.write_all(&content)));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    output.stdout
}

/// An image in an OCI layout, of layers that are not stored as they are.
fn image(layers: &[Vec<u8>], stored: &[Vec<u8>], layer_type: &str) -> Memory {
    let config = serde_json::to_vec(&testing::config(layers)).unwrap();
    let bytes = testing::oci_manifest(&config, stored, layer_type);
    let index = json!({"manifests": [testing::described(manifest::OCI_MANIFEST, &bytes)]});
    let tar = stored.iter().fold(Tar::new(), |tar, layer| tar.blob(layer));
    Memory::new(tar.blob(&config).blob(&bytes).json("index.json", &index).finish())
}

async fn manifest_of(lease: &Lease) -> Value {
    let answer = ask(lease, "GET", &format!("manifests/{}", lease.manifest_digest), &[]).await;
    assert_eq!(Digest::of(&answer.body).to_string(), lease.manifest_digest);
    serde_json::from_slice(&answer.body).unwrap()
}

#[tokio::test]
async fn layers_that_docker_could_not_unpack_are_served_unpacked_by_their_diff_id() {
    let layers = [testing::layer(1, 3_000_000), testing::layer(2, 100)];
    let stored = |program: &str| layers.clone().map(|layer| packed(program, &layer));
    for source in [
        image(&layers, &stored("zstd"), ZSTD),
        Memory::new(testing::legacy_with(&stored("zstd"), &testing::config(&layers))),
        Memory::new(testing::legacy_with(&stored("bzip2"), &testing::config(&layers))),
        Memory::new(testing::legacy_with(&stored("xz"), &testing::config(&layers))),
        image(&layers, &stored("zstd"), ZSTD).with_ranges(testing::Ranges::Ignored),
        image(&layers, &stored("gzip"), manifest::OCI_LAYER_GZIP),
        // Docker looks at the content.
        image(&layers, &stored("gzip"), manifest::OCI_LAYER),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let registry = start(directory.path()).await;
        let lease = open(&registry, &Arc::new(source)).await;
        let manifest = manifest_of(&lease).await;
        for (at, layer) in layers.iter().enumerate() {
            assert_eq!(manifest["layers"][at], testing::described(manifest::OCI_LAYER, layer));
            let answer = blob(&lease, Digest::of(layer)).await;
            assert_eq!((answer.status, answer.body == *layer), (200, true));
        }
    }
}

#[tokio::test]
async fn an_unpacked_layer_that_is_not_cached_any_more_is_unpacked_again() {
    let directory = tempfile::tempdir().unwrap();
    let layers = [testing::layer(1, 300_000)];
    let stored = layers.clone().map(|layer| packed("zstd", &layer));
    let source = Arc::new(image(&layers, &stored, ZSTD));
    let registry = start_with(directory.path(), 1).await;
    let descriptor = source.descriptor();
    for _ in 0..2 {
        // Nothing stays in such a small cache when the lease is closed; what was learnt of the image does.
        let lease = registry.open(&descriptor, source.clone(), None).await.unwrap();
        assert!(blob(&lease, Digest::of(&layers[0])).await.body == layers[0]);
        drop(lease);
    }
    assert_eq!(registry.counters().indexes, 1);
}

#[tokio::test]
async fn a_packed_layer_is_verified_on_both_sides() {
    let directory = tempfile::tempdir().unwrap();
    let registry = start(directory.path()).await;
    let layers = [testing::layer(1, 300_000)];
    let other = [packed("zstd", &testing::layer(2, 300_000))];
    let mut damaged = packed("zstd", &layers[0]);
    damaged.truncate(damaged.len() / 2);
    for source in [image(&layers, &other, ZSTD), image(&layers, &[damaged], ZSTD)] {
        let source = Arc::new(source);
        let error = registry.open(&source.descriptor(), source.clone(), None).await.unwrap_err();
        let problem = error.problem();
        let expected = matches!(problem, Some(Problem::DigestMismatch { .. } | Problem::Undecodable { .. }));
        assert!(expected && error.is_final(), "{error}");
    }
    assert_eq!(kept(directory.path()), 0);
}

#[tokio::test]
async fn an_image_that_is_larger_than_the_disk_is_refused_packed_or_not_cached_or_not() {
    const MIB: u64 = 1024 * 1024;
    let directory = tempfile::tempdir().unwrap();
    let registry = start(directory.path()).await;
    let layers = [vec![7; 6 * MIB as usize], vec![8; 3]];
    let stored = |program: &str| layers.clone().map(|layer| packed(program, &layer));
    for source in [
        Memory::new(testing::legacy(&layers)),
        image(&layers, &stored("zstd"), ZSTD),
        image(&layers, &stored("gzip"), manifest::OCI_LAYER_GZIP),
        image(&layers, &in_two(&layers), manifest::OCI_LAYER_GZIP),
        image(&layers, &in_two(&layers), manifest::OCI_LAYER),
        Memory::new(testing::legacy_with(&stored("gzip"), &testing::config(&layers))),
    ] {
        let source = Arc::new(source);
        let descriptor = source.descriptor();
        let refused = async || {
            let error = registry.open(&descriptor, source.clone(), Some(3 * MIB)).await.unwrap_err();
            let problem = error.problem();
            assert!(matches!(problem, Some(Problem::LargerThanDisk { image, .. }) if *image > 3 * MIB), "{error}");
            assert!(error.is_final(), "{error}");
        };
        refused().await;
        let fits = registry.open(&descriptor, source.clone(), Some(7 * MIB)).await.unwrap();
        refused().await;
        drop(fits);
        refused().await;
    }
}

/// Gzip files of two parts, the last of which has no more than a byte: it is what the last bytes of the file tell the size of.
fn in_two(layers: &[Vec<u8>; 2]) -> [Vec<u8>; 2] {
    layers.clone().map(|layer| {
        let (most, last) = layer.split_at(layer.len() - 1);
        [packed("gzip", most), packed("gzip", last)].concat()
    })
}

#[tokio::test]
async fn a_layer_that_is_compressed_twice_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let registry = start(directory.path()).await;
    for (inner, outer) in [("gzip", "gzip"), ("gzip", "zstd"), ("bzip2", "xz")] {
        let layers = [packed(inner, &testing::layer(1, 300_000))];
        let stored = layers.clone().map(|layer| packed(outer, &layer));
        let source = Arc::new(image(&layers, &stored, manifest::OCI_LAYER_GZIP));
        let error = registry.open(&source.descriptor(), source.clone(), None).await.unwrap_err();
        let is_refused = matches!(error.problem(), Some(Problem::Undecodable { reason }) if reason.contains("twice"));
        assert!(is_refused && error.is_final(), "{error}");
    }
    assert_eq!(kept(directory.path()), 0);
}

/// An archive with a file of a GiB that is nearly all hole, as `tar --sparse --format=posix` writes it.
fn layer_with_a_hole() -> Vec<u8> {
    let record = "34 GNU.sparse.realsize=1099511627\n";
    let mut tar = tar::Builder::new(vec![]);
    let mut append = |kind, content: &[u8]| {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(kind);
        header.set_size(content.len() as u64);
        tar.append_data(&mut header, "hole", content).unwrap();
    };
    append(tar::EntryType::XHeader, record.as_bytes());
    append(tar::EntryType::Regular, b"0\n");
    tar.into_inner().unwrap()
}

#[tokio::test]
async fn a_layer_of_which_docker_would_make_more_than_it_has_is_refused() {
    let layers = [layer_with_a_hole()];
    let gzip = layers.clone().map(|layer| packed("gzip", &layer));
    for source in [
        Memory::new(testing::oci(&layers)),
        Memory::new(testing::legacy(&layers)),
        Memory::new(testing::oci(&layers)).with_ranges(testing::Ranges::Ignored),
        image(&layers, &gzip, manifest::OCI_LAYER_GZIP),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let registry = start(directory.path()).await;
        refuses(&registry, source, &layers[0], "holes").await;
    }
}

/// The image is refused before all of its layer was served.
async fn refuses(registry: &Registry, source: Memory, layer: &[u8], why: &str) {
    let source = Arc::new(source);
    let error = match registry.open(&source.descriptor(), source.clone(), None).await {
        Ok(lease) => {
            let answer = blob(&lease, Digest::of(layer)).await;
            assert!(answer.body != layer, "all of it was served");
            lease.failure().unwrap()
        }
        Err(error) => error,
    };
    let is_refused = matches!(error.problem(), Some(Problem::Undecodable { reason }) if reason.contains(why));
    assert!(is_refused && error.is_final(), "{error}");
}

#[tokio::test]
async fn a_layer_with_holes_is_not_kept_from_one_read_for_the_next() {
    let layers = [layer_with_a_hole()];
    // As a file of another image, it is none of its layers.
    let plain = [testing::layer(1, 1000)];
    let config = serde_json::to_vec(&testing::config(&plain)).unwrap();
    let bytes = testing::oci_manifest(&config, &plain, manifest::OCI_LAYER);
    let index = json!({"manifests": [testing::described(manifest::OCI_MANIFEST, &bytes)]});
    let tar = Tar::new().blob(&layers[0]).blob(&plain[0]).blob(&config).blob(&bytes).json("index.json", &index);
    let beside = Memory::new(tar.finish()).with_ranges(testing::Ranges::Ignored);
    let directory = tempfile::tempdir().unwrap();
    let registry = start(directory.path()).await;
    drop(open(&registry, &Arc::new(beside)).await);
    for ranges in [testing::Ranges::Ignored, testing::Ranges::Served, testing::Ranges::Ignored] {
        refuses(&registry, Memory::new(testing::oci(&layers)).with_ranges(ranges), &layers[0], "holes").await;
        let kept = directory.path().join("cache/blobs-2").join(Digest::of(&layers[0]).path());
        assert!(!kept.exists() && kept.parent().unwrap().exists());
    }
}

#[tokio::test]
async fn a_packed_file_that_is_cached_is_not_served_as_what_another_image_has_unpacked() {
    let directory = tempfile::tempdir().unwrap();
    let registry = start(directory.path()).await;
    let layers = [testing::layer(1, 300_000)];
    let once = layers.clone().map(|layer| packed("gzip", &layer));
    let source = image(&layers, &once, manifest::OCI_LAYER_GZIP).with_ranges(testing::Ranges::Ignored);
    let _lease = open(&registry, &Arc::new(source)).await;
    let kept = directory.path().join("cache/blobs-2").join(Digest::of(&once[0]).path());
    assert!(kept.exists());
    let twice = once.clone().map(|layer| packed("gzip", &layer));
    refuses(&registry, image(&once, &twice, manifest::OCI_LAYER_GZIP), &once[0], "twice").await;
}

/// 3 GiB, compressed.
fn bomb() -> Vec<u8> {
    let zeros = Command::new("sh").args(["-c", "head -c 3G /dev/zero | zstd -qc"]).stdout(Stdio::piped()).spawn();
    zeros.unwrap().wait_with_output().unwrap().stdout
}

fn is_given_up_in_time(source: Memory, disk: u64) {
    const GIB: u64 = 1 << 30;
    let (directory, source) = (tempfile::tempdir().unwrap(), Arc::new(source));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let opened = runtime.block_on(async {
        let registry = start(directory.path()).await;
        registry.open(&source.descriptor(), source.clone(), Some(disk)).await.map(drop)
    });
    let error = opened.unwrap_err();
    let Some(Problem::LargerThanDisk { image, .. }) = error.problem() else { panic!("{error}") };
    assert!(*image < GIB, "it was unpacked to {image} bytes");
    // It waits for the threads that write.
    drop(runtime);
    assert_eq!(kept(directory.path()), 0);
}

#[test]
fn a_layer_of_few_bytes_that_would_become_very_many_is_given_up_in_time() {
    is_given_up_in_time(image(&[b"unknown".to_vec()], &[bomb()], ZSTD), 4 << 20);
}

#[test]
fn a_layer_that_is_there_twice_has_the_size_that_it_is_unpacked_to() {
    let layer = vec![0; 40 << 20];
    let config = testing::config(&[layer.clone(), layer.clone()]);
    is_given_up_in_time(Memory::new(testing::legacy_with(&[layer, bomb()], &config)), 64 << 20);
}
