use super::*;

#[test]
fn a_built_manifest_has_nothing_but_what_the_specification_asks_for() {
    let digest = Digest::of(b"");
    let layer = Descriptor::new(OCI_LAYER, digest, 3);
    let bytes = Manifest::build(Descriptor::new(OCI_CONFIG, digest, 2), vec![layer]).unwrap();
    let value: Value = serde_json::from_slice(&bytes).unwrap();
    let digest = digest.to_string();
    let expected = serde_json::json!({
        "schemaVersion": 2, "mediaType": OCI_MANIFEST,
        "config": {"mediaType": OCI_CONFIG, "digest": digest, "size": 2},
        "layers": [{"mediaType": OCI_LAYER, "digest": digest, "size": 3}],
    });
    assert_eq!(value, expected);
}
