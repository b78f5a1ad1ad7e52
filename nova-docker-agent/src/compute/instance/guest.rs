//! From Nova's instance to the driver's guest.

use std::collections::BTreeMap;

use serde_json::Value;
use uuid::Uuid;

use crate::compute::{arguments::instance_uuid, error::Error};
use crate::{
    driver,
    guest::{self, Configuration, Guest, Inside, Peers, PublicKey, configuration::Sources},
    objects::{Instance, PowerState},
};

/// What the names of an image's properties begin with in the instance's system metadata.
const KEPT: &str = "image_";
/// Nova cuts after 255 bytes, and before a character of more than one that would go beyond.
const SURELY_WHOLE: usize = 251;

/// What a container is doing, in Nova's words; `NoState` when there is none.
pub(crate) fn power_state(state: Option<&guest::PowerState>) -> PowerState {
    match state {
        None => PowerState::NoState,
        Some(guest::PowerState::Running) => PowerState::Running,
        Some(guest::PowerState::Paused) => PowerState::Paused,
        Some(guest::PowerState::Suspended) => PowerState::Suspended,
        Some(guest::PowerState::Created | guest::PowerState::Stopped { .. }) => PowerState::Shutdown,
        Some(guest::PowerState::Crashed { .. }) => PowerState::Crashed,
    }
}

/// What an instance shall be in Docker.
///
/// # Errors
/// The instance lacks its flavor, or its user data, its metadata, its flavor's extra specs or its image's properties have mistakes.
pub(crate) fn guest(instance: &Instance, image: &Value, compute_id: Uuid) -> Result<Guest, Error> {
    let uuid = instance_uuid(instance)?;
    let flavor = instance.flavor().ok_or_else(|| bad(uuid, "the instance has no flavor"))?;
    // To Docker a zero is no limit at all.
    if flavor.vcpus() < 1 || flavor.memory_mb() < 1 {
        return Err(bad(uuid, "the flavor has no processor or no memory"));
    }
    let amount = |value: i64, what: &str| {
        u64::try_from(value).map_err(|_| bad(uuid, &format!("the flavor's {what} is {value}")))
    };
    let memory_mb = amount(flavor.memory_mb(), "memory_mb")?;
    let text = |value: Option<&str>| value.unwrap_or_default().to_owned();
    let sources = Sources {
        properties: properties(image),
        extra_specs: flavor.extra_specs(),
        metadata: instance.metadata(),
        user_data: text(instance.user_data()),
        memory_mb,
        ..Sources::default()
    };
    Ok(Guest {
        uuid,
        name: text(instance.display_name()),
        hostname: text(instance.hostname()),
        project_id: text(instance.project_id()),
        user_id: text(instance.user_id()),
        vcpus: u32::try_from(flavor.vcpus()).map_err(|_| bad(uuid, "the flavor's vcpus are out of range"))?,
        memory_mb,
        root_gb: amount(flavor.root_gb(), "root_gb")?,
        swap_mb: amount(flavor.swap(), "swap")?,
        configuration: Configuration::parse(&sources).map_err(driver::Error::from)?,
        links: Peers::default(),
        key: instance.key_data().map(|data| PublicKey { name: text(instance.key_name()), data: data.to_owned() }),
        rescues: false,
        inside: Inside { admin_user: admin_user(instance), ..Inside::default() },
        created_by: compute_id.to_string(),
    })
}

/// Whose password is the instance's: image property `os_admin_user`, or root.
pub(crate) fn admin_user(instance: &Instance) -> String {
    let named = instance.system_metadata().remove("image_os_admin_user").filter(|name| !name.is_empty());
    named.unwrap_or_else(|| "root".to_owned())
}

/// The image's record with the properties that Nova keeps with the instance, which has cut them. None when that may be so with one
/// that counts here.
pub(crate) fn kept_image(instance: &Instance) -> Option<Value> {
    let kept = instance.system_metadata();
    let properties: BTreeMap<&str, &str> =
        kept.iter().filter_map(|(name, value)| Some((name.strip_prefix(KEPT)?, value.as_str()))).collect();
    let is_cut = |(name, value): (&&str, &&str)| {
        value.len() > SURELY_WHOLE && (name.starts_with("docker_") || *name == "os_command_line")
    };
    (!properties.iter().any(is_cut)).then(|| serde_json::json!({ "properties": properties }))
}

