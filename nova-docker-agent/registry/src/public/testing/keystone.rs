//! Keystone in a test: ann has a role in the project `demo`, bob in `other`, cat in many, and dan in none. Rea may only read, in
//! `demo`.

use serde_json::{Value, json};
use wiremock::ResponseTemplate;

use super::{CREDENTIAL, DEMO, OTHER, PASSWORD};

/// How many projects cat has a role in. The first ones are ann's and bob's.
pub const MANY: usize = 20;

/// Keystone's id of the project `pNUMBER`, one of cat's.
pub fn id_of(number: usize) -> String {
    format!("{number:032x}")
}

fn project(id: &str) -> Value {
    let name = match id {
        DEMO => "demo".to_owned(),
        OTHER => "other".to_owned(),
        id => format!("p{}", usize::from_str_radix(id, 16).unwrap()),
    };
    json!({"id": id, "name": name, "domain_id": "default"})
}

fn ids(user: &str) -> Vec<String> {
    match user {
        "ann" | "rea" => vec![DEMO.to_owned()],
        "bob" => vec![OTHER.to_owned()],
        "dan" => vec![],
        _ => [DEMO, OTHER].map(str::to_owned).into_iter().chain((2..MANY).map(id_of)).collect(),
    }
}

/// Where a user has a role.
pub fn projects(user: &str) -> Value {
    ids(user).iter().map(|id| project(id)).collect()
}

/// User, project and number of a token, of the form `USER/PROJECT/NUMBER`.
pub fn parse(token: &str) -> Option<(&str, &str, usize)> {
    let (user, rest) = token.split_once('/')?;
    let (project, number) = rest.split_once('/')?;
    Some((user, project, number.parse().ok()?))
}

/// Gives the token with this number; for another token, unless that is one of the first ones, which are `revoked`.
pub fn log_in(body: &Value, number: usize, revoked: usize) -> ResponseTemplate {
    let identity = &body["auth"]["identity"];
    let user = match identity["methods"][0].as_str().unwrap() {
        "password" => {
            let user = &identity["password"]["user"];
            let right = user["password"] == PASSWORD
                && (user["domain"] == json!({"id": "default"}) || user["domain"] == json!({"name": "Default"}));
            user["name"].as_str().filter(|name| right && ["ann", "bob", "cat", "dan", "rea"].contains(name))
        }
        "application_credential" => {
            let credential = &identity["application_credential"];
            (credential == &json!({"id": CREDENTIAL, "secret": PASSWORD})).then_some("ann")
        }
        _ => {
            let token = identity["token"]["id"].as_str().and_then(parse);
            token.filter(|(.., number)| *number > revoked).map(|(user, ..)| user)
        }
    };
    let Some(user) = user else {
        let error = json!({"error": {"code": 401, "message": "The request you have made requires authentication."}});
        return ResponseTemplate::new(401).set_body_json(error);
    };
    let scope = body["auth"]["scope"]["project"]["id"].as_str();
    let scope = scope.or((identity["methods"][0] == "application_credential").then_some(DEMO));
    if scope.is_some_and(|scope| !ids(user).iter().any(|own| own == scope)) {
        return ResponseTemplate::new(401);
    }
    let mut token = json!({
        "issued_at": "2026-01-01T00:00:00.000000Z", "expires_at": "2026-01-01T01:00:00.000000Z",
        "user": {"id": format!("id-of-{user}"), "name": user, "domain": {"id": "default", "name": "Default"}},
    });
    if let Some(scope) = scope {
        let mut project = project(scope);
        project["domain"] = json!({"id": "default", "name": "Default"});
        token["project"] = project;
        let roles: &[&str] = if user == "rea" { &["reader"] } else { &["Member", "reader"] };
        token["roles"] = roles.iter().map(|name| json!({"id": "f00", "name": name})).collect();
    }
    let subject = format!("{user}/{}/{number}", scope.unwrap_or_default());
    ResponseTemplate::new(201).insert_header("x-subject-token", subject).set_body_json(json!({"token": token}))
}
