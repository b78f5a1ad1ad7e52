//! Changes of which nothing is known: no reply came, and the conductor may have made them, or may make them yet. They are asked for
//! again, for as long as it takes. Who took one for refused would undo what a user sees by then. A save of an instance is looked for
//! before it is asked for again: by then the instance may be another host's, or have its user's next task.

use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBuilder};
use serde_json::{Map, Value, json};
use tokio::{select, task_local, time::sleep};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::Conductor;
use crate::messaging::{CallError, Context, Error};
use crate::objects::{Expected, Instance, TaskState, VmState};

const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// So many answers in a row that say nothing are of conductors that do not speak as we do, or of a database that takes no such change,
/// and the next ones are no better.
const USELESS: usize = 5;

task_local! {
    /// Cancelled where the work of a task goes no further.
    static WORK: CancellationToken;
}

/// What `work` comes to; none where nobody can tell what has become of a change that it made, and the process stops. It is dropped
/// then, and undoes nothing: what has become of its instance is for the next start to see.
pub async fn unless_in_doubt<T>(work: impl Future<Output = T>) -> Option<T> {
    let given_up = CancellationToken::new();
    select! {
        done = WORK.scope(given_up.clone(), work) => Some(done),
        () = given_up.cancelled() => None,
    }
}

async fn give_up<T>() -> T {
    // Periodic work ends with the process.
    if let Ok(given_up) = WORK.try_with(CancellationToken::clone) {
        given_up.cancel();
    }
    std::future::pending().await
}

impl Conductor {
    /// From now on nobody waits for a conductor to say what has become of a change.
    pub fn stop_waiting(&self) {
        self.stopping.cancel();
    }

    /// Asks until there is an answer. One that makes no sense says nothing, but is not asked for without an end.
    pub(super) async fn until_known<T, F>(&self, what: &str, ask: impl Fn() -> F) -> Result<T, CallError>
    where
        F: Future<Output = Result<T, CallError>>,
    {
        let first = unless_closed(ask()).await;
        self.unless_stopped(async {
            let (mut answer, mut pauses, mut useless) = (first, pauses(), 0);
            while let Err(error) = &answer
                && is_doubtful(error)
            {
                useless = if is_silence(error) { 0 } else { useless + 1 };
                if useless == USELESS {
                    break;
                }
                warn!(%error, "nobody knows what has become of {what}; asking again");
                sleep(pauses.next().unwrap_or(LONGEST_PAUSE)).await;
                answer = unless_closed(ask()).await;
            }
            answer
        })
        .await
    }

    /// Asks until it is known whether `save` is made, and looks before each time. Once there was doubt, no error but a refusal says
    /// what has become of the first try.
    pub(super) async fn until_saved(
        &self,
        context: &Context,
        uuid: &str,
        mut save: Save,
    ) -> Result<Instance, CallError> {
        let first = unless_closed(self.save_instance_once(context, uuid, &save)).await;
        // Boxed: it is part of every operation.
        self.unless_stopped(Box::pin(async {
            let (mut answer, mut pauses, mut is_repeated, mut useless) = (first, pauses(), false, 0);
            loop {
                let error = match answer {
                    Ok(saved) => return Ok(saved),
                    Err(error) => error,
                };
                if !is_repeated && !is_doubtful(&error) {
                    return Err(error);
                }
                let is_refused = is_refused(&error);
                if !is_refused {
                    warn!(%error, "nobody knows what has become of a save of an instance; looking, and asking again");
                    sleep(pauses.next().unwrap_or(LONGEST_PAUSE)).await;
                }
                useless = if is_silence(&error) { 0 } else { useless + 1 };
                let attrs = save.extra_attrs();
                let row = self.until_known("a look at an instance", || self.instance(context, uuid, &attrs)).await?;
                if save.is_made(&row, &self.host) {
                    let mut instance = Instance::slim(uuid);
                    instance.apply(save.fields);
                    instance.apply(row.into_object().data);
                    return Ok(instance);
                }
                // An earlier try may have ended the task that is expected; it has not.
                if is_refused || useless == USELESS {
                    return Err(error);
                }
                save.look(&row);
                is_repeated = true;
                answer = unless_closed(self.save_instance_once(context, uuid, &save)).await;
            }
        }))
        .await
    }

    async fn unless_stopped<T>(&self, doubt: impl Future<Output = T>) -> T {
        select! {
            biased;
            known = doubt => known,
            () = self.stopping.cancelled() => give_up().await,
        }
    }
}

