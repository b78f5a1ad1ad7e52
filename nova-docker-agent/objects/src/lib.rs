//! Nova's versioned objects: the primitive form without loss, and typed views of it.
//!
//! An object travels as `{"nova_object.name": .., "nova_object.namespace": "nova", "nova_object.version": ..,
//! "nova_object.data": {field: value}, "nova_object.changes": [field]}`. A field that is absent was not loaded, which is
//! not the same as null. Fields and minor versions that this agent does not know pass through untouched, because an
//! object is often sent back (oslo.versionedobjects, `base.py`).

mod instance;
mod states;
mod views;

use std::collections::BTreeSet;
use std::fmt;

use serde_json::{Map, Value};

pub use states::{Expected, MigrationStatus, PowerState, TaskState, VmState};
pub use views::{
    BlockDeviceMapping, ComputeNode, ExternalEvent, Flavor, Instance, InstanceAction, InstanceActionEvent,
    InstanceGroup, InstanceInfoCache, Migration, NetworkRequest, RequestSpec, Service, VirtualInterface,
};

/// Why a value is not the object that was expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The value has no primitive form of an object.
    #[error("a versioned object was expected, found {found}: {reason}")]
    NotAnObject { found: &'static str, reason: String },
    /// The value is an object of another class.
    #[error("an object of class {expected} was expected, found {found}")]
    OtherClass { expected: &'static str, found: String },
}

/// A versioned object. Nothing of the primitive form is lost between [`Object::from_value`] and [`Object::to_value`].
///
/// `Debug` shows which object it is and not what it holds: user data and connection secrets travel in objects.
#[derive(Clone, PartialEq)]
pub struct Object {
    /// The class, such as `Instance`.
    pub name: String,
    /// Always `nova` for Nova's objects.
    pub namespace: String,
    /// The version in whose form the fields are.
    pub version: String,
    /// The fields that are loaded. Nested objects are in primitive form.
    pub data: Map<String, Value>,
    /// The fields that were set since the object was last saved.
    pub changes: BTreeSet<String>,
    /// Keys of the primitive form that this agent does not know.
    rest: Map<String, Value>,
}

const NAME: &str = "nova_object.name";
const NAMESPACE: &str = "nova_object.namespace";
const VERSION: &str = "nova_object.version";
const DATA: &str = "nova_object.data";
const CHANGES: &str = "nova_object.changes";

impl Object {
    /// An object without fields.
    pub fn new(name: &str, version: &str) -> Self {
        Self {
            name: name.to_owned(),
            namespace: "nova".to_owned(),
            version: version.to_owned(),
            data: Map::new(),
            changes: BTreeSet::new(),
            rest: Map::new(),
        }
    }

    /// Takes the primitive form apart.
    pub fn from_value(value: Value) -> Result<Self, Error> {
        let found = kind(&value);
        let malformed = |reason: String| Error::NotAnObject { found, reason };
        let Value::Object(mut primitive) = value else {
            return Err(malformed("not a JSON object".to_owned()));
        };
        let mut text = |key: &str| match primitive.remove(key) {
            Some(Value::String(text)) => Ok(text),
            Some(other) => Err(malformed(format!("{key} is {}", kind(&other)))),
            None => Err(malformed(format!("{key} is missing"))),
        };
        let (name, namespace, version) = (text(NAME)?, text(NAMESPACE)?, text(VERSION)?);
        let data = match primitive.remove(DATA) {
            Some(Value::Object(data)) => data,
            _ => return Err(malformed(format!("{DATA} of {name} is missing"))),
        };
        let changes = match primitive.remove(CHANGES) {
            None => BTreeSet::new(),
            Some(changes) => {
                serde_json::from_value(changes).map_err(|error| malformed(format!("{CHANGES} of {name}: {error}")))?
            }
        };
        Ok(Self { name, namespace, version, data, changes, rest: primitive })
    }

    /// The primitive form.
    pub fn to_value(&self) -> Value {
        let mut primitive = self.rest.clone();
        primitive.insert(NAME.to_owned(), self.name.clone().into());
        primitive.insert(NAMESPACE.to_owned(), self.namespace.clone().into());
        primitive.insert(VERSION.to_owned(), self.version.clone().into());
        primitive.insert(DATA.to_owned(), Value::Object(self.data.clone()));
        if !self.changes.is_empty() {
            primitive.insert(CHANGES.to_owned(), self.changes.iter().cloned().collect());
        }
        Value::Object(primitive)
    }

    /// Sets a field and records the change.
    pub fn set(&mut self, field: &str, value: impl Into<Value>) {
        self.data.insert(field.to_owned(), value.into());
        self.changes.insert(field.to_owned());
    }

    /// A field in primitive form. Null is `Some(Value::Null)`; a field that is not loaded is `None`.
    pub fn get(&self, field: &str) -> Option<&Value> {
        self.data.get(field)
    }

    /// A text field; `None` also for null.
    pub fn str(&self, field: &str) -> Option<&str> {
        self.get(field).and_then(Value::as_str)
    }

    /// An integer field; `None` also for null.
    pub fn int(&self, field: &str) -> Option<i64> {
        self.get(field).and_then(Value::as_i64)
    }

    /// A field of a fraction; `None` also for null.
    pub fn float(&self, field: &str) -> Option<f64> {
        self.get(field).and_then(Value::as_f64)
    }

    /// A boolean field; `None` also for null.
    pub fn bool(&self, field: &str) -> Option<bool> {
        self.get(field).and_then(Value::as_bool)
    }

    /// A field that is an object; `None` also for null.
    pub fn object(&self, field: &str) -> Option<Object> {
        self.get(field).cloned().and_then(|value| Self::from_value(value).ok())
    }

    /// The members of a list object (`InstanceList`, ..); empty for any other object.
    pub fn objects(&self) -> Vec<Object> {
        let members = self.get("objects").and_then(Value::as_array);
        members.into_iter().flatten().cloned().filter_map(|value| Self::from_value(value).ok()).collect()
    }

    /// Takes over the fields that a remote method sent back, as they are, without recording them as changes.
    pub fn apply(&mut self, updates: Map<String, Value>) {
        self.data.extend(updates);
    }

    /// Forgets which fields were set, after they were saved.
    pub fn clear_changes(&mut self) {
        self.changes.clear();
    }
}

impl From<Object> for Value {
    fn from(object: Object) -> Self {
        object.to_value()
    }
}

impl fmt::Debug for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = ["uuid", "instance_uuid", "id", "host"].into_iter().find_map(|field| self.get(field));
        f.debug_struct(&self.name)
            .field("version", &self.version)
            .field("id", &id)
            .field("changes", &self.changes)
            .finish()
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "a JSON object",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn primitive() -> Value {
        json!({
            "nova_object.name": "Thing", "nova_object.namespace": "nova", "nova_object.version": "1.9",
            "nova_object.data": {"uuid": "u", "unknown": {"a": [1, null]}, "host": null},
            "nova_object.changes": ["unknown", "host"], "nova_object.future": 7,
        })
    }

    #[test]
    fn an_object_of_a_newer_version_passes_through() {
        let mut expected = primitive();
        expected["nova_object.changes"] = json!(["host", "unknown"]);
        assert_eq!(Object::from_value(primitive()).unwrap().to_value(), expected);
    }

    #[test]
    fn null_and_not_loaded_are_different() {
        let object = Object::from_value(primitive()).unwrap();
        assert_eq!(object.get("host"), Some(&Value::Null));
        assert_eq!(object.get("node"), None);
    }

    #[test]
    fn setting_a_field_records_it_and_an_update_does_not() {
        let mut object = Object::new("Service", "1.22");
        object.set("report_count", 3);
        object.apply(Map::from_iter([("id".to_owned(), json!(1))]));
        assert_eq!(object.changes, BTreeSet::from(["report_count".to_owned()]));
        object.clear_changes();
        assert!(object.to_value().get(CHANGES).is_none());
        assert_eq!(object.int("id"), Some(1));
    }

    #[test]
    fn what_is_missing_is_named() {
        let error = Object::from_value(json!({"nova_object.name": "Thing"})).unwrap_err();
        assert!(error.to_string().contains("nova_object.namespace is missing"), "{error}");
        assert!(Object::from_value(Value::Null).is_err());
    }

    #[test]
    fn debug_output_does_not_show_what_the_object_holds() {
        let mut object = Object::new("Instance", "2.8");
        object.set("user_data", "c2VjcmV0");
        assert!(!format!("{object:?}").contains("c2VjcmV0"));
    }
}
