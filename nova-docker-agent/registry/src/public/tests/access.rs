//! Who is let in.

use serde_json::json;

use crate::Digest;
use crate::public::testing::{CREDENTIAL, DEMO, OTHER, PASSWORD, Registry, basic};
use crate::testing as archives;

#[tokio::test]
async fn whoever_has_no_token_is_told_where_to_get_one() {
    let registry = Registry::start().await;
    let answer = registry.send("GET", "/v2/", &[]).await;
    let realm = "Bearer realm=\"http://registry.test:5000/token\",service=\"registry.test:5000\"";
    assert_eq!((answer.status, answer.code().as_str()), (401, "UNAUTHORIZED"));
    assert_eq!(answer.header("www-authenticate"), realm);
    assert_eq!(answer.header("docker-distribution-api-version"), "registry/2.0");
    assert!(answer.header("x-openstack-request-id").starts_with("req-"));
    for (method, path, scope) in [
        ("GET", "/v2/demo/web/manifests/v1", "repository:demo/web:pull"),
        ("PUT", "/v2/demo/web/manifests/v1", "repository:demo/web:pull,push"),
        ("POST", "/v2/demo/web/blobs/uploads/", "repository:demo/web:pull,push"),
        ("DELETE", "/v2/demo/web/manifests/v1", "repository:demo/web:pull,delete"),
        ("GET", "/v2/_catalog", "registry:catalog:*"),
    ] {
        let answer = registry.send(method, path, &[]).await;
        assert_eq!(answer.header("www-authenticate"), format!("{realm},scope=\"{scope}\""), "{method} {path}");
    }
}

#[tokio::test]
async fn every_way_to_log_in_gives_a_token() {
    let registry = Registry::start().await;
    for user in ["ann", "Default/ann", CREDENTIAL] {
        let token = registry.token(user, &[]).await;
        let answer = registry.send("GET", "/v2/", &[("authorization", &format!("Bearer {token}"))]).await;
        assert_eq!((answer.status, answer.text().as_str()), (200, "{}"), "{user}");
    }
}

#[tokio::test]
async fn wrong_credentials_are_refused_in_words_that_docker_prints() {
    let registry = Registry::start().await;
    for user in ["eve", "Other/ann", "dddddddddddddddddddddddddddddddd"] {
        let answer = registry.send("GET", "/token", &[("authorization", &basic(user))]).await;
        assert_eq!((answer.status, answer.code().as_str()), (401, "UNAUTHORIZED"), "{user}");
        assert_eq!(answer.json()["errors"][0]["message"], "incorrect user name or password");
        assert!(!answer.text().contains(PASSWORD));
    }
    for headers in [&[][..], &[("authorization", "Bearer x")], &[("authorization", "Basic ***")]] {
        let answer = registry.send("GET", "/token?scope=repository:demo/web:pull", headers).await;
        assert_eq!(answer.status, 401);
        assert!(answer.header("www-authenticate").starts_with("Basic "));
    }
}

#[tokio::test]
async fn a_cloud_that_does_not_answer_is_no_refusal() {
    let registry = Registry::start().await;
    let token = registry.token("ann", &["repository:demo/web:pull"]).await;
    registry.cloud.set_down(true);
    let answer = registry.send("GET", "/token", &[("authorization", &basic("bob"))]).await;
    assert_eq!((answer.status, answer.code().as_str()), (503, "UNAVAILABLE"));
    let bearer = format!("Bearer {token}");
    let answer = registry.send("GET", "/v2/demo/web/tags/list", &[("authorization", &bearer)]).await;
    assert_eq!((answer.status, answer.code().as_str()), (503, "UNAVAILABLE"));
    assert_eq!(answer.header("retry-after"), "5");
}

#[tokio::test]
async fn a_token_is_only_for_what_it_was_asked_for() {
    let registry = Registry::start().await;
    let bearer = format!("Bearer {}", registry.token("ann", &["repository:demo/web:pull"]).await);
    let headers = [("authorization", bearer.as_str())];
    let answer = registry.send("GET", "/v2/demo/web/tags/list", &headers).await;
    assert_eq!(answer.status, 404);
    for (method, path) in [
        ("GET", "/v2/demo/other/tags/list"),
        ("DELETE", "/v2/demo/web/manifests/v1"),
        ("PUT", "/v2/demo/web/manifests/v1"),
        ("GET", "/v2/_catalog"),
    ] {
        let answer = registry.send(method, path, &headers).await;
        assert_eq!(answer.status, 401, "{method} {path}");
        assert!(answer.header("www-authenticate").contains("error=\"insufficient_scope\""), "{method} {path}");
    }
}

