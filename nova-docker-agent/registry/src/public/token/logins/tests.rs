use super::*;
use crate::public::testing::{Double, PASSWORD};
use nova_docker_cloud::KeystoneConfig;

async fn logins() -> (Logins, Double, wiremock::MockServer) {
    let (cloud, server) = Double::start().await;
    let config = KeystoneConfig { auth_url: server.uri().parse().unwrap(), tls: Default::default(), timeout: None };
    let mut logins = Logins::new(Keystone::new(&config).unwrap(), Named::Id("default".into()), vec![]);
    logins.kept = Duration::ZERO;
    (logins, cloud, server)
}

#[tokio::test]
async fn keystone_is_asked_again_without_the_password_as_long_as_it_stands_by_its_token() {
    let (logins, cloud, _server) = logins().await;
    for _ in 0..3 {
        let login = logins.log_in("cat", PASSWORD, None, "req").await.unwrap();
        assert!(logins.member(&login, &login.projects[0].id, "req").await.unwrap().is_some());
    }
    let asked = |what: &str| cloud.asked(what);
    // The login, and the token for the project, once; each time, where the user has a role.
    assert_eq!((asked("POST /v3/auth/tokens"), asked("GET /v3/auth/projects")), (2, 3));
    cloud.revoke();
    let login = logins.log_in("cat", PASSWORD, None, "req").await.unwrap();
    assert!(logins.member(&login, &login.projects[0].id, "req").await.unwrap().is_some());
    assert_eq!((asked("POST /v3/auth/tokens"), asked("GET /v3/auth/projects")), (4, 5));
    assert!(logins.log_in("cat", "wrong", None, "req").await.is_err());
}

#[tokio::test]
async fn a_keystone_that_does_not_answer_is_not_asked_for_a_password_instead() {
    let (logins, cloud, _server) = logins().await;
    logins.log_in("cat", PASSWORD, None, "req").await.unwrap();
    cloud.set_down(true);
    let Err(error) = logins.log_in("cat", PASSWORD, None, "req").await else { panic!("keystone is down") };
    assert_eq!((error.code, cloud.asked("POST /v3/auth/tokens")), (Code::Unavailable, 1));
}

#[tokio::test]
async fn a_password_is_asked_about_again_after_a_while() {
    let (logins, _cloud, _server) = logins().await;
    logins.log_in("cat", PASSWORD, None, "req").await.unwrap();
    let proven = Instant::now() + PROVEN_FOR;
    let known: Vec<Arc<Login>> = logins.known.iter().map(|(_, login)| login).collect();
    assert!(known[0].is_renewable(proven - KEPT, Duration::ZERO));
    assert!(!known[0].is_renewable(proven, Duration::ZERO));
}

#[tokio::test]
async fn wrong_passwords_take_no_room_from_logins_that_are_known() {
    let (mut logins, cloud, _server) = logins().await;
    logins.kept = KEPT;
    for password in [PASSWORD, "wrong", "worse", PASSWORD] {
        assert_eq!(logins.log_in("cat", password, None, "req").await.is_ok(), password == PASSWORD);
    }
    assert_eq!(logins.known.iter().count(), 1);
    assert_eq!(cloud.asked("POST /v3/auth/tokens"), 3);
}

#[tokio::test]
async fn who_guesses_is_stopped_and_who_is_logged_in_from_there_is_not() {
    let (logins, cloud, _server) = logins().await;
    let address = Some("192.0.2.1".parse().unwrap());
    logins.log_in("cat", PASSWORD, address, "req").await.unwrap();
    let mut codes = vec![];
    for guess in 0..20 {
        codes.extend(
            logins.log_in("cat", &format!("guess {guess}"), address, "req").await.err().map(|error| error.code),
        );
    }
    assert_eq!(codes, [vec![Code::Unauthorized; 10], vec![Code::TooManyRequests; 10]].concat());
    assert_eq!(cloud.asked("POST /v3/auth/tokens"), 11);
    // Keystone's own token proves the user, without the password.
    logins.log_in("cat", PASSWORD, address, "req").await.unwrap();
    logins.log_in("bob", PASSWORD, address, "req").await.unwrap();
}
