//! What the conductor is sent, against the recorded traffic of an unmodified compute service.
//!
//! Where this agent differs on purpose:
//! - Saves are slim: identity and changed fields only; Python sends the whole object. The receiver writes the changed
//!   fields only, in both cases.
//! - `ConsoleAuthToken` is asked for in version 1.1, which all supported releases know; Python asks for its own.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::doubt::Save;
use super::recorded::{self, Recorded};
use super::replay::{Double, Step};
use super::{Conductor, EventFailure};
use crate::console::Access;
use crate::messaging::{CallError, Context, Failure, Target};
use crate::objects::{ComputeNode, Expected, Instance, InstanceGroup, Migration, Object, TaskState, VmState};

/// A slim object: nothing in it that the recorded one has not, and the same changes.
fn assert_slim(ours: &Value, recorded: &Object) -> Object {
    let ours = Object::from_value(ours.clone()).unwrap();
    assert_eq!((&ours.name, &ours.version), (&recorded.name, &recorded.version));
    for (field, value) in &ours.data {
        assert_eq!(Some(value), recorded.data.get(field), "{field}");
    }
    ours
}

#[tokio::test]
async fn class_methods_are_called_as_recorded() {
    let step = Step::first("stop", "InstanceActionEvent.event_start");
    let (uuid, event) = (step.arg(0), step.arg(1));
    let (_, sent) = step.replay(async |c, context| c.event_start(&context, uuid, event, "vm").await).await;
    assert_eq!(sent, step.args);

    let step = Step::first("stop", "InstanceActionEvent.event_finish_with_failure");
    let (uuid, event) = (step.arg(0), step.arg(1));
    let (_, sent) = step.replay(async |c, context| c.event_finish(&context, uuid, event, None).await).await;
    assert_eq!(sent, step.args);

    let step = Step::first("resize_confirm", "Instance.get_by_uuid");
    let (instance, sent) = step.replay(async |c, context| c.instance(&context, step.arg(0), &step.attrs()).await).await;
    assert_eq!(sent, step.args);
    assert_eq!(instance.uuid(), step.arg(0));
    assert_eq!(instance.vm_state(), Some(VmState::Resized));

    let step = Step::first("startup_restart", "InstanceList.get_by_host");
    let (instances, sent) =
        step.replay(async |c, context| c.instances_by_host(&context, step.arg(0), &step.attrs()).await).await;
    assert_eq!(sent, step.args);
    assert!(!instances.is_empty() && instances[0].flavor().is_some());

    let step = Step::first("startup_restart", "InstanceList.get_by_host_and_node");
    let (_, sent) =
        step.replay(async |c, context| c.instances_by_host_and_node(&context, "vm", "vm", &step.attrs()).await).await;
    assert_eq!(sent, step.args);

    let step = Step::first("startup_restart", "MigrationList.get_in_progress_and_error");
    let (_, sent) = step.replay(async |c, context| c.migrations_in_progress(&context, "vm", "vm").await).await;
    assert_eq!(sent, step.args);

    let step = Step::first("startup_restart", "MigrationList.get_by_filters");
    let filters = step.args["args"][0].as_object().unwrap().clone();
    let (_, sent) = step.replay(async |c, context| c.migrations(&context, filters).await).await;
    assert_eq!(sent, step.args);

    let step = Step::first("reboot_hard", "BlockDeviceMappingList.get_by_instance_uuid");
    let (disks, sent) = step.replay(async |c, context| c.block_device_mappings(&context, step.arg(0)).await).await;
    assert_eq!(sent, step.args);
    assert!(disks.iter().all(|disk| disk.is_root() && !disk.is_volume()));

    let step = Step::first("delete_net", "VirtualInterface.delete_by_instance_uuid");
    let (_, sent) = step.replay(async |c, context| c.delete_virtual_interfaces(&context, step.arg(0)).await).await;
    assert_eq!(sent, step.args);

    let mut step = Step::first("delete_net", "ConsoleAuthToken.clean_console_auths_for_instance");
    let (_, sent) = step.replay(async |c, context| c.clean_console_auths(&context, step.arg(0)).await).await;
    step.args["object_versions"]["ConsoleAuthToken"] = "1.1".into();
    assert_eq!(sent, step.args);
}

