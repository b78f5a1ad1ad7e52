//! Operations that containers do not have, and how each is refused so that its user gets a plain answer: never a stuck
//! task state, never an HTTP 500 (`protocol`: calls raise an exception that the API knows, casts leave a fault and an event).

use serde_json::{Value, json};
use uuid::Uuid;

use crate::compute::error::Error;
use crate::objects::TaskState;

/// How a method is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The caller waits for an answer: an exception that its handler turns into a 4xx or 501.
    Call(Answer),
    /// Nobody waits: event, fault, task state reset.
    Cast(Cast),
    /// Nobody waits, and no action of the instance has begun that an event could be of: a fault, for what this is.
    Fault(&'static str),
}

/// The exception that answers a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    class: &'static str,
    what: &'static str,
    /// The call is part of an instance action: it has an event.
    pub event: Option<&'static str>,
}

/// What a refused cast leaves behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cast {
    pub event: &'static str,
    what: &'static str,
    /// What the API has set for it. A request that finds another task, or none, came twice or late.
    pub task: Option<TaskState>,
    pub aftermath: Aftermath,
}

/// What the API has prepared for a cast, and what its refusal must take back besides the task state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Aftermath {
    Nothing,
    /// A claim on this host for an instance of another one (`migration`).
    Evacuation,
    /// A claim on this host and an allocation held by the migration (`migration`).
    Resize,
    /// An instance whose fate the request has already decided elsewhere: only the migration is marked.
    Migration,
}

/// A step of a resize or a migration to another host, with the task that the one before it has set.
pub(crate) const fn migration(task: TaskState) -> Cast {
    Cast {
        event: "compute_prep_resize",
        what: "Migrating a container to another host",
        task: Some(task),
        aftermath: Aftermath::Resize,
    }
}

/// A rebuild on another host than the instance's.
pub(crate) const EVACUATION: Cast = Cast {
    event: "compute_rebuild_instance",
    what: "Evacuating a container",
    task: Some(TaskState::Rebuilding),
    aftermath: Aftermath::Evacuation,
};

const LIVE_MIGRATION: Cast = Cast {
    event: "compute_live_migration",
    what: LIVE,
    task: Some(TaskState::Migrating),
    aftermath: Aftermath::Migration,
};
const LIVE: &str = "Live migration of a container";

const fn call(class: &'static str, what: &'static str) -> Refusal {
    Refusal::Call(Answer { class, what, event: None })
}

/// For these the API sets no task: one that is there is another operation's.
const fn cast(event: &'static str, what: &'static str) -> Refusal {
    Refusal::Cast(Cast { event, what, task: None, aftermath: Aftermath::Nothing })
}

/// The refusal of `method`, none when it is not a method of the compute RPC API that we refuse.
pub(crate) fn refusal(method: &str) -> Option<Refusal> {
    const MIGRATION: &str = "Migrating a container to another cell";
    const VOLUMES: &str = "Attaching volumes to a container";
    Some(match method {
        "get_vnc_console" | "get_spice_console" | "get_mks_console" | "get_rdp_console" => {
            call("ConsoleTypeUnavailable", "This console")
        }
        "get_host_uptime" | "host_power_action" | "host_maintenance_mode" => call("NotImplementedError", ""),
        "reserve_block_device_name" => Refusal::Call(Answer { class: "NotSupported", what: VOLUMES, event: None }),
        "remove_volume_connection" => call("NotSupported", VOLUMES),
        "check_can_live_migrate_destination" => Refusal::Call(Answer {
            class: "MigrationPreCheckError",
            what: LIVE,
            event: Some("compute_check_can_live_migrate_destination"),
        }),
        "check_can_live_migrate_source" => Refusal::Call(Answer {
            class: "MigrationPreCheckError",
            what: LIVE,
            event: Some("compute_check_can_live_migrate_source"),
        }),
        "pre_live_migration" | "post_live_migration_at_destination" => call("MigrationPreCheckError", LIVE),
        "prep_snapshot_based_resize_at_dest"
        | "prep_snapshot_based_resize_at_source"
        | "finish_snapshot_based_resize_at_dest"
        | "confirm_snapshot_based_resize_at_source"
        | "revert_snapshot_based_resize_at_dest"
        | "finish_revert_snapshot_based_resize_at_source" => call("MigrationPreCheckError", MIGRATION),
        "quiesce_instance" => call("InstanceQuiesceNotSupported", "Quiescing a container"),
        "add_fixed_ip_to_instance" => Refusal::Fault("Adding a fixed IP to a container"),
        "remove_fixed_ip_from_instance" => Refusal::Fault("Removing a fixed IP from a container"),
        "attach_volume" => cast("compute_attach_volume", VOLUMES),
        "detach_volume" => cast("compute_detach_volume", "Detaching volumes from a container"),
        "swap_volume" => cast("compute_swap_volume", VOLUMES),
        "volume_snapshot_create" | "volume_snapshot_delete" => Refusal::Fault(VOLUMES),
        "live_migration" => Refusal::Cast(LIVE_MIGRATION),
        "rollback_live_migration_at_destination" => cast("compute_rollback_live_migration_at_destination", LIVE),
        "drop_move_claim_at_destination" => Refusal::Fault(LIVE),
        "live_migration_force_complete" => cast("compute_live_migration_force_complete", LIVE),
        "live_migration_abort" => cast("compute_live_migration_abort", LIVE),
        "trigger_crash_dump" => cast("compute_trigger_crash_dump", "A crash dump of a container"),
        "unquiesce_instance" => Refusal::Fault("Quiescing a container"),
        "allow_share" => cast("compute_allow_share", "Attaching shares to a container"),
        "deny_share" => cast("compute_deny_share", "Attaching shares to a container"),
        _ => return None,
    })
}

