use super::*;

async fn mount_recorded(server: &MockServer, lines: &str) {
    let calls = recorded(lines);
    let last = |start: &str| {
        let matching = calls.iter().rev().find(|call| call.method == "GET" && call.path.starts_with(start));
        matching.unwrap_or_else(|| panic!("no recorded call of {start}")).response.clone()
    };
    let ports = Mock::given(method("GET")).and(path("/v2.0/ports")).and(query_param("device_id", INSTANCE));
    let body = last("/v2.0/ports?tenant_id=");
    ports.respond_with(ResponseTemplate::new(200).set_body_json(body)).mount(server).await;
    let dhcp = Mock::given(method("GET")).and(path("/v2.0/ports")).and(query_param("device_owner", "network:dhcp"));
    let mut services = last("/v2.0/ports?network_id=");
    // Stock Nova asks for no routers.
    let mut router = services["ports"][0].clone();
    router["device_owner"] = "network:router_interface".into();
    router["fixed_ips"][0]["ip_address"] = "10.77.0.1".into();
    services["ports"].as_array_mut().unwrap().push(router);
    dhcp.respond_with(ResponseTemplate::new(200).set_body_json(services)).mount(server).await;
    mount(server, "GET", "/v2.0/subnets", 200, last("/v2.0/subnets?")).await;
    mount(server, "GET", "/v2.0/networks", 200, last("/v2.0/networks?id=")).await;
    mount(server, "GET", "/v2.0/floatingips", 200, json!({ "floatingips": [] })).await;
}

/// What stock Nova wrote, and the agent's own words in it.
fn stock(text: &str) -> Value {
    let mut vifs: Value = serde_json::from_str(text).unwrap();
    for vif in vifs.as_array_mut().unwrap() {
        vif["network"]["subnets"][0]["meta"]["metadata_via"] = "10.77.0.1".into();
    }
    vifs
}

/// Only the agent's own token shows an interface's binding, and the order of things in a list is neutron's.
#[tokio::test]
async fn the_cache_is_the_one_that_stock_nova_wrote() {
    let server = control_plane().await;
    mount_recorded(&server, include_str!("../../../../../tests/wire/rest/create_net.jsonl")).await;
    let info = client(&server).build_network_info(&user(), instance(), PROJECT, &NetworkInfo::default()).await.unwrap();
    let expected = stock(include_str!("../../../../../tests/wire/rest/network_info.json"));
    assert_eq!(serde_json::to_value(&info).unwrap(), expected);
    let sent = requests(&server, "GET /v2.0/ports").await;
    assert!(sent.iter().all(|request| header(request, "x-auth-token") == Some("token-1")));
}

#[tokio::test]
async fn several_interfaces_are_one_query_of_each_kind() {
    let server = control_plane().await;
    mount_recorded(&server, include_str!("../../../../../tests/wire/rest/interface_attach.jsonl")).await;
    let cache = NetworkInfo::parse(Some(include_str!("../../../../../tests/wire/rest/network_info.json"))).unwrap();
    let info = client(&server).build_network_info(&agent(), instance(), PROJECT, &cache).await.unwrap();
    let expected = stock(include_str!("../../../../../tests/wire/rest/network_info_two.json"));
    assert_eq!(serde_json::to_value(&info).unwrap(), expected);
    assert_eq!(asked(&server).await.len(), 5);
}

#[tokio::test]
async fn a_fresh_allocation_gives_the_same_cache_without_reading_its_ports_again() {
    let lines = include_str!("../../../../../tests/wire/rest/create_net.jsonl");
    let server = control_plane().await;
    mount_recorded(&server, lines).await;
    let calls = recorded(lines);
    let bound: Port = serde_json::from_value(find(&calls, "PUT", "/v2.0/ports/").response["port"].clone()).unwrap();
    let allocation = Allocation { ports: vec![AllocatedPort { port: bound, created: true, tag: None }] };
    let info = client(&server).network_info_of(&user(), &allocation, &NetworkInfo::default()).await.unwrap();
    let expected = stock(include_str!("../../../../../tests/wire/rest/network_info.json"));
    assert_eq!(serde_json::to_value(&info).unwrap(), expected);
    let lines = asked(&server).await;
    assert!(
        lines.len() == 3 && !lines.iter().any(|line| line.contains("device_id") || line.contains("floatingips")),
        "{lines:?}"
    );
}