#[tokio::test]
async fn a_consoles_token_is_made_as_recorded() {
    let mut step = Step::first("vnc_console", "ConsoleAuthToken.authorize");
    let recorded = step.object();
    let text = |field: &str| recorded.data[field].as_str().unwrap().to_owned();
    let access = Access { host: text("host"), port: 6969, internal_access_path: text("internal_access_path") };
    let (uuid, url, life) = (text("instance_uuid"), text("access_url_base"), Duration::from_secs(600));
    let made = async |c: Conductor, context| c.authorize_console(&context, &uuid, "novnc", &access, &url, life).await;
    let (token, mut sent) = step.replay(made).await;
    assert_eq!(Some(token.as_str()), step.reply[1].as_str());
    step.args["objinst"]["nova_object.version"] = "1.1".into();
    for args in [&mut sent, &mut step.args] {
        let changes = args["objinst"]["nova_object.changes"].as_array_mut().unwrap();
        changes.sort_by_key(ToString::to_string);
    }
    assert_eq!(sent, step.args);
}

#[tokio::test]
async fn a_tag_is_one_row() {
    let absent = Failure::new("nova.exception", "InstanceTagNotFound", "Instance u has no tag 'exit:0'");
    let double = Arc::new(Double::default());
    double.replies.lock().unwrap().extend([
        Ok(json!([{"obj_what_changed": []}, null])),
        Ok(Value::Null),
        Err(CallError::Remote(absent)),
    ]);
    let conductor = Conductor::new(double.clone(), "a", Duration::from_secs(60));
    conductor.add_tag(&Context::admin(), "u", "exit:0").await.unwrap();
    conductor.remove_tag(&Context::admin(), "u", "exit:0").await.unwrap();
    // Its user was faster.
    conductor.remove_tag(&Context::admin(), "u", "exit:0").await.unwrap();
    let sent: Vec<Value> = double.sent.lock().unwrap().iter().map(|(_, _, args)| args.clone()).collect();
    let row = Object::from_value(sent[0]["objinst"].clone()).unwrap();
    assert_eq!((row.name.as_str(), row.version.as_str(), &sent[0]["objmethod"]), ("Tag", "1.1", &json!("create")));
    assert_eq!(Value::Object(row.data), json!({"resource_id": "u", "tag": "exit:0"}));
    assert_eq!(row.changes.len(), 2, "what is not changed is not written");
    assert_eq!((&sent[1]["objname"], &sent[1]["objmethod"]), (&json!("Tag"), &json!("destroy")));
    assert_eq!((&sent[1]["args"], &sent[1]["object_versions"]), (&json!(["u", "exit:0"]), &json!({"Tag": "1.1"})));
}

#[tokio::test]
async fn a_group_is_found_by_its_id_or_its_name_and_tells_its_hosts() {
    let absent = Failure::new("nova.exception", "InstanceGroupNotFound", "Instance group x could not be found.");
    let double = Arc::new(Double::default());
    double.replies.lock().unwrap().extend([
        Ok(InstanceGroup::empty().into()),
        Err(CallError::Remote(absent)),
        Ok(json!([{"obj_what_changed": []}, ["one", "two"]])),
        Ok(json!(["u"])),
    ]);
    let conductor = Conductor::new(double.clone(), "a", Duration::from_secs(60));
    let (context, id) = (Context::admin(), uuid::Uuid::from_u128(7));
    let group = conductor.instance_group(&context, &id.to_string()).await.unwrap().unwrap();
    assert!(conductor.instance_group(&context, "web").await.unwrap().is_none());
    assert_eq!(conductor.hosts_of_group(&context, group, id).await.unwrap(), ["one", "two"]);
    assert_eq!(conductor.uuids_by_host(&context, "vm").await.unwrap(), ["u"]);
    let sent: Vec<Value> = double.sent.lock().unwrap().iter().map(|(_, _, args)| args.clone()).collect();
    let methods: Vec<&Value> = sent.iter().map(|args| &args["objmethod"]).collect();
    assert_eq!(methods, ["get_by_uuid", "get_by_name", "get_hosts", "get_uuids_by_host"]);
    assert_eq!(sent[0]["object_versions"], json!({"InstanceGroup": "1.11"}));
    assert_eq!(sent[2]["kwargs"], json!({"exclude": [id]}));
}

