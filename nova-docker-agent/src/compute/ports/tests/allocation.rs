use super::*;

fn request(networks: Networks) -> AllocateRequest {
    AllocateRequest {
        instance_uuid: instance(),
        project_id: PROJECT.into(),
        availability_zone: "nova".into(),
        host: "vm".into(),
        hostname: Some("web-1".into()),
        networks,
        security_groups: vec!["default".into()],
        is_admin: false,
        resources: ProviderMapping::default(),
    }
}

fn on_network(network: u128) -> RequestedNetwork {
    RequestedNetwork { network_id: Some(id(network)), ..RequestedNetwork::default() }
}

fn on_port(port: u128) -> RequestedNetwork {
    RequestedNetwork { port_id: Some(id(port)), ..RequestedNetwork::default() }
}

async fn refusal(server: &MockServer, request: &AllocateRequest) -> NetworkError {
    client(server).allocate(&user(), request).await.unwrap_err()
}

#[tokio::test]
async fn a_port_is_made_and_bound_in_one_call_that_says_what_stock_nova_says_in_two() {
    let calls = recorded(include_str!("../../../../../tests/wire/rest/create_net.jsonl"));
    let mut expected = find(&calls, "POST", "/v2.0/ports").request["port"].clone();
    let bind = &find(&calls, "PUT", "/v2.0/ports/").request["port"];
    expected.as_object_mut().unwrap().extend(bind.as_object().unwrap().clone());
    let network: Uuid = expected["network_id"].as_str().unwrap().parse().unwrap();

    let server = willing(&[network_json(network)], &[]).await;
    let wanted = RequestedNetwork { network_id: Some(network), tag: Some("lan".into()), ..RequestedNetwork::default() };
    let allocation = client(&server).allocate(&user(), &request(Networks::Requested(vec![wanted]))).await.unwrap();

    assert_eq!(sent_port(&server, "POST /v2.0/ports").await, expected);
    assert_eq!(asked(&server).await.iter().filter(|line| line.starts_with("PUT")).count(), 0);
    let allocated = &allocation.ports[0];
    assert!(allocated.created && allocated.tag.as_deref() == Some("lan"));
    assert_eq!(allocated.port.vif_type.as_deref(), Some("ovs"));
    assert_eq!(header(&requests(&server, "GET /v2.0/networks").await[0], "x-auth-token"), Some("user-token"));
}

#[tokio::test]
async fn a_chosen_address_is_asked_for_as_the_user_and_bound_as_the_agent() {
    let server = willing(&[network_json(id(1))], &["dns-integration"]).await;
    let wanted = RequestedNetwork { address: Some("10.0.0.9".parse().unwrap()), ..on_network(1) };
    client(&server).allocate(&user(), &request(Networks::Requested(vec![wanted]))).await.unwrap();
    let created = &requests(&server, "POST /v2.0/ports").await[0];
    assert_eq!(header(created, "x-auth-token"), Some("user-token"));
    let sent = sent_port(&server, "POST /v2.0/ports").await;
    assert_eq!(sent["fixed_ips"], json!([{ "ip_address": "10.0.0.9" }]));
    assert_eq!((sent.get("binding:host_id"), sent.get("device_owner")), (None, None));
    let call = format!("PUT /v2.0/ports/{}", id(0x100));
    let bound = sent_port(&server, &call).await;
    let expected =
        json!({ "device_id": INSTANCE, "device_owner": "compute:nova", "binding:host_id": "vm", "dns_name": "web-1" });
    assert_eq!(bound, expected);
    assert_eq!(header(&requests(&server, &call).await[0], "x-auth-token"), Some("token-1"));
}

#[tokio::test]
async fn interfaces_keep_the_order_of_the_request() {
    let networks: Vec<Value> = (1..=4).map(|n| network_json(id(n))).collect();
    let server = willing(&networks, &[]).await;
    let mut port = port_json(id(50), id(3));
    port["binding:profile"] = json!({ "trusted": true });
    mount_ports(&server, &[port]).await;
    let wanted = vec![on_network(4), on_port(50), on_network(1), on_network(4)];
    let allocation = client(&server).allocate(&user(), &request(Networks::Requested(wanted))).await.unwrap();
    let networks: Vec<Uuid> = allocation.ports.iter().map(|allocated| allocated.port.network_id).collect();
    let created: Vec<bool> = allocation.ports.iter().map(|allocated| allocated.created).collect();
    assert_eq!((networks[0], networks[2], networks[3]), (id(4), id(1), id(4)));
    assert_eq!(created, [true, false, true, true]);
    let bound = sent_port(&server, &format!("PUT /v2.0/ports/{}", id(50))).await;
    assert_eq!((&bound["binding:profile"], &bound["device_id"]), (&json!({ "trusted": true }), &json!(INSTANCE)));
    assert_eq!(requests(&server, "GET /v2.0/networks").await.len(), 1);
}

