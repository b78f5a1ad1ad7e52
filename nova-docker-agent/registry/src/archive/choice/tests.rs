use serde_json::{Value, json};

use super::*;
use crate::archive::layout::tests::{problem, read};
use crate::manifest;
use crate::testing::{self, Memory, Tar};

/// An image layout that has a manifest for each of these platforms, with the descriptors as `describe` makes them.
fn multi_arch(architectures: &[&str], declare: bool) -> Bytes {
    let layer = testing::layer(1, 100);
    let mut tar = Tar::new().blob(&layer);
    let mut descriptors = vec![];
    for architecture in architectures {
        let mut config = testing::config(std::slice::from_ref(&layer));
        config["architecture"] = json!(architecture);
        let config = serde_json::to_vec(&config).unwrap();
        let bytes = testing::oci_manifest(&config, std::slice::from_ref(&layer), manifest::OCI_LAYER);
        let mut descriptor = testing::described(manifest::OCI_MANIFEST, &bytes);
        if declare {
            descriptor["platform"] = json!({"os": "linux", "architecture": architecture});
        }
        descriptors.push(descriptor);
        tar = tar.blob(&config).blob(&bytes);
    }
    // As BuildKit writes it: a statement of provenance beside the image; and one platform that was not saved.
    let mut attestation = testing::described(manifest::OCI_MANIFEST, b"{}");
    attestation["annotations"] = json!({"vnd.docker.reference.type": "attestation-manifest"});
    descriptors.extend([attestation, testing::described(manifest::OCI_MANIFEST, b"not saved")]);
    let nested = serde_json::to_vec(&json!({"schemaVersion": 2, "manifests": descriptors})).unwrap();
    let index = json!({"manifests": [testing::described(manifest::OCI_INDEX, &nested)]});
    tar.blob(b"{}").blob(&nested).json("index.json", &index).finish()
}

#[tokio::test]
async fn of_an_image_for_several_platforms_the_hosts_own_is_taken() {
    let host = Platform::host().architecture;
    for declare in [true, false] {
        let (image, _) = read(Memory::new(multi_arch(&["s390x", &host, "mips"], declare))).await.unwrap();
        assert_eq!(image.platform.architecture, host);
    }
}

#[tokio::test]
async fn an_image_for_other_platforms_only_names_them() {
    let found = problem(multi_arch(&["s390x", "mips"], true)).await;
    assert!(matches!(&found, Problem::Platform { found, .. } if found == "linux/s390x, linux/mips"), "{found}");
    let layers = [testing::layer(1, 10)];
    let mut config = testing::config(&layers);
    config["architecture"] = json!("s390x");
    let found = problem(testing::legacy_with(&layers, &config)).await;
    assert!(matches!(&found, Problem::Platform { found, .. } if found == "linux/s390x"), "{found}");
}

/// An archive of one image whose index has these entries: a variant, the media type of its layers, and a name.
fn siblings(entries: &[(&str, &str, Option<&str>)], nested: bool) -> Bytes {
    let layer = testing::layer(1, 100);
    let mut tar = Tar::new().blob(&layer);
    let mut descriptors = vec![];
    for (at, (variant, layer_type, name)) in entries.iter().enumerate() {
        let mut config = testing::config(std::slice::from_ref(&layer));
        config["created"] = json!(at);
        let config = serde_json::to_vec(&config).unwrap();
        let bytes = testing::oci_manifest(&config, std::slice::from_ref(&layer), layer_type);
        let mut descriptor = testing::described(manifest::OCI_MANIFEST, &bytes);
        descriptor["platform"] = json!({"os": "linux", "architecture": Platform::host().architecture});
        if !variant.is_empty() {
            descriptor["platform"]["variant"] = json!(variant);
        }
        if let Some(name) = name {
            descriptor["annotations"] = json!({"org.opencontainers.image.ref.name": name});
        }
        descriptors.push(descriptor);
        tar = tar.blob(&config).blob(&bytes);
    }
    let index = json!({"schemaVersion": 2, "manifests": descriptors});
    if !nested {
        return tar.json("index.json", &index).finish();
    }
    let nested = serde_json::to_vec(&index).unwrap();
    let index = json!({"manifests": [testing::described(manifest::OCI_INDEX, &nested)]});
    tar.blob(&nested).json("index.json", &index).finish()
}

