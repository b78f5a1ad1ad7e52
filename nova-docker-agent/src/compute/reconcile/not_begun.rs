//! Requests that wait in this host's queue when the service starts. The API has set their tasks, and nothing of them has begun:
//! recovery leaves such a task to its request. One that the broker has lost never comes. A message that the host sends itself tells
//! that: it comes behind everything that was in the queue before it. A request that goes through the conductor is not in the queue
//! while the conductor asks the scheduler, and so nobody looks for it there before that must be over.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde_json::{Value, json};
use tokio::time::Instant;
use tracing::info;
use uuid::Uuid;

use crate::compute::{Compute, arguments::Arguments, error::Error, operation::Method};
use crate::{
    messaging::Context,
    objects::{InstanceAction, InstanceActionEvent, TaskState},
};

/// Actions of an instance that are looked at: what its user asked for before and after the one that waits.
const ACTIONS: u32 = 20;
/// What events of a compute host begin with.
const OF_COMPUTE: &str = "compute_";

/// The requests that have come since the start, before which none could come, for instances that it is not done with.
#[derive(Debug, Default)]
pub(in crate::compute) struct Arrivals(Mutex<HashMap<Uuid, Requests>>);

#[derive(Debug, Default)]
struct Requests {
    /// By their ids.
    arrived: HashSet<String>,
    /// The last one that was missed, and since when.
    missed: Option<(String, Instant)>,
    /// What was in the queue before this request was looked for has come.
    passed: Option<String>,
    /// An operation of this process has begun: a task is its own, and no crash has left it.
    has_begun: bool,
}

/// What becomes of a task that has an operation of its own, which cannot be repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// Its operation was cut short, or is lost.
    GivenUp,
    /// Its request is here.
    Left,
    /// Its request has not come yet.
    Awaited,
}

impl Arrivals {
    /// To be called before the first request can come.
    pub(super) fn expect(&self, uuid: Uuid) {
        self.instances().entry(uuid).or_default();
    }

    /// The start is done with the instance.
    pub(super) fn forget(&self, uuid: Uuid) {
        self.instances().remove(&uuid);
    }

    /// A request has come.
    pub(in crate::compute) fn note(&self, uuid: Uuid, request: &str) {
        if let Some(requests) = self.instances().get_mut(&uuid) {
            requests.arrived.insert(request.to_owned());
        }
    }

    /// An operation on the instance begins.
    pub(in crate::compute) fn begin(&self, uuid: Uuid) {
        if let Some(requests) = self.instances().get_mut(&uuid) {
            requests.has_begun = true;
        }
    }

    /// Whether one has, since the start.
    pub(super) fn has_begun(&self, uuid: Uuid) -> bool {
        self.instances().get(&uuid).is_some_and(|requests| requests.has_begun)
    }

    fn pass(&self, uuid: Uuid, request: String) {
        if let Some(requests) = self.instances().get_mut(&uuid) {
            requests.passed = Some(request);
        }
    }

    /// The fate of the task that `request` has set.
    fn fate(&self, uuid: Uuid, request: &str, has_begun: bool) -> Fate {
        self.instances().get(&uuid).map_or(Fate::GivenUp, |requests| requests.fate(request, has_begun))
    }

    /// For how long a request has been missed.
    fn missed_for(&self, uuid: Uuid, request: &str) -> Duration {
        let mut instances = self.instances();
        let Some(requests) = instances.get_mut(&uuid) else { return Duration::ZERO };
        match &requests.missed {
            Some((missed, since)) if missed == request => since.elapsed(),
            _ => {
                requests.missed = Some((request.to_owned(), Instant::now()));
                Duration::ZERO
            }
        }
    }

    fn instances(&self) -> MutexGuard<'_, HashMap<Uuid, Requests>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Requests {
    fn fate(&self, request: &str, has_begun: bool) -> Fate {
        if has_begun {
            // By another process: what this one has begun, recovery leaves alone.
            Fate::GivenUp
        } else if self.arrived.contains(request) {
            Fate::Left
        } else if self.passed.as_deref() == Some(request) {
            Fate::GivenUp
        } else {
            Fate::Awaited
        }
    }
}

