//! Which requests wait for which: the order within one instance, and what must not be held up by slow work.

use serde_json::{Map, Value};

use crate::messaging::{Admission, Pace, Request};

/// What a method of the compute API asks of the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// It takes the lock of its instance, and keeps its place among the requests for that one.
    InTurn(Pace),
    /// It takes the lock, and does not wait for those that came before it.
    AtOnce(Pace),
    /// It changes its instance without the lock: the task state keeps other operations away.
    Beside(Pace),
    /// It takes no instance's lock and is quick.
    Free,
}

impl Kind {
    fn of(method: &str) -> Self {
        match method {
            "start_instance" | "pause_instance" | "unpause_instance" | "restore_instance" | "attach_interface"
            | "detach_interface" | "set_admin_password" | "prep_resize" => Self::InTurn(Pace::Quick),
            // They wait for the guest, which may ignore them for as long as its image says.
            "stop_instance"
            | "reboot_instance"
            | "soft_delete_instance"
            | "shelve_offload_instance"
            | "unrescue_instance"
            | "resize_instance"
            | "confirm_resize"
            | "revert_resize"
            | "finish_revert_resize" => Self::InTurn(Pace::Slow),
            // Ends a build, a shelving or an unshelving under way. Whatever waits after it finds the instance gone.
            "terminate_instance" => Self::AtOnce(Pace::Slow),
            "build_and_run_instance"
            | "shelve_instance"
            | "unshelve_instance"
            | "rebuild_instance"
            | "rescue_instance"
            // All of the guest's memory goes to the disk, or comes back from it.
            | "suspend_instance"
            | "resume_instance"
            | "finish_resize" => Self::InTurn(Pace::Long),
            "snapshot_instance" | "backup_instance" => Self::Beside(Pace::Long),
            _ => Self::Free,
        }
    }
}

/// How a request shares the service with others.
pub(super) fn admission(request: &Request) -> Admission {
    let of_instance = |urgent, pace| Admission { order: instance(&request.args), urgent, pace };
    match Kind::of(&request.method) {
        Kind::InTurn(pace) => of_instance(false, pace),
        Kind::AtOnce(pace) => of_instance(true, pace),
        Kind::Beside(pace) => Admission { pace, ..Admission::default() },
        Kind::Free => Admission::default(),
    }
}

/// Whether a method may set its instance's task.
pub(super) fn is_operation(method: &str) -> bool {
    Kind::of(method) != Kind::Free
}

/// The uuid of the instance that the arguments are about.
fn instance(args: &Map<String, Value>) -> Option<String> {
    let uuid = args.get("instance")?.get("nova_object.data")?.get("uuid")?;
    uuid.as_str().map(str::to_ascii_lowercase)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::messaging::Context;

    fn of(method: &str) -> Admission {
        let args = json!({"instance": {"nova_object.name": "Instance", "nova_object.data": {"uuid": "ABC"}}});
        admission(&Request {
            context: Context::admin(),
            method: method.to_owned(),
            args: args.as_object().unwrap().clone(),
            version: "6.0".to_owned(),
            namespace: None,
            unique_id: String::new(),
            is_call: false,
        })
    }

    #[test]
    fn operations_that_take_the_lock_of_an_instance_keep_their_order() {
        for method in
            ["build_and_run_instance", "stop_instance", "start_instance", "reboot_instance", "attach_interface"]
        {
            let admission = of(method);
            assert_eq!((admission.order.as_deref(), admission.urgent), (Some("abc"), false), "{method}");
        }
    }

    #[test]
    fn a_deletion_waits_for_no_build() {
        assert!(of("terminate_instance").urgent);
        assert!(of("terminate_instance").pace < of("build_and_run_instance").pace);
    }

    #[test]
    fn a_snapshot_is_an_operation_though_it_waits_for_no_other() {
        assert_eq!(of("snapshot_instance").order, None);
        assert!(is_operation("snapshot_instance") && is_operation("stop_instance"));
        assert!(!is_operation("get_console_output"));
    }

    #[test]
    fn events_and_questions_wait_for_nothing() {
        for method in ["external_instance_event", "get_console_output", "set_host_enabled", "reserve_block_device_name"]
        {
            assert_eq!(of(method), Admission::default(), "{method}");
        }
    }
}