impl Answer {
    /// The exception, with the keyword arguments that its message or the API's handler reads.
    pub fn error(&self, instance: Option<Uuid>, console_type: Option<&str>) -> Error {
        let id = instance.map(|uuid| uuid.to_string());
        let message = sentence(self.what);
        let (message, kwargs) = match self.class {
            "ConsoleTypeUnavailable" => {
                let console = console_type.unwrap_or("requested");
                (
                    format!(
                        "A {console} console is not available for containers; use the console log or a serial console."
                    ),
                    json!({"console_type": console}),
                )
            }
            "MigrationPreCheckError" => (message.clone(), json!({"reason": message})),
            "InstanceQuiesceNotSupported" => (message.clone(), json!({"instance_id": id, "reason": message})),
            _ => (message, Value::Null),
        };
        Error::exception(self.class, message, kwargs)
    }
}

impl Cast {
    /// The sentence that the user reads in the fault and in the event.
    pub fn error(&self) -> Error {
        unsupported(self.what)
    }
}

pub(crate) fn unsupported(what: &str) -> Error {
    Error::exception("NotSupported", sentence(what), Value::Null)
}

fn sentence(what: &str) -> String {
    format!("{what} is not supported by nova-docker-agent; the instance was left as it is.")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every method of the compute RPC API 6.5 that is not served, so that none is forgotten.
    const REFUSED: &[&str] = &[
        "add_fixed_ip_to_instance",
        "allow_share",
        "attach_volume",
        "check_can_live_migrate_destination",
        "check_can_live_migrate_source",
        "confirm_snapshot_based_resize_at_source",
        "deny_share",
        "detach_volume",
        "drop_move_claim_at_destination",
        "finish_revert_snapshot_based_resize_at_source",
        "finish_snapshot_based_resize_at_dest",
        "get_host_uptime",
        "get_mks_console",
        "get_spice_console",
        "get_vnc_console",
        "host_maintenance_mode",
        "host_power_action",
        "live_migration",
        "live_migration_abort",
        "live_migration_force_complete",
        "post_live_migration_at_destination",
        "pre_live_migration",
        "prep_snapshot_based_resize_at_dest",
        "prep_snapshot_based_resize_at_source",
        "quiesce_instance",
        "remove_fixed_ip_from_instance",
        "remove_volume_connection",
        "reserve_block_device_name",
        "revert_snapshot_based_resize_at_dest",
        "rollback_live_migration_at_destination",
        "swap_volume",
        "trigger_crash_dump",
        "unquiesce_instance",
        "volume_snapshot_create",
        "volume_snapshot_delete",
    ];

    #[test]
    fn every_method_that_is_not_served_has_a_refusal_of_its_own() {
        for method in REFUSED {
            assert!(refusal(method).is_some(), "{method}");
        }
        assert_eq!(refusal("build_and_run_instance"), None);
        assert_eq!(refusal("no_such_method"), None);
    }

    #[test]
    fn the_event_of_a_refused_cast_is_named_after_its_method() {
        for method in REFUSED {
            if let Some(Refusal::Cast(cast)) = refusal(method) {
                assert_eq!(cast.event, format!("compute_{method}"));
            }
        }
    }

    #[test]
    fn a_refused_console_names_its_type_for_the_api() {
        let Some(Refusal::Call(answer)) = refusal("get_vnc_console") else { panic!("a call") };
        let failure = answer.error(None, Some("novnc")).to_failure();
        assert_eq!((failure.module.as_str(), failure.class.as_str()), ("nova.exception", "ConsoleTypeUnavailable"));
        assert_eq!(failure.kwargs["console_type"], "novnc");
    }

    #[test]
    fn a_missing_feature_of_the_host_is_a_builtin_not_implemented_error() {
        let Some(Refusal::Call(answer)) = refusal("get_host_uptime") else { panic!("a call") };
        let failure = answer.error(None, None).to_failure();
        assert_eq!((failure.module.as_str(), failure.class.as_str()), ("builtins", "NotImplementedError"));
        assert!(failure.args.is_empty());
    }
}