#[tokio::test]
async fn a_failed_event_has_a_message_and_a_traceback() {
    let step = Step::first("stop", "InstanceActionEvent.event_finish_with_failure");
    let failure = EventFailure { message: "a sentence".into(), traceback: String::new() };
    let (uuid, event) = (step.arg(0), step.arg(1));
    let (_, sent) = step.replay(async |c, context| c.event_finish(&context, uuid, event, Some(&failure)).await).await;
    assert_eq!(sent["kwargs"]["exc_val"], "a sentence");
    assert_eq!(sent["kwargs"]["exc_tb"], "a sentence", "without it the event would count as a success");
    let keys = |args: &Value| args["kwargs"].as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>();
    assert_eq!(keys(&sent), keys(&step.args));
}

#[tokio::test]
async fn the_service_registers_as_recorded() {
    let step = Step::first("startup_first", "Service.get_minimum_version");
    let (version, sent) = step.replay(async |c, context| c.minimum_version(&context, "nova-compute").await).await;
    assert_eq!(sent, step.args);
    assert_eq!(Some(version), step.reply.as_i64());

    let step = Step::first("startup_first", "Service.get_by_host_and_binary");
    let (service, sent) = step.replay(async |c, context| c.service(&context, "vm").await).await;
    assert_eq!(sent, step.args);
    assert_eq!(service, None, "it was not registered");

    let step = Step::first("startup_first", "Service.create");
    let (service, sent) = step.replay(async |c, context| c.create_service(&context, "vm", 74).await).await;
    let recorded = step.object();
    let ours = assert_slim(&sent["objinst"], &recorded);
    assert_eq!((&ours.data, &ours.changes), (&recorded.data, &recorded.changes));
    assert!(service.id().is_some() && service.changes.is_empty(), "the reply is applied");

    let step = Step::first("startup_restart", "Service.get_by_host_and_binary");
    let (service, _) = step.replay(async |c, context| c.service(&context, "vm").await).await;
    assert_eq!(service.unwrap().service_version(), 74);

    let step = Step::first("startup_restart", "Service.save");
    let (id, count) = (step.object().int("id").unwrap(), step.object().int("report_count").unwrap());
    let (_, sent) = step.replay(async |c, context| c.report(&context, id, count).await).await;
    let ours = assert_slim(&sent["objinst"], &step.object());
    assert_eq!(ours.changes, step.object().changes);
    assert_eq!(ours.data.len(), 2, "a report with the binary in it can fail with ServiceTooOld");
}

#[tokio::test]
async fn the_compute_node_is_written_as_recorded() {
    let step = Step::first("startup_restart", "ComputeNode.get_by_uuid");
    let (node, sent) = step.replay(async |c, context| c.compute_node_by_uuid(&context, step.arg(0)).await).await;
    assert_eq!(sent, step.args);
    assert_eq!(node.unwrap().uuid(), Some(step.arg(0)));

    let step = Step::first("startup_restart", "ComputeNodeList.get_all_by_host");
    let (nodes, sent) = step.replay(async |c, context| c.compute_nodes_by_host(&context, step.arg(0)).await).await;
    assert_eq!(sent, step.args);
    assert_eq!(nodes.len(), 1);

    let step = Step::first("startup_first", "ComputeNode.create");
    let mut node = ComputeNode::empty();
    for (field, value) in step.object().data {
        node.set(&field, value);
    }
    let (node, sent) = step
        .replay(async |c, context| {
            c.create_compute_node(&context, &mut node).await?;
            Ok(node)
        })
        .await;
    assert_eq!(Object::from_value(sent["objinst"].clone()).unwrap(), step.object());
    assert!(node.id().is_some() && node.changes.is_empty());
}

