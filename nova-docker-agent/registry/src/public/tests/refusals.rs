//! What is hidden from a user, and what is not there, are told apart by nothing: neither by the answer nor by what it takes to
//! find it, which a clock would show.

use serde_json::json;

use crate::Digest;
use crate::public::testing::{Answer, DEMO, OTHER, PASSWORD, Registry, basic};
use crate::testing as archives;

/// An image of bob's, and an upload of his that is not finished.
const IMAGE: &str = "6e0b6f8e-3b1f-4f0a-9d57-0c2a8a4f2f11";
const NO_UPLOAD: &str = "6e0b6f8e-3b1f-4f0a-9d57-0c2a8a4f2f12";
/// A project that keystone does not know.
const NOBODY: &str = "33333333333333333333333333333333";

fn secret_layer() -> Vec<u8> {
    archives::layer(1, 5000)
}

/// What bob has and ann may not see, and what of it bob has used; the id of his upload.
async fn fill(registry: &Registry) -> String {
    let archive = archives::oci(&[secret_layer()]);
    registry.cloud.image(OTHER, "secret:v1", &archive, json!({"id": IMAGE}));
    let seen = registry.get("bob", "/v2/other/secret/manifests/v1").await;
    assert_eq!(seen.status, 200);
    let referrer = archives::oci(&[archives::layer(2, 100)]);
    let subject = json!({"oci_repository": "secret", "oci_subject": seen.header("docker-content-digest")});
    registry.cloud.image(OTHER, "secret:signature", &referrer, subject);
    let layer = Digest::of(&secret_layer());
    assert_eq!(registry.get("bob", &format!("/v2/other/secret/blobs/{layer}")).await.status, 200);
    registry.until_cached(&layer).await;
    let begun = upload(registry, "bob", "other/secret", "").await;
    begun.header("docker-upload-uuid").to_owned()
}

/// Begins an upload, with what `query` says beside.
async fn upload(registry: &Registry, user: &str, name: &str, query: &str) -> Answer {
    let scopes = [format!("repository:{name}:pull,push"), format!("repository:{OTHER}/secret:pull")];
    let bearer = format!("Bearer {}", registry.token(user, &scopes.each_ref().map(String::as_str)).await);
    let begun =
        registry.send("POST", &format!("/v2/{name}/blobs/uploads/{query}"), &[("authorization", &bearer)]).await;
    assert_eq!(begun.status, 202, "{}", begun.text());
    begun
}

/// An answer without what differs between any two.
fn told(answer: &Answer) -> (u16, Vec<String>, String) {
    let of_its_own = ["date", "x-openstack-request-id"];
    let of_an_upload = ["location", "docker-upload-uuid"];
    let mut headers: Vec<String> = answer
        .headers
        .iter()
        .filter(|(name, _)| !of_its_own.contains(&name.as_str()))
        .filter(|(name, _)| answer.status != 202 || !of_an_upload.contains(&name.as_str()))
        .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
        .collect();
    headers.sort();
    (answer.status, headers, answer.text())
}

/// A request of ann's, in a cloud where bob has something and in one where he has nothing: cold, and at once again.
async fn is_the_same(method: &str, path: &str, query: &str) {
    let (full, empty) = (Registry::start().await, Registry::start().await);
    let upload_id = fill(&full).await;
    assert!(full.cloud.asked("GET /v2/images") > 0 && empty.cloud.asked("GET /v2/images") == 0);
    full.cloud.take_asked();
    let path = path.replace("UPLOAD", &upload_id);
    for time in ["cold", "warm"] {
        let mut seen = vec![];
        for registry in [&full, &empty] {
            let answer = match query {
                "" => registry.ask("ann", method, &path, &[]).await,
                query => upload(registry, "ann", "demo/mine", query).await,
            };
            assert!(answer.status != 200 || path.contains("/referrers/"), "{}", answer.text());
            // bob has logged in, so numbers of logins differ: they are in no request.
            seen.push((told(&answer), registry.cloud.take_asked()));
        }
        assert_eq!(seen[0], seen[1], "{time}: {method} {path}{query}");
    }
}

