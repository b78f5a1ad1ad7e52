//! Changes of which nothing is known: no reply came, and the conductor may have made them, or may make them yet. They are asked for
//! again, for as long as it takes. Who took one for refused would undo what a user sees by then. A save of an instance is looked for
//! before it is asked for again: by then the instance may be another host's, or have its user's next task.

use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder, Retryable as _};
use serde_json::{Map, Value, json};
use tracing::warn;

use crate::messaging::{CallError, Error};
use crate::objects::{Expected, Instance, VmState};

pub(super) const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Asks until there is an answer.
pub(super) async fn until_known<T, F>(what: &str, ask: impl Fn() -> F) -> Result<T, CallError>
where
    F: Future<Output = Result<T, CallError>>,
{
    (|| unless_closed(ask()))
        .retry(builder())
        .when(is_doubtful)
        .notify(|error, pause| {
            warn!(%error, retry_in = ?pause, "nobody knows what has become of {what}; asking again");
        })
        .await
}

/// Where this process ends the connection there never is an answer: whoever waits goes no further, and what has become of the instance
/// is for the next start to see.
pub(super) async fn unless_closed<T>(asked: impl Future<Output = Result<T, CallError>>) -> Result<T, CallError> {
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

fn builder() -> ExponentialBuilder {
    ExponentialBuilder::default().with_max_delay(LONGEST_PAUSE).with_jitter().without_max_times()
}

/// The pauses between one look and the next.
pub(super) fn pauses() -> ExponentialBackoff {
    builder().build()
}

/// What the error of a save leaves open.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Doubt {
    /// It was not made.
    Nothing,
    /// It was made, or will not be: the reply makes no sense, or an earlier try may have ended the task that is expected.
    IsMadeOrRefused,
    MayYetBeMade,
}

impl Doubt {
    pub(super) fn of(error: &CallError, is_repeated: bool) -> Self {
        let is_refused = error.class().is_some_and(|class| class.starts_with("Unexpected"));
        match error {
            error if is_doubtful(error) => Self::MayYetBeMade,
            CallError::Malformed { .. } => Self::IsMadeOrRefused,
            _ if is_repeated && is_refused => Self::IsMadeOrRefused,
            _ => Self::Nothing,
        }
    }
}

/// A save of an instance.
pub(super) struct Save {
    pub fields: Map<String, Value>,
    /// The tasks that it is made over. None: whatever the task is.
    pub expected: Option<Vec<Value>>,
    /// What was there, where that was looked at.
    pub before: Option<Instance>,
}

impl Save {
    pub fn new(fields: Map<String, Value>, expected: &Expected) -> Self {
        let expected = match expected {
            Expected::Any => None,
            Expected::OneOf(tasks) => Some(tasks.iter().map(|task| json!(task)).collect()),
        };
        Self { fields, expected, before: None }
    }

    /// Whether what comes after it could not be told from what was before it. Those are on the way out of an operation.
    pub fn needs_look(&self) -> bool {
        let field = |name: &str| self.fields.get(name);
        let has_state = field("task_state").or(field("vm_state")).is_some();
        let is_given_up = field("host") == Some(&Value::Null) || field("vm_state") == Some(&json!(VmState::Error));
        is_given_up || has_state && self.expected.is_none()
    }

    /// Fields that a row has only when they are asked for.
    pub fn extra_attrs(&self) -> Vec<&str> {
        ["metadata", "system_metadata"].into_iter().filter(|field| self.fields.contains_key(*field)).collect()
    }

    /// The first look counts: a later task is somebody else's.
    pub fn look(&mut self, row: &Instance) {
        self.expected.get_or_insert_with(|| vec![column(row, "task_state").clone()]);
    }

    /// Whether `row` is what the save makes, or what came after that. The task that it was to end has ended where there is none that is
    /// expected, so another one than the one that it sets is a later one.
    pub fn is_made(&self, row: &Instance) -> bool {
        let is_there = |field: &str| self.fields.get(field).is_none_or(|sent| column(row, field) == sent);
        if self.fields.keys().all(|field| is_there(field)) || self.is_overtaken(row) {
            return true;
        }
        let Some(task) = self.fields.get("task_state") else { return false };
        let now = column(row, "task_state");
        let has_ended = self.expected.as_ref().is_some_and(|expected| !expected.contains(now));
        has_ended && (task.is_null() || task == now) && ["vm_state", "launched_at", "host"].into_iter().all(is_there)
    }

    /// Whether somebody else has written what it writes: the instance is neither as it was nor as it is to be.
    fn is_overtaken(&self, row: &Instance) -> bool {
        let Some(before) = &self.before else { return false };
        ["host", "vm_state"].into_iter().any(|field| {
            let now = column(row, field);
            self.fields.get(field).is_some_and(|sent| sent != now && column(before, field) != now)
        })
    }
}

