use serde_json::{Value, json};

use super::*;
use crate::manifest::OCI_LAYER;

const IN_TOTO: &str = "application/vnd.in-toto+json";

fn pointer(media_type: &str, content: &str) -> Value {
    json!({"mediaType": media_type, "digest": Digest::of(content.as_bytes()).to_string(), "size": content.len()})
}

fn manifest() -> Value {
    json!({
        "schemaVersion": 2, "mediaType": OCI_MANIFEST,
        "config": pointer(OCI_CONFIG, "{}"), "layers": [pointer(OCI_LAYER, "a"), pointer(OCI_LAYER, "b")],
    })
}

fn parse_as(value: &Value, content_type: Option<&str>) -> Result<Document, ApiError> {
    Document::parse(serde_json::to_vec(value).unwrap().into(), content_type, Algorithm::Sha256)
}

fn with(key: &str, value: Value) -> Value {
    let mut changed = manifest();
    changed[key] = value;
    changed
}

/// The message that a manifest is refused with.
fn refusal(value: &Value, content_type: Option<&str>) -> String {
    let error = parse_as(value, content_type).unwrap_err();
    assert_eq!((error.code, error.status), (Code::ManifestInvalid, StatusCode::BAD_REQUEST));
    error.message
}

#[test]
fn a_manifest_keeps_its_bytes_and_tells_what_it_needs() {
    let layers = json!([pointer(OCI_LAYER, "a"), pointer(OCI_LAYER, "b"), pointer(OCI_LAYER, "a")]);
    let mut manifest = with("layers", layers);
    manifest["config"]["data"] = "e30=".into();
    manifest["anything"] = json!({"else": [1, 2]});
    let bytes = serde_json::to_vec_pretty(&manifest).unwrap();
    let document = Document::parse(bytes.clone().into(), Some(OCI_MANIFEST), Algorithm::Sha256).unwrap();
    assert_eq!((&document.bytes[..], document.digest), (&bytes[..], Digest::of(&bytes)));
    let needed: Vec<Digest> = document.blobs.iter().map(|pointer| pointer.digest).collect();
    assert_eq!(needed, ["a", "b", "a"].map(|content| Digest::of(content.as_bytes())));
    assert!(document.is_runnable());
}

#[test]
fn a_manifest_without_media_type_is_what_it_was_sent_as_or_looks_like() {
    let mut bare = manifest();
    bare.as_object_mut().unwrap().remove("mediaType");
    assert_eq!(parse_as(&bare, Some(OCI_MANIFEST)).unwrap().media_type, OCI_MANIFEST);
    assert_eq!(parse_as(&bare, Some(DOCKER_MANIFEST)).unwrap().media_type, DOCKER_MANIFEST);
    assert_eq!(parse_as(&bare, None).unwrap().media_type, OCI_MANIFEST);
    let index = json!({"schemaVersion": 2, "manifests": []});
    assert_eq!(parse_as(&index, None).unwrap().media_type, OCI_INDEX);
}

#[test]
fn what_was_sent_as_something_else_is_refused() {
    let message = refusal(&manifest(), Some(DOCKER_MANIFEST));
    assert!(message.contains(DOCKER_MANIFEST) && message.contains(OCI_MANIFEST), "{message}");
    assert!(refusal(&with("mediaType", "text/html".into()), Some("text/html")).contains("text/html"));
}

#[test]
fn what_one_client_would_take_for_an_image_and_another_for_an_index_is_refused() {
    assert!(refusal(&with("manifests", json!([])), None).contains("no manifests"));
    let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [], "layers": []});
    assert!(refusal(&index, None).contains("neither config nor layers"));
    let twice = br#"{"schemaVersion": 2, "mediaType": "a", "mediaType": "b"}"#;
    assert!(Document::parse(twice.as_slice().into(), None, Algorithm::Sha256).is_err());
}