#[tokio::test]
async fn a_users_port_is_marked_as_such_and_other_interfaces_stay() {
    let lines = include_str!("../../../../../tests/wire/rest/create_net.jsonl");
    let server = control_plane().await;
    mount_recorded(&server, lines).await;
    let calls = recorded(lines);
    let bound: Port = serde_json::from_value(find(&calls, "PUT", "/v2.0/ports/").response["port"].clone()).unwrap();
    let allocation = Allocation { ports: vec![AllocatedPort { port: bound, created: false, tag: None }] };
    let mut cache = NetworkInfo::parse(Some(include_str!("../../../../../tests/wire/rest/network_info.json"))).unwrap();
    cache.0[0].id = id(42);
    let info = client(&server).network_info_of(&user(), &allocation, &cache).await.unwrap();
    assert_eq!(info.0[0], cache.0[0]);
    assert!(info.0[1].preserve_on_delete);
    assert!(asked(&server).await.iter().any(|line| line.contains("floatingips")));
}

#[tokio::test]
async fn the_flag_that_saves_a_users_port_is_taken_over_and_vanished_ports_go() {
    let server = control_plane().await;
    mount_recorded(&server, include_str!("../../../../../tests/wire/rest/create_net.jsonl")).await;
    let mut cache = NetworkInfo::parse(Some(include_str!("../../../../../tests/wire/rest/network_info.json"))).unwrap();
    cache.0[0].preserve_on_delete = true;
    let mut vanished = cache.0[0].clone();
    vanished.id = id(42);
    cache.0.insert(0, vanished.clone());
    let info = client(&server).build_network_info(&agent(), instance(), PROJECT, &cache).await.unwrap();
    assert!(info.0[0].preserve_on_delete);
    assert_eq!(info.0.len(), 1);
    assert_eq!(crate::compute::ports::seen::vanished(&cache, &info), [vanished]);
}

/// What everybody sees of a port.
fn as_users_see(mut port: Value) -> Value {
    port.as_object_mut().unwrap().retain(|key, _| !key.starts_with("binding:"));
    port
}

/// A neutron that has these ports of an instance, and a router in another network. Some of its answers are blind, by their order.
async fn neutron_with(ports: &[Value], is_blind: impl Fn(usize) -> bool + Send + Sync + 'static) -> MockServer {
    neutron_of([ports, &[of_neutron(11, "the-router")]].concat(), is_blind).await
}

/// A port of a device of Neutron's own, each in a network of its own.
fn of_neutron(port: u128, device: &str) -> Value {
    let mut router = port_json(id(port), id(1000 + port));
    router["device_id"] = device.into();
    router["device_owner"] = "network:router_interface".into();
    router["binding:vif_type"] = "ovs".into();
    router
}

async fn neutron_of(ports: Vec<Value>, is_blind: impl Fn(usize) -> bool + Send + Sync + 'static) -> MockServer {
    let server = control_plane().await;
    let answers = std::sync::atomic::AtomicUsize::new(0);
    let list = move |request: &Request| {
        if is_blind(answers.fetch_add(1, std::sync::atomic::Ordering::SeqCst)) {
            return ResponseTemplate::new(200).set_body_json(json!({ "ports": [] }));
        }
        let asked: Vec<(String, String)> = request.url.query_pairs().into_owned().collect();
        let matches = |port: &Value, name: &str| {
            let mut values = asked.iter().filter(|(key, _)| key == name).peekable();
            values.peek().is_none() || values.any(|(_, value)| port[name] == **value)
        };
        let limit =
            asked.iter().find(|(key, _)| key == "limit").map_or(usize::MAX, |(_, limit)| limit.parse().unwrap());
        let is_asked = |port: &&Value| matches(port, "device_id") && matches(port, "device_owner");
        let found: Vec<&Value> = ports.iter().filter(is_asked).take(limit).collect();
        ResponseTemplate::new(200).set_body_json(json!({ "ports": found }))
    };
    Mock::given(method("GET")).and(path("/v2.0/ports")).respond_with(list).mount(&server).await;
    server
}