#[tokio::test]
async fn the_only_network_is_taken_when_nothing_is_said() {
    let mut shared = network_json(id(2));
    shared["shared"] = true.into();
    let server = willing(&[shared.clone()], &[]).await;
    let allocation = client(&server).allocate(&user(), &request(Networks::Unspecified)).await.unwrap();
    assert_eq!(allocation.ports[0].port.network_id, id(2));

    let server = willing(&[shared, network_json(id(3))], &[]).await;
    assert!(matches!(refusal(&server, &request(Networks::Unspecified)).await, NetworkError::NetworkAmbiguous));

    let server = willing(&[], &[]).await;
    let allocation = client(&server).allocate(&user(), &request(Networks::Unspecified)).await.unwrap();
    assert!(allocation.ports.is_empty());
    let attach = request(Networks::Requested(vec![RequestedNetwork::default()]));
    assert!(matches!(refusal(&server, &attach).await, NetworkError::NoNetwork { .. }));
}

#[tokio::test]
async fn none_asks_for_nothing_and_auto_has_a_network_made() {
    let server = willing(&[], &[]).await;
    assert!(client(&server).allocate(&user(), &request(Networks::None)).await.unwrap().ports.is_empty());

    let topology = format!("/v2.0/auto-allocated-topology/{PROJECT}");
    mount(
        &server,
        "GET",
        &topology,
        409,
        json!({ "NeutronError": { "type": "AutoAllocationFailure", "message": "no" } }),
    )
    .await;
    let error = refusal(&server, &request(Networks::Auto)).await;
    assert!(matches!(error, NetworkError::UnableToAutoAllocateNetwork { .. }));

    let server = control_plane().await;
    mount(&server, "GET", "/v2.0/extensions", 200, json!({ "extensions": [] })).await;
    mount(&server, "GET", &topology, 200, json!({ "auto_allocated_topology": { "id": id(8), "tenant_id": PROJECT } }))
        .await;
    let made = Mock::given(method("GET")).and(path("/v2.0/networks")).and(query_param("id", id(8).to_string()));
    let body = json!({ "networks": [network_json(id(8))] });
    made.respond_with(ResponseTemplate::new(200).set_body_json(body)).with_priority(1).mount(&server).await;
    mount(&server, "GET", "/v2.0/networks", 200, json!({ "networks": [] })).await;
    mount(&server, "POST", "/v2.0/ports", 201, json!({ "port": port_json(id(9), id(8)) })).await;
    assert_eq!(client(&server).allocate(&user(), &request(Networks::Auto)).await.unwrap().ports[0].port.id, id(9));
}

#[tokio::test]
async fn a_requested_port_must_exist_be_free_and_be_the_projects() {
    let unusable = |change: &dyn Fn(&mut Value)| {
        let mut port = port_json(id(50), id(1));
        change(&mut port);
        port
    };
    let cases: [(Option<Value>, &str); 5] = [
        (None, "PortNotFound"),
        (Some(unusable(&|port| port["tenant_id"] = "somebody else".into())), "PortNotUsable"),
        (Some(unusable(&|port| port["device_id"] = "another instance".into())), "PortInUse"),
        (Some(unusable(&|port| port["dns_name"] = "db-1".into())), "PortNotUsableDNS"),
        (Some(unusable(&|port| port["binding:vif_type"] = "binding_failed".into())), "PortBindingFailed"),
    ];
    for (port, expected) in cases {
        let server = willing(&[network_json(id(1))], &[]).await;
        mount_ports(&server, &port.into_iter().collect::<Vec<_>>()).await;
        let error = refusal(&server, &request(Networks::Requested(vec![on_network(1), on_port(50)]))).await;
        assert_eq!(error.nova_class(), expected);
        assert!(asked(&server).await.iter().all(|line| line.starts_with("GET")), "something was changed: {expected}");
    }
}