#[tokio::test]
async fn a_user_may_push_only_where_the_user_has_a_role() {
    let registry = Registry::start().await;
    for (project, may_push) in [("demo", true), (DEMO, true), (OTHER, false), ("other", false), ("nobody", false)] {
        let name = format!("{project}/web");
        let bearer = format!("Bearer {}", registry.token("ann", &[&format!("repository:{name}:*")]).await);
        let headers = [("authorization", bearer.as_str())];
        let answer = registry.send("GET", &format!("/v2/{name}/tags/list"), &headers).await;
        assert_eq!((answer.status, answer.code().as_str()), (404, "NAME_UNKNOWN"), "{name}");
        let answer = registry.send("POST", &format!("/v2/{name}/blobs/uploads/"), &headers).await;
        assert_eq!(answer.status != 401, may_push, "{name}: {}", answer.text());
    }
}

#[tokio::test]
async fn whoever_has_no_role_that_may_push_pulls_and_uploads_nothing() {
    let registry = Registry::start().await;
    let layer = archives::layer(1, 100);
    registry.cloud.image(DEMO, "web:v1", &archives::oci(std::slice::from_ref(&layer)), json!({}));
    let bearer = format!("Bearer {}", registry.token("rea", &["repository:demo/web:*"]).await);
    let headers = [("authorization", bearer.as_str())];
    assert_eq!(registry.send("GET", "/v2/demo/web/manifests/v1", &headers).await.status, 200);
    let path = format!("/v2/demo/web/blobs/{}", Digest::of(&layer));
    assert!(registry.send("GET", &path, &headers).await.body == layer);
    for (method, path) in [
        ("POST", "/v2/demo/web/blobs/uploads/"),
        ("PUT", "/v2/demo/web/manifests/v2"),
        ("DELETE", "/v2/demo/web/manifests/v1"),
        ("DELETE", path.as_str()),
    ] {
        let answer = registry.send(method, path, &headers).await;
        assert_eq!(answer.error(), (401, "DENIED".into()), "{method} {path}");
    }
    // A cloud with another policy says so.
    for (roles, may_push) in [("reader", true), ("*", true), ("uploader, admin", false)] {
        let registry = Registry::with(&[(("registry", "push_roles"), roles)]).await;
        let bearer = format!("Bearer {}", registry.token("rea", &["repository:demo/web:*"]).await);
        let headers = [("authorization", bearer.as_str())];
        let answer = registry.send("POST", "/v2/demo/web/blobs/uploads/", &headers).await;
        assert_eq!(answer.status, if may_push { 202 } else { 401 }, "{roles}");
    }
}

#[tokio::test]
async fn what_was_uploaded_and_is_in_no_image_is_for_those_who_may_push() {
    let registry = Registry::start().await;
    let token = registry.token("ann", &["repository:demo/web:pull,push"]).await;
    let empty = Digest::of(b"");
    let path = format!("/v2/demo/web/blobs/uploads/?digest={empty}");
    let bearer = format!("Bearer {token}");
    let headers = [("authorization", bearer.as_str())];
    assert_eq!(registry.send("POST", &path, &headers).await.status, 201);
    let path = format!("/v2/demo/web/blobs/{empty}");
    assert_eq!(registry.send("HEAD", &path, &headers).await.status, 200);
    assert_eq!(registry.get("rea", &path).await.error(), (404, "BLOB_UNKNOWN".into()));
}

#[tokio::test]
async fn a_token_of_another_key_or_registry_or_an_ended_one_is_refused() {
    let registry = Registry::start().await;
    let elsewhere = Registry::start().await;
    let twin = Registry::beside(&registry, &[]).await;
    let other = Registry::beside(&registry, &[(("registry", "public_url"), "http://other.test:5000")]).await;
    let short = Registry::beside(&registry, &[(("registry", "token_lifetime_seconds"), "1")]).await;
    let bearer = |token: String| format!("Bearer {token}");
    let ended = bearer(short.token("ann", &[]).await);
    let good = bearer(twin.token("ann", &[]).await);
    assert_eq!(registry.send("GET", "/v2/", &[("authorization", &good)]).await.status, 200);
    tokio::time::sleep(std::time::Duration::from_millis(1500)).await;
    for wrong in [
        bearer(elsewhere.token("ann", &[]).await),
        bearer(other.token("ann", &[]).await),
        ended,
        "Bearer x".to_owned(),
        format!("{}x", good),
    ] {
        let answer = registry.send("GET", "/v2/", &[("authorization", &wrong)]).await;
        assert_eq!(answer.status, 401);
        assert!(answer.header("www-authenticate").contains("error=\"invalid_token\""));
    }
    // A password is no token.
    let answer = registry.send("GET", "/v2/", &[("authorization", &basic("ann"))]).await;
    assert_eq!(answer.status, 401);
}

