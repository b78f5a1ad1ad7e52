//! Recorded traffic as the other side of a conductor client, for tests.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt};
use serde_json::Value;

use super::Conductor;
use super::recorded::{self, Recorded};
use crate::messaging::{CallError, Context, Rpc, Target};
use crate::objects::Object;

/// Writes down what is sent, and gives prepared replies.
#[derive(Default)]
pub(super) struct Double {
    pub sent: Mutex<Vec<(Target, String, Value)>>,
    pub replies: Mutex<VecDeque<Result<Value, CallError>>>,
}

impl Rpc for Double {
    fn call(
        &self,
        target: &Target,
        _context: &Context,
        method: &str,
        args: Value,
        _timeout: Duration,
    ) -> BoxFuture<'_, Result<Value, CallError>> {
        self.sent.lock().unwrap().push((target.clone(), method.to_owned(), args));
        let reply = self.replies.lock().unwrap().pop_front().expect("a reply for each call");
        async { reply }.boxed()
    }

    fn cast(
        &self,
        target: &Target,
        _context: &Context,
        method: &str,
        args: Value,
    ) -> BoxFuture<'_, Result<(), CallError>> {
        self.sent.lock().unwrap().push((target.clone(), method.to_owned(), args));
        async { Ok(()) }.boxed()
    }
}

/// A recorded call of the conductor with its reply.
pub(super) struct Step {
    pub args: Value,
    pub reply: Value,
}

impl Step {
    /// The steps of an operation that call `Class.method`.
    pub fn all(operation: &str, call: &str) -> Vec<Self> {
        let traffic = recorded::operation(operation);
        let requests = traffic.iter().filter(|recorded| recorded.is_request_of_compute());
        let steps = requests.filter(|recorded| called(recorded).as_deref() == Some(call)).map(|recorded| {
            let id = &recorded.message["_msg_id"];
            let reply = traffic.iter().find(|other| other.is_reply() && other.message["_msg_id"] == *id).unwrap();
            Self { args: recorded.message["args"].clone(), reply: reply.message["result"].clone() }
        });
        steps.collect()
    }

    pub fn first(operation: &str, call: &str) -> Self {
        Self::all(operation, call).into_iter().next().unwrap_or_else(|| panic!("{operation} has {call}"))
    }

    /// The n-th positional argument, a text.
    pub fn arg(&self, index: usize) -> &str {
        self.args["args"][index].as_str().unwrap()
    }

    pub fn attrs(&self) -> Vec<&str> {
        self.args["kwargs"]["expected_attrs"].as_array().unwrap().iter().map(|attr| attr.as_str().unwrap()).collect()
    }

    pub fn object(&self) -> Object {
        Object::from_value(self.args["objinst"].clone()).unwrap()
    }

    /// Calls the client, gives it the recorded reply, and returns what it sent.
    pub async fn replay<T>(&self, call: impl AsyncFnOnce(Conductor, Context) -> Result<T, CallError>) -> (T, Value) {
        let double = Arc::new(Double::default());
        double.replies.lock().unwrap().push_back(Ok(self.reply.clone()));
        let conductor = Conductor::new(double.clone(), "a", Duration::from_secs(60));
        let result = call(conductor, Context::admin()).await.unwrap();
        let (target, _, args) = double.sent.lock().unwrap().pop().unwrap();
        assert_eq!(target, Target::topic("conductor", "3.0"));
        (result, args)
    }
}

/// `Class.method` of a recorded call.
fn called(recorded: &Recorded) -> Option<String> {
    let args = &recorded.message["args"];
    let class = args.get("objname").or_else(|| args.get("objinst")?.get("nova_object.name"))?.as_str()?;
    Some(format!("{class}.{}", args["objmethod"].as_str()?))
}
