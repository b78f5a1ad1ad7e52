//! Tags, catalog, referrers.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::Digest;
use crate::manifest::{OCI_INDEX, OCI_MANIFEST};
use crate::public::testing::{Answer, CREDENTIAL, DEMO, MANY, OTHER, Registry, id_of};
use crate::testing::{self as archives, Tar, described};

fn add(registry: &Registry, owner: &str, name: &str, properties: Value) -> Uuid {
    registry.cloud.image(owner, name, &archives::oci(&[archives::layer(1, 10)]), properties)
}

#[tokio::test]
async fn the_tags_of_a_repository_are_listed_page_by_page() {
    let registry = Registry::start().await;
    let hidden = json!({"os_hidden": true});
    add(&registry, DEMO, "web:v2", json!({"tags": ["web:v1", "web:v2", "other:v9", "blue"]}));
    add(&registry, DEMO, "web:v1", json!({}));
    add(&registry, DEMO, "web", json!({}));
    add(&registry, DEMO, "web@sha256:00", hidden.clone());
    add(&registry, DEMO, "untagged@sha256:00", hidden);
    add(&registry, OTHER, "web:secret", json!({}));
    let list = async |query: &str| registry.get("ann", &format!("/v2/demo/web/tags/list{query}")).await;
    let all = list("").await;
    assert_eq!((all.status, all.json()), (200, json!({"name": "demo/web", "tags": ["latest", "v1", "v2"]})));
    let first = list("?n=2").await;
    assert_eq!(first.json()["tags"], json!(["latest", "v1"]));
    assert_eq!(first.header("link"), "</v2/demo/web/tags/list?n=2&last=v1>; rel=\"next\"");
    let second = list("?n=2&last=v1").await;
    assert_eq!((second.json()["tags"].clone(), second.header("link")), (json!(["v2"]), ""));
    assert_eq!(list("?n=x").await.status, 400);
    let untagged = registry.get("ann", "/v2/demo/untagged/tags/list").await;
    assert_eq!((untagged.status, untagged.json()["tags"].clone()), (200, json!([])));
    let absent = registry.get("ann", "/v2/demo/absent/tags/list").await;
    assert_eq!((absent.status, absent.code().as_str()), (404, "NAME_UNKNOWN"));
}

#[tokio::test]
async fn the_catalog_lists_what_the_user_sees() {
    let registry = Registry::start().await;
    add(&registry, DEMO, "web:v1", json!({"tags": ["app/api:v1"]}));
    add(&registry, DEMO, "Ubuntu 24.04", json!({}));
    add(&registry, OTHER, "secret", json!({}));
    add(&registry, OTHER, "base", json!({"visibility": "public"}));
    let all = registry.get("ann", "/v2/_catalog").await;
    let expected = json!([format!("{OTHER}/base"), "demo/app/api", "demo/web"]);
    assert_eq!(all.json()["repositories"], expected);
    let page = registry.get("ann", "/v2/_catalog?n=1&last=demo/app/api").await;
    assert_eq!((page.json()["repositories"].clone(), page.header("link")), (json!(["demo/web"]), ""));
    // By an application credential of ann's, which is good for one project.
    assert_eq!(registry.get(CREDENTIAL, "/v2/_catalog").await.json()["repositories"], expected);
    let of_bob = registry.get("bob", "/v2/_catalog").await;
    assert_eq!(of_bob.json()["repositories"], json!(["other/base", "other/secret"]));
}