#[tokio::test]
async fn an_absent_compute_node_is_no_error() {
    let double = Arc::new(Double::default());
    let absent = Failure::new("nova.exception", "ComputeHostNotFound", "Compute host x could not be found.");
    let other = Failure::new("nova.exception", "DBError", "no");
    double.replies.lock().unwrap().extend([Err(CallError::Remote(absent)), Err(CallError::Remote(other))]);
    let conductor = Conductor::new(double, "a", Duration::from_secs(60));
    assert_eq!(conductor.compute_node_by_uuid(&Context::admin(), "x").await.unwrap(), None);
    let error = conductor.compute_node_by_uuid(&Context::admin(), "x").await.unwrap_err();
    assert_eq!(error.class(), Some("DBError"));
}

#[tokio::test]
async fn saves_of_an_instance_write_what_recorded_ones_write() {
    let operations =
        ["create_net", "stop", "start", "pause", "unpause", "reboot_soft", "reboot_hard", "snapshot", "delete_net"];
    let mut count = 0;
    for operation in operations {
        for step in Step::all(operation, "Instance.save") {
            let recorded = step.object();
            // Fields that Python marks as changed though nothing of them is stored.
            let nothing = |field: &str| matches!(field, "ec2_ids" | "tags" | "resources");
            let changed = recorded.changes.iter().filter(|field| !nothing(field));
            let fields: Map<String, Value> =
                changed.map(|field| (field.clone(), recorded.data[field].clone())).collect();
            let uuid = recorded.str("uuid").unwrap();
            let expected = step.args["kwargs"].get("expected_task_state").map(states);
            let expected: Option<Vec<Option<&str>>> = expected;
            let tasks = expected.as_ref().map(|tasks| tasks.iter().map(|task| task.map(TaskState::of)).collect());
            let save = Save::new(fields.clone(), &tasks.map_or(Expected::Any, Expected::OneOf));
            let (saved, sent) = step.replay(async |c, context| c.save_instance_once(&context, uuid, &save).await).await;
            let ours = assert_slim(&sent["objinst"], &recorded);
            assert_eq!(ours.changes, fields.keys().cloned().collect());
            assert_eq!(ours.data.len(), fields.len() + 1, "the changes and the uuid");
            let states_sent = sent["kwargs"].get("expected_task_state").map(states);
            assert_eq!(states_sent, expected, "{operation}");
            let updates = step.reply[0].as_object().unwrap();
            for (field, value) in updates.iter().filter(|(field, _)| *field != "obj_what_changed") {
                assert_eq!(saved.get(field), Some(value), "{operation} {field}");
            }
            let still_changed = updates["obj_what_changed"].as_array().unwrap().iter();
            assert_eq!(saved.changes, still_changed.map(|field| field.as_str().unwrap().to_owned()).collect());
            assert!(saved.get("obj_what_changed").is_none());
            count += 1;
        }
    }
    assert!(count > 20, "{count}");
}

/// A list of states; Python sends a single one also as a text.
fn states(value: &Value) -> Vec<Option<&str>> {
    match value {
        Value::Array(states) => states.iter().map(Value::as_str).collect(),
        single => vec![single.as_str()],
    }
}

#[tokio::test]
async fn an_instance_is_destroyed_by_its_identity() {
    let step = Step::first("delete_net", "Instance.destroy");
    let recorded = step.object();
    let (uuid, id, host) = (recorded.str("uuid").unwrap(), recorded.int("id").unwrap(), recorded.str("host"));
    let (_, sent) = step.replay(async |c, context| c.destroy_instance(&context, uuid, id, host).await).await;
    let ours = assert_slim(&sent["objinst"], &recorded);
    assert_eq!(ours.data.keys().collect::<Vec<_>>(), ["host", "id", "uuid"]);
    assert!(ours.changes.is_empty());
}