/// The image's properties that are texts, numbers or truths, as texts.
fn properties(image: &Value) -> BTreeMap<String, String> {
    let text = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
        _ => None,
    };
    let all = image.get("properties").and_then(Value::as_object).into_iter().flatten();
    all.filter_map(|(name, value)| Some((name.clone(), text(value)?))).collect()
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
            guest::PowerState::Created,
            guest::PowerState::Running,
            guest::PowerState::Paused,
            guest::PowerState::Stopped { exit_code: 0 },
            guest::PowerState::Crashed { exit_code: 1, oom: false },
        ];
        assert!(states.iter().all(|state| power_state(Some(state)) != PowerState::NoState));
        assert_eq!(power_state(None), PowerState::NoState);
    }

    #[test]
    fn a_flavor_of_any_size_is_refused_or_limits_its_container() {
        for &amount in crate::limits::extremes::SIGNED {
            for field in ["vcpus", "memory_mb", "root_gb", "swap"] {
                let mut flavor = crate::objects::Object::new("Flavor", "1.2");
                for (name, usual) in [("vcpus", 1), ("memory_mb", 64), ("root_gb", 1), ("swap", 0)] {
                    flavor.set(name, if name == field { amount } else { usual });
                }
                let mut instance = Instance::slim("6ff36a1a-8c2e-4b1c-859a-84bdd78d56c8");
                instance.set("flavor", flavor.to_value());
                let made = guest(&instance, &json!({}), Uuid::nil());
                assert!(made.is_ok() || amount != 1, "{field}");
                let Ok(guest) = made else { continue };
                assert!(guest.vcpus >= 1 && guest.memory_mb >= 1, "{field} {amount}");
            }
        }
    }

    fn instance(metadata: Value) -> Instance {
        let mut flavor = crate::objects::Object::new("Flavor", "1.2");
        for (name, amount) in [("vcpus", 1), ("memory_mb", 64), ("root_gb", 1), ("swap", 0)] {
            flavor.set(name, amount);
        }
        let mut instance = Instance::slim("6ff36a1a-8c2e-4b1c-859a-84bdd78d56c8");
        instance.set("flavor", flavor.to_value());
        instance.set("metadata", metadata);
        instance
    }

    #[test]
    fn properties_and_metadata_configure_the_container() {
        let image =
            json!({"properties": {"os_command_line": "sh -c 'echo a b'", "docker_tty": true, "docker_user": 7}});
        let made = guest(&instance(json!({"docker:env:A": "1"})), &image, Uuid::nil()).unwrap().configuration;
        assert_eq!(made.command, Some(vec!["sh".to_owned(), "-c".to_owned(), "echo a b".to_owned()]));
        assert_eq!((made.tty, made.user.as_deref(), made.environment.0["A"].as_str()), (Some(true), Some("7"), "1"));
    }

    #[test]
    fn properties_that_nova_keeps_are_the_images_unless_it_has_cut_one_of_ours() {
        let with = |value: &str| {
            let mut instance = instance(json!({}));
            instance
                .set("system_metadata", json!({"image_docker_user": value, "image_note": "n".repeat(255), "x": "y"}));
            kept_image(&instance).map(|image| guest(&instance, &image, Uuid::nil()).unwrap().configuration.user)
        };
        assert_eq!(with("7"), Some(Some("7".to_owned())));
        assert_eq!(with(&"u".repeat(251)), Some(Some("u".repeat(251))));
        assert_eq!(with(&"u".repeat(252)), None);
    }

    #[test]
    fn user_data_that_is_a_service_configures_the_container() {
        let mut instance = instance(json!({"docker:tty": "true"}));
        // #container-config, tty: false
        instance.set("user_data", "I2NvbnRhaW5lci1jb25maWcKdHR5OiBmYWxzZQo=");
        assert_eq!(guest(&instance, &json!({}), Uuid::nil()).unwrap().configuration.tty, Some(false));
    }

    #[test]
    fn a_mistake_is_the_users_and_no_other_host_is_asked() {
        let error = guest(&instance(json!({"docker:usr": "s3cret"})), &json!({}), Uuid::nil()).unwrap_err();
        assert!(!error.is_reschedulable());
        assert_eq!((error.fault_code(), error.to_failure().class.as_str()), (400, "Invalid"));
        assert!(
            error.to_string().starts_with("docker:usr: there is no such key") && !error.to_string().contains("s3cret")
        );
    }
}
