use futures::future::join_all;
use serde_json::json;
use wiremock::matchers::{method, path};
use wiremock::{Mock, MockServer, ResponseTemplate};

use super::super::testing::{InTurn, control_plane, find, mount_keystone, password_auth, recorded, requests, session};
use super::*;

#[tokio::test]
async fn many_callers_share_one_login() {
    let server = control_plane().await;
    let session = session(&server);
    let tokens = join_all((0..20).map(|_| session.token())).await;
    assert!(tokens.iter().all(|token| token.as_ref().unwrap().expose_secret() == "token-1"));
    assert_eq!(requests(&server, "POST /v3/auth/tokens").await.len(), 1);
}

/// A keystone that refuses the first logins and then has no more objections.
async fn keystone_that_refuses(times: u64) -> MockServer {
    let server = MockServer::start().await;
    let refusal = Mock::given(method("POST")).and(path("/v3/auth/tokens"));
    refusal.respond_with(ResponseTemplate::new(401)).up_to_n_times(times).mount(&server).await;
    mount_keystone(&server, 3600).await;
    server
}

#[tokio::test]
async fn many_callers_share_one_failure() {
    let server = keystone_that_refuses(20).await;
    let session = session(&server);
    let tokens = join_all((0..20).map(|_| session.token())).await;
    assert!(tokens.iter().all(|token| token.as_ref().unwrap_err().status() == Some(401)));
    assert_eq!(requests(&server, "POST /v3/auth/tokens").await.len(), 1);
}

#[tokio::test]
async fn a_failure_answers_for_a_moment_and_then_keystone_is_asked_again() {
    let server = keystone_that_refuses(1).await;
    let session = session(&server);
    let failed = Instant::now();
    session.token().await.unwrap_err();
    session.token().await.unwrap_err();
    assert_eq!(requests(&server, "POST /v3/auth/tokens").await.len(), 1);
    while session.token().await.is_err() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(failed.elapsed() >= FAILURE_KEPT / 2);
    assert_eq!(requests(&server, "POST /v3/auth/tokens").await.len(), 2);
}

#[tokio::test]
async fn a_keystone_that_is_back_is_found_by_the_next_who_needs_a_token() {
    let server = control_plane().await;
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    let mut auth = password_auth(&server);
    auth.auth_url = format!("http://{address}/v3").parse().unwrap();
    let session = Session::new(auth).unwrap();
    drop(free);
    assert!(matches!(session.token().await.unwrap_err(), Error::Unreachable { .. }));
    let back = MockServer::builder().listener(std::net::TcpListener::bind(address).unwrap()).start().await;
    mount_keystone(&back, 3600).await;
    session.token().await.unwrap();
}

#[tokio::test]
async fn a_login_goes_on_when_the_first_who_wanted_it_does_not() {
    let server = control_plane().await;
    let session = session(&server);
    assert!(session.token().now_or_never().is_none());
    session.token().await.unwrap();
    assert_eq!(requests(&server, "POST /v3/auth/tokens").await.len(), 1);
}

#[tokio::test]
async fn a_token_near_its_end_is_renewed() {
    let server = MockServer::start().await;
    mount_keystone(&server, 0).await;
    let session = session(&server);
    assert_eq!(session.token().await.unwrap().expose_secret(), "token-1");
    assert_eq!(session.token().await.unwrap().expose_secret(), "token-2");
}

#[tokio::test]
async fn only_the_refused_token_is_forgotten() {
    let server = control_plane().await;
    let session = session(&server);
    let token = session.token().await.unwrap();
    session.forget(&SecretString::from("some older token"));
    assert_eq!(session.token().await.unwrap().expose_secret(), "token-1");
    session.forget(&token);
    assert_eq!(session.token().await.unwrap().expose_secret(), "token-2");
}

#[tokio::test]
async fn a_login_survives_a_keystone_that_is_briefly_overloaded() {
    let server = MockServer::start().await;
    let busy = Mock::given(method("POST")).and(path("/v3/auth/tokens"));
    busy.respond_with(ResponseTemplate::new(503)).up_to_n_times(1).mount(&server).await;
    mount_keystone(&server, 3600).await;
    assert_eq!(session(&server).token().await.unwrap().expose_secret(), "token-1");
}

#[tokio::test]
async fn a_refused_login_says_so_and_is_not_repeated() {
    let server = MockServer::start().await;
    let refusal = json!({ "error": { "code": 401, "message": "The request you have made requires authentication.", "title": "Unauthorized" } });
    let answer = ResponseTemplate::new(401).set_body_json(refusal);
    Mock::given(method("POST")).respond_with(answer).expect(1).mount(&server).await;
    let error = session(&server).token().await.unwrap_err().to_string();
    assert!(error.starts_with("keystone refused POST /v3/auth/tokens: 401: The request"), "{error}");
}