#[tokio::test]
async fn the_network_is_remembered_as_recorded() {
    let step = Step::all("create_net", "InstanceInfoCache.save").pop().unwrap();
    let recorded = step.object();
    let network_info: Value = serde_json::from_str(recorded.str("network_info").unwrap()).unwrap();
    let uuid = recorded.str("instance_uuid").unwrap();
    let (_, sent) = step.replay(async |c, context| c.save_info_cache(&context, uuid, &network_info).await).await;
    let ours = Object::from_value(sent["objinst"].clone()).unwrap();
    assert_eq!(ours.changes, recorded.changes);
    assert_eq!(serde_json::from_str::<Value>(ours.str("network_info").unwrap()).unwrap(), network_info);

    let step = Step::first("create_net", "VirtualInterface.create");
    let recorded = step.object();
    let (mac, port) = recorded.str("address").unwrap().split_once('/').unwrap();
    let uuid = recorded.str("instance_uuid").unwrap();
    let (_, sent) =
        step.replay(async |c, context| c.create_virtual_interface(&context, uuid, port, mac, None).await).await;
    assert_eq!(Object::from_value(sent["objinst"].clone()).unwrap(), recorded);
}

#[tokio::test]
async fn an_interface_is_forgotten_as_recorded() {
    let [find, destroy] =
        ["get_by_uuid", "destroy"].map(|method| Step::first("interface_detach", &format!("VirtualInterface.{method}")));
    let double = Arc::new(Double::default());
    double.replies.lock().unwrap().extend([Ok(find.reply.clone()), Ok(destroy.reply.clone()), Ok(Value::Null)]);
    let conductor = Conductor::new(double.clone(), "a", Duration::from_secs(60));
    conductor.delete_virtual_interface(&Context::admin(), find.arg(0)).await.unwrap();
    // One that is not recorded.
    conductor.delete_virtual_interface(&Context::admin(), find.arg(0)).await.unwrap();
    let sent: Vec<Value> = double.sent.lock().unwrap().iter().map(|(_, _, args)| args.clone()).collect();
    assert_eq!(sent, [find.args.clone(), destroy.args, find.args]);
}

#[tokio::test]
async fn a_migration_is_saved_as_recorded() {
    let step = Step::first("resize", "Migration.save");
    let mut migration = Migration::try_from(step.object()).unwrap();
    let (_, sent) = step.replay(async |c, context| c.save_migration(&context, &mut migration).await).await;
    assert_eq!(Object::from_value(sent["objinst"].clone()).unwrap(), step.object());
}

#[tokio::test]
async fn schedulers_are_told_as_recorded() {
    let casts: Vec<Recorded> = recorded::all().into_iter().filter(|cast| cast.exchange == "scheduler_fanout").collect();
    let double = Arc::new(Double::default());
    let conductor = Conductor::new(double.clone(), "a", Duration::from_secs(60));
    let context = Context::admin();
    let mut methods = BTreeSet::new();
    for cast in &casts {
        let args = &cast.message["args"];
        let host = args["host_name"].as_str().unwrap();
        match cast.method() {
            "update_instance_info" => {
                let list = Object::from_value(args["instance_info"].clone()).unwrap();
                let instances: Vec<_> =
                    list.objects().into_iter().map(|object| Instance::try_from(object).unwrap()).collect();
                conductor.update_instance_info(&context, host, &instances).await.unwrap();
            }
            "delete_instance_info" => {
                let uuid = args["instance_uuid"].as_str().unwrap();
                conductor.delete_instance_info(&context, host, uuid).await.unwrap();
            }
            "sync_instance_info" => {
                let uuids = args["instance_uuids"].as_array().unwrap();
                let uuids: Vec<_> = uuids.iter().map(|uuid| uuid.as_str().unwrap()).collect();
                conductor.sync_instance_info(&context, host, &uuids).await.unwrap();
            }
            other => panic!("{other}"),
        }
        let (target, method, sent) = double.sent.lock().unwrap().pop().unwrap();
        assert_eq!((target, method.as_str()), (Target::topic("scheduler", "4.2").fanout(), cast.method()));
        let mut expected = args.clone();
        if let Some(list) = expected.get_mut("instance_info") {
            // A list that Python got from the conductor has no changes; receivers do not look.
            list["nova_object.changes"] = json!(["objects"]);
        }
        assert_eq!(sorted(sent), sorted(expected));
        methods.insert(method);
    }
    assert_eq!(methods.len(), 3, "{methods:?}");
}

