//! Interfaces through the second door: into running guests, out of them, and back after they were lost.

use integration_tests::door::{Door, launch, port};
use integration_tests::log::Log;
use integration_tests::on_host;
use integration_tests::ovs::BRIDGE;
use integration_tests::patience::until;
use nova_docker_proto::v1;

async fn addresses(door: &Door, id: &str) -> String {
    door.docker.docker(&["exec", &format!("nova-{id}"), "ip", "-o", "-4", "addr"]).await
}

async fn ports(door: &Door) -> usize {
    door.ovs.vsctl(&["list-ports", BRIDGE]).await.lines().count()
}

fn attach(id: &str, interface: &v1::Interface) -> v1::AttachInterfaceRequest {
    v1::AttachInterfaceRequest { guest_id: id.to_owned(), interface: Some(interface.clone()) }
}

fn detach(id: &str, interface: &v1::Interface) -> v1::DetachInterfaceRequest {
    v1::DetachInterfaceRequest { guest_id: id.to_owned(), port_id: interface.port_id.clone() }
}

fn an_interface_comes_into_a_running_guest_and_goes_again() {
    on_host(async |host| {
        let door = Door::open(&host).await;
        let mut client = door.client().await;
        let (first, second) = (port(0, 5), port(1, 5));
        let id = launch(&mut client, door.guest("sleep 1000", std::slice::from_ref(&first))).await;
        for _ in ["once", "again"] {
            let attached = client.attach_interface(attach(&id, &second)).await.unwrap().into_inner();
            assert_eq!(attached.device, "eth1");
        }
        let inside = addresses(&door, &id).await;
        assert!(inside.contains("eth1") && inside.contains("10.9.1.5/24"), "{inside}");
        assert_eq!(ports(&door).await, 2);
        for _ in ["once", "again"] {
            client.detach_interface(detach(&id, &second)).await.unwrap();
        }
        let inside = addresses(&door, &id).await;
        assert!(inside.contains("10.9.0.5/24") && !inside.contains("eth1"), "{inside}");
        assert_eq!(ports(&door).await, 1);
        door.close().await;
    });
}

fn an_interface_is_detached_by_its_port_whatever_the_name_of_its_device() {
    on_host(async |host| {
        let door = Door::open(&host).await;
        let mut client = door.client().await;
        let id = launch(&mut client, door.guest("sleep 1000", &[])).await;
        let named = v1::Interface { device_name: Some("tap-of-test".to_owned()), ..port(0, 5) };
        let attached = client.attach_interface(attach(&id, &named)).await.unwrap().into_inner();
        assert_eq!(attached.device, "eth0");
        assert_eq!(door.ovs.vsctl(&["list-ports", BRIDGE]).await, "tap-of-test");
        client.detach_interface(detach(&id, &named)).await.unwrap();
        assert_eq!(ports(&door).await, 0);
        assert!(!addresses(&door, &id).await.contains("eth0"));
    });
}

fn a_port_of_another_guest_is_left_alone() {
    on_host(async |host| {
        let door = Door::open(&host).await;
        let mut client = door.client().await;
        let (mine, others) = (port(0, 5), port(0, 6));
        let id = launch(&mut client, door.guest("sleep 1000", &[mine])).await;
        let other = launch(&mut client, door.guest("sleep 1000", std::slice::from_ref(&others))).await;
        client.detach_interface(detach(&id, &others)).await.unwrap();
        assert!(addresses(&door, &other).await.contains("10.9.0.6/24"));
        assert_eq!(ports(&door).await, 2);
    });
}

fn a_guest_starts_with_the_interfaces_that_it_is_started_with() {
    on_host(async |host| {
        let door = Door::open(&host).await;
        let mut client = door.client().await;
        let interfaces = vec![port(0, 5), port(1, 5)];
        let id = launch(&mut client, door.guest("sleep 1000", &interfaces[..1])).await;
        let guest_id = || id.clone();
        // As after a reboot of the host: the container is there, its network is not.
        client.stop_guest(v1::StopGuestRequest { guest_id: guest_id(), timeout: None }).await.unwrap();
        client.unplug_guest(v1::UnplugGuestRequest { guest_id: guest_id() }).await.unwrap();
        client.unplug_guest(v1::UnplugGuestRequest { guest_id: guest_id() }).await.unwrap();
        assert_eq!(ports(&door).await, 0);
        let start = v1::StartGuestRequest { guest_id: guest_id(), interfaces: interfaces.clone(), user_data: None };
        client.start_guest(start).await.unwrap();
        let inside = addresses(&door, &id).await;
        assert!(inside.contains("10.9.0.5/24") && inside.contains("10.9.1.5/24"), "{inside}");
        let again = v1::PlugGuestRequest { guest_id: guest_id(), interfaces };
        client.plug_guest(again).await.unwrap();
        assert_eq!(addresses(&door, &id).await, inside);
        client.delete_guest(v1::DeleteGuestRequest { guest_id: guest_id(), ..Default::default() }).await.unwrap();
        assert_eq!(door.leftovers().await, Vec::<String>::new());
    });
}

fn the_first_interface_of_a_guest_that_had_none_stays_through_a_reboot() {
    on_host(async |host| {
        let door = Door::open(&host).await;
        let mut client = door.client().await;
        let interface = port(0, 5);
        let id = launch(&mut client, door.guest("sleep 1000", &[])).await;
        client.attach_interface(attach(&id, &interface)).await.unwrap();
        let reboot = v1::RebootGuestRequest { guest_id: id.clone(), interfaces: vec![interface], ..Default::default() };
        client.reboot_guest(reboot).await.unwrap();
        assert!(addresses(&door, &id).await.contains("10.9.0.5/24"));
    });
}