#[tokio::test]
async fn a_port_cannot_be_asked_for_twice() {
    let server = willing(&[network_json(id(1))], &[]).await;
    mount_ports(&server, &[port_json(id(50), id(1))]).await;
    let error = refusal(&server, &request(Networks::Requested(vec![on_port(50), on_port(50)]))).await;
    assert!(matches!(error, NetworkError::PortInUse { port } if port == id(50)));
}

#[tokio::test]
async fn networks_that_the_user_may_not_have_are_refused() {
    let server = willing(&[], &[]).await;
    let error = refusal(&server, &request(Networks::Requested(vec![on_network(1)]))).await;
    assert!(matches!(error, NetworkError::NetworkNotFound { network } if network == id(1)));

    let mut external = network_json(id(1));
    external["router:external"] = true.into();
    let server = willing(&[external], &[]).await;
    let mut wanted = request(Networks::Requested(vec![on_network(1)]));
    assert_eq!(refusal(&server, &wanted).await.nova_class(), "ExternalNetworkAttachForbidden");
    wanted.is_admin = true;
    client(&server).allocate(&user(), &wanted).await.unwrap();
}

#[tokio::test]
async fn security_groups_are_found_by_name_or_id_also_shared_ones() {
    let server = willing(&[network_json(id(1))], &["security-groups-shared-filtering"]).await;
    let own = Mock::given(method("GET")).and(path("/v2.0/security-groups")).and(query_param("tenant_id", PROJECT));
    let groups = json!({ "security_groups": [
        { "id": "g-web", "name": "web" }, { "id": "g-twin-1", "name": "twin" }, { "id": "g-twin-2", "name": "twin" }
    ]});
    own.respond_with(ResponseTemplate::new(200).set_body_json(groups)).mount(&server).await;
    let shared = Mock::given(method("GET")).and(path("/v2.0/security-groups")).and(query_param("shared", "True"));
    let groups = json!({ "security_groups": [{ "id": "g-shared", "name": "shared" }] });
    shared.respond_with(ResponseTemplate::new(200).set_body_json(groups)).mount(&server).await;

    let mut wanted = request(Networks::Requested(vec![on_network(1)]));
    wanted.security_groups = vec!["shared".into(), "web".into(), "g-twin-2".into()];
    client(&server).allocate(&user(), &wanted).await.unwrap();
    assert_eq!(
        sent_port(&server, "POST /v2.0/ports").await["security_groups"],
        json!(["g-shared", "g-web", "g-twin-2"])
    );

    wanted.security_groups = vec!["twin".into()];
    assert_eq!(refusal(&server, &wanted).await.nova_class(), "NoUniqueMatch");
    wanted.security_groups = vec!["nowhere".into()];
    assert_eq!(refusal(&server, &wanted).await.nova_class(), "SecurityGroupNotFound");
}

#[tokio::test]
async fn security_groups_need_port_security_and_addresses() {
    let mut open = network_json(id(1));
    open["port_security_enabled"] = false.into();
    let mut bare = network_json(id(2));
    bare["subnets"] = json!([]);
    let server = willing(&[open, bare], &[]).await;
    let groups = json!({ "security_groups": [{ "id": "g", "name": "web" }] });
    mount(&server, "GET", "/v2.0/security-groups", 200, groups).await;
    let mut wanted = request(Networks::Requested(vec![on_network(1)]));
    client(&server).allocate(&user(), &wanted).await.unwrap();
    wanted.security_groups = vec!["web".into()];
    assert_eq!(refusal(&server, &wanted).await.nova_class(), "SecurityGroupCannotBeApplied");
    let wanted = request(Networks::Requested(vec![on_network(2)]));
    assert_eq!(refusal(&server, &wanted).await.nova_class(), "SecurityGroupCannotBeApplied");
}

#[tokio::test]
async fn what_neutron_refuses_has_novas_name() {
    for (status, kind, expected) in [
        (409, "OverQuota", "PortLimitExceeded"),
        (409, "IpAddressGenerationFailure", "NoMoreFixedIps"),
        (409, "IpAddressAlreadyAllocated", "FixedIpAlreadyInUse"),
        (400, "InvalidIpForNetwork", "InvalidInput"),
        (500, "HTTPInternalServerError", "NovaException"),
    ] {
        let server = willing(&[network_json(id(1))], &[]).await;
        let create = Mock::given(method("POST")).and(path("/v2.0/ports"));
        create.respond_with(neutron_error(status, kind)).with_priority(1).mount(&server).await;
        let error = refusal(&server, &request(Networks::Requested(vec![on_network(1)]))).await;
        assert_eq!(error.nova_class(), expected, "{error}");
    }
}