/// The order of changes means nothing.
fn sorted(mut value: Value) -> Value {
    match &mut value {
        Value::Array(items) => items.iter_mut().for_each(|item| *item = sorted(item.take())),
        Value::Object(entries) => {
            for (key, value) in entries.iter_mut() {
                *value = sorted(value.take());
                if let ("nova_object.changes", Value::Array(changes)) = (key.as_str(), value) {
                    changes.sort_by_key(|change| change.as_str().unwrap_or_default().to_owned());
                }
            }
        }
        _ => {}
    }
    value
}

#[tokio::test]
async fn a_reply_of_another_form_is_an_error_that_names_the_call() {
    let double = Arc::new(Double::default());
    double.replies.lock().unwrap().extend([Ok(json!(7)), Ok(json!({"x": 1}))]);
    let conductor = Conductor::new(double, "a", Duration::from_secs(60));
    let error = conductor.instance(&Context::admin(), "u", &[]).await.unwrap_err();
    assert!(error.to_string().contains("Instance.get_by_uuid"), "{error}");
    let error = conductor.report(&Context::admin(), 1, 2).await.unwrap_err();
    assert!(error.to_string().contains("Service.save"), "{error}");
}

#[tokio::test]
async fn servers_of_a_project_are_asked_for_by_its_id_and_not_without_end() {
    let double = Arc::new(Double::default());
    let mut list = Object::new("InstanceList", "2.6");
    list.set("objects", json!([Instance::slim("u").into_object().to_value()]));
    double.replies.lock().unwrap().push_back(Ok(list.to_value()));
    let conductor = Conductor::new(double.clone(), "a", Duration::from_secs(60));
    let filters = Map::from_iter([("tags".to_owned(), json!(["web"]))]);
    let found = conductor.instances_of_project(&Context::admin(), "red", filters, 7).await.unwrap();
    assert_eq!(found[0].uuid(), "u");
    let (_, _, args) = double.sent.lock().unwrap().pop().unwrap();
    assert_eq!(args["args"], json!([{"tags": ["web"], "project_id": "red", "deleted": false}]));
    assert_eq!((&args["kwargs"]["limit"], &args["kwargs"]["sort_dirs"]), (&json!(7), &json!(["asc", "asc"])));
}

#[tokio::test]
async fn a_fault_has_all_its_fields_and_a_message_that_fits() {
    let double = Arc::new(Double::default());
    double.replies.lock().unwrap().push_back(Ok(json!([{"id": 1, "obj_what_changed": []}, null])));
    let conductor = Conductor::new(double.clone(), "a", Duration::from_secs(60));
    conductor.create_fault(&Context::admin(), "u", 500, &"ä".repeat(300), "", "h").await.unwrap();
    let (_, _, args) = double.sent.lock().unwrap().pop().unwrap();
    let fault = Object::from_value(args["objinst"].clone()).unwrap();
    assert_eq!(fault.changes.iter().collect::<Vec<_>>(), ["code", "details", "host", "instance_uuid", "message"]);
    assert_eq!(fault.str("message").unwrap().chars().count(), 255);
}
