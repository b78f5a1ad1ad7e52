//! What a user sees in `openstack server event list` and as a fault.

use serde_json::json;

use super::{Conductor, kwargs};
use crate::messaging::{CallError, Context};
use crate::objects::{InstanceAction, InstanceActionEvent, Object};

/// How an event failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventFailure {
    /// A sentence for the user.
    pub message: String,
    /// Details for an administrator.
    pub traceback: String,
}

/// Nova cuts a fault's message at the length of its column.
const FAULT_MESSAGE_LENGTH: usize = 255;

impl Conductor {
    /// Begins an event of the action that has the context's request id.
    pub async fn event_start(&self, context: &Context, uuid: &str, event: &str, host: &str) -> Result<(), CallError> {
        let args = vec![uuid.into(), event.into()];
        let options = kwargs([("want_result", false.into()), ("host", host.into())]);
        self.class_action(context, "InstanceActionEvent", "event_start", args, options).await.map(drop)
    }

    /// Ends an event with success or failure.
    pub async fn event_finish(
        &self,
        context: &Context,
        uuid: &str,
        event: &str,
        failure: Option<&EventFailure>,
    ) -> Result<(), CallError> {
        let args = vec![uuid.into(), event.into()];
        // The result is recorded as Error only when there is a traceback, whatever the message says.
        let traceback = failure.map(|failure| match failure.traceback.as_str() {
            "" => &failure.message,
            traceback => traceback,
        });
        let options = kwargs([
            ("exc_val", json!(failure.map(|failure| &failure.message))),
            ("exc_tb", json!(traceback)),
            ("want_result", false.into()),
        ]);
        self.class_action(context, "InstanceActionEvent", "event_finish_with_failure", args, options).await.map(drop)
    }

    /// The last actions on an instance, the newest first.
    pub async fn actions(&self, context: &Context, uuid: &str, limit: u32) -> Result<Vec<InstanceAction>, CallError> {
        let options = kwargs([("limit", limit.into())]);
        self.list(context, "InstanceActionList", "get_by_instance_uuid", vec![uuid.into()], options).await
    }

    /// The events of an action, by the action's number.
    pub async fn events(&self, context: &Context, action: i64) -> Result<Vec<InstanceActionEvent>, CallError> {
        self.list(context, "InstanceActionEventList", "get_by_action", vec![action.into()], kwargs([])).await
    }

    /// Begins an action that nobody asked for, such as the stop that follows when a guest ended by itself.
    pub async fn action_start(&self, context: &Context, uuid: &str, action: &str) -> Result<(), CallError> {
        let args = vec![uuid.into(), action.into()];
        let options = kwargs([("want_result", false.into())]);
        self.class_action(context, "InstanceAction", "action_start", args, options).await.map(drop)
    }

    /// Records why an operation failed. `code` is what an HTTP status would be; `details` are shown to administrators
    /// and, for code 500 only, nobody else.
    pub async fn create_fault(
        &self,
        context: &Context,
        uuid: &str,
        code: u16,
        message: &str,
        details: &str,
        host: &str,
    ) -> Result<(), CallError> {
        let mut fault = Object::new("InstanceFault", "1.2");
        fault.set("instance_uuid", uuid);
        fault.set("code", code);
        fault.set("message", message.chars().take(FAULT_MESSAGE_LENGTH).collect::<String>());
        fault.set("details", details);
        fault.set("host", host);
        self.act(context, &mut fault, "create").await
    }
}
