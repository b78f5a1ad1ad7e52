//! Which allocations are due, and a placement that is asked for them.

use serde_json::Value;
use wiremock::{
    Mock, MockServer, ResponseTemplate,
    matchers::{method, path},
};

use super::*;
use crate::compute::ports::tests::cloud::{agent, control_plane, mount, requests, service, session};
use crate::objects::Object;

const HOST: &str = "vm";
const PROVIDER: Uuid = Uuid::from_u128(9);
const INSTANCE: Uuid = Uuid::from_u128(1);
const MIGRATION: Uuid = Uuid::from_u128(2);

/// From flavor 1 to flavor 2.
fn migration() -> Migration {
    let mut migration = Migration::empty();
    migration.set("old_instance_type_id", 1);
    migration.set("new_instance_type_id", 2);
    migration
}

fn with_flavor(id: i64) -> Instance {
    let mut flavor = Object::new("Flavor", "1.2");
    flavor.set("id", id);
    let mut instance = Instance::slim(&INSTANCE.to_string());
    instance.set("flavor", flavor.to_value());
    instance.set("host", HOST);
    instance.set("vm_state", "active");
    instance
}

#[test]
fn an_instance_gets_back_what_its_flavor_needs_and_keeps_what_a_resize_that_is_done_has_claimed() {
    assert_eq!(due(&migration(), Some(&with_flavor(1)), HOST), Due::GiveBack);
    assert_eq!(due(&migration(), Some(&with_flavor(2)), HOST), Due::Drop);
    assert_eq!(due(&migration(), Some(&with_flavor(3)), HOST), Due::Drop, "resized again");
    assert_eq!(due(&migration(), None, HOST), Due::Drop, "deleted");
    assert_eq!(due(&Migration::empty(), Some(&Instance::slim("i")), HOST), Due::Drop);
}

#[test]
fn an_instance_with_an_operation_under_way_is_left_alone() {
    let mut instance = with_flavor(1);
    instance.set("task_state", "resize_prep");
    assert_eq!(due(&migration(), Some(&instance), HOST), Due::Wait);
    instance.set("task_state", json!(null));
    instance.set("vm_state", "resized");
    assert_eq!(due(&migration(), Some(&instance), HOST), Due::Wait);
}

#[test]
fn an_instance_that_is_not_on_this_host_gets_nothing_of_it() {
    let mut instance = with_flavor(1);
    instance.set("vm_state", "shelved_offloaded");
    assert_eq!(due(&migration(), Some(&instance), HOST), Due::Drop);
    let mut elsewhere = with_flavor(1);
    elsewhere.set("host", "another");
    assert_eq!(due(&migration(), Some(&elsewhere), HOST), Due::Drop);
}

fn holding(memory_mb: u64, generation: i64) -> Value {
    json!({
        "allocations": { PROVIDER.to_string(): { "resources": { "VCPU": 1, "MEMORY_MB": memory_mb }, "generation": 3 } },
        "consumer_generation": generation, "project_id": "p", "user_id": "u",
    })
}

/// What is asked of a placement in which the instance and the migration hold so much.
async fn settled(due: Due, instance: Value, migration: Value, answer: u16) -> (bool, Vec<(String, Value)>) {
    let server: MockServer = control_plane().await;
    mount(&server, "GET", &format!("/allocations/{INSTANCE}"), 200, instance).await;
    mount(&server, "GET", &format!("/allocations/{MIGRATION}"), 200, migration).await;
    let body =
        json!({ "errors": [{ "status": answer, "title": "t", "detail": "d", "code": "placement.concurrent_update" }] });
    for (verb, at) in [("POST", "/allocations".to_owned()), ("PUT", format!("/allocations/{MIGRATION}"))] {
        let reply = ResponseTemplate::new(answer).set_body_json(&body);
        Mock::given(method(verb)).and(path(at)).respond_with(reply).mount(&server).await;
    }
    let placement = Placement::new(Some(session(&server)), None, &service("placement")).unwrap();
    let seen = Seen::read(&placement, &agent(), INSTANCE, MIGRATION).await.unwrap();
    let done = seen.settle(&placement, &agent(), due).await.unwrap();
    let mut changes = Vec::new();
    for what in ["POST /allocations".to_owned(), format!("PUT /allocations/{MIGRATION}")] {
        for request in requests(&server, &what).await {
            changes.push((request.method.to_string(), request.body_json().unwrap()));
        }
    }
    (done, changes)
}

#[tokio::test]
async fn what_the_migration_of_a_given_up_resize_holds_goes_back_to_its_instance() {
    let (done, changes) = settled(Due::GiveBack, holding(256, 5), holding(64, 1), 204).await;
    let [(verb, change)] = changes.as_slice() else { panic!("{changes:?}") };
    assert_eq!((done, verb.as_str()), (true, "POST"));
    let (instance, migration) = (&change[INSTANCE.to_string()], &change[MIGRATION.to_string()]);
    assert_eq!(instance["allocations"][PROVIDER.to_string()]["resources"]["MEMORY_MB"], 64);
    assert_eq!((&instance["consumer_generation"], &migration["consumer_generation"]), (&json!(5), &json!(1)));
    assert_eq!(migration["allocations"], json!({}));
}

#[tokio::test]
async fn what_nobody_needs_is_dropped_and_the_instance_keeps_what_it_has() {
    for (due, instance) in [(Due::Drop, holding(256, 5)), (Due::GiveBack, holding(64, 5))] {
        let (done, changes) = settled(due, instance, holding(64, 1), 204).await;
        let [(verb, change)] = changes.as_slice() else { panic!("{changes:?}") };
        assert_eq!((done, verb.as_str(), &change["allocations"]), (true, "PUT", &json!({})));
    }
}

#[tokio::test]
async fn what_changes_meanwhile_is_somebody_elses_and_what_is_settled_stays() {
    for due in [Due::GiveBack, Due::Drop] {
        let (done, changes) = settled(due, holding(256, 5), holding(64, 1), 409).await;
        assert_eq!((done, changes.len()), (false, 1), "{due:?}");
        let (done, changes) = settled(due, holding(64, 5), json!({ "allocations": {} }), 204).await;
        assert_eq!((done, changes.len()), (true, 0), "{due:?}");
    }
    let (done, changes) = settled(Due::Wait, holding(256, 5), holding(64, 1), 204).await;
    assert_eq!((done, changes.len()), (true, 0));
}