#[tokio::test]
async fn everything_is_undone_when_one_interface_fails() {
    let server = willing(&[network_json(id(1)), network_json(id(2))], &[]).await;
    let mut port = port_json(id(50), id(1));
    port["binding:profile"] = json!({ "trusted": true });
    mount_ports(&server, &[port]).await;
    let mut failed = answer_to(&json!({ "network_id": id(2) }), id(0x777));
    failed["binding:vif_type"] = "binding_failed".into();
    let on_second = Mock::given(method("POST"))
        .and(path("/v2.0/ports"))
        .and(wiremock::matchers::body_partial_json(json!({ "port": { "network_id": id(2) } })));
    let answer = ResponseTemplate::new(201).set_body_json(json!({ "port": failed }));
    on_second.respond_with(answer).with_priority(1).mount(&server).await;

    let wanted = request(Networks::Requested(vec![on_port(50), on_network(1), on_network(2)]));
    let error = refusal(&server, &wanted).await;
    assert!(
        matches!(&error, NetworkError::PortBindingFailed { port, host } if *port == id(0x777) && host == "vm"),
        "{error}"
    );

    let lines = asked(&server).await;
    for deleted in [id(0x100), id(0x777)] {
        assert!(lines.contains(&format!("DELETE /v2.0/ports/{deleted}")), "{lines:?}");
    }
    let updates = requests(&server, &format!("PUT /v2.0/ports/{}", id(50))).await;
    let unbound: Value = updates.last().unwrap().body_json().unwrap();
    let expected =
        json!({ "device_id": "", "device_owner": "", "binding:host_id": null, "binding:profile": { "trusted": true } });
    assert_eq!((updates.len(), &unbound["port"]), (2, &expected));
}

#[tokio::test]
async fn a_user_port_that_was_never_bound_is_not_touched_by_the_undoing() {
    let server = willing(&[network_json(id(1))], &[]).await;
    mount_ports(&server, &[port_json(id(50), id(1))]).await;
    let bind = Mock::given(method("PUT")).and(path(format!("/v2.0/ports/{}", id(50))));
    bind.respond_with(neutron_error(404, "PortNotFound")).with_priority(1).mount(&server).await;
    let error = refusal(&server, &request(Networks::Requested(vec![on_port(50)]))).await;
    assert!(matches!(error, NetworkError::PortNotFound { port } if port == id(50)));
    assert_eq!(asked(&server).await.iter().filter(|line| line.starts_with("PUT")).count(), 1);
}

#[tokio::test]
async fn a_port_that_needs_bandwidth_from_placement_is_refused_and_removed() {
    let server = willing(&[network_json(id(1))], &[]).await;
    let mut port = answer_to(&json!({ "binding:host_id": "vm" }), id(9));
    port["resource_request"] = json!({ "request_groups": [] });
    let create = Mock::given(method("POST")).and(path("/v2.0/ports"));
    let answer = ResponseTemplate::new(201).set_body_json(json!({ "port": port }));
    create.respond_with(answer).with_priority(1).mount(&server).await;
    let error = refusal(&server, &request(Networks::Requested(vec![on_network(1)]))).await;
    assert_eq!(error.nova_class(), "NetworksWithQoSPolicyNotSupported");
    assert!(asked(&server).await.contains(&format!("DELETE /v2.0/ports/{}", id(9))));
}

#[tokio::test]
async fn names_go_along_with_the_binding_or_as_the_user_into_the_users_zone() {
    let mut named = network_json(id(2));
    named["dns_domain"] = "example.org.".into();
    let server = willing(&[network_json(id(1)), named], &["dns-integration"]).await;
    let wanted = request(Networks::Requested(vec![on_network(1), on_network(2)]));
    client(&server).allocate(&user(), &wanted).await.unwrap();
    let created = requests(&server, "POST /v2.0/ports").await;
    let names: std::collections::HashMap<String, Value> = created
        .iter()
        .map(|request| request.body_json::<Value>().unwrap()["port"].clone())
        .map(|port| (port["network_id"].to_string(), port["dns_name"].clone()))
        .collect();
    assert_eq!(names[&json!(id(1)).to_string()], "web-1");
    assert_eq!(names[&json!(id(2)).to_string()], Value::Null);
    let lines = asked(&server).await;
    let put = lines.iter().find(|line| line.starts_with("PUT")).unwrap();
    let request = &requests(&server, put).await[0];
    assert_eq!(header(request, "x-auth-token"), Some("user-token"));
    assert_eq!(request.body_json::<Value>().unwrap(), json!({ "port": { "dns_name": "web-1" } }));
}