/// The actions that set a task of which recovery gives up what has begun, by Nova's names; none for other tasks.
pub(super) fn actions_of(task: Option<TaskState>) -> Option<&'static [&'static str]> {
    match task? {
        TaskState::Rebuilding => Some(&["rebuild"]),
        TaskState::Rescuing => Some(&["rescue"]),
        TaskState::ResizePrep => Some(&["resize", "migrate"]),
        TaskState::Shelving => Some(&["shelve"]),
        TaskState::ImageSnapshotPending => Some(&["createImage"]),
        TaskState::ImageBackup => Some(&["createBackup"]),
        _ => None,
    }
}

/// Nova's name of a launch. The conductor writes it down when all that was asked for at once is scheduled, and then sends the request.
pub(super) const LAUNCH: &str = "create";

/// For what the conductor does between the scheduler's answer and the request to the host.
const AFTER_SCHEDULING: Duration = Duration::from_secs(30);

/// For how long a request may be on its way to this host's queue, by the action that it is of. Most the API puts there itself. With
/// others the conductor waits for the scheduler's answer (`select_destinations`) for as long as `long_rpc_timeout`; of an unshelving
/// or a launch that is looked for, the answer is known to have come.
fn longest_way(actions: &[&str], long_rpc: Duration) -> Duration {
    if actions.iter().any(|action| matches!(*action, "rebuild" | "resize" | "migrate")) {
        long_rpc
    } else if actions.iter().any(|action| matches!(*action, "unshelve" | LAUNCH)) {
        AFTER_SCHEDULING
    } else {
        Duration::ZERO
    }
}

/// How far a request has come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Begun {
    Nowhere,
    Here,
    /// A launch that failed here: the conductor was asked for another host before its event ended.
    HandedOn,
}

/// This host's message to itself; not one of Nova's.
pub(in crate::compute) struct QueuePassed {
    instance: Uuid,
    request: String,
}

impl QueuePassed {
    pub(in crate::compute) const METHOD: &'static str = "queue_passed";
}

impl Method for QueuePassed {
    fn parse(arguments: Arguments) -> Result<Self, Error> {
        Ok(Self { instance: arguments.id("instance_uuid")?, request: arguments.text("request")?.to_owned() })
    }

    async fn run(self, compute: Arc<Compute>, _: &Context) -> Result<Value, Error> {
        compute.arrivals.pass(self.instance, self.request);
        Ok(Value::Null)
    }
}

impl Compute {
    /// The fate of a task that one of `actions` has set.
    pub(super) async fn fate_of_task(&self, context: &Context, uuid: Uuid, actions: &[&str]) -> Result<Fate, Error> {
        let Some((request, begun)) = self.request_of_task(context, uuid, actions).await? else {
            // Of a launch whose conductor has not come to it yet nothing is written down.
            let is_at_it =
                actions.contains(&LAUNCH) && self.arrivals.missed_for(uuid, "") < self.config.long_rpc_timeout;
            return Ok(if is_at_it { Fate::Awaited } else { Fate::GivenUp });
        };
        if begun == Begun::HandedOn {
            return Ok(Fate::Left);
        }
        let fate = self.arrivals.fate(uuid, &request, begun == Begun::Here);
        if fate != Fate::Awaited {
            return Ok(fate);
        }
        info!(request, "nothing of the instance's task has begun: it is left to its request");
        if self.arrivals.missed_for(uuid, &request) >= longest_way(actions, self.config.long_rpc_timeout) {
            let args = json!({"instance_uuid": uuid, "request": request});
            self.conductor.ask_compute(context, &self.host, QueuePassed::METHOD, args).await?;
        }
        Ok(fate)
    }