#[tokio::test]
async fn the_catalog_has_all_projects_of_a_user_however_many() {
    let registry = Registry::start().await;
    let mut expected: Vec<String> = vec!["demo/web".into(), "other/web".into()];
    for (owner, name) in [(DEMO, "web:v1"), (OTHER, "web:v1")] {
        add(&registry, owner, name, json!({}));
    }
    for number in 2..MANY {
        add(&registry, &id_of(number), "web:v1", json!({"os_hidden": number % 2 == 0}));
        expected.push(format!("p{number}/web"));
    }
    let nobody = "f".repeat(32);
    add(&registry, &nobody, "base:v1", json!({"visibility": "public"}));
    expected.push(format!("{nobody}/base"));
    expected.sort();
    assert_eq!(registry.get("cat", "/v2/_catalog").await.json()["repositories"], json!(expected));
    // Page by page, through its links; keystone is asked for a project's token once for all pages, here and in the process
    // that gave out the token.
    let token = registry.token("cat", &["registry:catalog:*"]).await;
    let bearer = format!("Bearer {token}");
    let before = registry.cloud.asked("POST /v3/auth/tokens");
    let (mut found, mut path) = (vec![], "/v2/_catalog?n=6".to_owned());
    while !path.is_empty() {
        let page = registry.send("GET", &path, &[("authorization", &bearer)]).await;
        let names: Vec<String> = serde_json::from_value(page.json()["repositories"].clone()).unwrap();
        assert!(names.len() <= 6);
        found.extend(names);
        path = page.header("link").trim_start_matches('<').split('>').next().unwrap().to_owned();
    }
    assert_eq!(found, expected);
    assert_eq!(registry.cloud.asked("POST /v3/auth/tokens"), before);
}

#[tokio::test]
async fn a_project_where_the_user_has_no_role_any_more_is_left_out_of_the_catalog() {
    let registry = Registry::start().await;
    for owner in [DEMO, OTHER] {
        add(&registry, owner, "web:v1", json!({}));
    }
    registry.cloud.dismiss(OTHER);
    let answer = registry.get("cat", "/v2/_catalog").await;
    assert_eq!((answer.status, answer.json()["repositories"].clone()), (200, json!(["demo/web"])));
    // Whoever has no role at all is told so.
    let answer = registry.get("dan", "/v2/_catalog").await;
    assert_eq!(answer.error(), (401, "DENIED".into()));
    assert!(answer.header("www-authenticate").contains("error=\"insufficient_scope\""));
}

/// Adds an artifact that refers to `subject`; its manifest.
fn artifact(registry: &Registry, subject: &[u8], kind: &str, properties: Value) -> Vec<u8> {
    let manifest = serde_json::to_vec(&json!({
        "schemaVersion": 2, "mediaType": OCI_MANIFEST, "artifactType": kind, "annotations": {"a": kind},
        "config": described("application/vnd.oci.empty.v1+json", b"{}"), "layers": [],
        "subject": described(OCI_MANIFEST, subject),
    }))
    .unwrap();
    let top = json!({"schemaVersion": 2, "manifests": [described(OCI_MANIFEST, &manifest)]});
    let archive = Tar::new().blob(b"{}").blob(&manifest).json("index.json", &top).finish();
    let mut all = json!({
        "os_hidden": true, "oci_repository": "web", "oci_digest": Digest::of(&manifest).to_string(),
        "oci_subject": Digest::of(subject).to_string(),
    });
    all.as_object_mut().unwrap().extend(properties.as_object().unwrap().clone());
    registry.cloud.image(DEMO, &format!("web@{}", Digest::of(&manifest)), &archive, all);
    manifest
}

