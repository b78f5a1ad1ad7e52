//! The wire format against the recorded traffic of unmodified services.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::recorded::{self, Recorded};
use super::wire::{caller, envelope, heartbeat, open_envelope, parse_reply, parse_request, reply, request};
use super::{Context, Failure, Target};
use nova_docker_objects::Object;

fn keys(message: &Map<String, Value>) -> BTreeSet<&str> {
    message.keys().map(String::as_str).collect()
}

#[test]
fn every_request_to_a_compute_service_is_parsed_without_loss() {
    let requests: Vec<Recorded> = recorded::all().into_iter().filter(Recorded::is_request_to_compute).collect();
    assert!(requests.len() > 40, "{}", requests.len());
    for recorded in requests {
        let incoming = parse_request(open_envelope(&envelope(&recorded.message)).unwrap()).unwrap();
        // Put together again from what was understood, it is the same message.
        let parsed = &incoming.request;
        let mut again = Map::new();
        again.insert("method".into(), parsed.method.clone().into());
        again.insert("args".into(), Value::Object(parsed.args.clone()));
        again.insert("version".into(), parsed.version.clone().into());
        again.insert("_unique_id".into(), parsed.unique_id.clone().into());
        again.extend(parsed.context.as_map().iter().map(|(key, value)| (format!("_context_{key}"), value.clone())));
        if let Some(caller) = &incoming.caller {
            again.insert("_msg_id".into(), caller.message_id.clone().into());
            again.insert("_reply_q".into(), caller.queue.clone().into());
            again.insert("_timeout".into(), caller.monitor.map_or(Value::Null, |time| json!(time.as_secs())));
        }
        assert_eq!(again, recorded.message);
        assert_eq!(parsed.is_call, recorded.properties.contains_key("expiration"), "{}", parsed.method);
    }
}

#[test]
fn every_object_in_the_traffic_passes_through_without_loss() {
    let mut count = 0;
    for recorded in recorded::all() {
        count += objects_in(&Value::Object(recorded.message));
    }
    assert!(count > 1000, "{count}");
}

/// Compares each object below a value with what becomes of it, and counts them.
fn objects_in(value: &Value) -> usize {
    match value {
        Value::Array(items) => items.iter().map(objects_in).sum(),
        Value::Object(entries) => {
            let below = entries.values().map(objects_in).sum();
            if !entries.contains_key("nova_object.name") {
                return below;
            }
            let mut expected = value.clone();
            // The order of the changes means nothing.
            if let Some(Value::Array(changes)) = expected.get_mut("nova_object.changes") {
                changes.sort_by_key(|change| change.as_str().unwrap_or_default().to_owned());
            }
            assert_eq!(Object::from_value(value.clone()).unwrap().to_value(), expected);
            below + 1
        }
        _ => 0,
    }
}

#[test]
fn our_requests_have_the_keys_of_recorded_ones() {
    let all = recorded::all();
    let sent = |method: &str| {
        all.iter().find(|recorded| recorded.is_request_of_compute() && recorded.method() == method).unwrap().clone()
    };
    let call = sent("object_class_action_versions");
    let ours =
        request(&Target::topic("conductor", "3.0"), &Context::admin(), call.method(), json!({}), Some(("m", "q")));
    assert_eq!(keys(&ours), keys(&call.message));
    assert_eq!(ours["_timeout"], call.message["_timeout"]);
    let ping = sent("ping");
    let base = Target::topic("conductor", "1.0").namespace("baseapi");
    assert_eq!(keys(&request(&base, &Context::admin(), "ping", json!({}), Some(("m", "q")))), keys(&ping.message));
    let cast = sent("sync_instance_info");
    let scheduler = Target::topic("scheduler", "4.2").fanout();
    assert_eq!(keys(&request(&scheduler, &Context::admin(), cast.method(), json!({}), None)), keys(&cast.message));
}

#[test]
fn a_context_of_our_own_is_like_a_recorded_one() {
    let recorded = recorded::operation("startup_first").into_iter().find(Recorded::is_request_of_compute).unwrap();
    let theirs = parse_request(recorded.message).unwrap().request.context;
    let ours = Context::admin();
    assert_eq!(keys(ours.as_map()), keys(theirs.as_map()));
    for (key, value) in theirs.as_map() {
        if !matches!(key.as_str(), "request_id" | "timestamp") {
            assert_eq!(ours.get(key), Some(value), "{key}");
        }
    }
    assert_eq!(ours.request_id().len(), theirs.request_id().len());
}

#[test]
fn our_replies_are_like_recorded_ones() {
    let replies = recorded::all().into_iter().filter(Recorded::is_reply);
    let (mut results, mut failures, mut beats) = (0, 0, 0);
    for recorded in replies {
        let id = recorded.message["_msg_id"].as_str().unwrap();
        let parsed = parse_reply(recorded.message.clone()).unwrap();
        let ours = if parsed.ending { reply(id, &parsed.result) } else { heartbeat(id) };
        assert_eq!(keys(&ours), keys(&recorded.message));
        match (&parsed.result, parsed.ending) {
            (Ok(_), true) => results += 1,
            (Ok(_), false) => beats += 1,
            (Err(_), _) => failures += 1,
        }
        for (key, value) in &recorded.message {
            match key.as_str() {
                "_unique_id" => assert_eq!(ours[key].as_str().unwrap().len(), value.as_str().unwrap().len()),
                // Text within text: the order of its keys is free.
                "failure" if value.is_string() => assert_eq!(decoded(&ours[key]), decoded(value)),
                _ => assert_eq!(&ours[key], value, "{key}"),
            }
        }
    }
    assert!(results > 300 && failures > 0 && beats > 5, "{results} {failures} {beats}");
}

fn decoded(failure: &Value) -> Failure {
    let decoded: Value = serde_json::from_str(failure.as_str().unwrap()).unwrap();
    let failure: Failure = serde_json::from_value(decoded.clone()).unwrap();
    assert_eq!(json!(failure), decoded, "nothing of a failure is lost");
    failure
}

#[test]
fn a_monitored_call_is_recognised() {
    let recorded = recorded::operation("long_call_heartbeat");
    let monitor = caller(&recorded[0].message).unwrap().monitor;
    assert_eq!(monitor.map(|time| time.as_secs()), recorded[0].message["_timeout"].as_u64());
    assert!(monitor.is_some());
}