async fn read(door: &Door, id: &str, path: &str) -> String {
    door.docker.docker(&["exec", &format!("nova-{id}"), "cat", path]).await
}

/// A port whose subnet has this gateway and this name server.
fn routed(number: u8, host: u8, dns: &str) -> v1::Interface {
    let mut port = port(number, host);
    port.subnets[0].gateway = Some(format!("10.9.{number}.1"));
    port.subnets[0].dns_servers = vec![dns.to_owned()];
    port
}

fn a_running_guest_keeps_the_names_of_its_interfaces_when_it_is_plugged_again() {
    on_host(async |host| {
        let door = Door::open(&host).await;
        let mut client = door.client().await;
        let (first, second) = (routed(0, 5, "192.0.2.1"), routed(1, 5, "192.0.2.1"));
        let id = launch(&mut client, door.guest("sleep 1000", &[first.clone(), second.clone()])).await;
        let way_out = async || door.docker.docker(&["exec", &format!("nova-{id}"), "ip", "route"]).await;
        assert!(way_out().await.contains("default via 10.9.0.1 dev eth0"));
        client.detach_interface(detach(&id, &first)).await.unwrap();
        assert!(way_out().await.contains("default via 10.9.1.1 dev eth1"), "{}", way_out().await);
        let before = addresses(&door, &id).await;
        assert!(before.contains("eth1") && !before.contains("eth0"), "{before}");
        // As the agent does when it starts.
        let again = v1::PlugGuestRequest { guest_id: id.clone(), interfaces: vec![second] };
        client.plug_guest(again).await.unwrap();
        assert_eq!(addresses(&door, &id).await, before);
        assert_eq!(client.attach_interface(attach(&id, &first)).await.unwrap().into_inner().device, "eth0");
        assert!(way_out().await.contains("default via 10.9.1.1 dev eth1"), "the new interface took the way out");
    });
}

fn a_changed_address_and_name_server_reach_a_running_guest_and_a_file_of_its_user_stays() {
    on_host(async |host| {
        let door = Door::open(&host).await;
        let mut client = door.client().await;
        let old = routed(0, 5, "192.0.2.1");
        let id = launch(&mut client, door.guest("sleep 1000", std::slice::from_ref(&old))).await;
        let own_line = "127.0.0.1\tmine\n";
        let append = format!("printf '{own_line}' >>/etc/hosts");
        door.docker.docker(&["exec", &format!("nova-{id}"), "sh", "-c", &append]).await;
        let mut now = v1::Interface { port_id: old.port_id.clone(), ..routed(0, 77, "192.0.2.2") };
        now.mac_address = old.mac_address;
        let plug = |interface: &v1::Interface| v1::PlugGuestRequest {
            guest_id: id.clone(),
            interfaces: vec![interface.clone()],
        };
        client.plug_guest(plug(&now)).await.unwrap();
        let inside = addresses(&door, &id).await;
        assert!(inside.contains("10.9.0.77/24") && !inside.contains("10.9.0.5/24"), "{inside}");
        let hosts = read(&door, &id, "/etc/hosts").await;
        assert!(hosts.contains("10.9.0.77\t") && !hosts.contains("10.9.0.5\t"), "{hosts}");
        assert!(hosts.contains(own_line.trim()), "{hosts}");
        let resolv = read(&door, &id, "/etc/resolv.conf").await;
        assert!(resolv.contains("nameserver 192.0.2.2") && !resolv.contains("192.0.2.1"), "{resolv}");

        let edit = "echo 'nameserver 192.0.2.99' >/etc/resolv.conf";
        door.docker.docker(&["exec", &format!("nova-{id}"), "sh", "-c", edit]).await;
        now.subnets[0].dns_servers = vec!["192.0.2.3".to_owned()];
        let reboot = v1::RebootGuestRequest { guest_id: id.clone(), interfaces: vec![now], ..Default::default() };
        client.reboot_guest(reboot).await.unwrap();
        assert_eq!(read(&door, &id, "/etc/resolv.conf").await.trim(), "nameserver 192.0.2.99");
    });
}

fn a_host_that_ovn_calls_otherwise_is_warned_of_at_the_start() {
    on_host(async |host| {
        let log = Log::of_this_thread();
        let ovs = host.ovs();
        let chassis = ["external_ids:ovn-remote=unix:/nowhere", "external_ids:hostname=compute-7.example.org"];
        ovs.vsctl(&["set", "Open_vSwitch", ".", chassis[0], chassis[1]]).await;
        let mut door = Door::closed(&host).await;
        door.start(&[(("DEFAULT", "host"), "compute-7")]).await;
        until("the names are compared", async || {
            log.text().lines().any(|line| {
                line.contains("OVN calls this host otherwise") && line.contains("chassis=\"compute-7.example.org\"")
            })
        })
        .await;
        ovs.vsctl(&["remove", "Open_vSwitch", ".", "external_ids", "ovn-remote", "hostname"]).await;
        door.close().await;
    });
}

tests! {
    a_host_that_ovn_calls_otherwise_is_warned_of_at_the_start,
    a_running_guest_keeps_the_names_of_its_interfaces_when_it_is_plugged_again,
    a_changed_address_and_name_server_reach_a_running_guest_and_a_file_of_its_user_stays,
    an_interface_comes_into_a_running_guest_and_goes_again,
    an_interface_is_detached_by_its_port_whatever_the_name_of_its_device,
    a_port_of_another_guest_is_left_alone,
    a_guest_starts_with_the_interfaces_that_it_is_started_with,
    the_first_interface_of_a_guest_that_had_none_stays_through_a_reboot,
}
