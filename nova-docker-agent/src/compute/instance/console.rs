//! `get_console_output`: what the container has written.

use std::sync::Arc;

use serde_json::Value;

use crate::compute::{
    Compute,
    arguments::{Arguments, instance_uuid},
    error::Error,
    operation::Method,
};
use crate::{
    docker, driver,
    messaging::Context,
    objects::{Instance, VmState},
};

/// `get_console_output`.
pub(in crate::compute) struct GetConsoleOutput {
    instance: Instance,
    tail: Tail,
}

impl Method for GetConsoleOutput {
    fn parse(mut arguments: Arguments) -> Result<Self, Error> {
        let tail = tail_lines(arguments.get("tail_length"));
        Ok(Self { tail, instance: arguments.instance()? })
    }

    async fn run(self, compute: Arc<Compute>, _: &Context) -> Result<Value, Error> {
        compute.console_output(&self.instance, self.tail).await
    }
}

impl Compute {
    /// The last lines, or all that is kept.
    async fn console_output(&self, instance: &Instance, tail: Tail) -> Result<Value, Error> {
        let uuid = instance_uuid(instance)?;
        let lines = match tail {
            Tail::Nothing => return Ok("".into()),
            Tail::All => None,
            Tail::Lines(lines) => Some(lines),
        };
        match self.driver.console(uuid, lines).await {
            Ok(text) => Ok(text.into()),
            Err(driver::Error::Docker(docker::Error::NotFound { .. })) => Err(not_there(instance)),
            Err(error) => Err(error.into()),
        }
    }
}

/// An instance that is still being built has no console yet; any other without a container has none at all.
fn not_there(instance: &Instance) -> Error {
    let uuid = instance.uuid();
    let kwargs = serde_json::json!({"instance_id": uuid});
    match instance.vm_state() {
        Some(VmState::Building) => {
            Error::exception("InstanceNotReady", format!("Instance {uuid} is not ready"), kwargs)
        }
        _ => Error::exception(
            "ConsoleNotAvailable",
            format!("Instance {uuid} has no container on its host"),
            Value::Null,
        ),
    }
}

enum Tail {
    All,
    Nothing,
    Lines(usize),
}

/// Nova takes a number or its text; anything else means no lines.
fn tail_lines(length: Option<&Value>) -> Tail {
    let number = match length {
        None | Some(Value::Null) => return Tail::All,
        Some(Value::String(text)) => text.trim().parse::<i64>().ok(),
        Some(value) => value.as_i64(),
    };
    match number {
        // The API's word for "everything".
        Some(-1) => Tail::All,
        Some(lines) => usize::try_from(lines).ok().filter(|lines| *lines > 0).map_or(Tail::Nothing, Tail::Lines),
        None => Tail::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn lines(value: Value) -> Option<usize> {
        match tail_lines(Some(&value)) {
            Tail::All => None,
            Tail::Nothing => Some(0),
            Tail::Lines(lines) => Some(lines),
        }
    }

    #[test]
    fn the_tail_is_a_number_or_its_text_and_garbage_is_nothing() {
        assert_eq!(lines(json!(5)), Some(5));
        assert_eq!(lines(json!("7")), Some(7));
        assert_eq!(lines(json!(0)), Some(0));
        assert_eq!(lines(json!("many")), Some(0));
        assert_eq!(lines(json!(null)), None);
        assert_eq!(lines(json!(-1)), None);
    }

    #[test]
    fn a_missing_container_is_not_ready_while_building_and_not_available_after() {
        let mut instance = Instance::slim("6ff36a1a-8c2e-4b1c-859a-84bdd78d56c8");
        instance.set("vm_state", VmState::Building.as_str());
        assert_eq!(not_there(&instance).to_failure().class, "InstanceNotReady");
        instance.set("vm_state", VmState::Active.as_str());
        assert_eq!(not_there(&instance).to_failure().class, "ConsoleNotAvailable");
    }
}