fn one_known() -> NetworkInfo {
    NetworkInfo::parse(Some(include_str!("../../../../../tests/wire/rest/network_info.json"))).unwrap()
}

/// The instance's ports as they are found.
async fn seen(ports: &Ports) -> Option<Vec<Uuid>> {
    let found = ports.ports_of(&agent(), instance(), Some(PROJECT), &one_known()).await.ok()?;
    Some(found.iter().map(|port| port.id).collect())
}

fn of_the_instance(port: u128) -> Value {
    let mut port = port_json(id(port), id(1));
    port["device_id"] = INSTANCE.into();
    port
}

#[tokio::test]
async fn a_neutron_that_shows_nothing_of_its_own_is_not_believed() {
    let seen = async |ports: &[Value], status, agents: Value| {
        let server = control_plane().await;
        mount_ports(&server, ports).await;
        mount(&server, "GET", "/v2.0/agents", status, agents).await;
        seen(&client(&server)).await
    };
    assert_eq!(seen(&[], 200, json!({ "agents": [] })).await, None);
    let users = as_users_see(port_json(id(11), id(1)));
    assert_eq!(seen(&[users], 403, json!({})).await, None);
    let agents = json!({ "agents": [{ "agent_type": "DHCP agent", "host": "vm" }] });
    assert_eq!(seen(&[], 200, agents).await, Some(vec![]), "it sees everything, and there is no port");
}

#[tokio::test]
async fn a_neutron_that_was_blind_until_it_was_asked_for_more_is_asked_again() {
    let server = neutron_with(&[of_the_instance(7)], |answer| answer == 0).await;
    assert_eq!(seen(&client(&server)).await, Some(vec![id(7)]));
}

#[tokio::test]
async fn of_several_processes_of_neutron_each_that_is_believed_shows_something_of_its_own() {
    // The second and the fourth come from one that knows the agent.
    let server = neutron_with(&[of_the_instance(7)], |answer| answer % 2 == 0).await;
    let client = client(&server);
    assert_eq!(seen(&client).await, None, "the third may be blind as the first was");
    assert_eq!(seen(&client).await, Some(vec![id(7)]));
}

#[tokio::test]
async fn a_vanished_port_costs_one_question_more_once_it_is_known_whom_to_ask_for() {
    let server = neutron_with(&[], |_| false).await;
    let client = client(&server);
    assert_eq!(seen(&client).await, Some(vec![]));
    assert_eq!(asked(&server).await.len(), 3);
    assert_eq!(seen(&client).await, Some(vec![]));
    assert_eq!(asked(&server).await.len(), 5);
}

/// As tenants may make them in their own networks.
fn looking_like_neutrons(port: u128, device: &str) -> Value {
    let mut made = of_neutron(port, device);
    made["device_owner"] = "network:dhcp".into();
    made["binding:vif_type"] = "unbound".into();
    made
}

#[tokio::test]
async fn ports_that_tenants_make_to_look_like_neutrons_hide_none_of_those() {
    let mut ports: Vec<Value> = (100..150).map(|port| looking_like_neutrons(port, "")).collect();
    ports.extend((150..200).map(|port| looking_like_neutrons(port, &format!("device-{port}"))));
    ports.extend([of_neutron(201, "the-router"), of_the_instance(7)]);
    let server = neutron_of(ports, |answer| answer == 0).await;
    assert_eq!(seen(&client(&server)).await, Some(vec![id(7)]));
    let asked_for = asked(&server).await.pop().unwrap();
    assert!(asked_for.contains("device_id=the-router"), "{asked_for}");
    assert!(asked_for.matches("device_id=").count() <= 9, "{asked_for}");
}

