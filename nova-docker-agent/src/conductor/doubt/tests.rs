//! Conductors that do not answer, or say what makes no sense.

use std::sync::Arc;

use super::*;
use crate::conductor::{kwargs, replay::Double};
use crate::messaging::Failure;
use crate::objects::Migration;

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

fn nonsense() -> Result<Value, CallError> {
    Ok(json!("a reply that makes no sense"))
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

fn on_host(host: Value, vm_state: &str, task_state: Value) -> Result<Value, CallError> {
    let mut row = Instance::slim(UUID);
    row.set("vm_state", vm_state);
    row.set("task_state", task_state);
    row.set("host", host);
    Ok(row.into_object().to_value())
}

fn conductor(answers: Vec<Result<Value, CallError>>) -> (Arc<Double>, Conductor) {
    let double = Arc::new(Double::default());
    double.replies.lock().unwrap().extend(answers);
    (double.clone(), Conductor::new(double, "a", Duration::from_secs(60)))
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
    let fields =
        kwargs([("vm_state", json!(VmState::Active)), ("task_state", Value::Null), ("launched_at", LAUNCHED.into())]);
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
    for lost in [silence, unpublished, nonsense, || raised("DBConnectionError")] {
        let result = end_of_launch(vec![lost(), spawning(), lost(), lost(), spawning(), saved()]).await;
        assert_eq!(result.unwrap().str("updated_at"), Some("2026-11-30T14:10:00Z"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_save_whose_answers_never_make_sense_has_an_end() {
    let looked_at = |answer: fn() -> Result<Value, CallError>, times: usize| {
        std::iter::repeat_with(move || [answer(), spawning()]).take(times).flatten()
    };
    let result = end_of_launch(looked_at(nonsense, USELESS).collect()).await;
    assert!(matches!(result, Err(CallError::Malformed { .. })), "{result:?}");
    // The last one may be of a save that was made.
    let made = [nonsense(), row("active", Value::Null, LAUNCHED)];
    end_of_launch(looked_at(nonsense, USELESS - 1).chain(made).collect()).await.unwrap();
    // Nobody was there for a while, and somebody else is now.
    let few = || looked_at(nonsense, USELESS - 1);
    end_of_launch(few().chain(looked_at(silence, 1)).chain(few()).chain([saved()]).collect()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_error_of_a_repeated_save_says_nothing_of_the_first_one() {
    let deadlock = || raised("DBDeadlock");
    let active = || row("active", Value::Null, LAUNCHED);
    end_of_launch(vec![silence(), spawning(), deadlock(), active()]).await.unwrap();
    end_of_launch(vec![silence(), spawning(), deadlock(), spawning(), saved()]).await.unwrap();
    let never = std::iter::repeat_with(|| [deadlock(), spawning()]).take(USELESS).flatten();
    let result = end_of_launch([silence(), spawning()].into_iter().chain(never).collect()).await;
    assert_eq!(class(result).as_deref(), Some("DBDeadlock"));
    let result = end_of_launch(vec![deadlock()]).await;
    assert_eq!(class(result).as_deref(), Some("DBDeadlock"), "nothing else was tried");
}

#[tokio::test(start_paused = true)]
async fn a_launch_whose_end_was_saved_and_not_answered_is_active() {
    let refused = || raised("UnexpectedTaskStateError");
    for unclear in [silence(), nonsense()] {
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
}

#[tokio::test(start_paused = true)]
async fn the_users_next_task_is_not_taken_away() {
    let fields = || kwargs([("task_state", Value::Null)]);
    let expected = || Expected::task(TaskState::RebootStarted).or_no_task();
    let rebooting = || row("active", json!("reboot_started"), LAUNCHED);
    let next = row("active", json!("powering-off"), LAUNCHED);
    let (result, saves) = save(fields(), expected(), vec![silence(), next]).await;
    assert_eq!(result.unwrap().task_state(), Some(TaskState::PoweringOff));
    assert_eq!(saves, [json!(["reboot_started", null])], "no second save");
    let done = row("active", Value::Null, LAUNCHED);
    let (result, saves) = save(fields(), expected(), vec![silence(), done]).await;
    assert_eq!((result.is_ok(), saves.len()), (true, 1));
    // It was not made.
    let (result, saves) = save(fields(), expected(), vec![silence(), rebooting(), saved()]).await;
    assert_eq!((result.is_ok(), saves.len()), (true, 2));
}

#[tokio::test(start_paused = true)]
async fn what_came_back_on_another_host_is_not_taken_off_it() {
    let fields = || kwargs([("host", Value::Null), ("task_state", Value::Null)]);
    let expected = || Expected::task(TaskState::Spawning);
    let shelved = |host: Value, task: &str| on_host(host, "shelved_offloaded", json!(task));
    let ours = || shelved(json!("a"), "spawning");
    for next in [shelved(json!("b"), "spawning"), shelved(Value::Null, "unshelving")] {
        let (result, saves) = save(fields(), expected(), vec![silence(), next]).await;
        assert_eq!((result.is_ok(), saves.len()), (true, 1));
    }
    let (result, saves) = save(fields(), expected(), vec![silence(), ours(), saved()]).await;
    assert_eq!((result.is_ok(), saves.len()), (true, 2));
}

#[tokio::test(start_paused = true)]
async fn a_launch_is_this_hosts_once_and_never_taken_from_another_one() {
    let fields = || kwargs([("vm_state", json!(VmState::Building)), ("task_state", Value::Null), ("host", "a".into())]);
    let expected = || Expected::Building(vec![Some(TaskState::Scheduling), None]);
    let building = |host: Value, task: Value| on_host(host, "building", task);
    let (result, saves) = save(fields(), expected(), vec![silence(), building(json!("a"), Value::Null)]).await;
    assert_eq!((result.is_ok(), saves.len()), (true, 1));
    let not_yet = building(Value::Null, json!("scheduling"));
    let (result, saves) = save(fields(), expected(), vec![silence(), not_yet, saved()]).await;
    assert_eq!((result.is_ok(), saves.len()), (true, 2));
    let anothers = || building(json!("b"), json!("networking"));
    let refused = raised("UnexpectedTaskStateError");
    let (result, _) = save(fields(), expected(), vec![silence(), anothers(), refused, anothers()]).await;
    assert_eq!(class(result).as_deref(), Some("UnexpectedTaskStateError"));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_became_active_is_not_set_to_error_by_a_repeated_save() {
    let fields = || kwargs([("vm_state", json!(VmState::Error))]);
    let active = || row("active", Value::Null, LAUNCHED);
    let refused = || raised("InstanceUpdateConflict");
    let (double, nova) = conductor(vec![silence(), active(), refused(), active()]);
    let saved = nova.save_instance(&Context::admin(), UUID, fields(), &Expected::Building(vec![None])).await;
    assert_eq!(class(saved).as_deref(), Some("InstanceUpdateConflict"));
    let sent = double.sent.lock().unwrap().clone();
    let (_, _, last) = sent.iter().rfind(|(_, method, _)| method == "object_action").unwrap();
    assert_eq!(last["kwargs"], json!({"expected_task_state": [null], "expected_vm_state": ["building"]}));
    // The first try was made after the look.
    let building = row("building", Value::Null, "");
    let (_, nova) = conductor(vec![silence(), building, refused(), row("error", Value::Null, "")]);
    let saved = nova.save_instance(&Context::admin(), UUID, fields(), &Expected::Building(vec![None])).await;
    assert_eq!(saved.unwrap().vm_state(), Some(VmState::Error));
}

#[test]
fn a_build_whose_task_we_have_no_word_for_is_expected_to_be_a_build() {
    let save = Save::new(kwargs([]), &Expected::Building(vec![Some(TaskState::Unknown)]));
    assert_eq!(save.expected(), kwargs([("expected_vm_state", json!(["building"]))]));
}

#[tokio::test(start_paused = true)]
async fn conductors_whose_answers_never_make_sense_are_not_asked_for_ever() {
    let destroyed = async |answers: Vec<Result<Value, CallError>>| {
        let (double, nova) = conductor(answers);
        let ended = nova.destroy_instance(&Context::admin(), UUID, 7, Some("a")).await;
        assert!(double.replies.lock().unwrap().is_empty(), "it was not asked for all of them");
        ended
    };
    let unreadable = |times| (1..=times).map(|_| nonsense());
    let ended = destroyed(unreadable(USELESS).collect()).await;
    assert!(matches!(ended, Err(CallError::Malformed { .. })), "{ended:?}");
    let now_and_then = unreadable(USELESS - 1).chain([silence()]).chain(unreadable(USELESS - 1));
    assert!(destroyed(now_and_then.chain([Ok(json!([{}, null]))]).collect()).await.is_ok());
    let result = end_of_launch([silence()].into_iter().chain(unreadable(USELESS)).collect()).await;
    assert!(matches!(result, Err(CallError::Malformed { .. })), "{result:?}");
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
    let (double, nova) = conductor(vec![silence(), nonsense(), Ok(json!([{}, null]))]);
    nova.destroy_instance(&context, UUID, 7, Some("a")).await.unwrap();
    let sent = double.sent.lock().unwrap().clone();
    assert_eq!([&sent[0], &sent[0]], [&sent[1], &sent[2]], "it is asked for in the same words");
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
fn a_new_flavor_was_saved_where_what_is_saved_after_it_was() {
    let flavor = json!({"nova_object.name": "Flavor", "nova_object.data": {"id": 2}});
    let fields = kwargs([("flavor", flavor), ("vm_state", json!("active")), ("metadata", json!({"a": "b"}))]);
    let resized = Save::new(fields, &Expected::Any);
    let row = |vm_state: &str, metadata: Value| {
        let mut row = Instance::try_from(row(vm_state, Value::Null, LAUNCHED).unwrap()).unwrap();
        row.set("metadata", metadata);
        row
    };
    assert!(resized.is_made(&row("active", json!({"a": "b"})), "a"));
    assert!(!resized.is_made(&row("resized", json!({"a": "b"})), "a"));
    assert!(!resized.is_made(&row("active", json!({})), "a"));
}

#[test]
fn a_step_was_made_where_the_task_is_the_one_that_it_set() {
    let migrating = kwargs([("task_state", json!(TaskState::ResizeMigrating))]);
    let step = Save::new(migrating, &Expected::task(TaskState::ResizePrep));
    let row = |task: Value| Instance::try_from(row("active", task, LAUNCHED).unwrap()).unwrap();
    assert!(step.is_made(&row(json!("resize_migrating")), "a"));
    assert!(!step.is_made(&row(json!("resize_prep")), "a"));
    assert!(!step.is_made(&row(json!("deleting")), "a"));
}

#[tokio::test(start_paused = true)]
async fn who_does_not_know_when_the_process_ends_does_nothing_more() {
    let ended = end_of_launch(vec![silence(), spawning(), Err(Error::Closed.into())]);
    assert!(unless_in_doubt(ended).await.is_none());
    let periodic = end_of_launch(vec![Err(Error::Closed.into())]);
    assert!(tokio::time::timeout(Duration::from_secs(3600), periodic).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_process_that_stops_does_not_wait_for_a_conductor_that_is_away() {
    let (_, nova) = conductor(vec![saved(), silence(), silence()]);
    let end = || async {
        let fields = kwargs([("task_state", Value::Null)]);
        nova.save_instance(&Context::admin(), UUID, fields, &Expected::task(TaskState::PoweringOff)).await
    };
    let stop = async {
        // It waits for its next look.
        sleep(Duration::from_millis(100)).await;
        nova.stop_waiting();
    };
    assert!(unless_in_doubt(end()).await.unwrap().is_ok());
    let (in_doubt, ()) = tokio::join!(unless_in_doubt(end()), stop);
    assert!(in_doubt.is_none());
    let began = tokio::time::Instant::now();
    assert!(unless_in_doubt(end()).await.is_none(), "it was asked for when the process was stopping");
    assert_eq!(began.elapsed(), Duration::ZERO);
}
