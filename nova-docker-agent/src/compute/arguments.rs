//! Reading the arguments of a request.

use serde_json::{Map, Value};
use uuid::Uuid;

use super::error::Error;
use crate::objects::Instance;

/// The argument `instance`.
///
/// # Errors
/// It is missing, or is not an instance with a uuid.
pub(super) fn instance_argument(method: &str, args: &mut Map<String, Value>) -> Result<Instance, Error> {
    let bad = |problem: String| Error::BadRequest { method: method.to_owned(), problem };
    let value = args.remove("instance").ok_or_else(|| bad("the argument `instance` is missing".to_owned()))?;
    let instance = Instance::try_from(value).map_err(|error| bad(format!("the argument `instance`: {error}")))?;
    instance_uuid(&instance)?;
    Ok(instance)
}

/// The instance's uuid.
///
/// # Errors
/// It has none, or what it has is not a UUID.
pub(crate) fn instance_uuid(instance: &Instance) -> Result<Uuid, Error> {
    Uuid::parse_str(instance.uuid()).map_err(|_| Error::BadRequest {
        method: "instance".to_owned(),
        problem: format!("{:?} is not a UUID", instance.uuid()),
    })
}

/// The arguments of one request.
pub(super) struct Arguments {
    method: &'static str,
    map: Map<String, Value>,
}

impl Arguments {
    pub fn new(method: &'static str, map: Map<String, Value>) -> Self {
        Self { method, map }
    }

    /// Takes the argument `instance` out.
    ///
    /// # Errors
    /// It is missing, or is not an instance with a uuid.
    pub fn instance(&mut self) -> Result<Instance, Error> {
        instance_argument(self.method, &mut self.map)
    }

    /// An argument, as it came.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.map.get(name)
    }

    /// A yes or no; `default` when it was left out.
    pub fn flag(&self, name: &str, default: bool) -> bool {
        self.get(name).and_then(Value::as_bool).unwrap_or(default)
    }

    /// A text that must be there.
    ///
    /// # Errors
    /// It is not.
    pub fn text(&self, name: &str) -> Result<&str, Error> {
        self.get(name).and_then(Value::as_str).ok_or_else(|| self.bad(format!("the argument `{name}` is missing")))
    }

    /// An id that must be there.
    ///
    /// # Errors
    /// It is not, or is not a UUID.
    pub fn id(&self, name: &str) -> Result<Uuid, Error> {
        let text = self.text(name)?;
        Uuid::parse_str(text).map_err(|_| self.bad(format!("the argument `{name}` is {text:?}, not a UUID")))
    }

    /// All of them.
    pub fn into_map(self) -> Map<String, Value> {
        self.map
    }

    /// A request that does not make sense.
    pub fn bad(&self, problem: String) -> Error {
        Error::BadRequest { method: self.method.to_owned(), problem }
    }
}