/// A session that has logged in. Its token is due for renewal, though it is valid for another hour.
async fn with_a_token_that_is_due(then: Vec<ResponseTemplate>) -> (MockServer, Session) {
    let server = MockServer::start().await;
    let body =
        json!({ "token": { "issued_at": "2026-01-01T00:00:00.000000Z", "expires_at": "2026-01-01T00:01:00.000000Z" } });
    let token = |name: &str| ResponseTemplate::new(201).insert_header("x-subject-token", name).set_body_json(&body);
    let answers = [token("old")].into_iter().chain(then).collect();
    Mock::given(method("POST")).respond_with(InTurn::new(answers)).mount(&server).await;
    let session = session(&server);
    session.token().await.unwrap();
    let mut login = session.inner.login.write().unwrap();
    let old = login.take().unwrap();
    let (renew_at, end) = (Instant::now(), Instant::now() + Duration::from_secs(3600));
    *login = Some(Arc::new(Login { token: old.token.clone(), renew_at, end, catalog: old.catalog.clone() }));
    drop(login);
    (server, session)
}

async fn logins(server: &MockServer, wanted: usize) {
    while server.received_requests().await.unwrap().len() < wanted {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn nobody_waits_for_the_renewal_of_a_token_that_still_works() {
    let body =
        json!({ "token": { "issued_at": "2026-01-01T00:00:00.000000Z", "expires_at": "2026-01-01T01:00:00.000000Z" } });
    let next = ResponseTemplate::new(201).insert_header("x-subject-token", "new").set_body_json(body);
    let (server, session) = with_a_token_that_is_due(vec![next]).await;
    for _ in 0..5 {
        assert_eq!(session.token().await.unwrap().expose_secret(), "old");
    }
    logins(&server, 2).await;
    while session.token().await.unwrap().expose_secret() != "new" {
        tokio::task::yield_now().await;
    }
    assert_eq!(server.received_requests().await.unwrap().len(), 2);
}

#[tokio::test]
async fn an_old_token_serves_while_keystone_is_away() {
    let (server, session) = with_a_token_that_is_due(vec![ResponseTemplate::new(500)]).await;
    assert_eq!(session.token().await.unwrap().expose_secret(), "old");
    logins(&server, 2).await;
    assert_eq!(session.token().await.unwrap().expose_secret(), "old");
}

#[tokio::test]
async fn a_password_login_has_the_shape_of_stock_novas() {
    let calls = recorded(include_str!("../../../tests/wire/rest/create_net.jsonl"));
    let stock = find(&calls, "POST", "/v3/auth/tokens");
    let server = control_plane().await;
    session(&server).token().await.unwrap();
    let sent = requests(&server, "POST /v3/auth/tokens").await;
    let mut body: Value = sent[0].body_json().unwrap();
    body["auth"]["identity"]["password"]["user"]["password"] = "tb".into();
    assert_eq!(body, stock.request);
}

#[test]
fn an_application_credential_by_id_needs_no_user_and_no_scope() {
    let auth = AuthConfig {
        auth_url: "http://k".parse().unwrap(),
        credentials: Credentials::ApplicationCredential {
            id: Named::Id("abc".into()),
            user: None,
            user_domain: None,
            secret: "s3cret".into(),
        },
        scope: Scope::Unscoped,
        tls: super::super::TlsConfig::default(),
        timeout: None,
    };
    let expected = json!({ "identity": {
        "methods": ["application_credential"],
        "application_credential": { "id": "abc", "secret": "s3cret" }
    }});
    assert_eq!(auth_body(&auth.credentials, &auth.scope), expected);
    assert!(!format!("{auth:?}").contains("s3cret"));
}

#[test]
fn every_usual_form_of_auth_url_leads_to_the_tokens() {
    for (given, expected) in [
        ("http://h:5000", "http://h:5000/v3/auth/tokens"),
        ("http://h:5000/v3", "http://h:5000/v3/auth/tokens"),
        ("http://h:5000/v3/", "http://h:5000/v3/auth/tokens"),
        ("https://h/identity", "https://h/identity/v3/auth/tokens"),
        ("https://h/identity/v2.0", "https://h/identity/v3/auth/tokens"),
    ] {
        assert_eq!(tokens_url(&given.parse().unwrap()).as_str(), expected);
    }
}

#[test]
fn no_secret_is_in_the_debug_form_of_a_password() {
    let server_less = AuthConfig { auth_url: "http://k".parse().unwrap(), ..test_auth() };
    assert!(!format!("{server_less:?}").contains("hunter2"));
}

fn test_auth() -> AuthConfig {
    AuthConfig {
        auth_url: "http://k".parse().unwrap(),
        credentials: Credentials::Password {
            user: Named::Name("nova".into()),
            user_domain: None,
            password: "hunter2".into(),
        },
        scope: Scope::System,
        tls: super::super::TlsConfig::default(),
        timeout: None,
    }
}

#[tokio::test]
async fn a_keystone_that_is_not_there_is_named_with_the_cause() {
    let server = control_plane().await;
    let mut auth = password_auth(&server);
    auth.auth_url = "http://127.0.0.1:1".parse().unwrap();
    let session = Session::new(auth).unwrap();
    let error = session.token().await.unwrap_err().to_string();
    assert!(error.contains("keystone did not answer POST /v3/auth/tokens") && error.contains("refused"), "{error}");
}