/// Where this process ends the connection there never is an answer: whoever waits goes no further.
async fn unless_closed<T>(asked: impl Future<Output = Result<T, CallError>>) -> Result<T, CallError> {
    match asked.await {
        Err(CallError::Transport(Error::Closed)) => give_up().await,
        answered => answered,
    }
}

/// Whether the change may have been made, or may be made yet. A connection to the database may be lost before or after a commit, and
/// an answer that makes no sense says nothing.
fn is_doubtful(error: &CallError) -> bool {
    match error {
        CallError::Timeout { .. } | CallError::Malformed { .. } | CallError::Transport(Error::NotPublished { .. }) => {
            true
        }
        CallError::Remote(failure) => failure.class == "DBConnectionError",
        CallError::Transport(_) => false,
    }
}

/// Whether nobody has answered, for as long as that lasts.
fn is_silence(error: &CallError) -> bool {
    is_doubtful(error) && !matches!(error, CallError::Malformed { .. })
}

/// Whether a save was not made because the instance's task, or its state, is none that it expects.
pub fn is_refused(error: &CallError) -> bool {
    error.class().is_some_and(|class| class.starts_with("Unexpected") || class == "InstanceUpdateConflict")
}

/// From one look to the next.
fn pauses() -> impl Iterator<Item = Duration> {
    ExponentialBuilder::default().with_max_delay(LONGEST_PAUSE).with_jitter().without_max_times().build()
}

/// A save of an instance.
pub(super) struct Save {
    pub fields: Map<String, Value>,
    /// The tasks that it is made over. None: whatever the task is.
    tasks: Option<Vec<Value>>,
    /// The state that it is made over, where that is not any.
    vm_state: Option<VmState>,
}

impl Save {
    pub fn new(fields: Map<String, Value>, expected: &Expected) -> Self {
        let tasks = match expected {
            // A task that we have no word for cannot be asked for.
            Expected::Building(tasks) if tasks.contains(&Some(TaskState::Unknown)) => None,
            Expected::Any => None,
            Expected::OneOf(tasks) | Expected::Building(tasks) => Some(tasks.iter().map(|task| json!(task)).collect()),
        };
        let vm_state = matches!(expected, Expected::Building(_)).then_some(VmState::Building);
        Self { fields, tasks, vm_state }
    }

    /// As the conductor is told of what is expected.
    pub fn expected(&self) -> Map<String, Value> {
        let tasks = self.tasks.iter().map(|tasks| ("expected_task_state".to_owned(), json!(tasks)));
        tasks.chain(self.vm_state.iter().map(|state| ("expected_vm_state".to_owned(), json!([state])))).collect()
    }

    /// Fields that a row has only when they are asked for.
    fn extra_attrs(&self) -> Vec<&'static str> {
        ["metadata", "system_metadata"].into_iter().filter(|field| self.fields.contains_key(*field)).collect()
    }

    /// The first look counts: a later task is somebody else's.
    fn look(&mut self, row: &Instance) {
        self.tasks.get_or_insert_with(|| vec![column(row, "task_state").clone()]);
    }

    /// Whether `row` is what the save makes, or what came after that. The task that it was to end has ended where there is none that is
    /// expected, so another one than the one that it sets is a later one. What `host` has given up may be another host's by then.
    /// Flavors are not asked for: Nova saves them before the rest.
    fn is_made(&self, row: &Instance, host: &str) -> bool {
        let is_there = |field: &str| {
            self.fields
                .get(field)
                .is_none_or(|sent| sent.get("nova_object.name").is_some() || column(row, field) == sent)
        };
        if self.fields.keys().all(|field| is_there(field)) {
            return true;
        }
        if self.fields.get("host") == Some(&Value::Null) && row.host().is_some_and(|now| now != host) {
            return true;
        }
        let Some(task) = self.fields.get("task_state") else { return false };
        let now = column(row, "task_state");
        let has_ended = self.tasks.as_ref().is_some_and(|expected| !expected.contains(now));
        has_ended && (task.is_null() || task == now) && ["vm_state", "launched_at", "host"].into_iter().all(is_there)
    }
}

fn column<'a>(row: &'a Instance, field: &str) -> &'a Value {
    row.get(field).unwrap_or(&Value::Null)
}

#[cfg(test)]
mod tests;