#[tokio::test]
async fn of_an_image_for_one_architecture_several_times_the_best_is_taken_that_runs_here() {
    const PLAIN: &str = manifest::OCI_LAYER;
    const ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
    let own = Platform::host().variant;
    for nested in [true, false] {
        for (entries, expected) in [
            (&[("", PLAIN, None), (own.as_str(), PLAIN, None), ("v999", PLAIN, None)][..], 1),
            (&[("v999", PLAIN, None), ("", PLAIN, None)], 1),
            (&[("", PLAIN, None), ("", PLAIN, None)], 0),
            (&[("", ZSTD, None), ("", PLAIN, None), ("", ZSTD, None)], 1),
            (&[("", PLAIN, Some("1")), (own.as_str(), PLAIN, Some("1"))], 1),
        ] {
            let (image, _) = read(Memory::new(siblings(entries, nested))).await.unwrap();
            let config: Value = serde_json::from_slice(&image.config.bytes).unwrap();
            assert_eq!(config["created"], expected, "{entries:?}");
        }
    }
    let found = problem(siblings(&[("v999", PLAIN, None)], true)).await;
    assert!(matches!(&found, Problem::Platform { found, .. } if found.ends_with("/v999")), "{found}");
    let named = siblings(&[("", PLAIN, Some("1")), (own.as_str(), PLAIN, Some("2"))], false);
    assert!(matches!(problem(named).await, Problem::SeveralImages { found: 2, .. }));
}

#[tokio::test]
async fn several_images_in_one_archive_are_named() {
    let saved = json!([
        {"Config": "a.json", "RepoTags": ["a:1", "a:2"], "Layers": []},
        {"Config": "b.json", "RepoTags": null, "Layers": []},
    ]);
    let found = problem(Tar::new().json("manifest.json", &saved).finish()).await;
    assert_eq!(found, Problem::SeveralImages { found: 2, names: vec!["a:1".into(), "b.json".into()] });
    let host = Platform::host().architecture;
    let layers = [vec![1], vec![2]];
    let mut tar = Tar::new();
    let mut manifests = vec![];
    for (at, layer) in layers.iter().enumerate() {
        let mut config = testing::config(std::slice::from_ref(layer));
        config["architecture"] = json!(host);
        let config = serde_json::to_vec(&config).unwrap();
        let bytes = testing::oci_manifest(&config, std::slice::from_ref(layer), manifest::OCI_LAYER);
        let mut descriptor = testing::described(manifest::OCI_MANIFEST, &bytes);
        descriptor["annotations"] = json!({"io.containerd.image.name": format!("image{at}")});
        // A second name of the same image does not count.
        manifests.extend([descriptor.clone(), descriptor]);
        tar = tar.blob(layer).blob(&config).blob(&bytes);
    }
    let found = problem(tar.json("index.json", &json!({"manifests": manifests})).finish()).await;
    assert_eq!(found, Problem::SeveralImages { found: 2, names: vec!["image0".into(), "image1".into()] });
}

#[tokio::test]
async fn manifests_that_are_large_together_are_refused() {
    let mut tar = Tar::new();
    let mut descriptors = vec![];
    for number in 0..5 {
        let padded = format!("{{\"number\": {number}}}{}", " ".repeat(MAX_MANIFEST as usize - 16));
        descriptors.push(testing::described(manifest::OCI_MANIFEST, padded.as_bytes()));
        tar = tar.blob(padded.as_bytes());
    }
    let found = problem(tar.json("index.json", &json!({"manifests": descriptors})).finish()).await;
    assert!(matches!(&found, Problem::TooLarge { what, .. } if what == "its manifests"), "{found}");
}