#[tokio::test]
async fn nobody_can_tell_what_is_hidden_from_what_is_not_there() {
    let registry = Registry::start().await;
    fill(&registry).await;
    let manifest = registry.get("bob", "/v2/other/secret/manifests/v1").await;
    let manifest = manifest.header("docker-content-digest").to_owned();
    let layer = Digest::of(&secret_layer());
    let named = ["manifests/v1", "tags/list"].map(|what| format!("/v2/other/secret/{what}"));
    for path in named {
        is_the_same("GET", &path, "").await;
    }
    for (method, what) in [
        ("GET", "secret/manifests/v1".to_owned()),
        ("HEAD", "secret/manifests/v1".to_owned()),
        ("GET", format!("secret/manifests/{manifest}")),
        ("HEAD", format!("secret/manifests/{manifest}")),
        ("GET", format!("{IMAGE}/manifests/latest")),
        ("GET", format!("secret/blobs/{layer}")),
        ("HEAD", format!("secret/blobs/{layer}")),
        ("GET", "secret/tags/list".to_owned()),
        ("GET", format!("secret/referrers/{manifest}")),
        ("DELETE", "secret/manifests/v1".to_owned()),
        ("DELETE", format!("secret/manifests/{manifest}")),
        ("DELETE", format!("secret/blobs/{layer}")),
        ("GET", "secret/blobs/uploads/UPLOAD".to_owned()),
    ] {
        is_the_same(method, &format!("/v2/{OTHER}/{what}"), "").await;
    }
}

#[tokio::test]
async fn what_others_have_is_not_found_by_its_digest_or_upload_in_a_project_of_ones_own() {
    let registry = Registry::start().await;
    fill(&registry).await;
    let layer = Digest::of(&secret_layer());
    for (method, what) in [
        ("GET", format!("blobs/{layer}")),
        ("HEAD", format!("blobs/{layer}")),
        ("GET", "blobs/uploads/UPLOAD".to_owned()),
        ("PATCH", "blobs/uploads/UPLOAD".to_owned()),
        ("PUT", format!("blobs/uploads/UPLOAD?digest={layer}")),
        ("DELETE", "blobs/uploads/UPLOAD".to_owned()),
    ] {
        is_the_same(method, &format!("/v2/demo/mine/{what}"), "").await;
    }
    for query in [format!("?mount={layer}&from={OTHER}/secret"), format!("?mount={layer}&from=other/secret")] {
        is_the_same("POST", "/v2/demo/mine/blobs/uploads/", &query).await;
    }
    // An upload that nobody has ever begun.
    let begun = upload(&registry, "bob", "other/secret", "").await;
    let mut seen = vec![];
    for id in [NO_UPLOAD, begun.header("docker-upload-uuid")] {
        seen.push(told(&registry.get("ann", &format!("/v2/demo/mine/blobs/uploads/{id}")).await));
    }
    assert_eq!(seen[0], seen[1]);
}

#[tokio::test]
async fn a_project_that_one_has_no_role_in_is_like_one_that_does_not_exist() {
    for (hidden, absent) in [("other", "ghost"), (OTHER, NOBODY)] {
        let mut seen = vec![];
        for project in [hidden, absent] {
            let registry = Registry::start().await;
            fill(&registry).await;
            registry.cloud.take_asked();
            let path = format!("/token?scope=repository:{project}/secret:pull,push,delete");
            let answer = registry.send("GET", &path, &[("authorization", &basic("ann"))]).await;
            assert_eq!(answer.status, 200);
            let token = answer.json()["token"].as_str().unwrap().to_owned();
            let bearer = format!("Bearer {token}");
            let mut answers = vec![];
            for (method, what) in [("GET", "manifests/v1"), ("GET", "tags/list"), ("POST", "blobs/uploads/")] {
                let path = format!("/v2/{project}/secret/{what}");
                answers.push(told(&registry.send(method, &path, &[("authorization", &bearer)]).await));
            }
            let text = format!("{answers:?} {:?}", registry.cloud.take_asked());
            seen.push((token.len(), text.replace(project, "PROJECT")));
        }
        assert_eq!(seen[0], seen[1], "{hidden} {absent}");
    }
}

#[tokio::test]
async fn a_user_who_is_not_known_is_told_the_same_as_one_with_a_wrong_password() {
    let registry = Registry::start().await;
    let mut seen = vec![];
    for (user, password) in [("eve", PASSWORD), ("ann", "wrong"), (DEMO, PASSWORD)] {
        use base64::Engine as _;
        let credentials = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
        let headers = [("authorization", format!("Basic {credentials}"))];
        let headers = headers.each_ref().map(|(name, value)| (*name, value.as_str()));
        let answer = registry.send("GET", "/token?scope=repository:demo/web:pull", &headers).await;
        seen.push((told(&answer), registry.cloud.take_asked()));
    }
    assert_eq!(seen[0].0.0, 401);
    assert_eq!(seen[0], seen[1]);
    assert_eq!(seen[0], seen[2]);
}
