use super::*;
use crate::Error;
use crate::testing::{self, Memory, Ranges, Tar};
use serde_json::{Value, json};
use tar::EntryType;

const MIB: usize = 1024 * 1024;

pub async fn read(source: Memory) -> Result<(Image, usize), Error> {
    let directory = tempfile::tempdir().unwrap();
    let cache = Cache::open(directory.path(), 1 << 30).unwrap();
    let source = Arc::new(source);
    let size = source.content.len() as u64;
    let result = read_image(source.clone(), size, &cache, &Platform::host()).await;
    result.map(|(image, _)| (image, source.reads())).map_err(|failure| failure.of("web"))
}

pub async fn problem(archive: Bytes) -> Problem {
    let error = read(Memory::new(archive)).await.unwrap_err();
    error.problem().cloned().unwrap_or_else(|| panic!("not the image's fault: {error}"))
}

fn served(archive: &Bytes, image: &Image, digest: Digest) -> Bytes {
    let range = &image.layer(&digest).unwrap().range;
    archive.slice(range.start as usize..range.end as usize)
}

fn manifest(image: &Image) -> Value {
    serde_json::from_slice(&image.manifest.bytes).unwrap()
}

#[tokio::test]
async fn both_layouts_give_the_layers_in_order_and_where_they_are() {
    let layers = [testing::layer(1, 3000), testing::layer(2, 700), testing::layer(3, 0)];
    for archive in [testing::legacy(&layers), testing::oci(&layers)] {
        let (image, _) = read(Memory::new(archive.clone())).await.unwrap();
        let listed = manifest(&image)["layers"].clone();
        for (at, layer) in layers.iter().enumerate() {
            let digest = Digest::of(layer);
            assert_eq!(listed[at], testing::described(manifest::OCI_LAYER, layer));
            assert_eq!(served(&archive, &image, digest), layer);
        }
        assert_eq!(image.config.digest, Digest::of(&image.config.bytes));
    }
}