#[tokio::test]
async fn a_witness_that_vanishes_between_two_questions_is_one_of_several() {
    let server = control_plane().await;
    let (router, gone) = (of_neutron(11, "the-router"), of_neutron(10, "a-router-that-goes"));
    let answers = std::sync::atomic::AtomicUsize::new(0);
    let list = move |request: &Request| {
        let asks_for = |device: &str| request.url.query().unwrap_or_default().contains(&format!("device_id={device}"));
        let ports = match answers.fetch_add(1, std::sync::atomic::Ordering::SeqCst) {
            0 => vec![],
            1 => vec![&gone, &router],
            _ if asks_for("the-router") => vec![&router],
            _ => vec![],
        };
        ResponseTemplate::new(200).set_body_json(json!({ "ports": ports }))
    };
    Mock::given(method("GET")).and(path("/v2.0/ports")).respond_with(list).mount(&server).await;
    assert_eq!(seen(&client(&server)).await, Some(vec![]));
}

#[tokio::test]
async fn ports_of_another_project_are_not_among_the_instances() {
    let mut foreign = of_the_instance(8);
    foreign["tenant_id"] = "another".into();
    let server = neutron_with(&[foreign, of_the_instance(7)], |answer| answer == 0).await;
    assert_eq!(seen(&client(&server)).await, Some(vec![id(7)]));
}

#[tokio::test]
async fn an_instance_without_ports_needs_one_query() {
    let server = control_plane().await;
    mount_ports(&server, &[]).await;
    let info =
        client(&server).build_network_info(&agent(), instance(), PROJECT, &NetworkInfo::default()).await.unwrap();
    assert_eq!((info.0.len(), asked(&server).await.len()), (0, 1));
}

fn dual_stack_port() -> Value {
    let mut port = port_json(id(7), id(1));
    port["fixed_ips"] = json!([
        { "subnet_id": id(4), "ip_address": "10.0.0.5" },
        { "subnet_id": id(6), "ip_address": "fd00::5" },
    ]);
    port["binding:vif_type"] = "ovs".into();
    port["status"] = "ACTIVE".into();
    port
}

async fn mount_dual_stack(server: &MockServer) {
    let dhcp = |n, ip: &str| {
        json!({ "id": id(n), "network_id": id(1), "mac_address": "m", "status": "ACTIVE", "device_owner": "network:dhcp",
        "fixed_ips": [{ "subnet_id": id(4), "ip_address": ip }] })
    };
    let of_instance = Mock::given(method("GET")).and(path("/v2.0/ports")).and(query_param("device_id", INSTANCE));
    let ports = json!({ "ports": [dual_stack_port()] });
    of_instance.respond_with(ResponseTemplate::new(200).set_body_json(ports)).with_priority(1).mount(server).await;
    mount_ports(server, &[dhcp(12, "10.0.0.3"), dhcp(11, "10.0.0.2")]).await;
    let v4 = json!({ "id": id(4), "network_id": id(1), "cidr": "10.0.0.0/24", "gateway_ip": null, "enable_dhcp": true,
        "dns_nameservers": ["9.9.9.9"], "host_routes": [{ "destination": "192.168.0.0/16", "nexthop": "10.0.0.9" }] });
    let v6 = json!({ "id": id(6), "network_id": id(1), "cidr": "fd00::/64", "gateway_ip": "fd00::1", "enable_dhcp": false,
        "dns_nameservers": [], "host_routes": [], "ipv6_address_mode": "slaac" });
    mount(server, "GET", "/v2.0/subnets", 200, json!({ "subnets": [v4, v6] })).await;
    let floating =
        json!({ "id": id(20), "floating_ip_address": "203.0.113.9", "fixed_ip_address": "10.0.0.5", "port_id": id(7) });
    mount(server, "GET", "/v2.0/floatingips", 200, json!({ "floatingips": [floating] })).await;
}