#[tokio::test]
async fn logins_are_asked_of_keystone_once_in_a_while() {
    let registry = Registry::start().await;
    for _ in 0..5 {
        registry.token("ann", &["repository:demo/web:pull", "repository:demo/app:pull,push"]).await;
    }
    // One without a project, and one for the project.
    assert_eq!(registry.cloud.asked("POST /v3/auth/tokens"), 2);
}

#[tokio::test]
async fn a_keystone_token_that_was_revoked_means_a_new_login() {
    let registry = Registry::start().await;
    let archive = archives::oci(&[archives::layer(1, 10)]);
    registry.cloud.image(DEMO, "web:v1", &archive, json!({}));
    for path in ["/v2/demo/web/manifests/v1", "/v2/_catalog"] {
        let token = registry.token("ann", &["repository:demo/web:pull", "registry:catalog:*"]).await;
        let bearer = format!("Bearer {token}");
        registry.cloud.revoke();
        let answer = registry.send("GET", path, &[("authorization", &bearer)]).await;
        assert_eq!(answer.status, 401, "{path}");
        assert!(answer.header("www-authenticate").contains("error=\"invalid_token\""), "{path}");
        assert_eq!(registry.get("ann", path).await.status, 200, "{path}");
    }
}

#[tokio::test]
async fn oauth_with_a_password_gives_the_same_token() {
    let registry = Registry::start().await;
    let post = |form: String| {
        let url = format!("http://{}/token", registry.address());
        async move {
            let client = reqwest::Client::builder().no_proxy().build().unwrap();
            let form = client.post(url).header("content-type", "application/x-www-form-urlencoded").body(form);
            form.send().await.unwrap()
        }
    };
    let form = "grant_type=password&username=ann&password=pass%3Aword&service=registry.test%3A5000&client_id=x\
                &scope=repository%3Ademo%2Fweb%3Apull";
    let answer = post(form.to_owned()).await;
    assert_eq!(answer.status(), 200);
    let body: serde_json::Value = answer.json().await.unwrap();
    assert!(body["expires_in"].as_u64().unwrap() <= 300 && body["access_token"].is_string());
    assert_eq!(post(form.replace("Aword", "Awrong")).await.status(), 401);
    assert_eq!(post(form.replace("=password", "=refresh_token")).await.status(), 400);
    assert_eq!(post(form.replace("registry.test", "other.test")).await.status(), 400);
}

#[tokio::test]
async fn what_a_user_may_not_see_is_as_if_it_were_not() {
    let registry = Registry::start().await;
    let archive = archives::legacy(&[archives::layer(1, 100)]);
    registry.cloud.image(OTHER, "secret:v1", &archive, json!({}));
    let seen = registry.get("bob", "/v2/other/secret/manifests/v1").await;
    assert_eq!(seen.status, 200);
    let digest = seen.header("docker-content-digest").to_owned();
    for reference in ["v1", &digest] {
        let hidden = registry.get("ann", &format!("/v2/{OTHER}/secret/manifests/{reference}")).await;
        let absent = registry.get("ann", &format!("/v2/{OTHER}/absent/manifests/{reference}")).await;
        assert_eq!((hidden.status, absent.status), (404, 404));
        assert_eq!(hidden.text().replace("secret", "absent"), absent.text());
    }
    let layer = crate::Digest::of(&archives::layer(1, 100));
    let hidden = registry.get("ann", &format!("/v2/{OTHER}/secret/blobs/{layer}")).await;
    assert_eq!((hidden.status, hidden.code().as_str()), (404, "BLOB_UNKNOWN"));
}

#[tokio::test]
async fn knowing_a_digest_is_not_having_the_content() {
    let registry = Registry::start().await;
    let secret = archives::layer(1, 50_000);
    let archive = archives::legacy(std::slice::from_ref(&secret));
    registry.cloud.image(OTHER, "secret:v1", &archive, json!({}));
    let digest = crate::Digest::of(&secret);
    assert!(registry.get("bob", &format!("/v2/other/secret/blobs/{digest}")).await.body == secret);
    // An image that says that it has the layer, and does not.
    let config = archives::config(std::slice::from_ref(&secret));
    let forged = archives::legacy_with(&[archives::layer(2, 50_000)], &config);
    registry.cloud.image(DEMO, "forged:v1", &forged, json!({}));
    let answer = registry.get("ann", &format!("/v2/demo/forged/blobs/{digest}")).await;
    assert!(answer.status != 200 || answer.body.len() < secret.len());
    assert!(!answer.body.starts_with(&secret[..1000]));
}