#[tokio::test]
async fn a_name_that_dns_does_not_allow_undoes_the_port() {
    let mut named = network_json(id(2));
    named["dns_domain"] = "example.org.".into();
    let server = willing(&[named], &["dns-integration"]).await;
    let update = Mock::given(method("PUT")).and(path_regex("^/v2.0/ports/"));
    update.respond_with(neutron_error(400, "HTTPBadRequest")).with_priority(1).mount(&server).await;
    let error = refusal(&server, &request(Networks::Requested(vec![on_network(2)]))).await;
    assert!(matches!(error, NetworkError::InvalidHostname { .. }), "{error}");
    assert!(asked(&server).await.iter().any(|line| line.starts_with("DELETE /v2.0/ports/")));
}

#[tokio::test]
async fn an_expired_user_token_does_not_fail_a_launch_that_waited_in_a_queue() {
    let server = control_plane().await;
    mount(&server, "GET", "/v2.0/extensions", 200, json!({ "extensions": [] })).await;
    let as_user = Mock::given(method("GET"))
        .and(path("/v2.0/networks"))
        .and(wiremock::matchers::header("x-auth-token", "user-token"));
    as_user.respond_with(ResponseTemplate::new(401)).with_priority(1).mount(&server).await;
    mount_networks(&server, &[network_json(id(1))]).await;
    mount(&server, "POST", "/v2.0/ports", 201, json!({ "port": port_json(id(9), id(1)) })).await;
    let wanted = request(Networks::Requested(vec![on_network(1)]));
    assert_eq!(client(&server).allocate(&user(), &wanted).await.unwrap().ports.len(), 1);
}

#[tokio::test]
async fn extensions_are_read_once() {
    let server = willing(&[network_json(id(1))], &[]).await;
    let client = client(&server);
    for _ in 0..3 {
        client.allocate(&user(), &request(Networks::Requested(vec![on_network(1)]))).await.unwrap();
    }
    assert_eq!(requests(&server, "GET /v2.0/extensions").await.len(), 1);
    let impatient = client.neutron.with_extension_sync_interval(Duration::ZERO);
    impatient.has_extension(&agent(), "x").await.unwrap();
    assert_eq!(requests(&server, "GET /v2.0/extensions").await.len(), 2);
}

#[tokio::test]
async fn ports_elsewhere_or_badly_bound_are_bound_here_again() {
    let server = willing(&[], &[]).await;
    let port = |n, host: &str, kind: &str| {
        let mut port = port_json(id(n), id(1));
        (port["binding:host_id"], port["binding:vif_type"]) = (host.into(), kind.into());
        port["binding:profile"] = json!({ "migrating_to": "vm", "trusted": true });
        port
    };
    mount_ports(&server, &[port(1, "vm", "ovs"), port(2, "other", "ovs"), port(3, "vm", "binding_failed")]).await;
    let ports = client(&server).rebind(&agent(), instance(), "vm", "az1", &ProviderMapping::default()).await.unwrap();
    assert_eq!(ports.len(), 3);
    let mut puts: Vec<String> = asked(&server).await.into_iter().filter(|line| line.starts_with("PUT")).collect();
    puts.sort();
    assert_eq!(puts, [format!("PUT /v2.0/ports/{}", id(2)), format!("PUT /v2.0/ports/{}", id(3))]);
    let sent = sent_port(&server, &puts[0]).await;
    let expected =
        json!({ "binding:host_id": "vm", "device_owner": "compute:az1", "binding:profile": { "trusted": true } });
    assert_eq!(sent, expected);
}

