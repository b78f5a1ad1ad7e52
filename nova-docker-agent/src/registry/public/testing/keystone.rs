//! Keystone in a test: ann has a role in the project `demo`, bob in `other`.

use serde_json::{Value, json};
use wiremock::ResponseTemplate;

use super::{CREDENTIAL, DEMO, OTHER, PASSWORD};

pub fn project(id: &str) -> Value {
    let name = if id == DEMO { "demo" } else { "other" };
    json!({"id": id, "name": name, "domain_id": "default"})
}

pub fn log_in(body: &Value, number: usize) -> ResponseTemplate {
    let identity = &body["auth"]["identity"];
    let user = match identity["methods"][0].as_str().unwrap() {
        "password" => {
            let user = &identity["password"]["user"];
            let right = user["password"] == PASSWORD
                && (user["domain"] == json!({"id": "default"}) || user["domain"] == json!({"name": "Default"}));
            user["name"].as_str().filter(|name| right && ["ann", "bob"].contains(name))
        }
        "application_credential" => {
            let credential = &identity["application_credential"];
            (credential == &json!({"id": CREDENTIAL, "secret": PASSWORD})).then_some("ann")
        }
        _ => identity["token"]["id"].as_str().and_then(|token| token.split('/').next()),
    };
    let Some(user) = user else {
        let error = json!({"error": {"code": 401, "message": "The request you have made requires authentication."}});
        return ResponseTemplate::new(401).set_body_json(error);
    };
    let scope = body["auth"]["scope"]["project"]["id"].as_str();
    let scope = scope.or((identity["methods"][0] == "application_credential").then_some(DEMO));
    let own = if user == "ann" { DEMO } else { OTHER };
    if scope.is_some_and(|scope| scope != own) {
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
    }
    let subject = format!("{user}/{}/{number}", scope.unwrap_or_default());
    ResponseTemplate::new(201).insert_header("x-subject-token", subject).set_body_json(json!({"token": token}))
}