fn digests(answer: &Answer) -> Vec<String> {
    let manifests = answer.json()["manifests"].clone();
    manifests.as_array().unwrap().iter().map(|one| one["digest"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn what_refers_to_a_manifest_is_listed() {
    let registry = Registry::start().await;
    let subject = b"a manifest, here or not";
    let signature = artifact(&registry, subject, "application/signature", json!({}));
    let sbom = artifact(&registry, subject, "application/sbom", json!({}));
    // Its property says so, and it does not.
    artifact(&registry, b"another", "application/x", json!({"oci_subject": Digest::of(subject).to_string()}));
    let at = format!("/v2/demo/web/referrers/{}", Digest::of(subject));
    let all = registry.get("ann", &at).await;
    assert_eq!((all.status, all.header("content-type")), (200, OCI_INDEX));
    assert_eq!(all.header("oci-filters-applied"), "");
    let mut found = digests(&all);
    found.sort();
    let mut expected = vec![Digest::of(&signature).to_string(), Digest::of(&sbom).to_string()];
    expected.sort();
    assert_eq!(found, expected);
    let filtered = registry.get("ann", &format!("{at}?artifactType=application%2Fsbom")).await;
    assert_eq!(filtered.header("oci-filters-applied"), "artifactType");
    let expected = json!([{
        "mediaType": OCI_MANIFEST, "digest": Digest::of(&sbom).to_string(), "size": sbom.len(),
        "artifactType": "application/sbom", "annotations": {"a": "application/sbom"},
    }]);
    assert_eq!(filtered.json()["manifests"], expected);
    let nothing = registry.get("ann", &format!("/v2/demo/web/referrers/{}", Digest::of(b"unknown"))).await;
    assert_eq!((nothing.status, digests(&nothing)), (200, vec![]));
}

/// An index of one manifest, which refers to `subject`; its archive, and that manifest.
fn index_of_artifact(subject: &[u8]) -> (bytes::Bytes, Vec<u8>, Vec<u8>) {
    let manifest = serde_json::to_vec(&json!({
        "schemaVersion": 2, "mediaType": OCI_MANIFEST, "artifactType": "application/x", "layers": [],
        "config": described("application/vnd.oci.empty.v1+json", b"{}"), "subject": described(OCI_MANIFEST, subject),
    }))
    .unwrap();
    let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [described(OCI_MANIFEST, &manifest)]});
    let index = serde_json::to_vec(&index).unwrap();
    let top = json!({"schemaVersion": 2, "manifests": [described(OCI_INDEX, &index)]});
    (Tar::new().blob(b"{}").blob(&manifest).blob(&index).json("index.json", &top).finish(), index, manifest)
}

#[tokio::test]
async fn a_manifest_of_an_index_is_found_by_what_it_refers_to_however_it_came() {
    for pushed in [true, false] {
        let registry = Registry::start().await;
        let (archive, index, manifest) = index_of_artifact(b"subject");
        let digest = Digest::of(&index).to_string();
        let told = json!({"oci_digest": digest, "oci_subject": format!("{digest} {}", Digest::of(b"subject"))});
        registry.cloud.image(DEMO, "web:v1", &archive, if pushed { told } else { json!({}) });
        let before = registry.cloud.asked("GET /v2/images?");
        let answer = registry.get("ann", &format!("/v2/demo/web/referrers/{}", Digest::of(b"subject"))).await;
        assert_eq!(digests(&answer), [Digest::of(&manifest).to_string()], "{pushed}");
        // Images that are hidden are listed by themselves.
        assert_eq!(registry.cloud.asked("GET /v2/images?") - before, 2);
    }
}

#[tokio::test]
async fn referrers_that_a_client_has_listed_under_a_tag_are_found_as_well() {
    let registry = Registry::start().await;
    let subject = Digest::of(b"subject");
    let listed = json!({"mediaType": OCI_MANIFEST, "digest": Digest::of(b"x").to_string(), "size": 1,
                        "artifactType": "application/x"});
    let index =
        serde_json::to_vec(&json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [listed]})).unwrap();
    let top = json!({"schemaVersion": 2, "manifests": [described(OCI_INDEX, &index)]});
    let archive = Tar::new().blob(&index).json("index.json", &top).finish();
    registry.cloud.image(DEMO, &format!("web:sha256-{}", subject.hex()), &archive, json!({"os_hidden": true}));
    let answer = registry.get("ann", &format!("/v2/demo/web/referrers/{subject}")).await;
    assert_eq!(answer.json()["manifests"], json!([listed]));
}