fn column<'a>(row: &'a Instance, field: &str) -> &'a Value {
    row.get(field).unwrap_or(&Value::Null)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::conductor::{Conductor, kwargs, replay::Double};
    use crate::messaging::{Context, Failure};
    use crate::objects::{Migration, TaskState};

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

    fn on_host(host: Value, task_state: Value) -> Result<Value, CallError> {
        let mut row = Instance::slim(UUID);
        row.set("vm_state", "shelved_offloaded");
        row.set("task_state", task_state);
        row.set("host", host);
        Ok(row.into_object().to_value())
    }

    fn conductor(answers: Vec<Result<Value, CallError>>) -> (Arc<Double>, Conductor) {
        let double = Arc::new(Double::default());
        double.replies.lock().unwrap().extend(answers);
        (double.clone(), Conductor::new(double, Duration::from_secs(60)))
    }

    /// Saves to a conductor that answers so, each once. Also the tasks that each save expected.
    async fn save(
        fields: Map<String, Value>,
        expected: Expected,
        answers: Vec<Result<Value, CallError>>,
    ) -> (Result<Instance, CallError>, Vec<Value>) {
        let (double, conductor) = conductor(answers);
        let result = conductor.save_instance(&Context::admin(), UUID, fields, &expected).await;
        assert!(double.replies.lock().unwrap().is_empty(), "it was not asked for all of them");
        let sent = double.sent.lock().unwrap();
        let saves = sent.iter().filter(|(_, method, _)| method == "object_action");
        (result, saves.map(|(_, _, args)| args["kwargs"]["expected_task_state"].clone()).collect())
    }

    /// The end of a launch.
    async fn end_of_launch(answers: Vec<Result<Value, CallError>>) -> Result<Instance, CallError> {
        let fields = kwargs([
            ("vm_state", json!(VmState::Active)),
            ("task_state", Value::Null),
            ("launched_at", LAUNCHED.into()),
        ]);
        save(fields, Expected::task(TaskState::Spawning), answers).await.0
    }

    fn spawning() -> Result<Value, CallError> {
        row("building", json!("spawning"), "")
    }

    fn class<T>(result: Result<T, CallError>) -> Option<String> {
        result.err().and_then(|error| error.class().map(str::to_owned))
    }

    #[tokio::test(start_paused = true)]
    async fn a_save_that_nobody_answered_is_asked_for_until_somebody_does() {
        for lost in [silence, unpublished, || raised("DBConnectionError")] {
            let result = end_of_launch(vec![lost(), spawning(), lost(), lost(), spawning(), saved()]).await;
            assert_eq!(result.unwrap().str("updated_at"), Some("2026-11-30T14:10:00Z"));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_launch_whose_end_was_saved_and_not_answered_is_active() {
        let refused = || raised("UnexpectedTaskStateError");
        for unclear in [silence(), Ok(json!("a reply that makes no sense"))] {
            let result = end_of_launch(vec![unclear, row("active", Value::Null, LAUNCHED)]).await;
            assert_eq!(result.unwrap().int("id"), Some(7));
        }
        // The first try was made after the look. Its user has asked for more already; and the conductor is silent once more.
        let stopped = row("active", json!("powering-off"), LAUNCHED);
        let result = end_of_launch(vec![silence(), spawning(), refused(), silence(), stopped]).await;
        assert_eq!(result.unwrap().task_state(), Some(TaskState::PoweringOff));
    }

    #[tokio::test(start_paused = true)]
    async fn a_save_that_was_refused_is_not_taken_for_made() {
        let refused = || raised("UnexpectedTaskStateError");
        let others: [fn() -> Result<Value, CallError>; 2] =
            [|| row("error", Value::Null, LAUNCHED), || row("active", Value::Null, "2026-11-30T09:00:00Z")];
        for other in others {
            for first in [other, spawning] {
                let result = end_of_launch(vec![silence(), first(), refused(), other()]).await;
                assert_eq!(class(result).as_deref(), Some("UnexpectedTaskStateError"));
            }
        }
        let result = end_of_launch(vec![refused()]).await;
        assert_eq!(class(result).as_deref(), Some("UnexpectedTaskStateError"), "it was asked for once");
        let gone = "InstanceNotFound";
        let result = end_of_launch(vec![silence(), raised(gone)]).await;
        assert_eq!(class(result).as_deref(), Some(gone));
        let deleting = || row("building", json!("deleting"), "");
        let refused = raised("UnexpectedDeletingTaskStateError");
        let result = end_of_launch(vec![silence(), deleting(), refused, deleting()]).await;
        assert_eq!(class(result).as_deref(), Some("UnexpectedDeletingTaskStateError"));
        let result = end_of_launch(vec![Ok(json!("a reply that makes no sense")), spawning()]).await;
        assert!(matches!(result, Err(CallError::Malformed { .. })));
    }

    #[tokio::test(start_paused = true)]
    async fn the_users_next_task_is_not_taken_away() {
        let fields = || kwargs([("task_state", Value::Null)]);
        let rebooting = || row("active", json!("reboot_started"), LAUNCHED);
        let next = row("active", json!("powering-off"), LAUNCHED);
        let (result, saves) = save(fields(), Expected::Any, vec![rebooting(), silence(), next]).await;
        assert_eq!(result.unwrap().task_state(), Some(TaskState::PoweringOff));
        assert_eq!(saves, [json!(["reboot_started"])], "no second save");
        let done = row("active", Value::Null, LAUNCHED);
        let (result, saves) = save(fields(), Expected::Any, vec![rebooting(), silence(), done]).await;
        assert_eq!((result.is_ok(), saves.len()), (true, 1));
        // It was not made.
        let answers = vec![rebooting(), silence(), rebooting(), saved()];
        let (result, saves) = save(fields(), Expected::Any, answers).await;
        assert!(result.is_ok());
        assert_eq!(saves, [json!(["reboot_started"]), json!(["reboot_started"])]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_came_back_on_another_host_is_not_taken_off_it() {
        let fields = || kwargs([("host", Value::Null), ("task_state", Value::Null)]);
        let expected = || Expected::task(TaskState::Spawning);
        let ours = || on_host(json!("a"), json!("spawning"));
        for next in [on_host(json!("b"), json!("spawning")), on_host(Value::Null, json!("unshelving"))] {
            let (result, saves) = save(fields(), expected(), vec![ours(), silence(), next]).await;
            assert_eq!((result.is_ok(), saves.len()), (true, 1));
        }
        let (result, saves) = save(fields(), expected(), vec![ours(), silence(), ours(), saved()]).await;
        assert_eq!((result.is_ok(), saves.len()), (true, 2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_became_active_is_not_set_to_error_by_a_repeated_save() {
        let fields = || kwargs([("vm_state", json!(VmState::Error))]);
        let building = || row("building", Value::Null, "");
        let active = row("active", Value::Null, LAUNCHED);
        let (_, saves) = save(fields(), Expected::no_task(), vec![building(), silence(), active]).await;
        assert_eq!(saves.len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn what_says_nothing_of_states_is_repeated_over_the_task_that_is_there_at_the_first_look() {
        let fields = || kwargs([("system_metadata", json!({"a": "1"}))]);
        let look = |task: Value| row("active", task, LAUNCHED);
        let (result, saves) = save(fields(), Expected::Any, vec![silence(), look(json!("rebuilding")), saved()]).await;
        assert!(result.is_ok());
        assert_eq!(saves, [Value::Null, json!(["rebuilding"])]);
        let refused = raised("UnexpectedTaskStateError");
        let answers = vec![silence(), look(json!("rebuilding")), refused, look(json!("deleting"))];
        let (result, _) = save(fields(), Expected::Any, answers).await;
        assert_eq!(class(result).as_deref(), Some("UnexpectedTaskStateError"));
    }

    #[tokio::test(start_paused = true)]
    async fn an_end_and_a_move_of_which_nobody_knows_are_asked_for_again() {
        let context = Context::admin();
        let (double, nova) = conductor(vec![silence(), Ok(json!([{}, null]))]);
        nova.destroy_instance(&context, UUID, 7, Some("a")).await.unwrap();
        let sent = double.sent.lock().unwrap().clone();
        assert_eq!(sent[0], sent[1], "the end is for an instance of the same host");
        let (_, nova) = conductor(vec![silence(), raised("InstanceNotFound")]);
        let ended = nova.destroy_instance(&context, UUID, 7, Some("a")).await;
        assert_eq!(class(ended).as_deref(), Some("InstanceNotFound"));

        let (double, nova) = conductor(vec![silence(), saved()]);
        let mut migration = Migration::try_from(row_of_migration()).unwrap();
        migration.set("status", "finished");
        nova.save_migration(&context, &mut migration).await.unwrap();
        assert_eq!(migration.str("updated_at"), Some("2026-11-30T14:10:00Z"));
        assert!(migration.changes.is_empty());
        let sent = double.sent.lock().unwrap().clone();
        assert_eq!(sent[0], sent[1], "the second try writes what the first one did");
        assert_eq!(sent[1].2["objinst"]["nova_object.data"]["status"], "finished");
    }

    fn row_of_migration() -> Value {
        json!({
            "nova_object.name": "Migration", "nova_object.namespace": "nova", "nova_object.version": "1.7",
            "nova_object.data": {"id": 3, "uuid": UUID, "status": "migrating"}, "nova_object.changes": [],
        })
    }

    #[test]
    fn a_step_was_made_where_the_task_is_the_one_that_it_set() {
        let migrating = kwargs([("task_state", json!(TaskState::ResizeMigrating))]);
        let step = Save::new(migrating, &Expected::task(TaskState::ResizePrep));
        let row = |task: Value| Instance::try_from(row("active", task, LAUNCHED).unwrap()).unwrap();
        assert!(step.is_made(&row(json!("resize_migrating"))));
        assert!(!step.is_made(&row(json!("resize_prep"))));
        assert!(!step.is_made(&row(json!("deleting"))));
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_know_when_the_process_ends_does_nothing_more() {
        let ended = end_of_launch(vec![silence(), spawning(), Err(Error::Closed.into())]);
        assert!(tokio::time::timeout(Duration::from_secs(3600), ended).await.is_err());
    }
}