#[test]
fn schema_1_is_refused_with_what_to_do() {
    for old in [json!({"schemaVersion": 1, "name": "a", "fsLayers": []}), json!({"fsLayers": []})] {
        assert!(refusal(&old, None).contains("newer client"));
    }
    assert!(refusal(&json!({}), None).contains("schemaVersion is missing"));
    assert!(refusal(&with("schemaVersion", 3.into()), None).contains("not 2"));
}

#[test]
fn what_has_no_usable_digests_or_sizes_is_refused() {
    for config in [
        Value::Null,
        json!({"mediaType": OCI_CONFIG}),
        json!({"mediaType": OCI_CONFIG, "digest": "sha256:../../x", "size": 1}),
        json!({"mediaType": OCI_CONFIG, "digest": Digest::of(b"").to_string(), "size": -1}),
    ] {
        refusal(&with("config", config), None);
    }
    for text in ["", "null", "[]", "{\"schemaVersion\":2", "\u{feff}{}"] {
        assert!(Document::parse(text.as_bytes().to_vec().into(), None, Algorithm::Sha256).is_err(), "{text}");
    }
    let deep = format!("{{\"schemaVersion\":2,\"a\":{}{}}}", "[".repeat(1_000_000), "]".repeat(1_000_000));
    assert!(Document::parse(deep.into_bytes().into(), None, Algorithm::Sha256).is_err());
}

#[test]
fn artifacts_are_known_by_their_type_and_subject() {
    let empty = "application/vnd.oci.empty.v1+json";
    let mut artifact = with("config", pointer(empty, "{}"));
    assert_eq!(parse_as(&artifact, None).unwrap().artifact_type.as_deref(), Some(empty));
    artifact["artifactType"] = "application/x-sbom".into();
    artifact["subject"] = pointer(OCI_MANIFEST, "the image");
    let document = parse_as(&artifact, None).unwrap();
    assert_eq!(document.artifact_type.as_deref(), Some("application/x-sbom"));
    assert_eq!(document.subject, Some(Digest::of(b"the image")));
    assert!(!document.is_runnable());
    assert!(!parse_as(&with("layers", json!([pointer(IN_TOTO, "statement")])), None).unwrap().is_runnable());
    assert!(!parse_as(&with("layers", json!([])), None).unwrap().is_runnable());
}

#[test]
fn only_layers_that_say_so_may_be_elsewhere() {
    let foreign = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";
    let mut layers = json!([pointer(foreign, "a"), pointer(OCI_LAYER, "b")]);
    layers[1]["urls"] = json!(["https://example.com/b"]);
    let document = parse_as(&with("layers", layers), None).unwrap();
    let foreign: Vec<bool> = document.blobs.iter().map(Pointer::is_foreign).collect();
    assert_eq!(foreign, [true, false]);
}

#[tokio::test]
async fn a_manifest_above_the_limit_is_not_read_to_its_end() {
    let endless = || {
        Body::from_stream(futures::stream::repeat(Ok::<_, std::convert::Infallible>(Bytes::from_static(&[b' '; 1024]))))
    };
    let mut announced = HeaderMap::new();
    announced.insert("content-length", "5000000".parse().unwrap());
    for headers in [HeaderMap::new(), announced] {
        let error = read(&headers, endless(), 4096, Duration::MAX).await.unwrap_err();
        assert_eq!((error.code, error.status), (Code::ManifestInvalid, StatusCode::PAYLOAD_TOO_LARGE));
    }
}

#[test]
fn keys_that_go_reads_as_others_are_refused_but_not_those_of_annotations() {
    for key in ["LAYERS", "Layers", "layer\u{17f}", "Schemaversion"] {
        let refused = parse_as(&with(key, json!([])), None).unwrap_err();
        assert_eq!(refused.code, Code::ManifestInvalid, "{key}");
        assert!(refused.message.contains("case"), "{}", refused.message);
    }
    let mut config = pointer(OCI_CONFIG, "c");
    config["Digest"] = config["digest"].clone();
    assert!(parse_as(&with("config", config), None).unwrap_err().message.contains("case"));
    let annotations = json!({"Layers": "a", "layers": "b", "SIZE": "c"});
    assert!(parse_as(&with("annotations", annotations), None).is_ok());
}
