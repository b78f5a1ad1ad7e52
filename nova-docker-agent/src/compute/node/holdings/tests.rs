//! What is due to an instance, and what is changed so that it holds that.

use super::*;
use crate::objects::{Object, TaskState};

const HOST: &str = "vm";
const PROVIDER: Uuid = Uuid::from_u128(9);
const NETWORK: Uuid = Uuid::from_u128(8);
const INSTANCE: Uuid = Uuid::from_u128(1);
const MOVE: Uuid = Uuid::from_u128(2);

/// An instance of this host whose flavor has one processor and so much memory.
fn instance(memory_mb: i64) -> Instance {
    let mut flavor = Object::new("Flavor", "1.2");
    flavor.set("vcpus", 1);
    flavor.set("memory_mb", memory_mb);
    let mut instance = Instance::slim(&INSTANCE.to_string());
    for (field, value) in [("host", HOST), ("vm_state", "active"), ("project_id", "p"), ("user_id", "u")] {
        instance.set(field, value);
    }
    instance.set("flavor", flavor.to_value());
    instance
}

fn with(field: &str, value: &str) -> Instance {
    let mut instance = instance(64);
    instance.set(field, value);
    instance
}

fn resources(memory_mb: u64) -> Resources {
    Resources::from([("MEMORY_MB".to_owned(), memory_mb), ("VCPU".to_owned(), 1)])
}

fn holding(memory_mb: u64, generation: i64) -> ConsumerAllocations {
    let allocation = Allocation { resources: resources(memory_mb), generation: Some(3) };
    ConsumerAllocations {
        allocations: BTreeMap::from([(PROVIDER, allocation)]),
        consumer_generation: Some(generation),
        project_id: Some("p".to_owned()),
        user_id: Some("u".to_owned()),
    }
}

fn of_a_port(mut held: ConsumerAllocations, class: &str) -> ConsumerAllocations {
    let resources = Resources::from([(class.to_owned(), 1000)]);
    held.allocations.insert(NETWORK, Allocation { resources, generation: Some(4) });
    held
}

fn changes(row: &Instance, held: ConsumerAllocations, of_moves: Vec<ConsumerAllocations>) -> Vec<Held> {
    let ended_moves = of_moves.into_iter().map(|held| (MOVE, held)).collect();
    let seen = Seen { instance: (INSTANCE, held), ended_moves };
    seen.changes(&due(Some(row), HOST), PROVIDER, Some(row))
}

fn amounts(held: &ConsumerAllocations) -> Vec<(Uuid, Resources)> {
    held.allocations.iter().map(|(id, allocation)| (*id, allocation.resources.clone())).collect()
}

#[test]
fn a_settled_instance_is_due_what_its_flavor_asks_for() {
    for vm_state in ["active", "stopped", "paused", "suspended", "rescued", "soft-delete", "shelved", "error"] {
        assert_eq!(due(Some(&with("vm_state", vm_state)), HOST), Due::Resources(resources(64)), "{vm_state}");
    }
}

#[test]
fn an_instance_with_an_operation_or_a_resize_under_way_is_left_alone() {
    for task in TaskState::ALL {
        assert_eq!(due(Some(&with("task_state", task.as_str())), HOST), Due::Unsettled, "{task:?}");
    }
    for vm_state in ["resized", "building", "of a newer Nova"] {
        let row = with("vm_state", vm_state);
        assert_eq!(due(Some(&row), HOST), Due::Unsettled, "{vm_state}");
        assert_eq!(changes(&row, holding(256, 5), vec![holding(64, 1)]), []);
    }
}

#[test]
fn an_instance_that_is_not_on_this_host_gets_nothing_of_it_and_its_ended_moves_lose_what_they_hold() {
    assert_eq!(due(None, HOST), Due::Unknown);
    for row in [with("vm_state", "shelved_offloaded"), with("vm_state", "deleted"), with("host", "another")] {
        assert_eq!(due(Some(&row), HOST), Due::Unknown);
        let [(id, held)] = &changes(&row, holding(256, 5), vec![holding(64, 1)])[..] else { panic!("{row:?}") };
        assert_eq!((*id, amounts(held), held.consumer_generation), (MOVE, Vec::new(), Some(1)));
    }
}

#[test]
fn an_instance_that_holds_another_flavors_resources_holds_its_own_and_the_ended_move_nothing() {
    let all = changes(&instance(64), holding(256, 5), vec![holding(64, 1)]);
    let [(first, of_move), (second, of_instance)] = &all[..] else { panic!("{all:?}") };
    assert_eq!((*first, amounts(of_move), of_move.consumer_generation), (MOVE, Vec::new(), Some(1)));
    assert_eq!((*second, of_instance.consumer_generation), (INSTANCE, Some(5)));
    assert_eq!(amounts(of_instance), [(PROVIDER, resources(64))]);
    // Nothing is left of the move.
    let alone = changes(&instance(64), holding(256, 5), Vec::new());
    assert_eq!(alone, [(INSTANCE, of_instance.clone())]);
}

