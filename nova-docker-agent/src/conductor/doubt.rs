//! Changes of which nothing is known: no reply came, and the conductor may have made them, or may make them yet. They are asked for
//! again, for as long as it takes. Who took one for refused would undo what a user sees by then.

use std::time::Duration;

use backon::{ExponentialBuilder, Retryable as _};
use serde_json::{Map, Value};
use tracing::warn;

use crate::messaging::{CallError, Error};
use crate::objects::{Instance, TaskState};

/// What is remembered of a change that is known to be made, or not to be made.
pub(super) struct Known<T> {
    pub result: Result<T, CallError>,
    /// An earlier try may have made it.
    pub is_repeated: bool,
}

/// Asks until there is an answer. Where this process ends the connection there never is one: whoever waits goes no further, and what has
/// become of the instance is for the next start to see.
pub(super) async fn until_known<T, F>(what: &str, ask: impl Fn() -> F) -> Known<T>
where
    F: Future<Output = Result<T, CallError>>,
{
    let mut is_repeated = false;
    let result = (|| unless_closed(ask()))
        .retry(pauses())
        .when(is_doubtful)
        .notify(|error, pause| {
            is_repeated = true;
            warn!(%error, retry_in = ?pause, "nobody knows what has become of {what}; asking again");
        })
        .await;
    Known { result, is_repeated }
}

async fn unless_closed<T>(asked: impl Future<Output = Result<T, CallError>>) -> Result<T, CallError> {
    match asked.await {
        Err(CallError::Transport(Error::Closed)) => std::future::pending().await,
        answered => answered,
    }
}

/// Whether the change may have been made, or may be made yet. A connection to the database may be lost before or after a commit.
fn is_doubtful(error: &CallError) -> bool {
    match error {
        CallError::Timeout { .. } | CallError::Transport(Error::NotPublished { .. }) => true,
        CallError::Remote(failure) => failure.class == "DBConnectionError",
        CallError::Malformed { .. } | CallError::Transport(_) => false,
    }
}

fn pauses() -> ExponentialBuilder {
    let longest = Duration::from_secs(30);
    ExponentialBuilder::default().with_max_delay(longest).with_jitter().without_max_times()
}

