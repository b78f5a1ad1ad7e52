use super::*;

fn bound(n: u128) -> Value {
    let mut port = port_json(id(n), id(1));
    port["device_id"] = INSTANCE.into();
    port["binding:profile"] = json!({ "allocation": "rp", "pci_slot": "0000:00:01.0", "trusted": true });
    port
}

fn preserving(ports: &[u128]) -> NetworkInfo {
    let info = NetworkInfo::parse(Some(include_str!("../../../../../tests/wire/rest/network_info.json"))).unwrap();
    let vif = |n: &u128| Vif { id: id(*n), preserve_on_delete: true, ..info.0[0].clone() };
    NetworkInfo(ports.iter().map(vif).collect())
}

#[tokio::test]
async fn ports_of_the_user_are_unbound_and_others_deleted() {
    let server = willing(&[network_json(id(1))], &["dns-integration"]).await;
    mount_ports(&server, &[bound(1), bound(2), bound(3)]).await;
    client(&server).deallocate(&user(), instance(), &[id(2)], &preserving(&[3])).await.unwrap();
    let mut changes: Vec<String> = asked(&server).await.into_iter().filter(|line| !line.starts_with("GET")).collect();
    changes.sort();
    let port = |verb: &str, n| format!("{verb} /v2.0/ports/{}", id(n));
    assert_eq!(changes, [port("DELETE", 1), port("PUT", 2), port("PUT", 3)]);
    let expected = json!({
        "device_id": "", "device_owner": "", "binding:host_id": null, "binding:profile": { "trusted": true }, "dns_name": "",
    });
    assert_eq!(sent_port(&server, &port("PUT", 2)).await, expected);
}

#[tokio::test]
async fn ports_that_leave_their_host_stay_the_instances_with_their_addresses() {
    let server = willing(&[], &["dns-integration"]).await;
    mount_ports(&server, &[bound(1), bound(2)]).await;
    client(&server).unbind_from_host(&user(), instance()).await.unwrap();
    let changes = asked(&server).await.into_iter().filter(|line| !line.starts_with("GET")).count();
    assert_eq!(changes, 2);
    for n in [1, 2] {
        let sent = sent_port(&server, &format!("PUT /v2.0/ports/{}", id(n))).await;
        assert_eq!(sent, json!({ "binding:host_id": null, "binding:profile": { "trusted": true } }));
    }
}

#[tokio::test]
async fn a_preserved_port_that_is_in_other_hands_is_left_alone() {
    let server = willing(&[], &[]).await;
    mount_ports(&server, &[]).await;
    let agents = json!({ "agents": [{ "agent_type": "DHCP agent", "host": "vm" }] });
    mount(&server, "GET", "/v2.0/agents", 200, agents).await;
    client(&server).deallocate(&user(), instance(), &[], &preserving(&[3])).await.unwrap();
    assert!(asked(&server).await.iter().all(|line| line.starts_with("GET")));
}

#[tokio::test]
async fn nothing_counts_as_given_back_where_neutron_may_only_not_show_it() {
    let server = willing(&[], &[]).await;
    mount_ports(&server, &[]).await;
    mount(&server, "GET", "/v2.0/agents", 200, json!({ "agents": [] })).await;
    let error = client(&server).deallocate(&user(), instance(), &[], &preserving(&[3])).await.unwrap_err();
    assert!(error.may_pass(), "{error}");
}

#[tokio::test]
async fn a_name_in_the_users_zone_is_taken_back_as_the_user() {
    let mut named = network_json(id(1));
    named["dns_domain"] = "example.org.".into();
    let server = willing(&[named], &["dns-integration"]).await;
    mount_ports(&server, &[bound(1)]).await;
    client(&server).deallocate(&user(), instance(), &[id(1)], &NetworkInfo::default()).await.unwrap();
    let updates = requests(&server, &format!("PUT /v2.0/ports/{}", id(1))).await;
    assert_eq!(header(&updates[1], "x-auth-token"), Some("user-token"));
    assert_eq!(updates[1].body_json::<Value>().unwrap(), json!({ "port": { "dns_name": "" } }));
    assert_eq!(updates[0].body_json::<Value>().unwrap()["port"].get("dns_name"), None);
}

#[tokio::test]
async fn a_port_that_cannot_be_released_is_named_and_the_others_are_released() {
    let server = willing(&[], &[]).await;
    mount_ports(&server, &[bound(1), bound(2), bound(3)]).await;
    let delete = Mock::given(method("DELETE")).and(path(format!("/v2.0/ports/{}", id(2))));
    delete.respond_with(neutron_error(500, "HTTPInternalServerError")).with_priority(1).mount(&server).await;
    let gone = Mock::given(method("DELETE")).and(path(format!("/v2.0/ports/{}", id(3))));
    gone.respond_with(neutron_error(404, "PortNotFound")).with_priority(1).mount(&server).await;
    let error = client(&server).deallocate(&agent(), instance(), &[], &NetworkInfo::default()).await.unwrap_err();
    let DeallocateError::Ports { failures } = &error else { panic!("{error}") };
    assert_eq!(failures.iter().map(|(port, _)| *port).collect::<Vec<_>>(), [id(2)]);
    assert!(error.to_string().contains(&id(2).to_string()), "{error}");
    assert!(asked(&server).await.contains(&format!("DELETE /v2.0/ports/{}", id(1))));
}

#[tokio::test]
async fn stock_novas_deletion_is_the_same_calls() {
    let calls = recorded(include_str!("../../../../../tests/wire/rest/delete_net.jsonl"));
    let listed = find(&calls, "GET", "/v2.0/ports?");
    let deleted = find(&calls, "DELETE", "/v2.0/ports/");
    let server = willing(&[], &[]).await;
    mount(&server, "GET", "/v2.0/ports", 200, listed.response.clone()).await;
    let instance: Uuid = listed.path.rsplit('=').next().unwrap().parse().unwrap();
    client(&server).deallocate(&agent(), instance, &[], &NetworkInfo::default()).await.unwrap();
    assert_eq!(asked(&server).await, [format!("GET {}", listed.path), format!("DELETE {}", deleted.path)]);
}

#[tokio::test]
async fn one_port_is_released_by_whose_it_is() {
    let server = willing(&[], &[]).await;
    mount(&server, "GET", &format!("/v2.0/ports/{}", id(2)), 200, json!({ "port": bound(2) })).await;
    let client = client(&server);
    client.deallocate_port(&agent(), id(1), false).await.unwrap();
    client.deallocate_port(&agent(), id(2), true).await.unwrap();
    client.deallocate_port(&agent(), id(3), true).await.unwrap();
    let changes: Vec<String> = asked(&server).await.into_iter().filter(|line| !line.starts_with("GET")).collect();
    assert_eq!(changes, [format!("DELETE /v2.0/ports/{}", id(1)), format!("PUT /v2.0/ports/{}", id(2))]);
}