#[test]
fn nothing_is_changed_of_an_instance_that_holds_what_is_due() {
    let done = ConsumerAllocations { allocations: BTreeMap::new(), ..holding(64, 2) };
    assert_eq!(changes(&instance(64), holding(64, 5), vec![done]), []);
    assert_eq!(changes(&instance(64), of_a_port(holding(64, 5), "NET_BW_EGR_KILOBIT_PER_SEC"), Vec::new()), []);
    let all = changes(&instance(64), holding(64, 5), vec![holding(256, 1)]);
    assert_eq!(all.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [MOVE], "it has been confirmed");
}

#[test]
fn what_other_providers_give_to_an_instance_stays() {
    let held = of_a_port(holding(256, 5), "NET_BW_EGR_KILOBIT_PER_SEC");
    let all = changes(&instance(64), held, Vec::new());
    let [(_, held)] = &all[..] else { panic!("{all:?}") };
    assert_eq!(held.allocations[&NETWORK].resources["NET_BW_EGR_KILOBIT_PER_SEC"], 1000);
    assert_eq!(held.allocations[&PROVIDER].resources, resources(64));
}

#[test]
fn of_what_a_shared_provider_gives_to_an_instance_it_needs_nothing_here() {
    let mut row = instance(64);
    row.set("image_ref", "an image");
    let mut flavor = row.flavor().unwrap();
    flavor.set("root_gb", 5);
    row.set("flavor", flavor.into_object().to_value());
    let shared = of_a_port(holding(64, 5), "DISK_GB");
    assert_eq!(changes(&row, shared, Vec::new()), []);
    let all = changes(&row, of_a_port(holding(256, 5), "DISK_GB"), Vec::new());
    let [(_, held)] = &all[..] else { panic!("{all:?}") };
    assert_eq!(held.allocations[&PROVIDER].resources, resources(64));
    // A claim on another host is no disk of this one.
    let mut claimed = of_a_port(holding(64, 5), "DISK_GB");
    let there = claimed.allocations.get_mut(&NETWORK).unwrap();
    there.resources.extend(resources(64));
    let all = changes(&row, claimed, Vec::new());
    let [(_, held)] = &all[..] else { panic!("{all:?}") };
    assert_eq!(held.allocations[&PROVIDER].resources["DISK_GB"], 5);
}

#[test]
fn an_instance_whose_way_to_another_host_has_ended_holds_of_this_one_again() {
    let mut claimed = ConsumerAllocations { allocations: BTreeMap::new(), ..holding(64, 5) };
    claimed.allocations.insert(NETWORK, Allocation { resources: resources(256), generation: Some(4) });
    let all = changes(&instance(64), claimed.clone(), vec![holding(64, 1)]);
    let [(_, of_move), (id, held)] = &all[..] else { panic!("{all:?}") };
    assert_eq!(amounts(of_move), Vec::new());
    assert_eq!((*id, held.consumer_generation, amounts(held)), (INSTANCE, Some(5), vec![(PROVIDER, resources(64))]));
    // The move holds nothing any more: nobody knows whose the claim on the other host is.
    let all = changes(&instance(64), claimed, Vec::new());
    let [(_, held)] = &all[..] else { panic!("{all:?}") };
    assert_eq!(amounts(held), [(NETWORK, resources(256)), (PROVIDER, resources(64))]);
}

#[test]
fn what_an_operator_has_added_to_this_host_stays() {
    let mut added = holding(256, 5);
    let here = added.allocations.get_mut(&PROVIDER).unwrap();
    here.resources.insert("CUSTOM_LICENCE".to_owned(), 1);
    let all = changes(&instance(64), added, Vec::new());
    let [(_, held)] = &all[..] else { panic!("{all:?}") };
    assert_eq!(held.allocations[&PROVIDER].resources["CUSTOM_LICENCE"], 1);
    assert_eq!(held.allocations[&PROVIDER].resources["MEMORY_MB"], 64);
}

#[test]
fn an_instance_without_a_host_and_a_task_is_nowhere() {
    let shelved = |task: &str| {
        let mut row = Instance::slim(&INSTANCE.to_string());
        row.set("vm_state", "shelved_offloaded");
        if !task.is_empty() {
            row.set("task_state", task);
        }
        row
    };
    assert!(is_nowhere(&shelved("")));
    assert!(!is_nowhere(&shelved("unshelving")));
    assert!(!is_nowhere(&with("vm_state", "error")), "it has a host");
    let mut building = shelved("");
    building.set("vm_state", "building");
    assert!(!is_nowhere(&building));
}

#[test]
fn an_instance_that_holds_nothing_gets_what_is_due_and_what_its_ports_had() {
    let all = changes(&instance(64), ConsumerAllocations::default(), Vec::new());
    let [(id, held)] = &all[..] else { panic!("{all:?}") };
    assert_eq!((*id, held.consumer_generation, amounts(held)), (INSTANCE, None, vec![(PROVIDER, resources(64))]));
    assert_eq!((held.project_id.as_deref(), held.user_id.as_deref()), (Some("p"), Some("u")));
    let of_move = of_a_port(holding(128, 1), "NET_BW_EGR_KILOBIT_PER_SEC");
    let all = changes(&instance(64), ConsumerAllocations::default(), vec![of_move]);
    let [_, (_, held)] = &all[..] else { panic!("{all:?}") };
    assert_eq!(held.allocations[&PROVIDER].resources, resources(64));
    assert!(held.allocations.contains_key(&NETWORK));
}