#[tokio::test]
async fn only_ports_whose_binding_failed_are_bound_again_and_at_a_start_those_that_nobody_has_bound() {
    let vif = |n: u128, kind: &str| {
        json!({ "id": id(n), "address": "fa:16:3e:00:00:01", "type": kind, "profile": { "migrating_to": "x", "trusted": true },
            "network": { "id": id(1) } })
    };
    let network: NetworkInfo =
        serde_json::from_value(json!([vif(1, "ovs"), vif(2, "binding_failed"), vif(3, "unbound")])).unwrap();
    for (which, expected) in [(Rebind::Nothing, vec![]), (Rebind::Failed, vec![2]), (Rebind::All, vec![2, 3])] {
        let server = willing(&[], &[]).await;
        let asks = client(&server).bind_again(&agent(), &network, which, "vm", "az1").await;
        let mut puts = asked(&server).await.into_iter().filter(|line| line.starts_with("PUT")).collect::<Vec<_>>();
        puts.sort();
        let paths: Vec<String> = expected.iter().map(|n| format!("PUT /v2.0/ports/{}", id(*n))).collect();
        assert_eq!((puts, asks), (paths, which != Rebind::Nothing));
    }
    let server = willing(&[], &[]).await;
    client(&server).bind_again(&agent(), &network, Rebind::Failed, "vm", "az1").await;
    let sent = sent_port(&server, &format!("PUT /v2.0/ports/{}", id(2))).await;
    assert_eq!((&sent["binding:host_id"], &sent["binding:profile"]), (&json!("vm"), &json!({ "trusted": true })));
}

/// A port of the user's that asks for bandwidth, on a neutron that binds it.
async fn with_bandwidth() -> MockServer {
    let server = willing(&[network_json(id(1))], &[]).await;
    let mut port = port_json(id(9), id(1));
    let resources = json!({ "NET_BW_EGR_KILOBIT_PER_SEC": 1000 });
    port["resource_request"] = json!({ "request_groups": [{ "id": "group", "resources": resources }] });
    port["binding:profile"] = json!({ "trusted": true });
    mount_ports(&server, &[port]).await;
    server
}

fn reserved_for(group: &str) -> ProviderMapping {
    let group = json!({ "nova_object.data": { "requester_id": group, "provider_uuids": [id(77)] } });
    ProviderMapping::of_request_spec(&json!({ "nova_object.data": { "requested_resources": [group] } }))
}

#[tokio::test]
async fn a_port_that_asks_for_bandwidth_is_bound_with_the_provider_at_which_it_was_reserved() {
    let expected = json!({ "trusted": true, "allocation": { "group": id(77) } });
    let at = format!("PUT /v2.0/ports/{}", id(9));
    let server = with_bandwidth().await;
    let wanted = AllocateRequest { resources: reserved_for("group"), ..request(Networks::Requested(vec![on_port(9)])) };
    client(&server).allocate(&user(), &wanted).await.unwrap();
    assert_eq!(sent_port(&server, &at).await["binding:profile"], expected);
    // Back from the shelf, on the host that the scheduler has chosen then.
    let server = with_bandwidth().await;
    client(&server).rebind(&agent(), instance(), "vm", "az1", &reserved_for("group")).await.unwrap();
    assert_eq!(sent_port(&server, &at).await["binding:profile"], expected);
}

#[tokio::test]
async fn a_port_for_which_no_bandwidth_was_reserved_is_refused_before_anything_is_made() {
    let server = with_bandwidth().await;
    let wanted = AllocateRequest {
        resources: reserved_for("another"),
        ..request(Networks::Requested(vec![on_network(1), on_port(9)]))
    };
    let error = refusal(&server, &wanted).await;
    assert_eq!(error.nova_class(), "PortNotUsable");
    assert!(error.to_string().contains("when a server is launched with the port"), "{error}");
    assert!(asked(&server).await.iter().all(|line| line.starts_with("GET")));
}

#[tokio::test]
async fn a_port_that_is_given_back_tells_what_was_reserved_for_it() {
    let server = willing(&[network_json(id(1))], &[]).await;
    let mut port = port_json(id(9), id(1));
    port["resource_request"] = json!({ "resources": { "NET_BW_EGR_KILOBIT_PER_SEC": 1000 } });
    port["binding:profile"] = json!({ "allocation": id(77) });
    mount(&server, "GET", &format!("/v2.0/ports/{}", id(9)), 200, json!({ "port": port })).await;
    let reserved = client(&server).deallocate_port(&agent(), id(9), true).await.unwrap();
    assert_eq!(reserved, Resources::from([(id(77), [("NET_BW_EGR_KILOBIT_PER_SEC".to_owned(), 1000)].into())]));
    let sent = sent_port(&server, &format!("PUT /v2.0/ports/{}", id(9))).await;
    assert_eq!(sent["binding:profile"], json!({}));
}
