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

/// A yes or no; `default` when it was left out.
pub(super) fn flag(args: &Map<String, Value>, name: &str, default: bool) -> bool {
    args.get(name).and_then(Value::as_bool).unwrap_or(default)
}

/// A text that must be there.
pub(super) fn text(args: &Map<String, Value>, name: &str, method: &str) -> Result<String, Error> {
    args.get(name).and_then(Value::as_str).map(str::to_owned).ok_or_else(|| Error::BadRequest {
        method: method.to_owned(),
        problem: format!("the argument `{name}` is missing"),
    })
}
