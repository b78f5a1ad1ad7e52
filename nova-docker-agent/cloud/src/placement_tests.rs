use serde_json::{Value, json};
use wiremock::matchers::{method, path};
use wiremock::{Mock, MockServer, ResponseTemplate};

use super::super::testing::{
    InTurn, agent, asked, control_plane, find, header, mount, recorded, requests, service, session,
};
use super::*;

const PROVIDER: &str = "18686b5d-5c8c-42e8-afbb-62b8cec8ed51";

fn provider() -> Uuid {
    PROVIDER.parse().unwrap()
}

fn client(server: &MockServer) -> Placement {
    Placement::new(Some(session(server)), None, &service("placement")).unwrap()
}

fn conflict() -> ResponseTemplate {
    ResponseTemplate::new(409).set_body_json(json!({ "errors": [
        { "status": 409, "title": "Conflict", "detail": "generation conflict", "code": "placement.concurrent_update" }
    ]}))
}

async fn turns(server: &MockServer, verb: &str, at: &str, answers: Vec<ResponseTemplate>) {
    Mock::given(method(verb)).and(path(at)).respond_with(InTurn::new(answers)).mount(server).await;
}

fn inventory(total: u64, ratio: f64) -> Inventory {
    Inventory { total, reserved: 0, min_unit: 1, max_unit: total, step_size: 1, allocation_ratio: ratio }
}

fn stock_inventories() -> BTreeMap<String, Inventory> {
    BTreeMap::from([
        ("VCPU".to_owned(), inventory(1000, 4.0)),
        ("MEMORY_MB".to_owned(), inventory(800_000, 1.0)),
        ("DISK_GB".to_owned(), inventory(600_000, 1.0)),
    ])
}

#[tokio::test]
async fn registration_sends_what_stock_nova_sends() {
    let calls = recorded(include_str!("../../../tests/wire/rest/startup_placement.jsonl"));
    let server = control_plane().await;
    for call in &calls {
        let at = call.path.split('?').next().unwrap();
        mount(&server, &call.method, at, call.status, call.response.clone()).await;
    }
    let client = client(&server);
    let caller = agent();

    assert_eq!(client.provider_tree(&caller, provider()).await.unwrap(), []);
    let made = client.create_provider(&caller, provider(), "vm").await.unwrap();
    assert_eq!((made.generation, made.root_provider_uuid), (0, Some(provider())));
    let stored = client.set_inventories(&caller, provider(), 0, &stock_inventories()).await.unwrap();
    assert_eq!((stored.generation, stored.inventories), (1, stock_inventories()));
    let used = client.provider_allocations(&caller, provider()).await.unwrap();
    assert_eq!(used.allocations.len(), 0);

    for (verb, start) in [
        ("POST", "/resource_providers"),
        ("PUT", "/resource_providers/18686b5d-5c8c-42e8-afbb-62b8cec8ed51/inventories"),
    ] {
        let stock = find(&calls, verb, start);
        let ours = requests(&server, &format!("{verb} {start}")).await;
        assert_eq!(ours[0].body_json::<Value>().unwrap(), stock.request, "{start}");
        assert_eq!(header(&ours[0], "openstack-api-version"), Some(stock.headers["openstack-api-version"].as_str()));
    }
}

#[tokio::test]
async fn a_generation_conflict_is_answered_by_reading_again() {
    let server = control_plane().await;
    let at = format!("/resource_providers/{PROVIDER}/inventories");
    let stored = json!({ "resource_provider_generation": 8, "inventories": stock_inventories() });
    turns(&server, "PUT", &at, vec![conflict(), ResponseTemplate::new(200).set_body_json(&stored)]).await;
    mount(&server, "GET", &at, 200, json!({ "resource_provider_generation": 7, "inventories": {} })).await;
    let result = client(&server).set_inventories(&agent(), provider(), 3, &stock_inventories()).await.unwrap();
    assert_eq!(result.generation, 8);
    let sent = requests(&server, &format!("PUT {at}")).await;
    let generations: Vec<Value> =
        sent.iter().map(|put| put.body_json::<Value>().unwrap()["resource_provider_generation"].clone()).collect();
    assert_eq!(generations, [3, 7]);
}

