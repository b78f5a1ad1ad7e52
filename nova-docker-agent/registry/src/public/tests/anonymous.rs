//! Pulls without a login.

use std::sync::Arc;

use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::Digest;
use crate::config::from_settings;
use crate::public::property;
use crate::public::testing::{Answer, Asked, CREDENTIAL, DEMO, Double, LONG, OTHER, PASSWORD, Registry};
use crate::public::token::{Key, Tokens};
use crate::testing as archives;
use nova_docker_cloud::Keystone;
use nova_docker_service::config::Settings;

async fn registry(user: &str) -> Registry {
    Registry::with(&[(("registry", "anonymous_user"), user), (("registry", "anonymous_password"), PASSWORD)]).await
}

/// A request with the token that a client without a login gets.
async fn ask(registry: &Registry, method: &str, path: &str, scope: &str) -> Answer {
    ask_from(registry, [127, 0, 0, 1], method, path, scope).await
}

async fn ask_from(registry: &Registry, from: [u8; 4], method: &str, path: &str, scope: &str) -> Answer {
    let token = format!("/token?service=registry.test:5000&scope={scope}");
    let token = registry.send_from(from, "GET", &token, &[]).await;
    assert_eq!(token.status, 200, "{}", token.text());
    let bearer = format!("Bearer {}", token.json()["token"].as_str().unwrap());
    registry.send_from(from, method, path, &[("authorization", &bearer)]).await
}

#[tokio::test]
async fn who_has_not_logged_in_pulls_public_images_and_no_others() {
    let registry = registry("rea").await;
    let [public, private] = [1, 2].map(|seed| archives::layer(seed, 100));
    let add = |name: &str, layer, visibility| {
        registry.cloud.image(DEMO, name, &archives::oci(std::slice::from_ref(layer)), json!({"visibility": visibility}))
    };
    add("web:v1", &public, "public");
    let hidden = ["private", "shared", "community"].map(|kind| add(&format!("web:{kind}"), &private, kind));
    for project in ["demo", DEMO] {
        let scope = format!("repository:{project}/web:pull");
        let get = async |what: &str| ask(&registry, "GET", &format!("/v2/{project}/web/{what}"), &scope).await;
        assert_eq!(get("manifests/v1").await.status, 200, "{project}");
        assert!(get(&format!("blobs/{}", Digest::of(&public))).await.body == public);
        assert_eq!(get("tags/list").await.json()["tags"], json!(["v1"]));
        for tag in ["private", "shared", "community"] {
            assert_eq!(get(&format!("manifests/{tag}")).await.error(), (404, "MANIFEST_UNKNOWN".into()), "{tag}");
        }
        assert_eq!(get(&format!("blobs/{}", Digest::of(&private))).await.error(), (404, "BLOB_UNKNOWN".into()));
    }
    for id in hidden {
        let (path, scope) = (format!("/v2/demo/{id}/manifests/latest"), format!("repository:demo/{id}:pull"));
        assert_eq!(ask(&registry, "GET", &path, &scope).await.status, 404);
        assert_eq!(registry.get("ann", &path).await.status, 200, "who has logged in sees it");
    }
}

#[tokio::test]
async fn of_projects_that_the_identity_has_no_role_in_public_images_are_had_by_the_projects_id() {
    let registry = registry(CREDENTIAL).await;
    registry.cloud.image(OTHER, "web:v1", &archives::oci(&[archives::layer(1, 10)]), json!({"visibility": "public"}));
    for (project, status) in [(OTHER, 200), ("other", 404)] {
        let path = format!("/v2/{project}/web/manifests/v1");
        assert_eq!(ask(&registry, "GET", &path, &format!("repository:{project}/web:pull")).await.status, status);
    }
}

#[tokio::test]
async fn who_has_not_logged_in_changes_and_lists_nothing_whatever_the_identity_may() {
    let registry = registry("ann").await;
    registry.cloud.image(DEMO, "web:v1", &archives::oci(&[archives::layer(1, 10)]), json!({"visibility": "public"}));
    for (method, path) in [
        ("POST", "/v2/demo/web/blobs/uploads/"),
        ("PUT", "/v2/demo/web/manifests/v2"),
        ("DELETE", "/v2/demo/web/manifests/v1"),
        ("GET", "/v2/_catalog"),
    ] {
        let answer = ask(&registry, method, path, "repository:demo/web:*&scope=registry:catalog:*").await;
        assert_eq!(answer.error(), (401, "UNAUTHORIZED".into()), "{method} {path}");
        // A client that has credentials comes again with them.
        assert!(!answer.header("www-authenticate").contains("error="), "{method} {path}");
    }
    assert_eq!(registry.cloud.changes(), []);
}