#[tokio::test]
async fn an_image_is_served_without_its_volumes_and_its_manifest_says_so() {
    let layers = [testing::layer(1, 3000)];
    let mut config = testing::config(&layers);
    config["config"]["Volumes"] = json!({"/data": {}});
    let (image, _) = read(Memory::new(testing::legacy_with(&layers, &config))).await.unwrap();
    let served: Value = serde_json::from_slice(&image.config.bytes).unwrap();
    assert_eq!((&served["config"]["Volumes"], &served["rootfs"]), (&Value::Null, &config["rootfs"]));
    assert_eq!(served["config"]["Labels"], json!({"a": "b", crate::volumes::LABEL: r#"["/data"]"#}));
    let described = testing::described(manifest::OCI_CONFIG, &image.config.bytes);
    assert_eq!(manifest(&image)["config"], described);
    assert_eq!(image.manifest.digest, Digest::of(&image.manifest.bytes));
}

#[tokio::test]
async fn a_big_image_is_known_after_about_one_read_for_each_layer_and_before_any_layer_was_read() {
    let layers = [testing::layer(1, 3 * MIB), testing::layer(2, 2 * MIB), testing::layer(3, 2 * MIB)];
    for archive in [testing::legacy(&layers), testing::oci(&layers)] {
        let source = Arc::new(Memory::new(archive));
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::open(directory.path(), 1 << 30).unwrap();
        let read = read_image(source.clone(), source.content.len() as u64, &cache, &Platform::host()).await;
        let (image, _) = read.map_err(|failure| failure.of("web")).unwrap();
        assert!(source.reads() <= layers.len() + 1, "{} reads", source.reads());
        assert_eq!(image.reads as usize, source.reads());
        assert!(source.bytes.load(std::sync::atomic::Ordering::SeqCst) < MIB as u64);
        assert_eq!(cache.total(), 0);
    }
}

#[tokio::test]
async fn a_store_without_ranges_is_read_once_and_gives_the_same_image() {
    let layers = [testing::layer(1, MIB), testing::layer(2, 700)];
    for archive in [testing::legacy(&layers), testing::oci(&layers)] {
        let (expected, _) = read(Memory::new(archive.clone())).await.unwrap();
        let (image, reads) = read(Memory::new(archive.clone()).with_ranges(Ranges::Ignored)).await.unwrap();
        assert_eq!(image.manifest.digest, expected.manifest.digest);
        assert_eq!(image.layers, expected.layers);
        assert_eq!(reads, 1);
    }
}

#[tokio::test]
async fn a_layer_that_is_there_twice_is_found_through_its_link() {
    let layers = [testing::layer(1, 3000), testing::layer(2, 700), testing::layer(1, 3000)];
    let archive = testing::legacy(&layers);
    let (image, _) = read(Memory::new(archive.clone())).await.unwrap();
    assert_eq!(manifest(&image)["layers"].as_array().unwrap().len(), 3);
    assert_eq!(served(&archive, &image, Digest::of(&layers[2])), layers[2]);
    let hard = Tar::new()
        .file("a/layer.tar", &layers[0])
        .link(EntryType::Link, "b/layer.tar", "a/layer.tar")
        .json("c.json", &testing::config(&[layers[0].clone(), layers[0].clone()]))
        .json("manifest.json", &json!([{"Config": "c.json", "Layers": ["a/layer.tar", "b/layer.tar"]}]))
        .finish();
    let (image, _) = read(Memory::new(hard.clone())).await.unwrap();
    assert_eq!(served(&hard, &image, Digest::of(&layers[0])), layers[0]);
}

#[tokio::test]
async fn links_that_lead_nowhere_or_round_in_a_circle_are_missing_layers() {
    for target in ["../gone/layer.tar", "../b/layer.tar", "../../../etc/passwd"] {
        let archive = Tar::new()
            .link(EntryType::Symlink, "a/layer.tar", target)
            .link(EntryType::Symlink, "b/layer.tar", "../a/layer.tar")
            .json("c.json", &testing::config(&[vec![]]))
            .json("manifest.json", &json!([{"Config": "c.json", "Layers": ["a/layer.tar"]}]))
            .finish();
        assert_eq!(problem(archive).await, Problem::Missing { file: "a/layer.tar".into() }, "{target}");
    }
}

#[tokio::test]
async fn a_manifest_of_the_archive_is_served_as_it_is() {
    let layers = [b"uncompressed".to_vec()];
    let config = serde_json::to_vec(&testing::config(&layers)).unwrap();
    let bytes = testing::oci_manifest(&config, &layers, manifest::OCI_LAYER);
    let index = json!({"manifests": [testing::described(manifest::OCI_MANIFEST, &bytes)]});
    let archive = Tar::new().blob(&layers[0]).blob(&config).blob(&bytes).json("index.json", &index).finish();
    let (image, _) = read(Memory::new(archive)).await.unwrap();
    assert_eq!(image.manifest.bytes, bytes);
    assert!(image.layers[0].packing.is_none());
}

#[tokio::test]
async fn compressed_layers_beside_a_manifest_json_are_read_to_learn_their_digests() {
    let gzip = b"\x1f\x8b\x08 compressed".to_vec();
    let plain = b"uncompressed".to_vec();
    let config = testing::config(&[plain.clone(), b"what gzip gives".to_vec()]);
    let archive = testing::legacy_with(&[plain.clone(), gzip.clone()], &config);
    for ranges in [Ranges::Served, Ranges::Ignored] {
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::open(directory.path(), 1 << 30).unwrap();
        let source = Arc::new(Memory::new(archive.clone()).with_ranges(ranges));
        let mut opened = Archive::open(source, archive.len() as u64, &cache, None).await.ok().unwrap();
        let (image, _) = legacy(&mut opened, Serving::AsStored).await.ok().unwrap();
        let listed = manifest(&image)["layers"].clone();
        assert_eq!(listed[0], testing::described(manifest::OCI_LAYER, &plain));
        assert_eq!(listed[1], testing::described(manifest::OCI_LAYER_GZIP, &gzip));
        assert_eq!(served(&archive, &image, Digest::of(&gzip)), gzip);
    }
}

#[tokio::test]
async fn a_configuration_is_read_as_docker_reads_it_and_served_as_it_is() {
    let layers = [testing::layer(1, 10)];
    for (key, value) in [
        ("architecture", Value::Null),
        ("architecture", json!("")),
        ("architecture", json!(Platform::host().architecture.to_uppercase())),
        ("os", Value::Null),
        ("os", json!("")),
        ("variant", Value::Null),
        ("config", json!({"Entrypoint": "/init", "Cmd": "", "Shell": "/bin/sh", "Env": null, "Labels": {"a": null}})),
        ("config", Value::Null),
        ("history", json!([{}, {"created": null}, {"empty_layer": false}])),
        ("created", json!("")),
        ("moby.buildkit.buildinfo.v1", json!({"deep": [[[1]]]})),
    ] {
        let mut config = testing::config(&layers);
        config[key] = value.clone();
        let (image, _) = read(Memory::new(testing::legacy_with(&layers, &config))).await.unwrap();
        assert_eq!(image.config.bytes, serde_json::to_vec(&config).unwrap(), "{key}: {value}");
        config.as_object_mut().unwrap().remove(key);
        assert!(read(Memory::new(testing::legacy_with(&layers, &config))).await.is_ok(), "without {key}");
    }
}

#[tokio::test]
async fn what_is_no_docker_save_archive_is_told_from_one() {
    let exported = Tar::new().directory("etc/").file("etc/passwd", b"root").directory("usr/").finish();
    for (archive, reason) in [(exported, "docker export"), (Tar::new().file("a", b"b").finish(), "no manifest.json")] {
        let found = problem(archive).await;
        assert!(matches!(&found, Problem::NotADockerArchive { .. }), "{found}");
        assert!(found.to_string().contains(reason) && found.to_string().contains("docker save IMAGE"), "{found}");
    }
    assert!(matches!(problem(Bytes::new()).await, Problem::NotATar { .. }));
    assert!(matches!(problem(Bytes::from_static(&[b'x'; 5000])).await, Problem::NotATar { .. }));
}

#[tokio::test]
async fn a_truncated_archive_is_found_before_any_layer_was_read() {
    let layers = [testing::layer(1, 3 * MIB)];
    for archive in [testing::legacy(&layers), testing::oci(&layers)] {
        let found = problem(archive.slice(..MIB)).await;
        assert!(matches!(&found, Problem::Truncated { size, .. } if *size == MIB as u64), "{found}");
    }
}

#[tokio::test]
async fn a_missing_layer_is_reported_by_name() {
    let saved = json!([{"Config": "c.json", "Layers": ["gone/layer.tar"]}]);
    let archive = Tar::new().json("c.json", &testing::config(&[vec![1]])).json("manifest.json", &saved).finish();
    assert_eq!(problem(archive).await, Problem::Missing { file: "gone/layer.tar".into() });
    let archive = Tar::new().json("manifest.json", &saved).finish();
    assert_eq!(problem(archive).await, Problem::Missing { file: "c.json".into() });
    let config = serde_json::to_vec(&testing::config(&[vec![1]])).unwrap();
    let bytes = testing::oci_manifest(&config, &[vec![1]], manifest::OCI_LAYER);
    let index = json!({"manifests": [testing::described(manifest::OCI_MANIFEST, &bytes)]});
    let archive = Tar::new().blob(&config).blob(&bytes).json("index.json", &index).finish();
    let file = format!("blobs/sha256/{}", Digest::of(&[1]).hex());
    assert_eq!(problem(archive).await, Problem::Missing { file });
}

#[tokio::test]
async fn a_layer_with_another_digest_is_found_at_once_in_a_store_without_ranges() {
    let archive = testing::legacy_with(&[vec![1]], &testing::config(&[vec![2]]));
    let error = read(Memory::new(archive).with_ranges(Ranges::Ignored)).await.unwrap_err();
    let expected = Problem::DigestMismatch { expected: Digest::of(&[2]), found: Digest::of(&[1]) };
    assert_eq!(error.problem(), Some(&expected));
}

#[tokio::test]
async fn metadata_that_makes_no_sense_is_refused_by_file() {
    let one = [vec![1]];
    let mut foreign = testing::config(&one);
    foreign["rootfs"]["diff_ids"] = json!(["sha512:00"]);
    let saved = |layers: Value| json!([{"Config": "c.json", "Layers": layers}]);
    let with = |config: &Value, layers: Value| {
        Tar::new().file("a/layer.tar", &[1]).json("c.json", config).json("manifest.json", &saved(layers)).finish()
    };
    for (archive, file) in [
        (Tar::new().file("manifest.json", b"[{").finish(), "manifest.json"),
        (Tar::new().json("manifest.json", &json!([])).finish(), "manifest.json"),
        (Tar::new().json("index.json", &json!({"manifests": []})).finish(), "index.json"),
        (with(&json!({"os": 7}), json!(["a/layer.tar"])), "c.json"),
        (with(&foreign, json!(["a/layer.tar"])), "c.json"),
        (with(&testing::config(&one), json!(["a/layer.tar", "a/layer.tar"])), "c.json"),
        (with(&testing::config(&[]), json!([])), "c.json"),
    ] {
        let found = problem(archive).await;
        assert!(matches!(&found, Problem::BadMetadata { file: at, .. } if at == file), "{file}: {found}");
    }
}

#[tokio::test]
async fn blobs_that_are_not_what_their_name_says_are_refused() {
    let config = serde_json::to_vec(&testing::config(&[vec![1]])).unwrap();
    let bytes = testing::oci_manifest(&config, &[vec![1]], manifest::OCI_LAYER);
    let index = json!({"manifests": [testing::described(manifest::OCI_MANIFEST, &bytes)]});
    let path = |content: &[u8]| format!("blobs/sha256/{}", Digest::of(content).hex());
    let mut altered = config.clone();
    altered[0] = b' ';
    let start = || Tar::new().blob(&bytes).json("index.json", &index);
    for archive in [
        start().blob(&[1]).file(&path(&config), &altered).finish(),
        start().blob(&[1]).file(&path(&config), b"{}").finish(),
        start().blob(&config).file(&path(&[1]), b"longer").finish(),
    ] {
        let found = problem(archive).await;
        assert!(matches!(&found, Problem::BadMetadata { file, .. } if file.starts_with("blobs/")), "{found}");
    }
}

#[tokio::test]
async fn limits_hold() {
    let many: Vec<Vec<u8>> = vec![vec![1]; MAX_LAYERS + 1];
    assert_eq!(problem(testing::legacy(&many)).await, Problem::TooManyLayers { found: 513, limit: MAX_LAYERS });
    let huge = Tar::new().file("manifest.json", &vec![b' '; MAX_MANIFEST as usize + 1]).finish();
    assert!(matches!(problem(huge).await, Problem::TooLarge { what, .. } if what == "manifest.json"));
}

#[tokio::test]
async fn layers_that_dockerd_could_not_unpack_or_would_fetch_elsewhere_are_refused() {
    let config = serde_json::to_vec(&testing::config(&[vec![1]])).unwrap();
    let archive = |manifest: &Value| {
        let bytes = serde_json::to_vec(manifest).unwrap();
        let index = json!({"manifests": [testing::described(manifest::OCI_MANIFEST, &bytes)]});
        Tar::new().blob(&[1]).blob(&config).blob(&bytes).json("index.json", &index).finish()
    };
    let bytes = testing::oci_manifest(&config, &[vec![1]], "application/vnd.oci.image.layer.v1.tar+encrypted");
    let found = problem(archive(&serde_json::from_slice(&bytes).unwrap())).await;
    assert!(matches!(found, Problem::UnsupportedLayer { .. }), "{found}");
    let elsewhere: Value =
        serde_json::from_slice(&testing::oci_manifest(&config, &[vec![1]], manifest::OCI_LAYER)).unwrap();
    // dockerd takes a key in any case.
    for (key, reason) in [("urls", "another address"), ("URLs", "case")] {
        let mut elsewhere = elsewhere.clone();
        elsewhere["layers"][0][key] = json!(["http://169.254.169.254/"]);
        let found = problem(archive(&elsewhere)).await;
        assert!(matches!(&found, Problem::BadMetadata { reason: told, .. } if told.contains(reason)), "{found}");
    }
}

#[tokio::test]
async fn a_read_that_breaks_off_is_tried_again() {
    let source =
        Memory { breaks: 2.into(), break_after: 100, ..Memory::new(testing::legacy(&[testing::layer(1, 300)])) };
    assert_eq!(read(source).await.unwrap().1, 3);
    let source = Memory { forbidden: true, ..Memory::new(testing::legacy(&[vec![1]])) };
    let error = read(source).await.unwrap_err();
    assert!(matches!(error, Error::Source { .. }) && !error.is_bad_image(), "{error}");
}

#[tokio::test]
async fn an_archive_that_is_cut_anywhere_or_has_a_flipped_byte_is_refused_or_read_but_never_panics() {
    let archive = testing::legacy(&[testing::layer(1, 600), testing::layer(2, 100)]);
    for at in (0..archive.len()).step_by(97) {
        let cut = read(Memory::new(archive.slice(..at))).await;
        assert!(cut.as_ref().err().is_none_or(Error::is_bad_image), "cut at {at}");
        let mut flipped = archive.to_vec();
        flipped[at] ^= 0x41;
        let flipped = read(Memory::new(flipped)).await;
        assert!(flipped.as_ref().err().is_none_or(Error::is_bad_image), "flipped at {at}");
    }
}
