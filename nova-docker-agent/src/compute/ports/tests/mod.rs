//! The operations on ports against recorded traffic, and against a neutron that refuses.

mod allocation;
mod cache;
#[expect(dead_code, reason = "the tests of the clients use more of it")]
#[path = "../../../../cloud/src/testing.rs"]
pub(in crate::compute) mod cloud;
mod release;

use std::time::Duration;

use serde_json::{Value, json};
use wiremock::matchers::{method, path, path_regex, query_param};
use wiremock::{Mock, MockServer, Request, ResponseTemplate};

use self::cloud::{agent, asked, control_plane, find, header, mount, recorded, requests, service, session, user};
use super::*;
use crate::cloud::neutron::Port;

const INSTANCE: &str = "f6d7430f-1823-4903-9d14-d1a847ad0e06";
const PROJECT: &str = "57ba6423ca7040fc84874d3cbb455afb";

fn instance() -> Uuid {
    INSTANCE.parse().unwrap()
}

fn id(n: u128) -> Uuid {
    Uuid::from_u128(n)
}

fn client(server: &MockServer) -> Ports {
    Ports::new(Neutron::new(Some(session(server)), None, &service("network")).unwrap(), "br-int")
}

fn port_json(port: Uuid, network: Uuid) -> Value {
    json!({
        "id": port, "network_id": network, "mac_address": "fa:16:3e:00:00:01", "status": "DOWN", "admin_state_up": true,
        "tenant_id": PROJECT, "device_id": "", "device_owner": "", "fixed_ips": [], "security_groups": [],
        "binding:vif_type": "unbound", "binding:profile": {}, "binding:vnic_type": "normal",
    })
}

fn network_json(network: Uuid) -> Value {
    json!({
        "id": network, "name": format!("net-{}", network.as_u128()), "tenant_id": PROJECT, "shared": false, "mtu": 1450,
        "subnets": [id(900)], "router:external": false, "port_security_enabled": true,
    })
}

/// A neutron with these networks and extensions, which makes and binds whatever ports are asked for.
async fn willing(networks: &[Value], extensions: &[&str]) -> MockServer {
    let server = control_plane().await;
    let aliases: Vec<Value> = extensions.iter().map(|alias| json!({ "alias": alias })).collect();
    mount(&server, "GET", "/v2.0/extensions", 200, json!({ "extensions": aliases })).await;
    mount_networks(&server, networks).await;
    let made = std::sync::atomic::AtomicU64::new(0);
    let create = move |request: &Request| {
        let n = made.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        let body: Value = request.body_json().unwrap();
        ResponseTemplate::new(201).set_body_json(json!({ "port": answer_to(&body["port"], id(0x100 + u128::from(n))) }))
    };
    Mock::given(method("POST")).and(path("/v2.0/ports")).respond_with(create).with_priority(9).mount(&server).await;
    let update = |request: &Request| {
        let body: Value = request.body_json().unwrap();
        let port: Uuid = request.url.path().rsplit('/').next().unwrap().parse().unwrap();
        ResponseTemplate::new(200).set_body_json(json!({ "port": answer_to(&body["port"], port) }))
    };
    Mock::given(method("PUT"))
        .and(path_regex("^/v2.0/ports/"))
        .respond_with(update)
        .with_priority(9)
        .mount(&server)
        .await;
    let deleted = ResponseTemplate::new(204);
    Mock::given(method("DELETE"))
        .and(path_regex("^/v2.0/ports/"))
        .respond_with(deleted)
        .with_priority(9)
        .mount(&server)
        .await;
    server
}

fn answer_to(sent: &Value, port: Uuid) -> Value {
    let mut answer = port_json(port, id(1));
    for (key, value) in sent.as_object().unwrap() {
        answer[key] = value.clone();
    }
    for address in answer["fixed_ips"].as_array_mut().unwrap() {
        address["subnet_id"] = json!(id(900));
    }
    if answer["binding:host_id"].is_string() {
        answer["binding:vif_type"] = "ovs".into();
    }
    answer
}

/// `GET /v2.0/networks` by id, by owner and by sharing.
async fn mount_networks(server: &MockServer, networks: &[Value]) {
    let networks = networks.to_vec();
    let list = move |request: &Request| {
        let asked: Vec<(String, String)> = request.url.query_pairs().into_owned().collect();
        let values = |name: &str| {
            asked.iter().filter(|(key, _)| key == name).map(|(_, value)| value.clone()).collect::<Vec<_>>()
        };
        let (ids, shared) = (values("id"), values("shared"));
        let found: Vec<&Value> = networks
            .iter()
            .filter(|network| ids.is_empty() || ids.iter().any(|id| network["id"] == **id))
            .filter(|network| shared.is_empty() || network["shared"] == (shared[0] == "True"))
            .collect();
        ResponseTemplate::new(200).set_body_json(json!({ "networks": found }))
    };
    Mock::given(method("GET")).and(path("/v2.0/networks")).respond_with(list).mount(server).await;
}

/// `GET /v2.0/ports` with whatever filters.
async fn mount_ports(server: &MockServer, ports: &[Value]) {
    mount(server, "GET", "/v2.0/ports", 200, json!({ "ports": ports })).await;
}

fn neutron_error(status: u16, kind: &str) -> ResponseTemplate {
    let body = json!({ "NeutronError": { "type": kind, "message": format!("about {kind}"), "detail": "" } });
    ResponseTemplate::new(status).set_body_json(body)
}

async fn sent_port(server: &MockServer, call: &str) -> Value {
    let sent = requests(server, call).await;
    assert_eq!(sent.len(), 1, "{call}");
    sent[0].body_json::<Value>().unwrap()["port"].clone()
}