#[tokio::test]
async fn one_client_that_has_not_logged_in_does_not_keep_others_from_listing() {
    // How many of the projects that it asks for at one time are listed: behind a proxy are many clients, but not all that there are.
    for (shared, listed) in [("", 4), ("127.0.0.2/32", 16)] {
        let options = [
            (("registry", "anonymous_user"), "rea"),
            (("registry", "anonymous_password"), PASSWORD),
            (("registry", "shared_addresses"), shared),
        ];
        let registry = Arc::new(Registry::with(&options).await);
        registry.cloud.stall_listings();
        let mut waiting = JoinSet::new();
        let mut pull = |from, project: String| {
            waiting.spawn(pull_from(registry.clone(), from, format!("{project}/web")));
        };
        let projects: Vec<String> = (1..=20).map(|number| format!("{number:032}")).collect();
        projects.iter().for_each(|project| pull(2, project.clone()));
        let are_listed = async |times| timeout(LONG, registry.cloud.was_asked_of("GET /v2/images?", times)).await;
        are_listed(listed).await.unwrap();
        let asked = registry.cloud.take_asked();
        assert_eq!(asked.iter().filter(|asked| asked.starts_with("GET /v2/images?")).count(), listed);
        let asked = asked.concat();
        let project = projects.iter().find(|project| !asked.contains(*project)).expect("all were listed");
        if shared.is_empty() {
            // Another one does not wait for what the first one is to get first.
            pull(3, project.clone());
            are_listed(1).await.unwrap();
            assert!(registry.cloud.take_asked().concat().contains(&format!("owner={project}")));
        }
        let user = registry.clone();
        waiting.spawn(async move { user.get("ann", "/v2/demo/web/manifests/v1").await });
        are_listed(1).await.unwrap();
    }
}

async fn pull_from(registry: Arc<Registry>, from: u8, name: String) -> Answer {
    let (path, scope) = (format!("/v2/{name}/manifests/v1"), format!("repository:{name}:pull"));
    ask_from(&registry, [127, 0, 0, from], "GET", &path, &scope).await
}

#[tokio::test]
async fn one_client_that_has_not_logged_in_does_not_keep_others_from_opening_images() {
    let registry = Arc::new(registry("rea").await);
    let add = |number: u8| {
        let archive = archives::oci(&[archives::layer(number, 10)]);
        registry.cloud.image(DEMO, &format!("web{number}:v1"), &archive, json!({"visibility": "public"}))
    };
    let images = [0, 1, 2, 3].map(add);
    registry.cloud.stall();
    let mut waiting = JoinSet::new();
    let mut pull = |from, number: usize| {
        waiting.spawn(pull_from(registry.clone(), from, format!("demo/web{number}")));
    };
    (0..4).for_each(|number| pull(2, number));
    timeout(LONG, registry.cloud.was_asked(Asked::Read, 2)).await.unwrap();
    let asked = registry.cloud.take_asked().concat();
    let file = |number: usize| format!("GET /v2/images/{}/file", images[number]);
    let number = (0..4).find(|number| !asked.contains(&file(*number))).unwrap();
    // Another one does not wait for what the first one is to get first.
    pull(3, number);
    timeout(LONG, registry.cloud.was_asked_of(&file(number), 1)).await.unwrap();
}

#[tokio::test]
async fn the_identity_deletes_images_without_a_tag_though_nobody_pushes() {
    let (cloud, services) = Double::start().await;
    let old = json!({
        "os_hidden": true, "created_at": "2020-01-01T00:00:00Z", "updated_at": "2020-01-01T00:00:00Z",
        property::REPOSITORY: "web", property::DIGEST: Digest::of(b"old").to_string(),
    });
    let name = format!("web@{}", Digest::of(b"old"));
    cloud.image(DEMO, &name, &archives::oci(&[archives::layer(1, 10)]), old);
    let options = [
        (("registry", "anonymous_user"), "ann"),
        (("registry", "anonymous_password"), PASSWORD),
        (("registry", "untagged_retention_days"), "1"),
    ];
    let registry = Registry::before((cloud.clone(), services), &options).await;
    timeout(LONG, cloud.was_asked(Asked::Delete, 1)).await.expect("nothing is deleted");
    registry.stop().await;
    assert_eq!(cloud.images(), vec![]);
}

#[tokio::test]
async fn the_identity_acts_by_itself_where_it_may_push_and_nowhere_else() {
    for (user, projects) in [(Some("ann"), vec![DEMO]), (Some("rea"), vec![]), (None, vec![])] {
        let (_cloud, services) = Double::start().await;
        let url = services.uri();
        let mut map = vec![(("keystone", "auth_url"), url.as_str()), (("glance", "endpoint_override"), url.as_str())];
        map.extend(user.map(|user| (("registry", "anonymous_user"), user)));
        map.extend(user.map(|_| (("registry", "anonymous_password"), PASSWORD)));
        let config = from_settings(&Settings::from_map(map)).unwrap().0.registry;
        let tokens = Tokens::new(config.tokens, Keystone::new(&config.keystone).unwrap(), Key::of([7; 32]));
        let grants = tokens.own("req").await.unwrap();
        assert_eq!(grants.iter().map(|grant| grant.owner.as_str()).collect::<Vec<_>>(), projects, "{user:?}");
    }
}

#[tokio::test]
async fn a_wrong_login_is_no_pull_without_one_and_an_identity_that_is_refused_is_told_to_the_operator_alone() {
    let registry = registry("rea").await;
    for header in ["Basic ***", "Bearer x"] {
        assert_eq!(registry.send("GET", "/token", &[("authorization", header)]).await.status, 401);
    }
    let registry =
        Registry::with(&[(("registry", "anonymous_user"), "rea"), (("registry", "anonymous_password"), "old")]).await;
    let answer = registry.send("GET", "/token?scope=repository:demo/web:pull", &[]).await;
    assert_eq!((answer.error(), answer.message()), ((401, "UNAUTHORIZED".into()), "log in first: docker login".into()));
}