#[tokio::test]
async fn both_address_families_routes_and_floating_addresses_are_there() {
    let server = control_plane().await;
    mount_dual_stack(&server).await;
    let mut network = network_json(id(1));
    network["segments"] = json!([
        { "provider:network_type": "vxlan", "provider:physical_network": null },
        { "provider:network_type": "vlan", "provider:physical_network": "physnet1" },
    ]);
    mount_networks(&server, &[network]).await;
    let client = Ports::new(client(&server).neutron, "a-bridge-with-a-long-name");
    let info = client.build_network_info(&agent(), instance(), PROJECT, &NetworkInfo::default()).await.unwrap();
    let network = &info.0[0].network;
    assert_eq!(network.bridge.as_deref(), Some("a-bridge-with-"));
    assert_eq!((network.meta.physical_network.as_deref(), network.meta.tunneled), (Some("physnet1"), false));
    assert!(info.0[0].active);
    let [v4, v6] = network.subnets.as_slice() else { panic!("{:?}", network.subnets) };
    assert_eq!(
        serde_json::to_value(&v4.gateway).unwrap(),
        json!({ "address": null, "type": "gateway", "version": null, "meta": {} })
    );
    assert_eq!(v4.meta.dhcp_server.as_deref(), Some("10.0.0.2"));
    assert_eq!(v4.meta.resolvers(), ["10.0.0.2", "10.0.0.3"]);
    assert_eq!(v4.meta.metadata_via(), Some("10.0.0.2"));
    let route = json!({ "cidr": "192.168.0.0/16", "interface": null, "meta": {},
        "gateway": { "address": "10.0.0.9", "type": "gateway", "version": 4, "meta": {} } });
    assert_eq!(serde_json::to_value(&v4.routes).unwrap(), json!([route]));
    let floating = json!({ "address": "203.0.113.9", "type": "floating", "version": 4, "meta": {} });
    assert_eq!(serde_json::to_value(&v4.ips[0].floating_ips).unwrap(), json!([floating]));
    assert_eq!((v6.version, v6.ips[0].address.as_str(), v6.ips[0].version), (6, "fd00::5", 6));
    assert_eq!(serde_json::to_value(&v6.meta).unwrap(), json!({ "enable_dhcp": false, "ipv6_address_mode": "slaac" }));
}

#[tokio::test]
async fn a_neutron_without_routers_has_no_floating_addresses() {
    let server = control_plane().await;
    Mock::given(method("GET"))
        .and(path("/v2.0/floatingips"))
        .respond_with(ResponseTemplate::new(404))
        .mount(&server)
        .await;
    assert_eq!(client(&server).neutron.floating_ips(&agent(), &[]).await.unwrap(), []);
}

#[tokio::test]
async fn routers_dhcp_servers_and_ovns_ports_are_asked_for_in_one_query() {
    let server = control_plane().await;
    mount_recorded(&server, include_str!("../../../../../tests/wire/rest/create_net.jsonl")).await;
    client(&server).build_network_info(&agent(), instance(), PROJECT, &NetworkInfo::default()).await.unwrap();
    let sent = requests(&server, "GET /v2.0/ports").await;
    let owners: Vec<String> = sent
        .iter()
        .flat_map(|request| request.url.query_pairs().into_owned().collect::<Vec<_>>())
        .filter_map(|(key, value)| (key == "device_owner").then_some(value))
        .collect();
    let expected =
        ["dhcp", "distributed", "router_interface", "router_interface_distributed", "ha_router_replicated_interface"];
    assert_eq!(owners, expected.map(|owner| format!("network:{owner}")));
}

#[tokio::test]
async fn a_domain_and_options_of_a_port_are_in_the_cache_as_long_as_neutron_has_them() {
    let server = control_plane().await;
    mount_dual_stack(&server).await;
    let mut network = network_json(id(1));
    network["dns_domain"] = "net.example.".into();
    mount_networks(&server, &[network]).await;
    let mut port: Port = serde_json::from_value(dual_stack_port()).unwrap();
    let options = json!([{ "opt_name": "mtu", "opt_value": "1300", "ip_version": 4 }]);
    port.rest.insert("extra_dhcp_opts".to_owned(), options);
    let allocated =
        |port: &Port| Allocation { ports: vec![AllocatedPort { port: port.clone(), created: true, tag: None }] };
    let client = client(&server);
    let info = client.network_info_of(&agent(), &allocated(&port), &NetworkInfo::default()).await.unwrap();
    let expected =
        json!({ "search": ["net.example"], "dhcp_options": [{ "ip_version": 4, "name": "mtu", "value": "1300" }] });
    assert_eq!(info.0[0].rest["meta"], expected);
    // The instance's own port has no options now.
    let info = client.build_network_info(&agent(), instance(), PROJECT, &info).await.unwrap();
    assert_eq!(info.0[0].rest["meta"], json!({ "search": ["net.example"] }));
}
