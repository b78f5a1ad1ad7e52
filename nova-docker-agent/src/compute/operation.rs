//! Every method that Nova's RPC clients may ask for, parsed once.
//!
//! A new operation is a file with a type that is a [`Method`], and one line in the list below.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::{
    Compute,
    arguments::Arguments,
    error::Error,
    instance::{
        backup::Backup,
        console::GetConsoleOutput,
        diagnostics::{GetDiagnostics, GetInstanceDiagnostics},
        password::SetAdminPassword,
        power::{Pause, Reboot, Start, Stop, Unpause},
        rebuild::Rebuild,
        request::BuildRequest,
        rescue::{Rescue, Unrescue},
        serial_console::{GetSerialConsole, ValidateConsolePort},
        shelve::Shelve,
        shelve_offload::Offload,
        snapshot::Snapshot,
        soft_delete::{Restore, SoftDelete},
        suspend::{Resume, Suspend},
        terminate::Terminate,
        unshelve::Unshelve,
    },
    migration::{ConfirmResize, FinishResize, FinishRevertResize, PrepResize, ResizeInstance, RevertResize},
    node::host::{CacheImages, CheckSharedStorage, SetHostEnabled},
    ports::{
        attach::{AttachInterface, DetachInterface},
        cache::InjectNetworkInfo,
        external_events::ExternalInstanceEvent,
    },
    reconcile::not_begun::QueuePassed,
    refusal::table::{Refusal, refusal},
};
use crate::messaging::Context;

/// One operation: its arguments, and how it is carried out.
pub(super) trait Method: Sized {
    /// # Errors
    /// An argument is missing or has no meaning.
    fn parse(arguments: Arguments) -> Result<Self, Error>;

    /// Ends what would keep the operation waiting for its turn. Most wait.
    fn clear_the_way(&self, _compute: &Compute) -> impl Future<Output = ()> + Send {
        std::future::ready(())
    }

    /// Returns what the caller is answered; null where nobody waits for an answer.
    fn run(self, compute: Arc<Compute>, context: &Context) -> impl Future<Output = Result<Value, Error>> + Send;
}

/// A method that containers do not have.
pub(super) struct Refused {
    method: String,
    refusal: Refusal,
    arguments: Map<String, Value>,
}

macro_rules! operations {
    ($($method:literal => $variant:ident,)*) => {
        /// A request, its arguments read.
        pub(super) enum Operation {
            $($variant(Box<$variant>),)*
            Refused(Refused),
        }

        impl Operation {
            /// The methods that are served.
            #[cfg(test)]
            pub(super) const METHODS: &'static [&'static str] = &[$($method,)*];

            /// Reads a request; none when there is no such method.
            ///
            /// # Errors
            /// An argument is missing or has no meaning.
            pub(super) fn parse(method: &str, arguments: Map<String, Value>) -> Result<Option<Self>, Error> {
                Ok(match method {
                    $($method => {
                        let arguments = Arguments::new($method, arguments);
                        Some(Self::$variant(Box::new(Method::parse(arguments)?)))
                    })*
                    _ => refusal(method)
                        .map(|refusal| Self::Refused(Refused { method: method.to_owned(), refusal, arguments })),
                })
            }

            /// Ends what would keep the request waiting for its turn.
            pub(super) async fn clear_the_way(&self, compute: &Compute) {
                match self {
                    $(Self::$variant(operation) => operation.clear_the_way(compute).await,)*
                    Self::Refused(_) => {}
                }
            }

            /// Carries the request out.
            ///
            /// # Errors
            /// What became of it has been told to Nova.
            pub(super) async fn run(self, compute: Arc<Compute>, context: &Context) -> Result<Value, Error> {
                match self {
                    // Boxed: the state of all operations in one future would be as large as the largest, and too deep for the compiler.
                    $(Self::$variant(operation) => Box::pin(operation.run(compute, context)).await,)*
                    Self::Refused(Refused { method, refusal, arguments }) => {
                        compute.refuse(context, &method, refusal, arguments).await
                    }
                }
            }
        }
    };
}

operations! {
    "build_and_run_instance" => BuildRequest,
    "terminate_instance" => Terminate,
    "soft_delete_instance" => SoftDelete,
    "restore_instance" => Restore,
    "start_instance" => Start,
    "stop_instance" => Stop,
    "reboot_instance" => Reboot,
    "pause_instance" => Pause,
    "unpause_instance" => Unpause,
    "suspend_instance" => Suspend,
    "resume_instance" => Resume,
    "snapshot_instance" => Snapshot,
    "backup_instance" => Backup,
    "shelve_instance" => Shelve,
    "shelve_offload_instance" => Offload,
    "unshelve_instance" => Unshelve,
    "rebuild_instance" => Rebuild,
    "rescue_instance" => Rescue,
    "unrescue_instance" => Unrescue,
    "prep_resize" => PrepResize,
    "resize_instance" => ResizeInstance,
    "finish_resize" => FinishResize,
    "confirm_resize" => ConfirmResize,
    "revert_resize" => RevertResize,
    "finish_revert_resize" => FinishRevertResize,
    "get_console_output" => GetConsoleOutput,
    "get_diagnostics" => GetDiagnostics,
    "get_instance_diagnostics" => GetInstanceDiagnostics,
    "set_admin_password" => SetAdminPassword,
    "get_serial_console" => GetSerialConsole,
    "attach_interface" => AttachInterface,
    "detach_interface" => DetachInterface,
    "inject_network_info" => InjectNetworkInfo,
    "external_instance_event" => ExternalInstanceEvent,
    "set_host_enabled" => SetHostEnabled,
    "cache_images" => CacheImages,
    "check_instance_shared_storage" => CheckSharedStorage,
    "validate_console_port" => ValidateConsolePort,
    "queue_passed" => QueuePassed,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse(method: &str, arguments: Value) -> Result<Option<Operation>, Error> {
        Operation::parse(method, arguments.as_object().unwrap().clone())
    }

    #[test]
    fn no_method_is_both_served_and_refused() {
        for method in Operation::METHODS {
            assert_eq!(refusal(method), None, "{method}");
        }
    }

    #[test]
    fn a_method_without_its_instance_is_a_bad_request_and_an_unknown_one_is_none() {
        assert!(matches!(parse("stop_instance", json!({})), Err(Error::BadRequest { .. })));
        assert!(parse("no_such_method", json!({})).unwrap().is_none());
    }

    #[test]
    fn a_reboot_is_hard_only_when_it_says_so() {
        let instance =
            || crate::objects::Instance::slim("6ff36a1a-8c2e-4b1c-859a-84bdd78d56c8").into_object().to_value();
        for (kind, hard) in [("HARD", true), ("SOFT", false)] {
            let Ok(Some(Operation::Reboot(reboot))) =
                parse("reboot_instance", json!({"instance": instance(), "reboot_type": kind}))
            else {
                panic!("a reboot")
            };
            assert_eq!(reboot.hard, hard);
        }
    }
}
