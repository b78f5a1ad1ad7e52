//! From Nova's instance to the driver's guest.

use serde_json::Value;
use uuid::Uuid;

use crate::compute::{arguments::instance_uuid, error::Error};
use crate::{
    docker::split_command,
    guest::{Guest, PowerState, PublicKey},
    objects::Instance,
};

/// Nova's power states (`nova.compute.power_state`).
pub(crate) mod power {
    pub const NOSTATE: i64 = 0;
    pub const RUNNING: i64 = 1;
    pub const PAUSED: i64 = 3;
    pub const SHUTDOWN: i64 = 4;
    pub const CRASHED: i64 = 6;
}

/// Nova's number for what a container is doing; `NOSTATE` when there is none.
pub(crate) fn power_state(state: Option<&PowerState>) -> i64 {
    match state {
        None => power::NOSTATE,
        Some(PowerState::Running) => power::RUNNING,
        Some(PowerState::Paused) => power::PAUSED,
        Some(PowerState::Created | PowerState::Stopped { .. }) => power::SHUTDOWN,
        Some(PowerState::Crashed { .. }) => power::CRASHED,
    }
}

/// What an instance shall be in Docker.
///
/// # Errors
/// The instance lacks its flavor, or `os_command_line` is not a command line.
pub(crate) fn guest(instance: &Instance, image: &Value, compute_id: Uuid) -> Result<Guest, Error> {
    let uuid = instance_uuid(instance)?;
    let flavor = instance.flavor().ok_or_else(|| bad(uuid, "the instance has no flavor"))?;
    let amount = |value: i64, what: &str| {
        u64::try_from(value).map_err(|_| bad(uuid, &format!("the flavor's {what} is {value}")))
    };
    let text = |value: Option<&str>| value.unwrap_or_default().to_owned();
    Ok(Guest {
        uuid,
        name: text(instance.display_name()),
        hostname: text(instance.hostname()),
        project_id: text(instance.project_id()),
        user_id: text(instance.user_id()),
        vcpus: u32::try_from(flavor.vcpus()).map_err(|_| bad(uuid, "the flavor's vcpus are out of range"))?,
        memory_mb: amount(flavor.memory_mb(), "memory_mb")?,
        root_gb: amount(flavor.root_gb(), "root_gb")?,
        swap_mb: amount(flavor.swap(), "swap")?,
        command: command(image)?,
        environment: Default::default(),
        extra_specs: flavor.extra_specs(),
        key: instance.key_data().map(|data| PublicKey { name: text(instance.key_name()), data: data.to_owned() }),
        created_by: compute_id.to_string(),
    })
}

/// The image property `os_command_line` takes the place of the image's CMD.
fn command(image: &Value) -> Result<Option<Vec<String>>, Error> {
    let line = image.pointer("/properties/os_command_line").and_then(Value::as_str).map(str::trim).unwrap_or_default();
    if line.is_empty() {
        return Ok(None);
    }
    Ok(Some(split_command(line)?))
}

fn bad(uuid: Uuid, problem: &str) -> Error {
    Error::BadRequest { method: format!("instance {uuid}"), problem: problem.to_owned() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_state_of_a_container_is_known_to_nova_and_only_absence_is_nostate() {
        let states = [
            PowerState::Created,
            PowerState::Running,
            PowerState::Paused,
            PowerState::Stopped { exit_code: 0 },
            PowerState::Crashed { exit_code: 1, oom: false },
        ];
        assert!(states.iter().all(|state| power_state(Some(state)) != power::NOSTATE));
        assert_eq!(power_state(None), power::NOSTATE);
    }

    #[test]
    fn a_command_line_property_is_split_as_a_shell_would() {
        let image = json!({"properties": {"os_command_line": "sh -c 'echo a b'"}});
        assert_eq!(command(&image).unwrap(), Some(vec!["sh".to_owned(), "-c".to_owned(), "echo a b".to_owned()]));
        assert_eq!(command(&json!({"properties": {}})).unwrap(), None);
    }
}