#[tokio::test]
async fn an_endless_conflict_is_given_up() {
    let server = control_plane().await;
    let at = format!("/resource_providers/{PROVIDER}/inventories");
    turns(&server, "PUT", &at, vec![conflict()]).await;
    mount(&server, "GET", &at, 200, json!({ "resource_provider_generation": 7, "inventories": {} })).await;
    let error = client(&server).set_inventories(&agent(), provider(), 3, &stock_inventories()).await.unwrap_err();
    assert_eq!(error.code(), Some("placement.concurrent_update"));
    assert_eq!(requests(&server, &format!("PUT {at}")).await.len(), 4);
}

#[tokio::test]
async fn a_claim_for_a_move_is_taken_back_though_somebody_else_changes_it_too() {
    let server = control_plane().await;
    let (consumer, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
    let at = format!("/allocations/{consumer}");
    let held = |generation: i64| {
        ResponseTemplate::new(200).set_body_json(json!({
            "allocations": {
                PROVIDER: { "resources": { "VCPU": 1 }, "generation": 1 },
                other.to_string(): { "resources": { "VCPU": 2 }, "generation": 1 },
            },
            "consumer_generation": generation,
            "project_id": "p",
            "user_id": "u",
        }))
    };
    turns(&server, "GET", &at, vec![held(1), held(2)]).await;
    turns(&server, "PUT", &at, vec![conflict(), ResponseTemplate::new(204)]).await;
    client(&server).remove_provider(&agent(), consumer, provider()).await.unwrap();
    let sent = requests(&server, &format!("PUT {at}")).await;
    let sent: Vec<Value> = sent.iter().map(|put| put.body_json().unwrap()).collect();
    assert_eq!([&sent[0]["consumer_generation"], &sent[1]["consumer_generation"]], [1, 2]);
    assert_eq!(sent[1]["allocations"], json!({ other.to_string(): { "resources": { "VCPU": 2 } } }));
}

#[tokio::test]
async fn what_was_reserved_for_a_port_is_given_back_and_what_others_of_the_instance_hold_stays() {
    let server = control_plane().await;
    let (consumer, shared, emptied) = (Uuid::from_u128(1), Uuid::from_u128(2), Uuid::from_u128(3));
    let at = format!("/allocations/{consumer}");
    let resources = |amounts: Value| json!({ "resources": amounts, "generation": 1 });
    let held = json!({
        "allocations": {
            PROVIDER: resources(json!({ "VCPU": 1 })),
            shared.to_string(): resources(json!({ "NET_BW_EGR_KILOBIT_PER_SEC": 1500, "NET_BW_IGR_KILOBIT_PER_SEC": 100 })),
            emptied.to_string(): resources(json!({ "NET_PACKET_RATE_KILOPACKET_PER_SEC": 10 })),
        },
        "consumer_generation": 4, "project_id": "p", "user_id": "u",
    });
    mount(&server, "GET", &at, 200, held).await;
    turns(&server, "PUT", &at, vec![conflict(), ResponseTemplate::new(204)]).await;
    let amount = |class: &str, amount| (class.to_owned(), amount);
    let given_up: BTreeMap<Uuid, BTreeMap<String, u64>> = BTreeMap::from([
        (shared, [amount("NET_BW_EGR_KILOBIT_PER_SEC", 1000), amount("NET_BW_IGR_KILOBIT_PER_SEC", 100)].into()),
        (emptied, [amount("NET_PACKET_RATE_KILOPACKET_PER_SEC", 10)].into()),
        (Uuid::from_u128(4), [amount("NET_BW_EGR_KILOBIT_PER_SEC", 1)].into()),
    ]);
    client(&server).release(&agent(), consumer, &given_up).await.unwrap();
    let sent = requests(&server, &format!("PUT {at}")).await;
    assert_eq!(sent.len(), 2, "once more after a conflict");
    let body: Value = sent[1].body_json().unwrap();
    let left = json!({
        PROVIDER: { "resources": { "VCPU": 1 } },
        shared.to_string(): { "resources": { "NET_BW_EGR_KILOBIT_PER_SEC": 500 } },
    });
    assert_eq!((&body["allocations"], &body["consumer_generation"]), (&left, &json!(4)));
    client(&server).release(&agent(), consumer, &BTreeMap::new()).await.unwrap();
    assert_eq!(requests(&server, &format!("GET {at}")).await.len(), 2, "nothing to give back asks nobody");
}

#[tokio::test]
async fn a_resource_class_in_use_is_no_reason_to_try_again() {
    let server = control_plane().await;
    let at = format!("/resource_providers/{PROVIDER}/inventories");
    let in_use = json!({ "errors": [{ "detail": "in use", "code": "placement.inventory.inuse" }] });
    mount(&server, "PUT", &at, 409, in_use).await;
    let error = client(&server).set_inventories(&agent(), provider(), 3, &BTreeMap::new()).await.unwrap_err();
    assert_eq!(error.code(), Some("placement.inventory.inuse"));
    assert_eq!(asked(&server).await.len(), 1);
}

#[tokio::test]
async fn traits_of_others_stay_and_only_ours_are_added_and_removed() {
    let server = control_plane().await;
    let at = format!("/resource_providers/{PROVIDER}/traits");
    let now = json!({ "resource_provider_generation": 5, "traits": ["HW_CPU_X86_AVX", "CUSTOM_RACK_7", "COMPUTE_STATUS_DISABLED"] });
    mount(&server, "GET", &at, 200, now).await;
    mount(&server, "PUT", &at, 200, json!({ "resource_provider_generation": 6, "traits": [] })).await;
    let owned = ["COMPUTE_NODE", "COMPUTE_STATUS_DISABLED", "CUSTOM_HV_DOCKER"];
    client(&server).set_traits(&agent(), provider(), &owned, &["COMPUTE_NODE", "CUSTOM_HV_DOCKER"]).await.unwrap();
    let sent: Value = requests(&server, &format!("PUT {at}")).await[0].body_json().unwrap();
    let expected = json!({
        "resource_provider_generation": 5,
        "traits": ["COMPUTE_NODE", "CUSTOM_HV_DOCKER", "CUSTOM_RACK_7", "HW_CPU_X86_AVX"],
    });
    assert_eq!(sent, expected);
}

#[tokio::test]
async fn traits_that_are_right_already_are_not_written() {
    let server = control_plane().await;
    let at = format!("/resource_providers/{PROVIDER}/traits");
    mount(&server, "GET", &at, 200, json!({ "resource_provider_generation": 5, "traits": ["COMPUTE_NODE", "X"] }))
        .await;
    client(&server).set_traits(&agent(), provider(), &["COMPUTE_NODE"], &["COMPUTE_NODE"]).await.unwrap();
    assert_eq!(asked(&server).await.len(), 1);
}

#[tokio::test]
async fn a_missing_custom_trait_is_created_and_a_missing_standard_one_reported() {
    let server = control_plane().await;
    mount(&server, "GET", "/traits", 200, json!({ "traits": ["COMPUTE_NODE"] })).await;
    let created = ResponseTemplate::new(201);
    Mock::given(method("PUT"))
        .and(path("/traits/CUSTOM_HV_DOCKER"))
        .respond_with(created)
        .expect(1)
        .mount(&server)
        .await;
    let names = ["COMPUTE_NODE", "OWNER_NOVA", "CUSTOM_HV_DOCKER"];
    let unknown = client(&server).ensure_traits(&agent(), &names).await.unwrap();
    assert_eq!(unknown, BTreeSet::from(["OWNER_NOVA".to_owned()]));
    assert_eq!(asked(&server).await[0], "GET /traits?name=in%3ACOMPUTE_NODE%2COWNER_NOVA%2CCUSTOM_HV_DOCKER");
}

#[tokio::test]
async fn allocations_of_a_deleted_instance_are_read_and_dropped() {
    let calls = recorded(include_str!("../../../tests/wire/rest/delete_net.jsonl"));
    let read = find(&calls, "GET", "/allocations/");
    let consumer: Uuid = read.path.trim_start_matches("/allocations/").parse().unwrap();
    let server = control_plane().await;
    mount(&server, "GET", &read.path, 200, read.response.clone()).await;
    turns(&server, "DELETE", &read.path, vec![ResponseTemplate::new(204), ResponseTemplate::new(404)]).await;
    let client = client(&server);
    let held = client.allocations(&agent(), consumer).await.unwrap();
    assert_eq!(held.allocations[&provider()].resources["MEMORY_MB"], 192);
    assert_eq!(held.consumer_generation, Some(1));
    assert!(client.delete_allocations(&agent(), consumer).await.unwrap());
    assert!(!client.delete_allocations(&agent(), consumer).await.unwrap());
}

#[tokio::test]
async fn allocations_that_changed_meanwhile_are_not_cleared() {
    let consumer = Uuid::from_u128(7);
    let server = control_plane().await;
    let at = format!("/allocations/{consumer}");
    turns(&server, "PUT", &at, vec![conflict(), ResponseTemplate::new(204)]).await;
    let seen = ConsumerAllocations { consumer_generation: Some(3), ..ConsumerAllocations::default() };
    let client = client(&server);
    assert!(!client.clear_allocations(&agent(), consumer, &seen).await.unwrap());
    assert!(client.clear_allocations(&agent(), consumer, &seen).await.unwrap());
    let sent: Value = requests(&server, &format!("PUT {at}")).await[0].body_json().unwrap();
    assert_eq!((&sent["allocations"], &sent["consumer_generation"]), (&json!({}), &json!(3)));
}

#[tokio::test]
async fn what_several_consumers_hold_is_replaced_at_once_unless_it_has_changed_meanwhile() {
    let server = control_plane().await;
    turns(&server, "POST", "/allocations", vec![conflict(), ResponseTemplate::new(204)]).await;
    let (instance, migration) = (Uuid::from_u128(1), Uuid::from_u128(2));
    let allocation = Allocation { resources: BTreeMap::from([("VCPU".to_owned(), 1)]), generation: Some(9) };
    let held = ConsumerAllocations {
        allocations: BTreeMap::from([(provider(), allocation)]),
        consumer_generation: Some(5),
        project_id: Some("p".to_owned()),
        user_id: Some("u".to_owned()),
    };
    let nothing = ConsumerAllocations { consumer_generation: Some(3), ..ConsumerAllocations::default() };
    let (consumers, client) = ([(instance, held), (migration, nothing)], client(&server));
    assert!(!client.replace_seen(&agent(), &consumers).await.unwrap());
    assert!(client.replace_seen(&agent(), &consumers).await.unwrap());
    let sent: Value = requests(&server, "POST /allocations").await[0].body_json().unwrap();
    let of_instance = json!({
        "allocations": { provider().to_string(): { "resources": { "VCPU": 1 } } },
        "consumer_generation": 5, "project_id": "p", "user_id": "u",
    });
    assert_eq!(sent[instance.to_string()], of_instance);
    assert_eq!(sent[migration.to_string()]["allocations"], json!({}));
    assert_eq!(sent[migration.to_string()]["consumer_generation"], 3);
}

#[tokio::test]
async fn a_name_that_another_provider_has_is_a_conflict() {
    let server = control_plane().await;
    let body = json!({ "errors": [{ "detail": "Conflicting resource provider name: vm already exists.", "code": "placement.duplicate_name" }] });
    mount(&server, "POST", "/resource_providers", 409, body).await;
    let error = client(&server).create_provider(&agent(), provider(), "vm").await.unwrap_err();
    assert!(error.is_conflict() && error.message().contains("vm already exists"), "{error}");
}
