use serde_json::json;

use super::*;

fn manifest(media_type: &str, config: &str, layer: &str) -> Vec<u8> {
    let descriptor = |kind| json!({"mediaType": kind, "digest": Digest::of(b"").to_string(), "size": 0});
    let layers = [descriptor(layer)];
    let manifest = json!({"schemaVersion": 2, "mediaType": media_type, "config": descriptor(config), "layers": layers});
    serde_json::to_vec(&manifest).unwrap()
}

#[test]
fn a_manifest_comes_back_from_its_other_form() {
    let oci = manifest(OCI_MANIFEST, PAIRS[0].0, PAIRS[2].0);
    let docker = other_form(OCI_MANIFEST, &oci).unwrap();
    assert_eq!(docker.bytes, manifest(DOCKER_MANIFEST, PAIRS[0].1, PAIRS[2].1));
    assert_eq!(docker.digest, Digest::of(&docker.bytes));
    assert_eq!(other_form(DOCKER_MANIFEST, &docker.bytes).unwrap().bytes, oci);
}

#[test]
fn what_only_one_form_can_say_is_not_converted() {
    let zstd = "application/vnd.oci.image.layer.v1.tar+zstd";
    assert_eq!(other_form(OCI_MANIFEST, &manifest(OCI_MANIFEST, PAIRS[0].0, zstd)), None);
    assert_eq!(other_form(OCI_MANIFEST, &manifest(OCI_MANIFEST, "application/x", PAIRS[1].0)), None);
    let mut artifact: Value = serde_json::from_slice(&manifest(OCI_MANIFEST, PAIRS[0].0, PAIRS[1].0)).unwrap();
    artifact["subject"] = json!({});
    assert_eq!(other_form(OCI_MANIFEST, &serde_json::to_vec(&artifact).unwrap()), None);
    assert_eq!(other_form("application/vnd.oci.image.index.v1+json", b"{}"), None);
    assert_eq!(other_form(OCI_MANIFEST, b"no json"), None);
}