/// Whether a save of `fields`, which is refused now for the task of `row`, was made before. The task that it was to end has ended, so
/// another one than the one that it set is a later one.
pub(super) fn is_made(fields: &Map<String, Value>, row: &Instance) -> bool {
    let Some(task) = fields.get("task_state") else { return false };
    let is_there = |field: &&str| fields.get(*field).is_none_or(|sent| row.get(field).unwrap_or(&Value::Null) == sent);
    let is_of_the_task = task.is_null() || task.as_str().map(TaskState::of) == row.task_state();
    is_of_the_task && ["vm_state", "launched_at", "host"].iter().all(is_there)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::conductor::{Conductor, kwargs, replay::Double};
    use crate::messaging::{Context, Failure};
    use crate::objects::{Expected, VmState};

    const UUID: &str = "6ff36a1a-8c2e-4b1c-859a-84bdd78d56c8";
    const LAUNCHED: &str = "2026-11-30T14:09:00Z";

    fn silence() -> Result<Value, CallError> {
        let timeout = Duration::from_secs(60);
        Err(CallError::Timeout { target: "conductor".to_owned(), method: "object_action".to_owned(), timeout })
    }

    fn unpublished() -> Result<Value, CallError> {
        let destination = "conductor".to_owned();
        Err(Error::NotPublished { destination, seconds: 60, last: "no confirm".to_owned() }.into())
    }

    fn raised(class: &str) -> Result<Value, CallError> {
        let class = class.to_owned();
        let (module, message) = ("nova.exception".to_owned(), String::new());
        Err(CallError::Remote(Failure {
            class,
            module,
            message,
            args: Vec::new(),
            kwargs: Map::new(),
            traceback: Vec::new(),
        }))
    }

    fn saved() -> Result<Value, CallError> {
        Ok(json!([{"updated_at": "2026-11-30T14:10:00Z", "obj_what_changed": []}, null]))
    }

    fn row(vm_state: &str, task_state: Value, launched_at: &str) -> Result<Value, CallError> {
        let mut row = Instance::slim(UUID);
        row.set("vm_state", vm_state);
        row.set("task_state", task_state);
        row.set("launched_at", launched_at);
        row.set("id", 7);
        Ok(row.into_object().to_value())
    }

    /// Saves the end of a launch to a conductor that answers so, each once.
    async fn end_of_launch(answers: Vec<Result<Value, CallError>>) -> Result<Instance, CallError> {
        let double = Arc::new(Double::default());
        double.replies.lock().unwrap().extend(answers);
        let conductor = Conductor::new(double.clone(), Duration::from_secs(60));
        let fields = kwargs([
            ("vm_state", json!(VmState::Active)),
            ("task_state", Value::Null),
            ("launched_at", LAUNCHED.into()),
        ]);
        let expected = Expected::task(TaskState::Spawning);
        let result = conductor.save_instance(&Context::admin(), UUID, fields, &expected).await;
        assert!(double.replies.lock().unwrap().is_empty(), "it was not asked for all of them");
        result
    }

    #[tokio::test(start_paused = true)]
    async fn a_save_that_nobody_answered_is_asked_for_until_somebody_does() {
        for lost in [silence, unpublished, || raised("DBConnectionError")] {
            let result = end_of_launch(vec![lost(), lost(), saved()]).await;
            assert_eq!(result.unwrap().str("updated_at"), Some("2026-11-30T14:10:00Z"));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_launch_whose_end_was_saved_and_not_answered_is_active() {
        let refused = || raised("UnexpectedTaskStateError");
        let result = end_of_launch(vec![silence(), refused(), row("active", Value::Null, LAUNCHED)]).await;
        assert_eq!(result.unwrap().int("id"), Some(7));
        // Its user has asked for more already; and the conductor is silent once more.
        let stopped = row("active", json!("powering-off"), LAUNCHED);
        let result = end_of_launch(vec![silence(), silence(), refused(), silence(), stopped]).await;
        assert_eq!(result.unwrap().task_state(), Some(TaskState::PoweringOff));
    }

    #[tokio::test(start_paused = true)]
    async fn a_save_that_was_refused_is_not_taken_for_made() {
        let refused = || raised("UnexpectedTaskStateError");
        let class = |result: Result<Instance, CallError>| result.unwrap_err().class().map(str::to_owned);
        for other in [row("error", Value::Null, LAUNCHED), row("active", Value::Null, "2026-11-30T09:00:00Z")] {
            let result = end_of_launch(vec![silence(), refused(), other]).await;
            assert_eq!(class(result).as_deref(), Some("UnexpectedTaskStateError"));
        }
        let result = end_of_launch(vec![refused()]).await;
        assert_eq!(class(result).as_deref(), Some("UnexpectedTaskStateError"), "it was asked for once");
        for gone in ["InstanceNotFound", "UnexpectedDeletingTaskStateError"] {
            let result = end_of_launch(vec![silence(), raised(gone)]).await;
            assert_eq!(class(result).as_deref(), Some(gone));
        }
    }

    #[test]
    fn a_step_was_made_where_the_task_is_the_one_that_it_set() {
        let fields = kwargs([("task_state", json!(TaskState::ResizeMigrating))]);
        let row = |task: Value| Instance::try_from(row("active", task, LAUNCHED).unwrap()).unwrap();
        assert!(is_made(&fields, &row(json!("resize_migrating"))));
        assert!(!is_made(&fields, &row(json!("resize_prep"))));
        assert!(!is_made(&Map::new(), &row(Value::Null)), "who says nothing of the task has left no trace in it");
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_know_when_the_process_ends_does_nothing_more() {
        let ended = end_of_launch(vec![silence(), Err(Error::Closed.into())]);
        assert!(tokio::time::timeout(Duration::from_secs(3600), ended).await.is_err());
    }
}
