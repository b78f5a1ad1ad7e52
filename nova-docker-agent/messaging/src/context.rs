//! The request context that travels with each message.

use std::fmt;

use secrecy::SecretString;
use serde_json::{Map, Value, json};

/// The `_context_*` keys of a message, without the prefix. Keys that this module does not know are kept and sent on.
///
/// `Debug` shows neither the token nor the service catalog.
#[derive(Clone, PartialEq)]
pub struct Context(Map<String, Value>);

impl Context {
    /// The context of work that this process starts by itself: administrator, no user, a request id of its own.
    pub fn admin() -> Self {
        let request_id = format!("req-{}", uuid::Uuid::new_v4());
        let timestamp = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S.%6f").to_string();
        let Value::Object(keys) = json!({
            "user": null, "user_id": null, "user_name": null, "user_domain": null, "user_identity": "- - - - -",
            "project": null, "project_id": null, "project_name": null, "project_domain": null, "domain": null,
            "system_scope": null, "is_admin": true, "is_admin_project": true, "read_only": false, "show_deleted": false,
            "auth_token": null, "request_id": request_id, "global_request_id": null, "resource_uuid": null, "roles": [],
            "read_deleted": "no", "remote_address": null, "timestamp": timestamp, "quota_class": null,
            "service_catalog": [],
        }) else {
            unreachable!("the literal above is an object")
        };
        Self(keys)
    }

    /// The same context with the rights of an administrator: the request id, user and project stay.
    pub fn elevated(&self) -> Self {
        let mut elevated = self.clone();
        elevated.set("is_admin", true.into());
        let mut roles: Vec<Value> = self.get("roles").and_then(Value::as_array).cloned().unwrap_or_default();
        if !roles.iter().any(|role| role.as_str() == Some("admin")) {
            roles.push("admin".into());
        }
        elevated.set("roles", Value::Array(roles));
        elevated
    }

    /// The same context, for which deleted rows are invisible (`no`), visible too (`yes`) or alone visible (`only`).
    pub fn with_read_deleted(mut self, read_deleted: &str) -> Self {
        self.set("read_deleted", read_deleted.into());
        self
    }

    /// The value of a key (without the `_context_` prefix); null is `Some(Value::Null)`.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.0.get(key)
    }

    /// Sets a key (without the `_context_` prefix).
    pub fn set(&mut self, key: &str, value: Value) {
        self.0.insert(key.to_owned(), value);
    }

    /// The id that ties together everything done for one request of a user, or "" when the sender gave none.
    pub fn request_id(&self) -> &str {
        self.str("request_id").unwrap_or_default()
    }

    /// The user's token, if the request came with one.
    pub fn auth_token(&self) -> Option<SecretString> {
        self.str("auth_token").filter(|token| !token.is_empty()).map(SecretString::from)
    }

    /// The project that the request is for.
    pub fn project_id(&self) -> Option<&str> {
        self.str("project_id")
    }

    /// The user who asks.
    pub fn user_id(&self) -> Option<&str> {
        self.str("user_id")
    }

    /// The names of the user's roles.
    pub fn roles(&self) -> Vec<&str> {
        self.get("roles").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect()
    }

    /// The keys, as they are.
    pub fn as_map(&self) -> &Map<String, Value> {
        &self.0
    }

    fn str(&self, key: &str) -> Option<&str> {
        self.get(key).and_then(Value::as_str)
    }
}

impl From<Map<String, Value>> for Context {
    fn from(keys: Map<String, Value>) -> Self {
        Self(keys)
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The catalog is no secret but long enough to bury everything else in a log line.
        let hidden = |key: &str| matches!(key, "auth_token" | "service_catalog");
        f.debug_map()
            .entries(self.0.iter().filter(|(key, value)| !hidden(key) && !value.is_null()))
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    #[test]
    fn debug_output_does_not_show_the_token() {
        let mut context = Context::admin();
        context.set("auth_token", "gAAAAA-very-secret".into());
        assert!(!format!("{context:?}").contains("very-secret"));
        assert_eq!(
            context.auth_token().map(|token| token.expose_secret().to_owned()).as_deref(),
            Some("gAAAAA-very-secret")
        );
    }

    #[test]
    fn an_elevated_context_keeps_its_request_and_gets_the_admin_role_once() {
        let mut context = Context::admin();
        context.set("is_admin", false.into());
        context.set("roles", json!(["member"]));
        let elevated = context.elevated().elevated();
        assert_eq!(elevated.request_id(), context.request_id());
        assert_eq!(elevated.roles(), ["member", "admin"]);
        assert_eq!(elevated.get("is_admin"), Some(&Value::Bool(true)));
    }

    #[test]
    fn a_fresh_context_has_a_timestamp_without_a_zone() {
        let context = Context::admin();
        let timestamp = context.str("timestamp").unwrap();
        assert_eq!(timestamp.len(), "2026-11-22T14:10:02.212587".len(), "{timestamp}");
        assert!(timestamp.parse::<jiff::civil::DateTime>().is_ok(), "{timestamp}");
    }
}