    /// The id of the request that has set the task, and how far it has come.
    async fn request_of_task(
        &self,
        context: &Context,
        uuid: Uuid,
        actions: &[&str],
    ) -> Result<Option<(String, Begun)>, Error> {
        let done = self.conductor.actions(context, &uuid.to_string(), ACTIONS).await?;
        let is_it = |action: &&InstanceAction| action.str("action").is_some_and(|name| actions.contains(&name));
        let Some(action) = done.iter().find(is_it) else { return Ok(None) };
        let (Some(id), Some(request)) = (action.int("id"), action.str("request_id")) else { return Ok(None) };
        let events = self.conductor.events(context, id).await?;
        let of = |event: &&InstanceActionEvent| {
            event.str("event").is_some_and(|name| name.starts_with(OF_COMPUTE))
                // Of a launch that another host has handed on, that one's events are there, too.
                && (!actions.contains(&LAUNCH) || event.str("host") == Some(self.host.as_str()))
        };
        let begun = match events.iter().find(of) {
            None => Begun::Nowhere,
            Some(event) if actions.contains(&LAUNCH) && event.str("finish_time").is_some() => Begun::HandedOn,
            Some(_) => Begun::Here,
        };
        Ok(Some((request.to_owned(), begun)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_is_left_to_a_request_that_is_here_or_may_still_come() {
        let (arrivals, uuid) = (Arrivals::default(), Uuid::from_u128(1));
        arrivals.expect(uuid);
        assert_eq!(arrivals.fate(uuid, "req-1", false), Fate::Awaited);
        arrivals.note(uuid, "req-0");
        assert_eq!(arrivals.fate(uuid, "req-1", false), Fate::Awaited, "another one");
        arrivals.note(uuid, "req-1");
        arrivals.pass(uuid, "req-1".to_owned());
        assert_eq!(arrivals.fate(uuid, "req-1", false), Fate::Left);
    }

    #[test]
    fn a_request_that_is_not_among_what_was_in_the_queue_is_lost_and_the_next_one_is_not() {
        let (arrivals, uuid) = (Arrivals::default(), Uuid::from_u128(1));
        arrivals.expect(uuid);
        assert_eq!(arrivals.fate(uuid, "req-1", false), Fate::Awaited);
        arrivals.pass(uuid, "req-1".to_owned());
        assert_eq!(arrivals.fate(uuid, "req-2", false), Fate::Awaited, "its user has asked again");
        assert_eq!(arrivals.fate(uuid, "req-1", false), Fate::GivenUp);
    }

    #[test]
    fn what_another_process_has_begun_is_given_up_though_its_request_is_delivered_again() {
        let (arrivals, uuid) = (Arrivals::default(), Uuid::from_u128(1));
        arrivals.expect(uuid);
        arrivals.note(uuid, "req-1");
        assert_eq!(arrivals.fate(uuid, "req-1", true), Fate::GivenUp);
        arrivals.forget(uuid);
        assert_eq!(arrivals.fate(uuid, "req-1", false), Fate::GivenUp, "nothing is expected of the instance");
    }

    #[test]
    fn what_this_process_has_begun_is_no_crashs() {
        let (arrivals, uuid) = (Arrivals::default(), Uuid::from_u128(1));
        arrivals.begin(uuid);
        assert!(!arrivals.has_begun(uuid), "the start is done with it");
        arrivals.expect(uuid);
        assert!(!arrivals.has_begun(uuid));
        arrivals.begin(uuid);
        assert!(arrivals.has_begun(uuid));
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_is_missed_from_the_first_look_that_does_not_find_it() {
        let (arrivals, uuid, minute) = (Arrivals::default(), Uuid::from_u128(1), Duration::from_secs(60));
        assert_eq!(arrivals.missed_for(uuid, "req-1"), Duration::ZERO, "nothing is expected of the instance");
        arrivals.expect(uuid);
        assert_eq!(arrivals.missed_for(uuid, "req-1"), Duration::ZERO);
        tokio::time::advance(minute).await;
        assert_eq!(arrivals.missed_for(uuid, "req-1"), minute);
        assert_eq!(arrivals.missed_for(uuid, "req-2"), Duration::ZERO, "its user has asked again");
    }

    #[test]
    fn only_what_goes_through_the_conductor_has_a_way_to_the_queue() {
        let long = Duration::from_secs(1800);
        let way = |task| longest_way(actions_of(Some(task)).unwrap_or_default(), long);
        assert_eq!((way(TaskState::Rebuilding), way(TaskState::ResizePrep)), (long, long));
        for action in ["unshelve", LAUNCH] {
            assert_eq!(longest_way(&[action], long), AFTER_SCHEDULING, "{action}");
        }
        for task in [TaskState::Rescuing, TaskState::Shelving, TaskState::ImageSnapshotPending, TaskState::ImageBackup]
        {
            assert_eq!(way(task), Duration::ZERO, "{task:?}");
        }
    }

    #[test]
    fn only_tasks_that_the_api_sets_may_be_waiting() {
        let waiting = TaskState::ALL.iter().filter(|task| actions_of(Some(**task)).is_some()).count();
        assert_eq!((waiting, actions_of(None)), (6, None));
    }
}
