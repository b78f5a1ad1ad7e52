//! Typed calls to nova-conductor, through which a compute host reads and writes Nova's database.
//!
//! Every call is one of two RPC methods of the conductor's version 3.0: a method of an object's class
//! (`object_class_action_versions`) or of an object (`object_action`). Saves are slim: they carry the object's identity
//! and the fields that change, never the whole object, so that no stale copy overwrites what others wrote meanwhile. What is changed of
//! an instance or a move is asked for until it is known what has become of it (`doubt`).
//!
//! | file | what |
//! |---|---|
//! | `instances`, `network`, `block_devices`, `tags` | an instance: its record, its ports, its disks, its tags |
//! | `actions` | what users see of an operation: event and fault |
//! | `migrations`, `scheduler`, `groups` | moves between hosts; the scheduler's memory, and a build sent back to it; server groups |
//! | `services`, `consoles` | the records of this service and its compute node; tokens of consoles |
//! | `doubt` | a change whose reply did not come |
//! | `manifests` | the object versions that each call names |

mod actions;
mod block_devices;
mod consoles;
mod doubt;
mod groups;
mod instances;
mod manifests;
mod migrations;
mod network;
#[cfg(test)]
#[expect(dead_code, reason = "the tests of messaging use more of it")]
#[path = "../../messaging/src/recorded.rs"]
mod recorded;
#[cfg(test)]
mod replay;
mod scheduler;
mod services;
mod tags;
#[cfg(test)]
mod wire_tests;

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio_util::sync::CancellationToken;

pub use actions::EventFailure;
pub use doubt::{is_refused, unless_in_doubt};
pub use scheduler::BuildInstances;

use crate::messaging::{CallError, Context, Rpc, Target};
use crate::objects::Object;

/// A client of nova-conductor (and of the few other services that a compute host talks to over RPC). Clones share it.
#[derive(Clone)]
pub struct Conductor {
    rpc: Arc<dyn Rpc>,
    host: Arc<str>,
    timeout: Duration,
    /// Nobody waits any more for what nobody may ever answer.
    stopping: CancellationToken,
}

impl Conductor {
    /// `timeout` is `rpc_response_timeout`: how long each call may take. What changes is of instances of `host`.
    pub fn new(rpc: Arc<dyn Rpc>, host: &str, timeout: Duration) -> Self {
        Self { rpc, host: host.into(), timeout, stopping: CancellationToken::new() }
    }

    /// Asks any conductor whether it is there.
    pub async fn ping(&self, timeout: Duration) -> Result<(), CallError> {
        let target = Target::topic("conductor", "1.0").namespace("baseapi");
        let args = json!({"arg": "nova-docker-agent"});
        self.rpc.call(&target, &Context::admin(), "ping", args, timeout).await.map(drop)
    }

    /// Calls a method of an object's class. The result is an object, a list of objects, a scalar or null.
    pub async fn class_action(
        &self,
        context: &Context,
        class: &str,
        method: &str,
        args: Vec<Value>,
        kwargs: Map<String, Value>,
    ) -> Result<Value, CallError> {
        let args = json!({
            "objname": class,
            "objmethod": method,
            "object_versions": manifests::object_versions(class),
            "args": args,
            "kwargs": kwargs,
        });
        self.rpc.call(&conductor(), context, "object_class_action_versions", args, self.timeout).await
    }

    /// Calls a method of an object, applies to the object what the method changed, and forgets the changes that were
    /// sent. The result is the method's own, mostly null.
    pub async fn object_action(
        &self,
        context: &Context,
        object: &mut Object,
        method: &str,
        args: Vec<Value>,
        kwargs: Map<String, Value>,
    ) -> Result<Value, CallError> {
        let call = format!("{}.{method}", object.name);
        let args = json!({"objinst": object.to_value(), "objmethod": method, "args": args, "kwargs": kwargs});
        let reply = self.rpc.call(&conductor(), context, "object_action", args, self.timeout).await?;
        let (mut updates, result) = match serde_json::from_value::<(Map<String, Value>, Value)>(reply) {
            Ok(reply) => reply,
            Err(error) => return Err(malformed(&call, error)),
        };
        let still_changed = updates.remove("obj_what_changed").unwrap_or_else(|| json!([]));
        object.apply(updates);
        object.changes = serde_json::from_value(still_changed).map_err(|error| malformed(&call, error))?;
        Ok(result)
    }

    /// A class method that returns an object of the given view.
    async fn get<T>(
        &self,
        context: &Context,
        class: &str,
        method: &str,
        args: Vec<Value>,
        kwargs: Map<String, Value>,
    ) -> Result<T, CallError>
    where
        T: TryFrom<Value, Error = crate::objects::Error>,
    {
        let value = self.class_action(context, class, method, args, kwargs).await?;
        T::try_from(value).map_err(|error| malformed(&format!("{class}.{method}"), error))
    }

    /// A class method that returns a list object whose members are of the given view.
    async fn list<T>(
        &self,
        context: &Context,
        class: &str,
        method: &str,
        args: Vec<Value>,
        kwargs: Map<String, Value>,
    ) -> Result<Vec<T>, CallError>
    where
        T: TryFrom<Value, Error = crate::objects::Error>,
    {
        let call = format!("{class}.{method}");
        let value = self.class_action(context, class, method, args, kwargs).await?;
        let mut list = Object::from_value(value).map_err(|error| malformed(&call, error))?;
        let Some(Value::Array(members)) = list.data.remove("objects") else {
            return Err(malformed(&call, "the list has no objects"));
        };
        members.into_iter().map(|member| T::try_from(member).map_err(|error| malformed(&call, error))).collect()
    }

    /// A method of an object that takes no arguments and whose result is not of interest.
    async fn act(&self, context: &Context, object: &mut Object, method: &str) -> Result<(), CallError> {
        self.object_action(context, object, method, Vec::new(), Map::new()).await.map(drop)
    }
}

fn conductor() -> Target {
    Target::topic("conductor", "3.0")
}

fn malformed(call: &str, reason: impl ToString) -> CallError {
    CallError::Malformed { method: call.to_owned(), reason: reason.to_string() }
}

/// Keyword arguments.
fn kwargs<const N: usize>(entries: [(&str, Value); N]) -> Map<String, Value> {
    entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

/// `None` = the object is not there, for calls that say so with an exception of that class.
fn found<T>(result: Result<T, CallError>, absent: &[&str]) -> Result<Option<T>, CallError> {
    match result {
        Ok(object) => Ok(Some(object)),
        Err(error) if error.class().is_some_and(|class| absent.contains(&class)) => Ok(None),
        Err(error) => Err(error),
    }
}
